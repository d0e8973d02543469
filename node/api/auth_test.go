package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/crypto"
	"sallyport/raftfsm"
)

func TestWhoMayDoWhat(t *testing.T) {
	b := newBench(t)
	upstream := `{"url":"https://u.example"}`
	for _, test := range []struct {
		method, path, body string
		roles              string // that may, besides the owner
	}{
		{"GET", "/v1/agents", "", "viewer operator security"},
		{"GET", "/v1/agents/none", "", "viewer operator security"},
		{"PUT", "/v1/agents/A", document("/v1/agents/A", `{}`), "operator"},
		{"DELETE", "/v1/agents/none", "", "operator"},
		{"PUT", "/v1/upstreams/u", document("/v1/upstreams/u", upstream), "operator"},
		{"DELETE", "/v1/upstreams/none", "", "operator"},
		{"PUT", "/v1/policies/p", document("/v1/policies/p", `{"cedar":"permit (principal, action, resource);"}`), "security"},
		{"DELETE", "/v1/policies/none", "", "security"},
		{"GET", "/v1/tokens", "", "viewer operator security"},
		{"POST", "/v1/tokens", `{"agent":"none"}`, "operator"},
		{"GET", "/v1/admin-tokens", "", ""},
		{"POST", "/v1/admin-tokens", `{"role":"viewer"}`, ""},
		{"GET", "/v1/revocations", "", "viewer operator security"},
		{"POST", "/v1/revocations", `{"kind":"agent","id":"none"}`, "operator security"},
		{"GET", "/v1/credentials", "", "viewer operator security"},
		{"GET", "/v1/status", "", "viewer operator security"},
		{"GET", "/v1/nodes", "", "viewer operator security"},
		{"POST", "/v1/policy/check", `{"agent":"A","roles":[],"upstream":"u","item":"t"}`, "security"},
		{"GET", "/v1/audit", "", "security"},
	} {
		for _, role := range []Role{RoleViewer, RoleOperator, RoleSecurity, RoleOwner} {
			may := role == RoleOwner || strings.Contains(test.roles, string(role))
			got := b.do(role, test.method, test.path, test.body)
			if denied := got.StatusCode == http.StatusForbidden; denied == may || got.StatusCode >= 500 {
				t.Errorf("%s %s as %s: %d %s", test.method, test.path, role, got.StatusCode, got.body)
			}
		}
		if got := b.do("", test.method, test.path, test.body); got.StatusCode != http.StatusUnauthorized || got.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s %s without a token: %d", test.method, test.path, got.StatusCode)
		}
	}
}

func TestTokensThatOpenNothing(t *testing.T) {
	b := newBench(t)
	b.apply(&raftfsm.PutAgent{Time: 1, Agent: raftfsm.Agent{Name: "A"}})
	gateway, hash, err := crypto.NewToken(crypto.GatewayToken)
	if err != nil {
		t.Fatal(err)
	}
	b.apply(&raftfsm.PutGatewayToken{Time: 1, Token: raftfsm.GatewayToken{ID: "gt-1", Hash: hash, Agent: "A"}})
	unknown, _, err := crypto.NewToken(crypto.AdminToken)
	if err != nil {
		t.Fatal(err)
	}
	revoked := b.adminToken("at-revoked", RoleOwner, b.now.Add(time.Hour))
	b.apply(&raftfsm.Revoke{Time: 1, Revocation: raftfsm.Revocation{ID: "rv-1", Kind: raftfsm.RevokeToken, Subject: "at-revoked"}})
	for name, test := range map[string]struct{ authorization, want string }{
		"none":           {"", "send an admin token"},
		"basic":          {"Basic " + b.tokens[RoleOwner], "send an admin token"},
		"empty":          {"Bearer ", "send an admin token"},
		"not ours":       {"Bearer eyJhbGciOi", "this is no admin token"},
		"cut":            {"Bearer " + b.tokens[RoleOwner][:40], "this is no admin token"},
		"gateway token":  {"Bearer " + gateway.ExposeString(), "this is a gateway token, which opens /mcp only"},
		"unknown":        {"Bearer " + unknown.ExposeString(), "does not exist, is expired or is revoked"},
		"expired":        {"Bearer " + b.adminToken("at-expired", RoleOwner, b.now), "does not exist, is expired or is revoked"},
		"revoked":        {"Bearer " + revoked, "does not exist, is expired or is revoked"},
		"in another way": {b.tokens[RoleOwner], "send an admin token"},
	} {
		t.Run(name, func(t *testing.T) {
			got := b.do("", "GET", "/v1/status", "", "Authorization", test.authorization)
			b.wants(got, http.StatusUnauthorized, test.want)
		})
	}
}

func TestStaleNodeServesOnlyTheWayToTheRepair(t *testing.T) {
	b := newBench(t)
	b.put("/v1/agents/A", `{}`)
	b.cluster.stale = true
	b.wants(b.do(RoleOwner, "GET", "/v1/agents", ""), http.StatusServiceUnavailable, "cannot prove that its state is fresh")
	b.wants(b.do(RoleOwner, "GET", "/v1/status", ""), http.StatusOK, `"ready":false`)
	b.wants(b.do(RoleOwner, "POST", "/v1/revocations", `{"kind":"agent","id":"A"}`), http.StatusCreated, "committed")
}
