package crypto

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func newTestKeyring(t testing.TB, name string) *Keyring {
	t.Helper()
	keyring, err := NewKeyring(name)
	if err != nil {
		t.Fatal(err)
	}
	return keyring
}

func TestKeyringRoundTrip(t *testing.T) {
	kek := newTestKEK(t)
	keyring := newTestKeyring(t, "control")
	sealed, err := keyring.Seal(SecretString(canary), Binding{Kind: "credential", ID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := keyring.Wrap(kek)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := UnwrapKeyring("control", wrapped, kek)
	if err != nil {
		t.Fatal(err)
	}
	if opened.Name() != "control" || opened.KeyID() != keyring.KeyID() {
		t.Errorf("unwrapped as %q with key %d, want %q with %d", opened.Name(), opened.KeyID(), "control", keyring.KeyID())
	}
	secret, err := opened.Open(sealed, Binding{Kind: "credential", ID: "x"})
	if err != nil || secret.ExposeString() != canary {
		t.Errorf("a value sealed before wrapping does not open after: %v", err)
	}
}

func TestUnwrapKeyringRefuses(t *testing.T) {
	kek, otherKEK := newTestKEK(t), newTestKEK(t)
	wrapped, err := newTestKeyring(t, "control").Wrap(kek)
	if err != nil {
		t.Fatal(err)
	}
	otherWrapped, err := newTestKeyring(t, "control").Wrap(otherKEK)
	if err != nil {
		t.Fatal(err)
	}
	// The id in the clear says one key, the ciphertext was made with another.
	forged := append(bytes.Clone(wrapped[:1+kekIDSize]), otherWrapped[1+kekIDSize:]...)

	tests := map[string]struct {
		name    string
		wrapped []byte
		kek     *KEK
		want    error
		message string
	}{
		"wrong KEK":       {"control", wrapped, otherKEK, ErrWrongKEK, kek.ID()},
		"wrong name":      {"data", wrapped, kek, ErrDamagedKeyring, "backup"},
		"empty":           {"control", nil, kek, ErrDamagedKeyring, "empty"},
		"version only":    {"control", wrapped[:1], kek, ErrDamagedKeyring, "cut short"},
		"header only":     {"control", wrapped[:1+kekIDSize], kek, ErrDamagedKeyring, "backup"},
		"cut short":       {"control", wrapped[:len(wrapped)-1], kek, ErrDamagedKeyring, "backup"},
		"unknown version": {"control", append([]byte{9}, wrapped[1:]...), kek, ErrDamagedKeyring, "format 9"},
		"forged KEK id":   {"control", forged, kek, ErrDamagedKeyring, "backup"},
	}
	for name, test := range tests {
		_, err := UnwrapKeyring(test.name, test.wrapped, test.kek)
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.message) {
			t.Errorf("%s: %v, want %v with %q", name, err, test.want, test.message)
		}
	}
}

func TestKeyringNeedsName(t *testing.T) {
	if _, err := NewKeyring(""); err == nil {
		t.Error("made a keyring without a name")
	}
}

func FuzzUnwrapKeyring(f *testing.F) {
	kek := newTestKEK(f)
	keyring := newTestKeyring(f, "control")
	wrapped, err := keyring.Wrap(kek)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wrapped)
	f.Add(wrapped[:20])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		opened, err := UnwrapKeyring("control", data, kek)
		if err == nil && opened.KeyID() != keyring.KeyID() {
			t.Fatal("unwrapped a keyring that was never wrapped")
		}
		if err != nil && !errors.Is(err, ErrWrongKEK) && !errors.Is(err, ErrDamagedKeyring) {
			t.Fatalf("unexpected error %v", err)
		}
	})
}
