package crypto

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
)

// redacted is all that any kind of printing shows of a Secret.
const redacted = "[secret]"

// errNotMarshalled is returned by every Marshal method of Secret. An error rather than a
// placeholder, because "[secret]" stored in place of a password would be found out much later.
var errNotMarshalled = errors.New("crypto: a secret cannot be marshalled; seal it with a Keyring, or call Expose where it has to leave")

// Secret is a value that must not be printed, logged or marshalled by accident. Only Expose and
// ExposeString give it away, so that every place where a secret leaves can be found by searching
// for them. The zero Secret is empty.
type Secret struct {
	// Comparing two Secrets with == would compare pointers, in variable time; this makes
	// the compiler refuse it.
	_ [0]func()

	// fmt prints an unexported field that holds a Secret without asking for a Formatter. It
	// follows one pointer, where a verb does not fit; of the second it prints only the address.
	value *hidden
}

type hidden struct{ bytes *[]byte }

// NewSecret keeps a copy of value.
func NewSecret(value []byte) Secret {
	return ownSecret(bytes.Clone(value))
}

// SecretString keeps a copy of value.
func SecretString(value string) Secret {
	return ownSecret([]byte(value))
}

// ownSecret takes value over without a copy.
func ownSecret(value []byte) Secret {
	return Secret{value: &hidden{bytes: &value}}
}

// Expose gives the secret away. The slice is the Secret's own and must not be modified.
func (s Secret) Expose() []byte {
	if s.value == nil {
		return nil
	}
	return *s.value.bytes
}

// ExposeString gives the secret away as a string.
func (s Secret) ExposeString() string { return string(s.Expose()) }

// Empty reports whether the secret has no bytes.
func (s Secret) Empty() bool { return len(s.Expose()) == 0 }

// Equal compares in a time that depends on the lengths alone.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare(s.Expose(), other.Expose()) == 1
}

// String returns a placeholder.
func (s Secret) String() string { return redacted }

// GoString returns a placeholder.
func (s Secret) GoString() string { return redacted }

// Format writes a placeholder for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns a placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON always fails.
func (s Secret) MarshalJSON() ([]byte, error) { return nil, errNotMarshalled }

// MarshalText always fails.
func (s Secret) MarshalText() ([]byte, error) { return nil, errNotMarshalled }

// MarshalBinary always fails.
func (s Secret) MarshalBinary() ([]byte, error) { return nil, errNotMarshalled }

// MarshalYAML always fails.
func (s Secret) MarshalYAML() (any, error) { return nil, errNotMarshalled }
