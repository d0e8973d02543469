package api

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/crypto"
	"sallyport/node/audit"
	"sallyport/raftfsm"
)

func (b *bench) issue(body string) IssuedToken {
	b.t.Helper()
	got := b.do(RoleOperator, "POST", "/v1/tokens", body)
	var issued IssuedToken
	if err := json.Unmarshal([]byte(got.body), &issued); err != nil || got.StatusCode != http.StatusCreated {
		b.t.Fatalf("issue %s: %d %s", body, got.StatusCode, got.body)
	}
	return issued
}

func TestGatewayTokens(t *testing.T) {
	b := newBench(t)
	b.put("/v1/agents/A", `{}`)
	b.put("/v1/upstreams/u", `{"url":"https://u.example"}`)
	issued := b.issue(`{"agent":"A","ttl":"1h","upstreams":["u","u"]}`)
	sort, hash, err := crypto.ParseToken(issued.Text)
	if err != nil || sort != crypto.GatewayToken {
		t.Fatalf("the token is a %s: %v", sort, err)
	}
	if r, ok := b.store.Read().GatewayTokenByHash(hash); !ok || r.ID != issued.ID || len(r.Upstreams) != 1 || r.ExpireTime != b.now.Add(time.Hour).UnixMilli() {
		t.Errorf("stored is %+v", r)
	}
	usual := b.issue(`{"agent":"A"}`)
	if want := b.now.Add(90 * 24 * time.Hour); !usual.Expires.Equal(want) {
		t.Errorf("a token expires at %s, want %s", usual.Expires, want)
	}

	states := func() map[string]TokenState {
		var list List[Token]
		got := b.do(RoleViewer, "GET", "/v1/tokens?agent=A", "")
		if strings.Contains(got.body, "spt_") {
			t.Fatal("a token is listed")
		}
		if err := json.Unmarshal([]byte(got.body), &list); err != nil {
			t.Fatal(err)
		}
		found := map[string]TokenState{}
		for _, item := range list.Items {
			found[item.ID] = item.State
		}
		return found
	}
	b.wants(b.do(RoleOperator, "POST", "/v1/revocations", `{"kind":"token","id":"`+issued.Text+`"}`), http.StatusCreated, "token "+issued.ID+" of agent A")
	if got := states(); got[issued.ID] != TokenRevoked || got[usual.ID] != TokenActive {
		t.Errorf("after revoking one: %v", got)
	}
	b.wants(b.do(RoleOperator, "POST", "/v1/revocations", `{"kind":"agent","id":"A"}`), http.StatusCreated, "agent A with 1 active token")
	later := b.issue(`{"agent":"A","ttl":"1h"}`)
	if got := states(); got[usual.ID] != TokenRevoked || got[later.ID] != TokenActive {
		t.Errorf("after revoking the agent: %v", got)
	}
	b.now = b.now.Add(30 * time.Minute)
	if got := states(); got[later.ID] != TokenActive {
		t.Errorf("before its end: %v", got)
	}
}

func TestRefusedTokens(t *testing.T) {
	b := newBench(t)
	b.put("/v1/agents/A", `{}`)
	for body, want := range map[string]string{
		`{"agent":"B"}`:                      `there is no agent \"B\"`,
		`{"agent":"A","upstreams":["nope"]}`: `there is no upstream \"nope\"`,
		`{"agent":"A","ttl":"1ms"}`:          "is not between 1s and",
		`{"agent":"A","ttl":"1000000h"}`:     "is not between 1s and",
		`{"agent":"A","ttl":"-1h"}`:          "is not between 1s and",
		`{"agent":"A","ttl":"soon"}`:         "is no duration",
		`{"agent":"A","tll":"1h"}`:           "unexpected property",
		`{"agent":"A","agent":"B"}`:          "duplicate",
		`[]`:                                 "",
		`{"agent":"A","upstreams":["` + strings.Repeat(`","`, 65) + `"]}`: "",
	} {
		got := b.do(RoleOperator, "POST", "/v1/tokens", body)
		if got.StatusCode < 400 || got.StatusCode >= 500 || !strings.Contains(got.body, want) {
			t.Errorf("%s: %d %s, want %q", body, got.StatusCode, got.body, want)
		}
	}
	b.wants(b.do(RoleOwner, "POST", "/v1/admin-tokens", `{"role":"root"}`), http.StatusUnprocessableEntity, "validation failed")
	b.wants(b.do(RoleOwner, "POST", "/v1/admin-tokens", `{"role":"viewer","ttl":"9000h"}`), http.StatusUnprocessableEntity, "is not between")
}

func TestAdminTokens(t *testing.T) {
	b := newBench(t)
	got := b.do(RoleOwner, "POST", "/v1/admin-tokens", `{"role":"viewer","name":"monitoring","ttl":"8h"}`)
	var issued IssuedAdminToken
	if err := json.Unmarshal([]byte(got.body), &issued); err != nil || got.StatusCode != http.StatusCreated {
		t.Fatalf("%d %s", got.StatusCode, got.body)
	}
	use := func() int {
		return b.do("", "GET", "/v1/status", "", "Authorization", "Bearer "+issued.Text).StatusCode
	}
	if status := use(); status != http.StatusOK {
		t.Errorf("the token does not work: %d", status)
	}
	if got := b.do(RoleOwner, "GET", "/v1/admin-tokens", ""); strings.Contains(got.body, "spa_") || !strings.Contains(got.body, "monitoring") {
		t.Errorf("the list is %s", got.body)
	}
	revoke := `{"kind":"token","id":"` + issued.ID + `"}`
	b.wants(b.do(RoleOperator, "POST", "/v1/revocations", revoke), http.StatusForbidden, "use a token of the role owner or security")
	b.wants(b.do(RoleSecurity, "POST", "/v1/revocations", revoke), http.StatusCreated, "admin token "+issued.ID+" (viewer)")
	if status := use(); status != http.StatusUnauthorized {
		t.Errorf("a revoked token gets %d", status)
	}
	b.wants(b.do(RoleOperator, "POST", "/v1/revocations", `{"kind":"token","id":"at-operator"}`), http.StatusCreated, "committed")
}

func TestRevocations(t *testing.T) {
	b := newBench(t)
	b.wants(b.do(RoleOwner, "POST", "/v1/revocations", `{"kind":"user","id":"corp#x"}`), http.StatusUnprocessableEntity, "this version knows no users")
	for _, subject := range []string{"token", "agent", "credential"} {
		b.wants(b.do(RoleOwner, "POST", "/v1/revocations", `{"kind":"`+subject+`","id":"none"}`), http.StatusNotFound, "there is no such "+subject)
	}
	text, _, err := crypto.NewToken(crypto.GatewayToken)
	if err != nil {
		t.Fatal(err)
	}
	got := b.do(RoleOwner, "POST", "/v1/revocations", `{"kind":"token","id":"`+text.ExposeString()+`"}`)
	b.wants(got, http.StatusNotFound, "there is no such token")
	if strings.Contains(got.body+b.log.String(), text.ExposeString()) {
		t.Error("the token is quoted")
	}

	b.put("/v1/agents/A", `{}`)
	b.do(RoleSecurity, "POST", "/v1/revocations", `{"kind":"agent","id":"A","reason":"left"}`)
	b.do(RoleOwner, "DELETE", "/v1/agents/A", "")
	var list List[Revocation]
	b.read("/v1/revocations", &list)
	if len(list.Items) != 2 || list.Items[0].Reason != "left" || list.Items[0].By != "admin token at-security (security)" || list.Items[1].Reason != "agent deleted" {
		t.Errorf("the list is %+v", list.Items)
	}
	var rest List[Revocation]
	b.read("/v1/revocations?after="+strings.Trim(etag(list.Items[0].Index), `"`), &rest)
	if len(rest.Items) != 1 || rest.Items[0].ID != list.Items[1].ID {
		t.Errorf("after the first: %+v", rest.Items)
	}
}

func TestPolicyCheck(t *testing.T) {
	b := newBench(t)
	b.put("/v1/agents/A", `{"roles":["finance"]}`)
	b.put("/v1/policies/finance", `{"cedar":"permit (principal in Role::\"finance\", action == Action::\"tools/call\", resource == Tool::\"u/read\") when { context.arguments has n && context.arguments.n == 9007199254740993 };"}`)
	check := func(body string) PolicyDecision {
		t.Helper()
		got := b.do(RoleSecurity, "POST", "/v1/policy/check", body)
		var d PolicyDecision
		if err := json.Unmarshal([]byte(got.body), &d); err != nil || got.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", body, got.StatusCode, got.body)
		}
		return d
	}
	if d := check(`{"agent":"A","upstream":"u","item":"read","arguments":{"n":9007199254740993}}`); !d.Allowed || len(d.Policies) != 1 || d.Policies[0] != "finance" {
		t.Errorf("got %+v, want allowed by finance: a number beyond 2^53 has to stay what it is", d)
	}
	if d := check(`{"agent":"A","upstream":"u","item":"write"}`); d.Allowed || d.Missing == "" {
		t.Errorf("got %+v, want denied with what is missing", d)
	}
	if d := check(`{"agent":"A","roles":[],"upstream":"u","item":"read","arguments":{"n":9007199254740993}}`); d.Allowed {
		t.Errorf("got %+v without the role, want denied", d)
	}
	b.wants(b.do(RoleSecurity, "POST", "/v1/policy/check", `{"agent":"B","upstream":"u","item":"read"}`), http.StatusNotFound, `there is no agent \"B\"`)
	b.wants(b.do(RoleSecurity, "POST", "/v1/policy/check", `{"agent":"A","upstream":"u","item":"read","arguments":[1]}`), http.StatusUnprocessableEntity, "has to be an object")
}

func TestAuditSearch(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"A", "B", "C"} {
		b.put("/v1/agents/"+name, `{}`)
	}
	b.do(RoleOperator, "POST", "/v1/tokens", `{"agent":"B"}`)
	var list AuditList
	b.read("/v1/audit?limit=2", &list)
	if len(list.Records) != 2 || list.Records[0].Subject != "agent/C" {
		t.Errorf("the newest two are %+v", list.Records)
	}
	b.read("/v1/audit?agent=B", &list)
	if len(list.Records) != 1 || list.Records[0].Change != "issue" {
		t.Errorf("those about B are %+v", list.Records)
	}
	for _, query := range []string{"limit=0", "limit=100000", "since=yesterday", "kind=all"} {
		if got := b.do(RoleOwner, "GET", "/v1/audit?"+query, ""); got.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", query, got.StatusCode, got.body)
		}
	}
}

func TestAuditFollowEndsWithTheToken(t *testing.T) {
	b := newBench(t)
	server := httptest.NewServer(b.handler)
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/v1/audit?follow=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+b.tokens[RoleSecurity])
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("got %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	// The stream may begin a moment after its headers: write until it tells.
	told := func() string {
		for {
			if err := b.audit.Append(ctx, audit.Record{Kind: audit.KindUse, Agent: "A"}); err != nil {
				t.Fatal(err)
			}
			select {
			case line := <-lines:
				return line
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				t.Fatal("nothing is told")
			}
		}
	}
	if line := told(); !strings.Contains(line, `"agent":"A"`) {
		t.Errorf("told is %s", line)
	}
	b.apply(&raftfsm.Revoke{Time: 1, Revocation: raftfsm.Revocation{ID: "rv", Kind: raftfsm.RevokeToken, Subject: "at-security"}})
	for open := true; open; {
		select {
		case _, open = <-lines:
		case <-ctx.Done():
			t.Fatal("the stream goes on")
		}
	}
}
