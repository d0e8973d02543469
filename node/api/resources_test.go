package api

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"sallyport/cluster"
	"sallyport/crypto"
	"sallyport/node/api/kind"
	"sallyport/node/audit"
	"sallyport/raftfsm"
)

func TestPutGetListDelete(t *testing.T) {
	b := newBench(t)
	got := b.put("/v1/agents/FinanceAgent", `{"roles":["finance"]}`)
	b.wants(got, http.StatusCreated, `"outcome":"created"`)
	first := got.Header.Get("ETag")
	b.wants(got, http.StatusCreated, `"created":"2027-01-15T08:00:00Z"`)

	got = b.do(RoleViewer, "GET", "/v1/agents/FinanceAgent", "")
	b.wants(got, http.StatusOK, `"roles":["finance"]`)
	if got.Header.Get("ETag") != first {
		t.Errorf("ETag %s after writing %s", got.Header.Get("ETag"), first)
	}

	// What GET says can be put back and is no change.
	got = b.do(RoleOwner, "PUT", "/v1/agents/FinanceAgent", got.body)
	b.wants(got, http.StatusOK, `"outcome":"unchanged"`)
	if got.Header.Get("ETag") != first {
		t.Errorf("ETag %s after no change, before %s", got.Header.Get("ETag"), first)
	}
	b.wants(b.put("/v1/agents/FinanceAgent", `{"roles":["finance","audit"]}`), http.StatusOK, `"outcome":"changed"`)

	var list List[kind.Agent]
	b.read("/v1/agents", &list)
	if len(list.Items) != 1 || len(list.Items[0].Spec.Roles) != 2 {
		t.Errorf("the list is %+v", list)
	}
	b.wants(b.do(RoleOwner, "DELETE", "/v1/agents/FinanceAgent", ""), http.StatusNoContent, "")
	b.wants(b.do(RoleOwner, "GET", "/v1/agents/FinanceAgent", ""), http.StatusNotFound, `there is no agent \"FinanceAgent\"`)
	b.wants(b.do(RoleOwner, "DELETE", "/v1/agents/FinanceAgent", ""), http.StatusNotFound, "there is no agent")
}

func TestDryRunWritesNothing(t *testing.T) {
	b := newBench(t)
	before := b.store.index
	b.wants(b.put("/v1/upstreams/u?dryRun=true", `{"url":"https://u.example","credential":{"grant":"static","header":{"name":"X","value":"v"}}}`), http.StatusOK, `"outcome":"created"`)
	if b.store.index != before {
		t.Error("a dry run wrote")
	}
	b.put("/v1/policies/p", `{"cedar":"permit (principal, action, resource);"}`)
	b.wants(b.put("/v1/policies/p?dryRun=true", `{"cedar":"forbid (principal, action, resource);"}`), http.StatusOK, `"outcome":"changed"`)
	b.wants(b.put("/v1/policies/p?dryRun=true", `{"cedar":"permit (principal, action, resource);"}`), http.StatusOK, `"outcome":"unchanged"`)
}

func TestRefusedDocuments(t *testing.T) {
	b := newBench(t)
	for name, test := range map[string]struct{ path, body, want string }{
		"no JSON":       {"/v1/agents/A", "apiVersion: sallyport/v1", "is no valid JSON"},
		"empty":         {"/v1/agents/A", "", "request body is required"},
		"unknown field": {"/v1/agents/A", document("/v1/agents/A", `{"rolls":[]}`), `"location":"body.spec.rolls"`},
		"twice":         {"/v1/agents/A", `{"apiVersion":"sallyport/v1","kind":"Agent","kind":"Agent"}`, "is there twice"},
		"other kind":    {"/v1/agents/A", document("/v1/policies/A", `{"cedar":"x"}`), "is Policy, but the path is that of agents"},
		"other name":    {"/v1/agents/A", document("/v1/agents/B", `{}`), `is \"B\", but the path says \"A\"`},
		"all problems":  {"/v1/upstreams/u", document("/v1/upstreams/u", `{"url":"http://u.example","credential":{"grant":"static"}}`), "credential.header.value"},
		"cedar":         {"/v1/policies/p", document("/v1/policies/p", `{"cedar":"permit (principal,\n action resource);"}`), `"location":"body.spec.cedar"`},
		"valueFrom":     {"/v1/upstreams/u", document("/v1/upstreams/u", `{"url":"https://u","credential":{"grant":"static","header":{"name":"X","value":{"valueFrom":{"file":"/etc/shadow"}}}}}`), "valueFrom is read by the command-line client"},
		"large":         {"/v1/agents/A", `"` + strings.Repeat("x", maxBody) + `"`, "request body is too large"},
		"secret":        {"/v1/upstreams/u", document("/v1/upstreams/u", `{"url":"https://u","credential":{"clientSecert":"canary","grant":["canary"]}}`), "unknown field"},
	} {
		t.Run(name, func(t *testing.T) {
			got := b.do(RoleOwner, "PUT", test.path, test.body)
			if got.StatusCode < 400 || got.StatusCode >= 500 || !strings.Contains(got.body, test.want) {
				t.Errorf("got %d %s, want %q", got.StatusCode, got.body, test.want)
			}
			if strings.Contains(got.body, "canary") || strings.Contains(b.log.String(), "canary") {
				t.Error("a value is quoted, it could be a secret")
			}
		})
	}
}

func TestPreconditions(t *testing.T) {
	b := newBench(t)
	b.wants(b.put("/v1/agents/A", `{}`, "If-Match", `"1"`), http.StatusPreconditionFailed, "does not exist")
	got := b.put("/v1/agents/A", `{}`, "If-None-Match", "*")
	b.wants(got, http.StatusCreated, "created")
	tag := got.Header.Get("ETag")
	b.wants(b.put("/v1/agents/A", `{"roles":["a"]}`, "If-None-Match", "*"), http.StatusPreconditionFailed, "exists already")
	b.wants(b.put("/v1/agents/A", `{"roles":["a"]}`, "If-Match", tag), http.StatusOK, "changed")
	b.wants(b.put("/v1/agents/A", `{"roles":["b"]}`, "If-Match", tag), http.StatusPreconditionFailed, "was changed meanwhile")
	b.wants(b.put("/v1/agents/A", `{"roles":["c"]}`, "If-Match", "*"), http.StatusOK, "changed")
}

func TestWritersInEachOthersWay(t *testing.T) {
	b := newBench(t)
	tag := b.put("/v1/agents/A", `{}`).Header.Get("ETag")
	other := func() { b.apply(&raftfsm.PutAgent{Time: 1, Agent: raftfsm.Agent{Name: "A", Roles: []string{"other"}}}) }

	b.store.before = other
	b.wants(b.put("/v1/agents/A", `{"roles":["mine"]}`), http.StatusOK, `"roles":["mine"]`)

	tag2 := b.do(RoleOwner, "GET", "/v1/agents/A", "").Header.Get("ETag")
	if tag2 == tag {
		t.Fatal("the ETag stays")
	}
	b.store.before = other
	b.wants(b.put("/v1/agents/A", `{"roles":["again"]}`, "If-Match", tag2), http.StatusPreconditionFailed, "was changed meanwhile")
}

func TestClusterErrors(t *testing.T) {
	b := newBench(t)
	for _, test := range []struct {
		err    error
		status int
		want   string
	}{
		{cluster.ErrNotLeader, 503, "no leader at this moment"},
		{cluster.ErrUnknownOutcome, 503, "may come into force or not"},
		{cluster.ErrDiskFull, 507, "disk is nearly full"},
		{errors.New("canary"), 500, "its log says why"},
	} {
		b.store.fail = test.err
		got := b.put("/v1/agents/A", `{}`)
		b.wants(got, test.status, test.want)
		if strings.Contains(got.body, "canary") {
			t.Error("an error from inside is shown")
		}
	}
}

func TestEveryWriteIsRecordedFirst(t *testing.T) {
	b := newBench(t)
	b.put("/v1/agents/A", `{}`)
	b.put("/v1/agents/A", `{}`) // no change, no record
	b.do(RoleOperator, "POST", "/v1/tokens", `{"agent":"A"}`)
	b.do(RoleOwner, "POST", "/v1/admin-tokens", `{"role":"viewer"}`)
	b.do(RoleSecurity, "POST", "/v1/revocations", `{"kind":"agent","id":"A","reason":"left"}`)
	b.do(RoleOwner, "DELETE", "/v1/agents/A", "")
	var list AuditList
	b.read("/v1/audit?kind=admin", &list)
	var told []string
	for _, r := range list.Records {
		subject, _, _ := strings.Cut(r.Subject, "-")
		told = append(told, r.Token+" "+r.Change+" "+subject)
	}
	want := "at-owner put agent/A, at-operator issue token/gt, at-owner issue admin token/at, at-security revoke agent/A, at-owner delete agent/A"
	if got := strings.Join(told, ", "); got != want {
		t.Errorf("the record tells %s\nwant %s", got, want)
	}

	b.audit.broken = true
	before := b.store.index
	b.wants(b.put("/v1/agents/B", `{}`), http.StatusServiceUnavailable, "cannot be recorded")
	b.wants(b.do(RoleOwner, "POST", "/v1/admin-tokens", `{"role":"viewer"}`), http.StatusServiceUnavailable, "cannot be recorded")
	if b.store.index != before {
		t.Error("a change was made that is not recorded")
	}
	b.wants(b.do(RoleSecurity, "POST", "/v1/revocations", `{"kind":"token","id":"at-viewer"}`), http.StatusCreated, `"recorded":false`)
}

func TestFailedChangeIsRecorded(t *testing.T) {
	b := newBench(t)
	b.store.fail = cluster.ErrNotLeader
	b.put("/v1/agents/A", `{}`)
	b.store.fail = nil
	var list AuditList
	b.read("/v1/audit", &list)
	if len(list.Records) != 2 || list.Records[1].Status != "error" || list.Records[1].Kind != audit.KindAdmin {
		t.Errorf("the record tells %+v", list.Records)
	}
}

const staticSpec = `{"url":"https://u.example/mcp","credential":{"grant":"static","header":{"name":"X-Key","value":%s}}}`

func staticUpstream(value string) string { return strings.Replace(staticSpec, "%s", value, 1) }

// storedStatic opens what is kept for upstream u.
func (b *bench) storedStatic() (value string, generation uint64) {
	b.t.Helper()
	c, ok := b.store.Read().Credential("u:gateway")
	if !ok {
		b.t.Fatal("no credential is stored")
	}
	v, err := b.data.Open(c.Sealed, crypto.Binding{Kind: "credential", ID: c.ID, Generation: c.Generation})
	if err != nil {
		b.t.Fatal(err)
	}
	return v.ExposeString(), c.Generation
}

func TestStaticValueIsSealedAndKept(t *testing.T) {
	b := newBench(t)
	got := b.put("/v1/upstreams/u", staticUpstream(`"canary"`))
	b.wants(got, http.StatusCreated, `"value":{"set":true}`)
	if value, generation := b.storedStatic(); value != "canary" || generation != 1 {
		t.Errorf("stored is %q, generation %d", value, generation)
	}

	b.wants(b.put("/v1/upstreams/u", staticUpstream(`"canary"`)), http.StatusOK, "unchanged")
	b.wants(b.put("/v1/upstreams/u", staticUpstream(`{"set":true}`)), http.StatusOK, "unchanged")
	b.wants(b.put("/v1/upstreams/u", strings.Replace(staticUpstream(`{"set":true}`), "/mcp", "/mcp2", 1)), http.StatusOK, `"outcome":"changed"`)
	if value, generation := b.storedStatic(); value != "canary" || generation != 2 {
		t.Errorf("after another change, stored is %q, generation %d", value, generation)
	}
	b.wants(b.put("/v1/upstreams/u", strings.Replace(staticUpstream(`"canary2"`), "/mcp", "/mcp2", 1)), http.StatusOK, `"secretChanged":true`)
	if value, generation := b.storedStatic(); value != "canary2" || generation != 3 {
		t.Errorf("after a new value, stored is %q, generation %d", value, generation)
	}
	b.wants(b.put("/v1/upstreams/u", strings.Replace(staticUpstream(`{"set":true}`), "u.example", "evil.example", 1)), http.StatusUnprocessableEntity, "names another server")
	b.wants(b.put("/v1/upstreams/new", staticUpstream(`{"set":true}`)), http.StatusUnprocessableEntity, "no value is stored")

	// A revoked value is gone and has to be given again.
	b.wants(b.do(RoleOwner, "POST", "/v1/revocations", `{"kind":"credential","id":"u:gateway"}`), http.StatusCreated, "committed")
	b.wants(b.put("/v1/upstreams/u", staticUpstream(`{"set":true}`)), http.StatusUnprocessableEntity, "no value is stored")
	b.wants(b.put("/v1/upstreams/u", staticUpstream(`"canary2"`)), http.StatusOK, `"secretChanged":true`)

	for _, path := range []string{"/v1/upstreams", "/v1/upstreams/u", "/v1/credentials", "/v1/audit"} {
		if got := b.do(RoleOwner, "GET", path, ""); strings.Contains(got.body, "canary") {
			t.Errorf("%s shows the value: %s", path, got.body)
		}
	}
	if strings.Contains(b.log.String(), "canary") {
		t.Error("the value is in the log")
	}
}

func TestClientSecretIsSealedAndKept(t *testing.T) {
	b := newBench(t)
	spec := func(change ...string) string {
		return strings.NewReplacer(change...).Replace(`{"url":"https://u.example/mcp","credential":{"grant":"client_credentials","issuer":"https://login.example","clientID":"c","clientSecret":"canary","scopes":["a"]}}`)
	}
	b.wants(b.put("/v1/upstreams/u", spec()), http.StatusCreated, `"clientSecret":{"set":true}`)
	stored := func() (string, uint64) {
		t.Helper()
		u, ok := b.store.Read().Upstream("u")
		if !ok {
			t.Fatal("no upstream")
		}
		v, err := b.control.Open(u.ClientSecret, crypto.Binding{Kind: "upstream", ID: "u", Generation: u.SecretGeneration})
		if err != nil {
			t.Fatal(err)
		}
		return v.ExposeString(), u.SecretGeneration
	}
	keep := []string{`"canary"`, `{"set":true}`}
	b.wants(b.put("/v1/upstreams/u", spec()), http.StatusOK, "unchanged")
	b.wants(b.put("/v1/upstreams/u", spec(keep...)), http.StatusOK, "unchanged")
	b.wants(b.put("/v1/upstreams/u", spec(append(keep, `["a"]`, `["b"]`)...)), http.StatusOK, `"outcome":"changed"`)
	if secret, generation := stored(); secret != "canary" || generation != 1 {
		t.Errorf("stored is %q, generation %d", secret, generation)
	}
	b.wants(b.put("/v1/upstreams/u", spec("canary", "canary2")), http.StatusOK, `"secretChanged":true`)
	if secret, generation := stored(); secret != "canary2" || generation != 2 {
		t.Errorf("after a new secret, stored is %q, generation %d", secret, generation)
	}
	for name, change := range map[string][]string{
		"server":     {"u.example", "evil.example"},
		"issuer":     {"login.example", "evil.example"},
		"token URL":  {`"issuer":"https://login.example"`, `"tokenURL":"https://evil.example"`},
		"discovered": {`"issuer":"https://login.example",`, ""},
		"client":     {`"clientID":"c"`, `"clientID":"d"`},
		"plain http": {"https://u.example", "http://u.example", `"url"`, `"insecure":true,"url"`},
	} {
		got := b.put("/v1/upstreams/u", spec(append(keep, change...)...))
		if got.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(got.body, "give the secret itself") {
			t.Errorf("%s: the stored secret would go elsewhere: %d %s", name, got.StatusCode, got.body)
		}
	}
	b.wants(b.put("/v1/upstreams/u", `{"url":"https://u.example/mcp"}`), http.StatusOK, "changed")
	b.wants(b.put("/v1/upstreams/u", spec(keep...)), http.StatusUnprocessableEntity, "none is stored")
}

func TestRevokedCredentialIsAskedForAgain(t *testing.T) {
	b := newBench(t)
	const spec = `{"url":"https://u.example/mcp","credential":{"grant":"client_credentials","issuer":"https://login.example","clientID":"c","clientSecret":"s"}}`
	b.wants(b.put("/v1/upstreams/u", spec), http.StatusCreated, "created")
	u, _ := b.store.Read().Upstream("u")
	id := raftfsm.CredentialID("u", raftfsm.SubjectGateway)
	b.apply(&raftfsm.PutCredential{Credential: raftfsm.Credential{
		ID: id, Upstream: "u", Subject: raftfsm.SubjectGateway, State: raftfsm.CredentialActive, Generation: 1, UpstreamIndex: u.ModifyIndex,
	}})
	b.wants(b.put("/v1/upstreams/u", spec), http.StatusOK, "unchanged")
	b.apply(&raftfsm.Revoke{Revocation: raftfsm.Revocation{ID: "r", Kind: raftfsm.RevokeCredential, Subject: id}})
	b.wants(b.put("/v1/upstreams/u", spec), http.StatusOK, `"outcome":"changed"`)
	if c, _ := b.store.Read().Credential(id); c.State != raftfsm.CredentialEmpty {
		t.Fatalf("the credential is %s: no new one can be obtained", c.State)
	}
}
