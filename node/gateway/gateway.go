// Package gateway is the way of an MCP request through a node: receive, authenticate, parse, authorize, find the credential, record its
// use, inject and forward, filter, answer, record the outcome. call.go has the way itself; every step has a file of its own.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"sallyport/crypto"
	"sallyport/node/audit"
	"sallyport/node/identity"
	"sallyport/node/policy"
	"sallyport/node/upstream"
	"sallyport/raftfsm"
)

// Authenticator knows who calls.
type Authenticator interface {
	Authenticate(http.Header) (identity.Caller, error)
	Recheck(identity.Caller) error
	Track(context.Context, identity.Caller) (context.Context, func())
}

// Decider decides what a caller may do.
type Decider interface {
	Check(policy.Request) policy.Decision
	MayList(policy.Request) bool
	MayUse(policy.Request) bool
}

// Credentials finds what to present to an upstream.
type Credentials interface {
	Credential(context.Context, *raftfsm.Upstream) (upstream.Credential, error)
	Rejected(context.Context, *raftfsm.Upstream, upstream.Credential) (upstream.Credential, error)
}

// Recorder writes the audit.
type Recorder interface {
	Append(context.Context, audit.Record) error
}

// Freshness knows how old this node's state may be.
type Freshness interface {
	Check() error
	CheckWithin(time.Duration) error
	Staleness() (time.Duration, bool)
}

// Transports gives the connections to an upstream.
type Transports interface {
	For(*raftfsm.Upstream) (http.RoundTripper, error)
}

// Observer is told how each request ended.
type Observer interface {
	Request(method, outcome string, took time.Duration)
}

// Config is what a Gateway works with.
type Config struct {
	State         interface{ Read() raftfsm.View }
	Authenticator Authenticator
	Policies      Decider
	Credentials   Credentials
	Audit         Recorder
	Freshness     Freshness
	Transports    Transports
	Observer      Observer
	// Sealer seals what upstreams hand out to callers.
	Sealer *crypto.Keyring
	// AllowedHost tells whether a Host header names this gateway, AllowedOrigin whether pages of a host may call it.
	AllowedHost, AllowedOrigin func(host string) bool
	// Version is that of the program, sent upstream as User-Agent and client info.
	Version string
	Logger  *slog.Logger
}

// Gateway serves /mcp/{upstream}.
type Gateway struct {
	Config
	eras     *eras
	catalog  *catalog
	sessions *sessionPool
	clients  *clientSessions
	buffers  sync.Pool // *[copyBuffer]byte

	draining  chan struct{}
	drainOnce sync.Once
}

// ErrDraining ends long-lived streams when the node is about to stop.
var ErrDraining = errors.New("this node is about to stop: connect again")

// New makes a Gateway.
func New(c Config) *Gateway {
	g := &Gateway{Config: c, eras: newEras(), catalog: newCatalog(), clients: newClientSessions(), draining: make(chan struct{})}
	g.sessions = newSessionPool(g)
	g.buffers.New = func() any { return new([copyBuffer]byte) }
	return g
}

// Drain ends the streams that would otherwise stay open for as long as their clients like. Calls in flight go on.
func (g *Gateway) Drain() { g.drainOnce.Do(func() { close(g.draining) }) }

// Close ends the sessions that this node keeps at upstreams.
func (g *Gateway) Close() {
	g.Drain()
	g.sessions.close()
}

// Run keeps house until ctx ends.
func (g *Gateway) Run(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.sessions.sweep(time.Now())
			g.clients.sweep(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// ServeHTTP implements http.Handler for /mcp/{upstream}.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{Gateway: g, w: w, r: r, ctx: r.Context(), began: time.Now()}
	defer c.finish()
	c.serve()
}

// allowedOrigin tells whether a browser page of that origin may call this gateway (MCP: servers must validate Origin against DNS
// rebinding).
func (g *Gateway) allowedOrigin(origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") && g.AllowedOrigin(u.Host)
}
