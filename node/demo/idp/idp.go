// Package idp is an OpenID provider small enough to live inside another
// process: `sallyport demo` and tests start one on loopback instead of asking
// for an identity provider that somebody has to run.
//
// It knows one grant, client_credentials, for the clients it was configured
// with, and answers every other flow with an OAuth error. Access tokens are
// JWTs (RFC 9068) for exactly the resource that the client named (RFC 8707).
// Keys and client secrets are made anew by every Start and exist in memory
// only, so nothing it ever issued is worth stealing afterwards.
package idp

import (
	"context"
	gocrypto "crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"sallyport/crypto"
)

const (
	tokenPath = "/oauth/token"
	jwksPath  = "/oauth/jwks"

	defaultTokenLifetime = 5 * time.Minute
	maxFormBytes         = 64 << 10
)

// Config says whom the provider knows.
type Config struct {
	Clients []Client
	// TokenLifetime is how long an access token is valid; 0 means 5 minutes.
	TokenLifetime time.Duration
}

// Client is a confidential client that may use the client_credentials grant.
type Client struct {
	ID string
	// Scopes are those the client may ask for. A request that names none
	// gets all of them.
	Scopes []string
	// Key is the public key (RSA, ECDSA P-256 or Ed25519) that verifies the
	// client's private_key_jwt assertions (RFC 7523). A client without one
	// gets a random secret, which it may send by client_secret_basic or
	// client_secret_post.
	Key gocrypto.PublicKey
}

// Provider is a running OpenID provider.
type Provider struct {
	op.UnimplementedServer

	issuer     string
	lifetime   time.Duration
	signer     jose.Signer
	jwks       jose.JSONWebKeySet
	clients    map[string]*client
	assertions assertions
	server     *http.Server
	served     chan struct{}
	issued     atomic.Int64

	mu        sync.Mutex // protects the following
	resources []string
}

// Start serves a provider on a free port of 127.0.0.1 until ctx ends or Close
// is called.
func Start(ctx context.Context, cfg Config) (*Provider, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start identity provider: listen on loopback: %w", err)
	}
	p, err := newProvider("http://"+listener.Addr().String(), cfg)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start identity provider: %w", err), listener.Close())
	}
	go func() {
		defer close(p.served)
		_ = p.server.Serve(listener) // ends with Close, and says nothing else
	}()
	context.AfterFunc(ctx, p.Close)
	return p, nil
}

func newProvider(issuer string, cfg Config) (*Provider, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	keyID := rand.Text()
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: keyID}},
		(&jose.SignerOptions{}).WithType("at+jwt"), // RFC 9068, section 2.1
	)
	if err != nil {
		return nil, fmt.Errorf("make signer: %w", err)
	}
	clients, err := newClients(cfg.Clients)
	if err != nil {
		return nil, err
	}
	p := &Provider{
		issuer:   issuer,
		lifetime: cfg.TokenLifetime,
		signer:   signer,
		jwks: jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: key.Public(), KeyID: keyID, Algorithm: string(jose.ES256), Use: "sig"},
		}},
		clients:    clients,
		assertions: assertions{audiences: []string{issuer, issuer + tokenPath}, seen: map[string]time.Time{}},
		served:     make(chan struct{}),
	}
	if p.lifetime == 0 {
		p.lifetime = defaultTokenLifetime
	}
	p.server = &http.Server{
		Handler:           p.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		MaxHeaderBytes:    maxFormBytes,
	}
	return p, nil
}

// handler puts in front of the library's routes what it leaves out: RFC 8414
// discovery, and the limits of RFC 6749, section 3.2, on token requests.
func (p *Provider) handler() http.Handler {
	routes := op.RegisterServer(p, op.Endpoints{
		Token:   op.NewEndpoint(tokenPath),
		JwksURI: op.NewEndpoint(jwksPath),
	}, op.WithServerCORSOptions(nil))

	mux := http.NewServeMux()
	mux.Handle("/", routes)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		r.URL.Path = oidc.DiscoveryEndpoint
		routes.ServeHTTP(w, r)
	})
	mux.HandleFunc(tokenPath, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if r.Method != http.MethodPost || r.URL.RawQuery != "" {
			op.WriteError(w, r, oidc.ErrInvalidRequest().
				WithDescription("token requests are POST, with every parameter in the body"), nil)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
		routes.ServeHTTP(w, r)
	})
	return mux
}

// Issuer is the provider's issuer identifier, a URL on loopback.
func (p *Provider) Issuer() string { return p.issuer }

// RegisterResource lets clients ask for tokens whose audience is the given
// resource identifier (RFC 8707); those for any other are refused.
func (p *Provider) RegisterResource(resource string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.resources, resource) {
		p.resources = append(p.resources, resource)
	}
}

func (p *Provider) isResource(resource string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.resources, resource)
}

// ClientSecret is the secret made for a client, empty for one that is unknown
// or authenticates with a key.
func (p *Provider) ClientSecret(id string) crypto.Secret {
	if c, ok := p.clients[id]; ok {
		return c.secret
	}
	return crypto.Secret{}
}

// Issued counts the access tokens issued so far.
func (p *Provider) Issued() int { return int(p.issued.Load()) }

// Close stops serving, ends open connections and returns when both is done.
func (p *Provider) Close() {
	_ = p.server.Close() // its error is that of closing the listener a second time
	<-p.served
}
