package crypto

import (
	"bytes"
	"errors"
	"testing"
)

func TestSealOpen(t *testing.T) {
	keyring := newTestKeyring(t, "data")
	binding := Binding{Kind: "credential", ID: "accounting", Generation: 3}
	for _, value := range []string{"", "x", canary, string(make([]byte, 1<<16))} {
		sealed, err := keyring.Seal(SecretString(value), binding)
		if err != nil {
			t.Fatal(err)
		}
		if len(value) > 8 && bytes.Contains(sealed, []byte(value)) {
			t.Error("the sealed value contains the secret")
		}
		if id, err := SealedKeyID(sealed); err != nil || id != keyring.KeyID() {
			t.Errorf("SealedKeyID = %d, %v; want %d", id, err, keyring.KeyID())
		}
		opened, err := keyring.Open(sealed, binding)
		if err != nil || opened.ExposeString() != value {
			t.Errorf("a secret of %d bytes does not come back: %v", len(value), err)
		}
		again, err := keyring.Seal(SecretString(value), binding)
		if err != nil || bytes.Equal(sealed, again) {
			t.Errorf("sealing twice gives the same bytes (%v)", err)
		}
	}
}

func TestOpenRefusesOtherBindings(t *testing.T) {
	keyring := newTestKeyring(t, "data")
	bindings := []Binding{
		{},
		{Kind: "credential", ID: "accounting", Generation: 1},
		{Kind: "credential", ID: "accounting", Generation: 2},
		{Kind: "credential", ID: "accounting"},
		{Kind: "credential", ID: "crm", Generation: 1},
		{Kind: "session", ID: "accounting", Generation: 1},
		// Fields that would run into each other without lengths.
		{Kind: "credentialaccounting", ID: "", Generation: 1},
		{Kind: "", ID: "credentialaccounting", Generation: 1},
		{Kind: "credentiala", ID: "ccounting", Generation: 1},
		{Kind: "a", ID: "b\x00\x00\x00\x00\x00\x00\x00\x01"},
		{Kind: "a", ID: "b", Generation: 1},
	}
	for i, sealedFor := range bindings {
		sealed, err := keyring.Seal(SecretString(canary), sealedFor)
		if err != nil {
			t.Fatal(err)
		}
		for j, openedFor := range bindings {
			secret, err := keyring.Open(sealed, openedFor)
			if i == j && err != nil {
				t.Errorf("%+v: %v", sealedFor, err)
			}
			if i != j && (!errors.Is(err, ErrNotOpened) || !secret.Empty()) {
				t.Errorf("sealed for %+v, opened for %+v: %v", sealedFor, openedFor, err)
			}
		}
	}
}

func TestOpenRefusesOtherKeyring(t *testing.T) {
	binding := Binding{Kind: "credential", ID: "x"}
	sealed, err := newTestKeyring(t, "data").Seal(SecretString(canary), binding)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newTestKeyring(t, "data").Open(sealed, binding); !errors.Is(err, ErrNotOpened) {
		t.Errorf("another keyring: %v, want ErrNotOpened", err)
	}
}

func TestOpenRefusesDamage(t *testing.T) {
	keyring := newTestKeyring(t, "data")
	binding := Binding{Kind: "credential", ID: "x"}
	sealed, err := keyring.Seal(SecretString(canary), binding)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(sealed) {
		if _, err := keyring.Open(sealed[:n], binding); !errors.Is(err, ErrNotOpened) {
			t.Errorf("cut to %d bytes: %v, want ErrNotOpened", n, err)
		}
	}
	for bit := range len(sealed) * 8 {
		flipped := bytes.Clone(sealed)
		flipped[bit/8] ^= 1 << (bit % 8)
		if _, err := keyring.Open(flipped, binding); !errors.Is(err, ErrNotOpened) {
			t.Errorf("bit %d flipped: %v, want ErrNotOpened", bit, err)
		}
	}
	if _, err := keyring.Open(append(bytes.Clone(sealed), 0), binding); !errors.Is(err, ErrNotOpened) {
		t.Errorf("one byte more: %v, want ErrNotOpened", err)
	}
}

func FuzzOpen(f *testing.F) {
	keyring := newTestKeyring(f, "data")
	binding := Binding{Kind: "credential", ID: "x"}
	sealed, err := keyring.Seal(SecretString(canary), binding)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:minSealed])
	f.Add([]byte{sealedVersion, tinkPrefix})
	f.Fuzz(func(t *testing.T, data []byte) {
		secret, err := keyring.Open(data, binding)
		switch {
		case err == nil && (!bytes.Equal(data, sealed) || secret.ExposeString() != canary):
			t.Fatal("opened what was never sealed")
		case err != nil && !errors.Is(err, ErrNotOpened):
			t.Fatalf("error %v is not ErrNotOpened", err)
		}
		_, idErr := SealedKeyID(data)
		if idErr != nil && err == nil {
			t.Fatal("opened a value that has no key id")
		}
	})
}
