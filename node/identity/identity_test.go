package identity

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"sallyport/crypto"
	"sallyport/raftfsm"
)

type store struct {
	*raftfsm.State
	t    testing.TB
	next uint64
}

func (s *store) do(c raftfsm.Command) {
	s.t.Helper()
	data, err := raftfsm.Encode(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.next++
	if res, err := s.Apply(s.next, data); err != nil || res.Err != nil {
		s.t.Fatal(err, res.Err)
	}
}

func (s *store) issue(id string, expires time.Time) http.Header {
	s.t.Helper()
	text, hash, err := crypto.NewToken(crypto.GatewayToken)
	if err != nil {
		s.t.Fatal(err)
	}
	token := raftfsm.GatewayToken{ID: id, Agent: "A", Hash: hash}
	if !expires.IsZero() {
		token.ExpireTime = expires.UnixMilli()
	}
	s.do(&raftfsm.PutGatewayToken{Token: token})
	return bearer(text)
}

func bearer(token crypto.Secret) http.Header {
	return http.Header{"Authorization": {"Bearer " + token.ExposeString()}}
}

func newStore(t testing.TB) *store {
	t.Helper()
	state, err := raftfsm.New()
	if err != nil {
		t.Fatal(err)
	}
	s := &store{State: state, t: t}
	s.do(&raftfsm.PutAgent{Agent: raftfsm.Agent{Name: "A"}})
	return s
}

func TestAuthenticate(t *testing.T) {
	s := newStore(t)
	now := time.Now()
	a := New(s)
	a.now = func() time.Time { return now }
	good := s.issue("good", time.Time{})
	c, err := a.Authenticate(good)
	if err != nil || c.Agent.Name != "A" || c.Token.ID != "good" {
		t.Fatalf("caller %+v, %v", c, err)
	}
	if _, err := a.Authenticate(s.issue("later", now.Add(time.Second))); err != nil {
		t.Fatalf("token before it expires: %v", err)
	}
	foreign, _, err := crypto.NewToken(crypto.GatewayToken)
	if err != nil {
		t.Fatal(err)
	}
	admin, _, err := crypto.NewToken(crypto.AdminToken)
	if err != nil {
		t.Fatal(err)
	}
	revoked := s.issue("revoked", time.Time{})
	s.do(&raftfsm.Revoke{Revocation: raftfsm.Revocation{ID: "r", Kind: raftfsm.RevokeToken, Subject: "revoked"}})
	text := good.Get("Authorization")
	for name, c := range map[string]struct {
		h    http.Header
		want error
	}{
		"none":          {http.Header{}, ErrNoToken},
		"basic":         {http.Header{"Authorization": {"Basic eDp5"}}, ErrToken},
		"twice":         {http.Header{"Authorization": {text, text}}, ErrToken},
		"no scheme":     {http.Header{"Authorization": {text[7:]}}, ErrToken},
		"cut":           {http.Header{"Authorization": {text[:len(text)-1]}}, ErrToken},
		"not issued":    {bearer(foreign), ErrToken},
		"admin token":   {bearer(admin), ErrToken},
		"expires now":   {s.issue("expired", now), ErrExpired},
		"revoked token": {revoked, ErrRevoked},
	} {
		if _, err := a.Authenticate(c.h); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	s.do(&raftfsm.Revoke{Revocation: raftfsm.Revocation{ID: "r2", Kind: raftfsm.RevokeAgent, Subject: "A"}})
	if _, err := a.Authenticate(good); !errors.Is(err, ErrRevoked) || !errors.Is(a.Recheck(c), ErrRevoked) {
		t.Fatalf("token of a revoked agent: %v", err)
	}
	if _, err := a.Authenticate(s.issue("new", time.Time{})); err != nil {
		t.Fatalf("token that was issued after the revocation: %v", err)
	}
}

func TestOpenRequestsEndWithAccess(t *testing.T) {
	run, stopRun := context.WithTimeout(t.Context(), 30*time.Second)
	defer stopRun()
	s := newStore(t)
	a := New(s)
	go a.Run(run)
	track := func(h http.Header) context.Context {
		t.Helper()
		c, err := a.Authenticate(h)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := a.Track(run, c)
		t.Cleanup(stop)
		return ctx
	}
	ends := func(ctx context.Context, want error) {
		t.Helper()
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), want) {
			t.Fatalf("ended by %v, want %v", context.Cause(ctx), want)
		}
	}
	one, two := track(s.issue("t1", time.Time{})), track(s.issue("t2", time.Time{}))
	ends(track(s.issue("t3", time.Now().Add(20*time.Millisecond))), ErrExpired)
	s.do(&raftfsm.Revoke{Revocation: raftfsm.Revocation{ID: "r1", Kind: raftfsm.RevokeToken, Subject: "t1"}})
	ends(one, ErrRevoked)
	if two.Err() != nil {
		t.Fatalf("another token's request ended: %v", context.Cause(two))
	}
	s.do(&raftfsm.DeleteAgent{Name: "A", RevocationID: "r2"})
	ends(two, ErrRevoked)
}

func TestRevokedBetweenAuthenticationAndTracking(t *testing.T) {
	s := newStore(t)
	a := New(s)
	c, err := a.Authenticate(s.issue("t1", time.Time{}))
	if err != nil {
		t.Fatal(err)
	}
	s.do(&raftfsm.Revoke{Revocation: raftfsm.Revocation{ID: "r1", Kind: raftfsm.RevokeToken, Subject: "t1"}})
	ctx, stop := a.Track(t.Context(), c)
	defer stop()
	if !errors.Is(context.Cause(ctx), ErrRevoked) {
		t.Fatalf("a request of a revoked token goes on: %v", context.Cause(ctx))
	}
}
