// Package identity knows who calls: it turns a gateway token into the agent that holds it, and ends what an agent has open when its
// access ends.
package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"sallyport/crypto"
	"sallyport/raftfsm"
)

// Errors of authentication. All of them mean 401.
var (
	ErrNoToken = errors.New("there is no gateway token: send it as `Authorization: Bearer spt_...`")
	ErrToken   = errors.New("the gateway token is not valid")
	ErrExpired = errors.New("the gateway token has expired: issue a new one with `sallyport token issue`")
	ErrRevoked = errors.New("the gateway token or its agent has been revoked")
)

// Source is the replicated state.
type Source interface{ Read() raftfsm.View }

// Caller is who sent a request.
type Caller struct {
	Agent *raftfsm.Agent
	Token *raftfsm.GatewayToken
}

// Authenticator authenticates requests against the replicated state.
type Authenticator struct {
	source Source
	now    func() time.Time

	mu   sync.Mutex // protects the following
	open map[*open]struct{}
}

// open is a request that is being served.
type open struct {
	token, agent string
	end          context.CancelCauseFunc
}

// New makes an Authenticator over source.
func New(source Source) *Authenticator {
	return &Authenticator{source: source, now: time.Now, open: map[*open]struct{}{}}
}

// Authenticate finds the caller by the Authorization header (RFC 6750 section 2.1, the only way in which a token is taken).
func (a *Authenticator) Authenticate(h http.Header) (Caller, error) {
	values := h["Authorization"]
	if len(values) == 0 {
		return Caller{}, ErrNoToken
	}
	scheme, text, ok := strings.Cut(values[0], " ")
	if len(values) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") {
		return Caller{}, fmt.Errorf("%w: the Authorization header must hold one bearer token", ErrToken)
	}
	kind, hash, err := crypto.ParseToken(strings.TrimSpace(text))
	if err != nil {
		return Caller{}, fmt.Errorf("%w: it was mistyped or cut off, or is of another service", ErrToken)
	}
	if kind != crypto.GatewayToken {
		return Caller{}, fmt.Errorf("%w: admin tokens work on /v1 only", ErrToken)
	}
	view := a.source.Read()
	token, ok := view.GatewayTokenByHash(hash)
	if !ok {
		return Caller{}, fmt.Errorf("%w: this cluster did not issue it, or dropped it after it expired", ErrToken)
	}
	return a.caller(view, token)
}

func (a *Authenticator) caller(view raftfsm.View, token *raftfsm.GatewayToken) (Caller, error) {
	agent, ok := view.Agent(token.Agent)
	switch {
	case !ok, token.RevokedIndex != 0, token.CreateIndex <= agent.RevokedIndex:
		return Caller{}, ErrRevoked
	case token.ExpireTime != 0 && a.now().UnixMilli() >= token.ExpireTime:
		return Caller{}, ErrExpired
	}
	return Caller{Agent: agent, Token: token}, nil
}

// Recheck tells whether a caller would still be let in.
func (a *Authenticator) Recheck(c Caller) error {
	view := a.source.Read()
	token, ok := view.GatewayToken(c.Token.ID)
	if !ok {
		return ErrRevoked
	}
	_, err := a.caller(view, token)
	return err
}

// Track gives a context that ends, with ErrRevoked or ErrExpired as its cause, when the caller's access does. stop must be called when the
// request has been served. Run must be running.
func (a *Authenticator) Track(ctx context.Context, c Caller) (_ context.Context, stop func()) {
	ctx, end := context.WithCancelCause(ctx)
	o := &open{token: c.Token.ID, agent: c.Agent.Name, end: end}
	var timer *time.Timer
	if c.Token.ExpireTime != 0 {
		timer = time.AfterFunc(time.UnixMilli(c.Token.ExpireTime).Sub(a.now()), func() { end(ErrExpired) })
	}
	a.mu.Lock()
	a.open[o] = struct{}{}
	a.mu.Unlock()
	// A revocation that was committed after the caller was authenticated and before this line has found nothing to end.
	if err := a.Recheck(c); err != nil {
		end(err)
	}
	return ctx, func() {
		if timer != nil {
			timer.Stop()
		}
		a.mu.Lock()
		delete(a.open, o)
		a.mu.Unlock()
		end(nil)
	}
}

// Run ends what revoked callers have open, until ctx ends.
func (a *Authenticator) Run(ctx context.Context) {
	view := a.source.Read()
	seen := view.Index()
	for {
		watch := view.WatchRevocations()
		for r := range view.RevocationsAfter(seen) {
			a.endOpen(r)
			seen = r.CreateIndex
		}
		if watch.Wait(ctx) != nil {
			return
		}
		view = a.source.Read()
	}
}

func (a *Authenticator) endOpen(r *raftfsm.Revocation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for o := range a.open {
		if r.Kind == raftfsm.RevokeToken && r.Subject == o.token || r.Kind == raftfsm.RevokeAgent && r.Subject == o.agent {
			o.end(ErrRevoked)
		}
	}
}
