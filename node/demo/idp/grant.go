package idp

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	zcrypto "github.com/zitadel/oidc/v3/pkg/crypto"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"sallyport/crypto"
)

// Discovery answers both OpenID Connect Discovery and RFC 8414.
func (p *Provider) Discovery(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	return op.NewResponse(struct {
		*oidc.DiscoveryConfiguration
		// Required by RFC 8414 even if empty, which the library would omit.
		ResponseTypesSupported []string `json:"response_types_supported"`
	}{
		&oidc.DiscoveryConfiguration{
			Issuer:                            p.issuer,
			TokenEndpoint:                     p.issuer + tokenPath,
			JwksURI:                           p.issuer + jwksPath,
			GrantTypesSupported:               []oidc.GrantType{oidc.GrantTypeClientCredentials},
			SubjectTypesSupported:             []string{"public"},
			IDTokenSigningAlgValuesSupported:  []string{string(jose.ES256)},
			TokenEndpointAuthMethodsSupported: []oidc.AuthMethod{oidc.AuthMethodBasic, oidc.AuthMethodPost, oidc.AuthMethodPrivateKeyJWT},
			TokenEndpointAuthSigningAlgValuesSupported: []string{
				string(jose.RS256), string(jose.PS256), string(jose.ES256), string(jose.EdDSA),
			},
		},
		[]string{},
	}), nil
}

// Keys answers the JWK set (RFC 7517) that verifies access tokens.
func (p *Provider) Keys(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	return op.NewResponse(p.jwks), nil
}

// VerifyClient authenticates the client of a token request. Why it failed is
// for the log, not for whoever is guessing.
func (p *Provider) VerifyClient(_ context.Context, r *op.Request[op.ClientCredentials]) (op.Client, error) {
	c, err := p.authenticate(r.Data)
	if err == nil {
		return c, nil
	}
	invalid := oidc.ErrInvalidClient().WithDescription("client authentication failed").WithParent(err)
	return nil, op.NewStatusError(invalid, http.StatusUnauthorized)
}

func (p *Provider) authenticate(given *op.ClientCredentials) (*client, error) {
	if given.ClientAssertion == "" {
		c, ok := p.clients[given.ClientID]
		if !ok || c.key != nil || !c.secret.Equal(crypto.SecretString(given.ClientSecret)) {
			return nil, errors.New("unknown client or wrong secret")
		}
		return c, nil
	}
	id, token, err := p.assertions.subject(given.ClientAssertion)
	if err != nil {
		return nil, err
	}
	c, ok := p.clients[id]
	if !ok || c.key == nil || (given.ClientID != "" && given.ClientID != id) {
		return nil, errors.New("client assertion is not from a client with a key")
	}
	return c, p.assertions.accept(token, id, c.key, time.Now())
}

// ClientCredentialsExchange issues an access token (RFC 6749, section 4.4)
// for the resources that the request names (RFC 8707), or, if it names none,
// for the provider itself, which no MCP server accepts.
func (p *Provider) ClientCredentialsExchange(_ context.Context, r *op.ClientRequest[oidc.ClientCredentialsRequest]) (*op.Response, error) {
	c := p.clients[r.Client.GetID()]
	scopes := strings.Fields(r.PostForm.Get("scope"))
	for _, scope := range scopes {
		if !c.IsScopeAllowed(scope) {
			return nil, oidc.ErrInvalidScope().WithDescription("scope %q is not allowed for this client", scope)
		}
	}
	if len(scopes) == 0 {
		scopes = c.scopes
	}
	audience := slices.DeleteFunc(r.PostForm["resource"], isEmpty)
	for _, resource := range audience {
		if !p.isResource(resource) {
			return nil, oidc.ErrInvalidTarget().WithDescription("resource %q is not known here", resource)
		}
	}
	if len(audience) == 0 {
		audience = []string{p.issuer}
	}

	expiry := time.Now().Add(p.lifetime)
	claims := oidc.NewAccessTokenClaims(p.issuer, c.id, audience, expiry, rand.Text(), c.id, c.ClockSkew())
	claims.Scopes = scopes
	token, err := zcrypto.Sign(claims, p.signer)
	if err != nil {
		return nil, oidc.ErrServerError().WithDescription("sign access token").WithParent(err)
	}
	p.issued.Add(1)
	return op.NewResponse(oidc.AccessTokenResponse{
		AccessToken: token,
		TokenType:   oidc.BearerToken,
		ExpiresIn:   uint64(p.lifetime.Seconds()),
		Scope:       scopes,
	}), nil
}

// isEmpty finds parameters without a value, which count as not sent
// (RFC 6749, section 3.1).
func isEmpty(value string) bool { return value == "" }
