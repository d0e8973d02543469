package crypto

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// wrappedVersion is the first byte of a wrapped keyring; the id of the KEK and Tink's encrypted keyset follow.
const wrappedVersion = 1

var (
	// ErrWrongKEK says that a keyring was wrapped with another key-encryption key.
	ErrWrongKEK = errors.New("wrapped with another key-encryption key")
	// ErrDamagedKeyring says that a wrapped keyring is not what Wrap returned for that name.
	ErrDamagedKeyring = errors.New("damaged, or the keyring of another name")
)

// Keyring is a named set of AES-256-GCM keys, one of which, the primary, seals. It is safe for
// concurrent use.
type Keyring struct {
	name   string
	handle *keyset.Handle
	aead   tink.AEAD
	keyID  uint32
}

// NewKeyring makes a keyring with one fresh key. The name is bound into what Wrap returns, so that
// keyrings cannot be mistaken for each other.
func NewKeyring(name string) (*Keyring, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make keyring %q: %w", name, err)
	}
	return newKeyring(name, handle)
}

func newKeyring(name string, handle *keyset.Handle) (*Keyring, error) {
	if name == "" {
		return nil, errors.New("open keyring: it has no name")
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("open keyring %q: %w", name, err)
	}
	primary, err := handle.Primary()
	if err != nil {
		return nil, fmt.Errorf("open keyring %q: %w", name, err)
	}
	return &Keyring{name: name, handle: handle, aead: primitive, keyID: primary.KeyID()}, nil
}

// Name returns the name that the keyring is wrapped under.
func (k *Keyring) Name() string { return k.name }

// KeyID returns the id of the primary key, the one that Seal uses.
func (k *Keyring) KeyID() uint32 { return k.keyID }

// Wrap encrypts the keyring with kek and binds it to its name. The result may be stored anywhere.
func (k *Keyring) Wrap(kek *KEK) ([]byte, error) {
	var wrapped bytes.Buffer
	wrapped.WriteByte(wrappedVersion)
	wrapped.Write(kek.id[:])
	if err := k.handle.WriteWithAssociatedData(keyset.NewBinaryWriter(&wrapped), kek.aead, []byte(k.name)); err != nil {
		return nil, fmt.Errorf("wrap keyring %q: %w", k.name, err)
	}
	return wrapped.Bytes(), nil
}

// UnwrapKeyring opens what Wrap returned. The error wraps ErrWrongKEK or ErrDamagedKeyring.
func UnwrapKeyring(name string, wrapped []byte, kek *KEK) (*Keyring, error) {
	reader := bytes.NewReader(wrapped)
	if version, err := reader.ReadByte(); err != nil {
		return nil, fmt.Errorf("unwrap keyring %q: it is empty: %w", name, ErrDamagedKeyring)
	} else if version != wrappedVersion {
		return nil, fmt.Errorf("unwrap keyring %q: format %d is not known to this version of Sallyport: %w", name, version, ErrDamagedKeyring)
	}
	var id [kekIDSize]byte
	if _, err := io.ReadFull(reader, id[:]); err != nil {
		return nil, fmt.Errorf("unwrap keyring %q: it is cut short: %w", name, ErrDamagedKeyring)
	}
	// The id is not authenticated. It only chooses the message: the key itself decides below.
	if id != kek.id {
		return nil, fmt.Errorf("unwrap keyring %q: it needs the key-encryption key %x, but %s was given; name the right key file: %w", name, id, kek.ID(), ErrWrongKEK)
	}
	handle, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(reader), kek.aead, []byte(name))
	if err != nil {
		return nil, fmt.Errorf("unwrap keyring %q: %w; restore it from a backup", name, ErrDamagedKeyring)
	}
	return newKeyring(name, handle)
}
