package profile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	zalando "github.com/zalando/go-keyring"

	"sallyport/crypto"
)

// Where a token is kept, in the profile file.
const (
	inKeyring = "keyring"
	inFile    = "file"
)

const (
	keyringService = "sallyport"

	// keyringTime bounds one use of the keyring, which may have to ask the user to unlock it.
	keyringTime = time.Minute
)

// keyring is the store for secrets of the operating system.
type keyring interface {
	Set(service, user, secret string) error
	Get(service, user string) (string, error)
}

// SaveToken keeps a token for the node at origin, and says in words where. A token that is neither
// a gateway nor an admin token of Sallyport, such as one of an identity provider, counts as a
// gateway token.
func (p *Profile) SaveToken(origin string, token crypto.Secret) (where string, err error) {
	origin, err = Origin(origin)
	if err != nil {
		return "", err
	}
	kind, err := kindOf(token)
	if err != nil {
		return "", fmt.Errorf("save the token for %s: %w", origin, err)
	}
	place := inKeyring
	where = "the keyring of the operating system"
	path := p.tokenPath(origin, kind)
	if ringErr := within(func() error {
		return p.ring.Set(keyringService, keyringUser(origin, kind), token.ExposeString())
	}); ringErr != nil {
		place = inFile
		where = fmt.Sprintf("%s, because the keyring of the operating system cannot be used (%v)", path, ringErr)
		if err := p.write(p.tokenName(origin, kind), token.Expose()); err != nil {
			return "", fmt.Errorf("save the token for %s: %w", origin, err)
		}
	} else if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("remove the old token for %s: %w; delete the file yourself", origin, err)
	}
	err = p.changeNode(origin, func(n *nodeSetting) {
		if n.Tokens == nil {
			n.Tokens = map[crypto.TokenKind]string{}
		}
		n.Tokens[kind] = place
	})
	return where, err
}

// token finds the token of that kind for origin; empty if there is none.
func (p Profile) token(origin string, kind crypto.TokenKind) (crypto.Secret, error) {
	if text := strings.TrimSpace(p.getenv("SALLYPORT_TOKEN")); text != "" {
		token := crypto.SecretString(text)
		got, err := kindOf(token)
		if err != nil {
			return crypto.Secret{}, fmt.Errorf("use SALLYPORT_TOKEN: %w", err)
		}
		if got != kind {
			return crypto.Secret{}, fmt.Errorf("SALLYPORT_TOKEN holds %s and this needs %s: set it to one, or unset it to use the one that is saved", describe(got), describe(kind))
		}
		return token, nil
	}
	switch place := p.file.Nodes[origin].Tokens[kind]; place {
	case "":
		return crypto.Secret{}, nil
	case inKeyring:
		return p.fromKeyring(origin, kind)
	case inFile:
		return p.fromFile(origin, kind)
	default:
		return crypto.Secret{}, fmt.Errorf("the profile %s says that the token for %s is kept in %q; it can be %q or %q",
			filepath.Join(p.dir, fileName), origin, place, inKeyring, inFile)
	}
}

func (p Profile) fromKeyring(origin string, kind crypto.TokenKind) (crypto.Secret, error) {
	var text string
	err := within(func() (err error) {
		text, err = p.ring.Get(keyringService, keyringUser(origin, kind))
		return err
	})
	if err != nil {
		return crypto.Secret{}, fmt.Errorf("get the token for %s from the keyring of the operating system: %w; unlock the keyring, save the token again, or set SALLYPORT_TOKEN", origin, err)
	}
	return crypto.SecretString(text), nil
}

func (p Profile) fromFile(origin string, kind crypto.TokenKind) (crypto.Secret, error) {
	content, err := readFile(p.tokenPath(origin, kind), maxToken, ownerOnly)
	if err != nil {
		return crypto.Secret{}, fmt.Errorf("read the token for %s: %w", origin, err)
	}
	return crypto.NewSecret(bytes.TrimSpace(content)), nil
}

// kindOf tells by its form what a token is for. The error is for one that cannot be used at all.
func kindOf(token crypto.Secret) (crypto.TokenKind, error) {
	text := token.ExposeString()
	for _, kind := range []crypto.TokenKind{crypto.GatewayToken, crypto.AdminToken} {
		if strings.HasPrefix(text, string(kind)) {
			if _, _, err := crypto.ParseToken(text); err != nil {
				return "", fmt.Errorf("it looks like %s, but is cut or mistyped: %w", describe(kind), err)
			}
			return kind, nil
		}
	}
	// It becomes a header value.
	if text == "" || len(text) > maxToken || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("it is empty, too long, or has characters that no token has")
	}
	return crypto.GatewayToken, nil
}

func describe(kind crypto.TokenKind) string {
	if kind == crypto.AdminToken {
		return "an admin token (spa_...)"
	}
	return "a gateway token (spt_...)"
}

func keyringUser(origin string, kind crypto.TokenKind) string {
	return tokenLabel(kind) + " token for " + origin
}

func tokenLabel(kind crypto.TokenKind) string {
	if kind == crypto.AdminToken {
		return "admin"
	}
	return "gateway"
}

func (p Profile) tokenName(origin string, kind crypto.TokenKind) string {
	return filepath.Join("tokens", tokenLabel(kind)+"_"+fileStem(origin))
}

func (p Profile) tokenPath(origin string, kind crypto.TokenKind) string {
	return filepath.Join(p.dir, p.tokenName(origin, kind))
}

// within gives up on a keyring that does not answer. What it does after that is lost.
func within(use func() error) error {
	done := make(chan error, 1)
	go func() { done <- use() }()
	timer := time.NewTimer(keyringTime)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("no answer within %v", keyringTime)
	}
}

// osKeyring is the keyring of this operating system.
type osKeyring struct{}

func (osKeyring) Set(service, user, secret string) error { return zalando.Set(service, user, secret) }

func (osKeyring) Get(service, user string) (string, error) { return zalando.Get(service, user) }
