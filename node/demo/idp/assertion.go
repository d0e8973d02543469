package idp

import (
	gocrypto "crypto"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	assertionLeeway   = 10 * time.Second
	maxAssertionValid = 10 * time.Minute
)

// assertions checks private_key_jwt client assertions (RFC 7523, section 3)
// and remembers those it accepted: each is good for one request, so that a
// client which repeats one finds out here.
type assertions struct {
	audiences []string // any of these is us

	mu   sync.Mutex           // protects the following
	seen map[string]time.Time // client and jti of accepted assertions -> expiry
}

// subject reads, without trusting it, which client an assertion is about.
func (*assertions) subject(assertion string) (string, *jwt.JSONWebToken, error) {
	token, err := jwt.ParseSigned(assertion, []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.EdDSA})
	if err != nil {
		return "", nil, fmt.Errorf("read client assertion: %w", err)
	}
	var claims jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return "", nil, fmt.Errorf("read claims of client assertion: %w", err)
	}
	return claims.Subject, token, nil
}

// accept verifies an assertion of the named client and uses it up.
func (a *assertions) accept(token *jwt.JSONWebToken, clientID string, key gocrypto.PublicKey, now time.Time) error {
	var claims jwt.Claims
	if err := token.Claims(key, &claims); err != nil {
		return fmt.Errorf("verify client assertion: %w", err)
	}
	err := claims.ValidateWithLeeway(jwt.Expected{
		Issuer: clientID, Subject: clientID, AnyAudience: a.audiences, Time: now,
	}, assertionLeeway)
	if err != nil {
		return fmt.Errorf("check client assertion: %w", err)
	}
	if claims.Expiry == nil || claims.Expiry.Time().After(now.Add(maxAssertionValid)) {
		return fmt.Errorf("client assertion must expire within %s", maxAssertionValid)
	}
	if claims.ID == "" {
		return errors.New("client assertion has no jti")
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	for id, expiry := range a.seen {
		if expiry.Before(now.Add(-assertionLeeway)) {
			delete(a.seen, id)
		}
	}
	id := clientID + "\x00" + claims.ID
	if _, used := a.seen[id]; used {
		return errors.New("client assertion was used before")
	}
	a.seen[id] = claims.Expiry.Time()
	return nil
}
