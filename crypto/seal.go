package crypto

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A sealed value is sealedVersion, then Tink's ciphertext: a byte 1, the key id in four bytes, the nonce, the
// encrypted secret and the GCM tag.
const (
	sealedVersion = 1
	tinkPrefix    = 1

	keyIDOffset = 2
	keyIDEnd    = keyIDOffset + 4
	minSealed   = keyIDEnd + 12 + 16
)

// ErrNotOpened says that a sealed value did not open: wrong keyring, wrong binding, or damage, which
// cannot be told apart.
var ErrNotOpened = errors.New("sealed value does not open: wrong keyring, wrong record, or damaged")

// Binding is the one place where a sealed value may be opened.
type Binding struct {
	Kind       string // of the record, such as "credential"
	ID         string // of the record
	Generation uint64 // of the value in the record; 0 where there is but one
}

// associatedData is injective: lengths come first, so that no two bindings give the same bytes.
func (b Binding) associatedData() []byte {
	data := make([]byte, 0, 8+len(b.Kind)+8+len(b.ID)+8)
	data = binary.BigEndian.AppendUint64(data, uint64(len(b.Kind)))
	data = append(data, b.Kind...)
	data = binary.BigEndian.AppendUint64(data, uint64(len(b.ID)))
	data = append(data, b.ID...)
	return binary.BigEndian.AppendUint64(data, b.Generation)
}

// Seal encrypts a secret with the primary key, for the place that b names.
func (k *Keyring) Seal(secret Secret, b Binding) ([]byte, error) {
	ciphertext, err := k.aead.Encrypt(secret.Expose(), b.associatedData())
	if err != nil {
		return nil, fmt.Errorf("seal for %s %q with keyring %q: %w", b.Kind, b.ID, k.name, err)
	}
	return append([]byte{sealedVersion}, ciphertext...), nil
}

// Open decrypts a sealed value that was sealed for b with any key of the keyring. The error wraps ErrNotOpened.
func (k *Keyring) Open(sealed []byte, b Binding) (Secret, error) {
	keyID, err := SealedKeyID(sealed)
	if err != nil {
		return Secret{}, fmt.Errorf("open %s %q: %w", b.Kind, b.ID, err)
	}
	plaintext, err := k.aead.Decrypt(sealed[1:], b.associatedData())
	if err != nil {
		return Secret{}, fmt.Errorf("open %s %q, generation %d, sealed under key %d, with keyring %q: %w", b.Kind, b.ID, b.Generation, keyID, k.name, ErrNotOpened)
	}
	return ownSecret(plaintext), nil
}

// SealedKeyID returns the id of the key that a value was sealed under, as it says itself: it is
// authenticated only by opening the value. The error wraps ErrNotOpened.
func SealedKeyID(sealed []byte) (uint32, error) {
	switch {
	case len(sealed) < minSealed:
		return 0, fmt.Errorf("sealed value of %d bytes is too short: %w", len(sealed), ErrNotOpened)
	case sealed[0] != sealedVersion || sealed[1] != tinkPrefix:
		return 0, fmt.Errorf("sealed value has a format unknown to this version: %w", ErrNotOpened)
	}
	return binary.BigEndian.Uint32(sealed[keyIDOffset:keyIDEnd]), nil
}
