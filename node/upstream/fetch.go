package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"sallyport/crypto"
	"sallyport/raftfsm"
)

const (
	fetchTimeout     = 20 * time.Second
	assertionTTL     = time.Minute
	maxTokenBytes    = 16 << 10
	maxTokenLifetime = 30 * 24 * time.Hour
	// assumedLifetime is how long a token without expires_in is kept before a new one is asked for.
	assumedLifetime = time.Hour
)

// token is what a token endpoint answered.
type token struct {
	value  crypto.Secret
	scope  string
	expiry time.Time // zero if the server does not say
	renew  time.Time
}

// clientCredentials asks for a token by the client credentials grant (RFC 6749 section 4.4, RFC 8707 for resource).
func (m *Manager) clientCredentials(ctx context.Context, u *raftfsm.Upstream) (token, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	rt, err := m.pool.For(u)
	if err != nil {
		return token{}, err
	}
	// A redirect would carry the client's secret to wherever the answer points.
	client := &http.Client{Transport: rt, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	endpoint := u.TokenURL
	if endpoint == "" {
		issuer := u.Issuer
		if issuer == "" {
			if issuer, err = protectedBy(ctx, client, u.URL); err != nil {
				return token{}, err
			}
		}
		if endpoint, err = m.issuers.tokenEndpoint(ctx, client, issuer); err != nil {
			return token{}, err
		}
	}
	secret, err := m.control.Open(u.ClientSecret, crypto.Binding{Kind: "upstream", ID: u.Name, Generation: u.SecretGeneration})
	if err != nil {
		return token{}, fmt.Errorf("open the client secret: %w", err)
	}
	conf, err := clientConfig(u, endpoint, secret, m.now())
	if err != nil {
		return token{}, err
	}
	if err := m.mayUse(ctx, u); err != nil {
		return token{}, fmt.Errorf("the client secret was not used: %w", err)
	}
	began := m.now()
	got, err := conf.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
	if err != nil {
		return token{}, fmt.Errorf("ask %s for a token: %w", endpoint, describe(err))
	}
	return checkToken(got, began)
}

func clientConfig(u *raftfsm.Upstream, endpoint string, secret crypto.Secret, now time.Time) (*clientcredentials.Config, error) {
	conf := &clientcredentials.Config{ClientID: u.ClientID, TokenURL: endpoint, Scopes: u.Scopes, EndpointParams: url.Values{}}
	if !u.OmitResource {
		conf.EndpointParams.Set("resource", Resource(u))
	}
	switch u.ClientAuth {
	case raftfsm.ClientSecretPost:
		conf.AuthStyle, conf.ClientSecret = oauth2.AuthStyleInParams, secret.ExposeString()
	case raftfsm.PrivateKeyJWT:
		conf.AuthStyle = oauth2.AuthStyleInParams
		assertion, err := clientAssertion(u, endpoint, secret, now)
		if err != nil {
			return nil, err
		}
		conf.EndpointParams.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		conf.EndpointParams.Set("client_assertion", assertion)
	default:
		conf.AuthStyle, conf.ClientSecret = oauth2.AuthStyleInHeader, secret.ExposeString()
	}
	return conf, nil
}

// Resource is the RFC 8707 resource indicator of an upstream: as configured, else its URL.
func Resource(u *raftfsm.Upstream) string {
	if u.Resource != "" {
		return u.Resource
	}
	return u.URL
}

// clientAssertion signs the JWT that authenticates the client (RFC 7523 section 3). The issuer is the audience where it is known, as later
// advice on mix-up has it, else the token endpoint.
func clientAssertion(u *raftfsm.Upstream, endpoint string, key crypto.Secret, now time.Time) (string, error) {
	private, err := parsePrivateKey(key)
	if err != nil {
		return "", err
	}
	alg, err := signatureAlgorithm(u, private)
	if err != nil {
		return "", err
	}
	opts := (&jose.SignerOptions{}).WithType("JWT")
	if u.KeyID != "" {
		opts = opts.WithHeader(jose.HeaderKey("kid"), u.KeyID)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: private}, opts)
	if err != nil {
		return "", fmt.Errorf("sign the client assertion: %w", err)
	}
	audience := u.Issuer
	if audience == "" {
		audience = endpoint
	}
	return jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: u.ClientID, Subject: u.ClientID, Audience: jwt.Audience{audience}, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(assertionTTL)),
	}).Serialize()
}

func parsePrivateKey(key crypto.Secret) (any, error) {
	block, _ := pem.Decode(key.Expose())
	if block == nil {
		return nil, errors.New("the private key is not PEM")
	}
	if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	if k, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	return nil, errors.New("the private key is neither PKCS #8, SEC 1 nor PKCS #1")
}

func signatureAlgorithm(u *raftfsm.Upstream, key any) (jose.SignatureAlgorithm, error) {
	if u.PrivateKeyAlg != "" {
		return jose.SignatureAlgorithm(u.PrivateKeyAlg), nil
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return jose.RS256, nil
	case ed25519.PrivateKey:
		return jose.EdDSA, nil
	case *ecdsa.PrivateKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return jose.ES256, nil
		case 384:
			return jose.ES384, nil
		case 521:
			return jose.ES512, nil
		}
	}
	return "", fmt.Errorf("a private key of type %T cannot sign client assertions", key)
}

// describe makes an error of the token endpoint fit for logs and callers. What the server wrote in free text stays out: it has seen the
// secret and may repeat it.
func describe(err error) error {
	var re *oauth2.RetrieveError
	if errors.As(err, &re) {
		switch code := re.ErrorCode; {
		case knownErrorCode(code):
			return &RefusedError{Status: re.Response.StatusCode, Code: code}
		case re.Response.StatusCode >= 300 && re.Response.StatusCode < 400:
			return &RefusedError{Status: re.Response.StatusCode, Code: "a redirect, which is not followed with a secret"}
		default:
			return &RefusedError{Status: re.Response.StatusCode, Code: "no OAuth error"}
		}
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return errors.New("the answer is not a token response")
}

// knownErrorCode tells the codes of RFC 6749 section 5.2 and RFC 8707 section 2.
func knownErrorCode(code string) bool {
	switch code {
	case "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
		"invalid_target", "temporarily_unavailable", "server_error", "access_denied", "slow_down":
		return true
	}
	return false
}

// RefusedError is an answer of a token endpoint that carries no token.
type RefusedError struct {
	Status int
	Code   string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("it answered %d, %s", e.Status, e.Code) }

// permanent tells errors that only a change of configuration ends.
func (e *RefusedError) permanent() bool {
	switch e.Code {
	case "temporarily_unavailable", "server_error", "slow_down":
		return false
	}
	return knownErrorCode(e.Code)
}

// checkToken holds an answer to what a header can carry and a calendar can hold.
func checkToken(got *oauth2.Token, began time.Time) (token, error) {
	if !strings.EqualFold(got.TokenType, "bearer") && got.TokenType != "" {
		return token{}, errors.New("the token endpoint answered with a token that is no bearer token")
	}
	if len(got.AccessToken) > maxTokenBytes {
		return token{}, fmt.Errorf("the token endpoint answered with a token of more than %d bytes", maxTokenBytes)
	}
	for i := range len(got.AccessToken) {
		if c := got.AccessToken[i]; c <= 0x20 || c > 0x7e {
			return token{}, errors.New("the token endpoint answered with a token that no header can carry")
		}
	}
	t := token{value: crypto.SecretString(got.AccessToken)}
	if scope, ok := got.Extra("scope").(string); ok && len(scope) <= 4096 {
		t.scope = scope
	}
	lifetime, known, err := lifetimeOf(got.Extra("expires_in"))
	if err != nil {
		return token{}, err
	}
	if known {
		t.expiry = began.Add(lifetime)
	} else {
		lifetime = assumedLifetime
	}
	t.renew = began.Add(lifetime - lifetime/5)
	return t, nil
}

// lifetimeOf reads expires_in, which servers also write as a string or a fraction.
func lifetimeOf(v any) (_ time.Duration, known bool, err error) {
	var seconds float64
	switch v := v.(type) {
	case nil:
		return 0, false, nil
	case float64:
		seconds = v
	case int64:
		seconds = float64(v)
	case json.Number:
		seconds, err = v.Float64()
	case string:
		seconds, err = strconv.ParseFloat(v, 64)
	default:
		err = errors.New("odd type")
	}
	if err != nil || math.IsNaN(seconds) || seconds <= 0 {
		return 0, false, errors.New("the token endpoint answered with an expires_in that is no positive number")
	}
	if seconds > maxTokenLifetime.Seconds() {
		return maxTokenLifetime, true, nil
	}
	return time.Duration(seconds * float64(time.Second)), true, nil
}
