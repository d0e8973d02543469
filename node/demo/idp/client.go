package idp

import (
	gocrypto "crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"sallyport/crypto"
)

// client is a registered client as the library wants to see it. Most of what
// it asks concerns flows with a browser, which this provider has none of.
type client struct {
	id     string
	scopes []string
	secret crypto.Secret      // empty when key is set
	key    gocrypto.PublicKey // nil when secret is set
}

func newClients(configured []Client) (map[string]*client, error) {
	clients := make(map[string]*client, len(configured))
	for _, c := range configured {
		if c.ID == "" {
			return nil, errors.New("a client has no ID: every client needs one")
		}
		if _, taken := clients[c.ID]; taken {
			return nil, fmt.Errorf("client %q is configured twice: give each its own ID", c.ID)
		}
		registered := &client{id: c.ID, scopes: slices.Clone(c.Scopes), key: c.Key}
		if c.Key == nil {
			registered.secret = crypto.SecretString(rand.Text())
		}
		clients[c.ID] = registered
	}
	return clients, nil
}

var _ op.Client = (*client)(nil)

func (c *client) GetID() string { return c.id }

func (c *client) AuthMethod() oidc.AuthMethod {
	if c.key != nil {
		return oidc.AuthMethodPrivateKeyJWT
	}
	return oidc.AuthMethodBasic
}

func (c *client) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeClientCredentials}
}

func (c *client) IsScopeAllowed(scope string) bool     { return slices.Contains(c.scopes, scope) }
func (c *client) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeJWT }
func (c *client) ApplicationType() op.ApplicationType  { return op.ApplicationTypeWeb }
func (c *client) ClockSkew() time.Duration             { return 0 }
func (c *client) RedirectURIs() []string               { return nil }
func (c *client) PostLogoutRedirectURIs() []string     { return nil }
func (c *client) ResponseTypes() []oidc.ResponseType   { return nil }
func (c *client) LoginURL(string) string               { return "" }
func (c *client) IDTokenLifetime() time.Duration       { return 0 }
func (c *client) DevMode() bool                        { return false }
func (c *client) IDTokenUserinfoClaimsAssertion() bool { return false }
func (c *client) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return slices.Clone[[]string]
}

func (c *client) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return slices.Clone[[]string]
}
