package crypto

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math/big"
	"strings"
)

// TokenKind is the prefix that tells what a token is for, to people and to secret scanners.
type TokenKind string

const (
	// GatewayToken is the one credential that an agent holds.
	GatewayToken TokenKind = "spt_"
	// AdminToken opens the admin API and nothing else.
	AdminToken TokenKind = "spa_"
)

const (
	base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

	tokenEntropy = 32 // bytes
	prefixLen    = 4
	randomLen    = 43 // the fewest base62 digits that hold 256 bits
	checksumLen  = 6  // the fewest that hold 32 bits
	tokenLen     = prefixLen + randomLen + checksumLen
)

// ErrMalformedToken says that a text is no token of ours: not one that is unknown, but one
// that was never issued, most often because it was cut or mistyped.
var ErrMalformedToken = errors.New("malformed token")

// TokenHash is the SHA-256 of a whole token text. It is what Sallyport stores: with 256 random bits
// in the token, nothing slower than SHA-256 is needed to keep it from being guessed.
type TokenHash [sha256.Size]byte

// String returns the hash in hexadecimal.
func (h TokenHash) String() string { return hex.EncodeToString(h[:]) }

// NewToken makes a token: the prefix, 32 random bytes in base62, and the CRC-32 (IEEE) of both
// in base62. The checksum lets a mistyped token be told from an unknown one without a lookup.
func NewToken(kind TokenKind) (Secret, TokenHash, error) {
	if kind != GatewayToken && kind != AdminToken {
		return Secret{}, TokenHash{}, errors.New("crypto: make token: unknown kind")
	}
	var random [tokenEntropy]byte
	rand.Read(random[:]) // never fails: it ends the process instead

	text := make([]byte, tokenLen)
	copy(text, kind)
	putBase62(text[prefixLen:prefixLen+randomLen], new(big.Int).SetBytes(random[:]))
	putChecksum(text[prefixLen+randomLen:], text[:prefixLen+randomLen])
	return NewSecret(text), sha256.Sum256(text), nil
}

// ParseToken checks the form of a token and returns what to look it up by. The error is always
// ErrMalformedToken, and never contains the text.
func ParseToken(text string) (TokenKind, TokenHash, error) {
	if len(text) != tokenLen {
		return "", TokenHash{}, ErrMalformedToken
	}
	kind := TokenKind(text[:prefixLen])
	if kind != GatewayToken && kind != AdminToken {
		return "", TokenHash{}, ErrMalformedToken
	}
	for i := prefixLen; i < tokenLen; i++ {
		if strings.IndexByte(base62, text[i]) < 0 {
			return "", TokenHash{}, ErrMalformedToken
		}
	}

	var whole [tokenLen]byte
	copy(whole[:], text)
	var checksum [checksumLen]byte
	putChecksum(checksum[:], whole[:tokenLen-checksumLen])
	if [checksumLen]byte(whole[tokenLen-checksumLen:]) != checksum {
		return "", TokenHash{}, ErrMalformedToken
	}
	return kind, sha256.Sum256(whole[:]), nil
}

// putBase62 fills dst with n, most significant digit first, padded with zeros.
func putBase62(dst []byte, n *big.Int) {
	base, digit := big.NewInt(int64(len(base62))), new(big.Int)
	for i := len(dst) - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		dst[i] = base62[digit.Int64()]
	}
}

func putChecksum(dst, covered []byte) {
	// crc32.ChecksumIEEE chooses its code at run time, which moves its argument to the heap.
	sum := ^uint32(0)
	for _, b := range covered {
		sum = crc32.IEEETable[byte(sum)^b] ^ sum>>8
	}
	sum = ^sum
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = base62[sum%uint32(len(base62))]
		sum /= uint32(len(base62))
	}
}
