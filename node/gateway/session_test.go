package gateway

import (
	"errors"
	"net/http"
	"testing"

	"sallyport/crypto"
	"sallyport/node/identity"
	"sallyport/raftfsm"
)

// sealing makes calls that can seal and open, of an agent to an upstream.
func sealing(t testing.TB) func(agent, upstream, url string) *call {
	t.Helper()
	keyring, err := crypto.NewKeyring("data")
	if err != nil {
		t.Fatal(err)
	}
	state, err := raftfsm.New()
	if err != nil {
		t.Fatal(err)
	}
	g := &Gateway{Config: Config{Sealer: keyring, State: state}}
	return func(agent, upstream, url string) *call {
		return &call{
			Gateway: g, r: &http.Request{Header: http.Header{}}, caller: identity.Caller{Agent: &raftfsm.Agent{Name: agent}, Token: new(raftfsm.GatewayToken)},
			upstream: &raftfsm.Upstream{Name: upstream, URL: url},
		}
	}
}

func TestSessionsBelongToTheirCaller(t *testing.T) {
	as := sealing(t)
	mine := as("A", "crm", "https://crm.example")
	id, err := mine.sealSession(session{Upstream: "secret-upstream-id", Version: "2025-11-25"})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := mine.readSession([]string{id}); err != nil || s.Upstream != "secret-upstream-id" {
		t.Fatalf("my own session: %+v, %v", s, err)
	}
	state, err := mine.sealState("state", "tools/call/x", "state of the upstream")
	if err != nil {
		t.Fatal(err)
	}
	revoked := as("A", "crm", "https://crm.example")
	revoked.caller.Agent.RevokedIndex = 1
	for name, c := range map[string]struct {
		call *call
		ids  []string
	}{
		"of another agent":             {as("B", "crm", "https://crm.example"), []string{id}},
		"for another upstream":         {as("A", "erp", "https://crm.example"), []string{id}},
		"for another server":           {as("A", "crm", "https://evil.example"), []string{id}},
		"with names run together":      {as("A crm", "https://crm.example", ""), []string{id}},
		"of an agent that was revoked": {revoked, []string{id}},
		"cut":                          {mine, []string{id[:len(id)-1]}},
		"with something behind":        {mine, []string{id + "A"}},
		"twice":                        {mine, []string{id, id}},
		"empty":                        {mine, []string{""}},
		"another kind of seal":         {mine, []string{state}},
		"the upstream's own":           {mine, []string{"secret-upstream-id"}},
	} {
		if s, err := c.call.readSession(c.ids); !errors.Is(err, errSealed) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if got, err := mine.openState("state", "tools/call/x", state); err != nil || got != "state of the upstream" {
		t.Fatalf("my own state: %q, %v", got, err)
	}
	if got, err := mine.openState("state", "tools/call/y", state); !errors.Is(err, errSealed) {
		t.Errorf("a state was taken for another request: %q, %v", got, err)
	}
	if _, err := mine.sealSession(session{Upstream: string(make([]byte, maxUpstreamSession+1))}); !errors.Is(err, errLongSession) {
		t.Errorf("a long session id: %v", err)
	}
}

func FuzzSessionID(f *testing.F) {
	as := sealing(f)
	c := as("A", "crm", "https://crm.example")
	good, err := c.sealSession(session{Upstream: "u", Version: "2025-11-25"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:10])
	f.Fuzz(func(t *testing.T, id string) {
		if s, err := c.readSession([]string{id}); err == nil && id != good {
			t.Fatalf("took %q as %+v", id, s)
		}
	})
}
