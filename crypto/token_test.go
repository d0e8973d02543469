package crypto

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/big"
	"regexp"
	"strings"
	"testing"
)

func TestTokenRoundTrip(t *testing.T) {
	form := regexp.MustCompile(`^sp[ta]_[0-9A-Za-z]{49}$`)
	seen := map[TokenHash]bool{}
	for range 200 {
		for _, kind := range []TokenKind{GatewayToken, AdminToken} {
			token, hash, err := NewToken(kind)
			if err != nil {
				t.Fatal(err)
			}
			text := token.ExposeString()
			if !form.MatchString(text) || !strings.HasPrefix(text, string(kind)) {
				t.Fatalf("%s token has the form %q", kind, text)
			}
			gotKind, gotHash, err := ParseToken(text)
			if err != nil || gotKind != kind || gotHash != hash {
				t.Fatalf("ParseToken(%q) = %q, %s, %v; want %q, %s", text, gotKind, gotHash, err, kind, hash)
			}
			if want := sha256.Sum256([]byte(text)); hash.String() != hex.EncodeToString(want[:]) {
				t.Fatalf("hash %s is not the SHA-256 of the whole text", hash)
			}
			if seen[hash] {
				t.Fatal("the same token twice")
			}
			seen[hash] = true
		}
	}
}

func TestNewTokenRefusesUnknownKind(t *testing.T) {
	if _, _, err := NewToken("spx_"); err == nil {
		t.Error("made a token of an unknown kind")
	}
}

// The format is a promise to secret scanners and to tokens already issued: it must not change.
func TestTokenFormatIsFixed(t *testing.T) {
	tests := []struct {
		random, want string
	}{
		{"00", "0000000000000000000000000000000000000000000"},
		{"3d", "000000000000000000000000000000000000000000z"},
		{strings.Repeat("ff", 32), "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1"},
	}
	for _, test := range tests {
		n, ok := new(big.Int).SetString(test.random, 16)
		if !ok {
			t.Fatal(test.random)
		}
		var got [randomLen]byte
		putBase62(got[:], n)
		if string(got[:]) != test.want {
			t.Errorf("base62 of %s = %s, want %s", test.random, got, test.want)
		}
	}

	const fixed = "spt_000000000000000000000000000000000000000000z"
	var sum [checksumLen]byte
	putChecksum(sum[:], []byte(fixed))
	if want := "3NvxWG"; string(sum[:]) != want {
		t.Errorf("checksum of %s = %s, want %s", fixed, sum, want)
	}
}

func TestParseTokenRefuses(t *testing.T) {
	token, _, err := NewToken(GatewayToken)
	if err != nil {
		t.Fatal(err)
	}
	good := token.ExposeString()
	swapped := []byte(good)
	for i := prefixLen; i+1 < len(swapped); i++ {
		if swapped[i] != swapped[i+1] {
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			break
		}
	}

	tests := map[string]string{
		"empty":               "",
		"prefix only":         "spt_",
		"unknown prefix":      "spx_" + good[prefixLen:],
		"another kind":        "spa_" + good[prefixLen:],
		"upper case prefix":   "SPT_" + good[prefixLen:],
		"one short":           good[:len(good)-1],
		"one long":            good + "0",
		"space before":        " " + good,
		"newline after":       good + "\n",
		"with Bearer":         "Bearer " + good,
		"neighbours swapped":  string(swapped),
		"outside of alphabet": good[:10] + "-" + good[11:],
		"NUL":                 good[:10] + "\x00" + good[11:],
		"not ASCII":           good[:10] + "é" + good[12:],
		"very long":           "spt_" + strings.Repeat("0", 1<<20),
		"bad checksum":        good[:len(good)-1] + otherDigit(good[len(good)-1]),
	}
	for name, text := range tests {
		kind, hash, err := ParseToken(text)
		if !errors.Is(err, ErrMalformedToken) || kind != "" || hash != (TokenHash{}) {
			t.Errorf("%s: ParseToken(%.80q) = %q, %s, %v; want ErrMalformedToken and nothing else", name, text, kind, hash, err)
		}
	}
}

func TestEveryMistypedCharacterIsFound(t *testing.T) {
	token, _, err := NewToken(AdminToken)
	if err != nil {
		t.Fatal(err)
	}
	good := token.ExposeString()
	for i := prefixLen; i < len(good); i++ {
		bad := good[:i] + otherDigit(good[i]) + good[i+1:]
		if _, _, err := ParseToken(bad); err == nil {
			t.Errorf("a wrong character at %d passes", i)
		}
	}
}

func TestParseTokenDoesNotAllocate(t *testing.T) {
	token, _, err := NewToken(GatewayToken)
	if err != nil {
		t.Fatal(err)
	}
	text := token.ExposeString()
	if n := testing.AllocsPerRun(100, func() { _, _, _ = ParseToken(text) }); n > 0 {
		t.Errorf("ParseToken allocates %v times", n)
	}
}

func otherDigit(digit byte) string {
	if digit == '0' {
		return "1"
	}
	return "0"
}

func FuzzParseToken(f *testing.F) {
	for _, kind := range []TokenKind{GatewayToken, AdminToken} {
		token, _, err := NewToken(kind)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(token.ExposeString())
	}
	f.Add("")
	f.Add("spt_")
	f.Add("spt_" + strings.Repeat("0", randomLen+checksumLen))
	f.Fuzz(func(t *testing.T, text string) {
		kind, hash, err := ParseToken(text)
		if err != nil {
			if !errors.Is(err, ErrMalformedToken) {
				t.Fatalf("error %v is not ErrMalformedToken", err)
			}
			return
		}
		if !strings.HasPrefix(text, string(kind)) || len(text) != tokenLen {
			t.Fatalf("%q accepted as %q", text, kind)
		}
		if hash != sha256.Sum256([]byte(text)) {
			t.Fatalf("hash of %q is wrong", text)
		}
	})
}
