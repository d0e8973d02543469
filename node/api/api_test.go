package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/cluster"
	"sallyport/crypto"
	"sallyport/node/audit"
	"sallyport/node/policy"
	"sallyport/raftfsm"
)

// bench is the API on a real state, real keyrings, policies and audit log. Only the log of commands is missing.
type bench struct {
	t       *testing.T
	handler http.Handler
	store   *store
	control *crypto.Keyring
	data    *crypto.Keyring
	audit   *brittleAudit
	cluster *fixedCluster
	log     *bytes.Buffer
	now     time.Time
	tokens  map[Role]string
}

type store struct {
	mu    sync.Mutex
	state *raftfsm.State
	index uint64
	// before runs ahead of the next command, as another writer would.
	before func()
	fail   error
}

func (s *store) Read() raftfsm.View { return s.state.Read() }

func (s *store) Apply(_ context.Context, c raftfsm.Command) (raftfsm.Result, error) {
	if before := s.before; before != nil {
		s.before = nil
		before()
	}
	if s.fail != nil {
		return raftfsm.Result{}, s.fail
	}
	data, err := raftfsm.Encode(c)
	if err != nil {
		return raftfsm.Result{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index++
	result, err := s.state.Apply(s.index, data)
	if err != nil {
		return result, err
	}
	return result, result.Err
}

type brittleAudit struct {
	*audit.Log
	broken bool
}

func (b *brittleAudit) Append(ctx context.Context, r audit.Record) error {
	if b.broken {
		return audit.ErrUnwritable
	}
	return b.Log.Append(ctx, r)
}

type fixedCluster struct{ stale bool }

func (c *fixedCluster) Status(context.Context) Status { return Status{ID: "n1", Ready: !c.stale} }

func (c *fixedCluster) Nodes(context.Context) []Node {
	return []Node{{ID: "n1", URL: "https://127.0.0.1:8443", Role: "voter", Leader: true}}
}

func (c *fixedCluster) Fresh() error {
	if c.stale {
		return cluster.ErrStale
	}
	return nil
}

func newBench(t *testing.T) *bench {
	t.Helper()
	state, err := raftfsm.New()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, store: &store{state: state}, cluster: &fixedCluster{}, log: &bytes.Buffer{}, now: time.Unix(1_800_000_000, 0).UTC(), tokens: map[Role]string{}}
	if b.control, err = crypto.NewKeyring("control"); err != nil {
		t.Fatal(err)
	}
	if b.data, err = crypto.NewKeyring("data"); err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(t.TempDir(), "n1", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	b.audit = &brittleAudit{Log: log}
	b.handler = New(Config{
		Store: b.store, Control: b.control, Data: b.data, Policies: policy.New(b.store), Audit: b.audit, Cluster: b.cluster,
		Log: slog.New(slog.NewTextHandler(b.log, nil)), Version: "test", Clock: func() time.Time { return b.now },
	})
	for _, role := range []Role{RoleViewer, RoleOperator, RoleSecurity, RoleOwner} {
		b.tokens[role] = b.adminToken("at-"+string(role), role, b.now.Add(time.Hour))
	}
	return b
}

func (b *bench) adminToken(id string, role Role, expires time.Time) string {
	b.t.Helper()
	text, hash, err := crypto.NewToken(crypto.AdminToken)
	if err != nil {
		b.t.Fatal(err)
	}
	b.apply(&raftfsm.PutAdminToken{Time: 1, Token: raftfsm.AdminToken{ID: id, Hash: hash, Role: string(role), ExpireTime: expires.UnixMilli()}})
	return text.ExposeString()
}

func (b *bench) apply(c raftfsm.Command) raftfsm.Result {
	b.t.Helper()
	result, err := b.store.Apply(b.t.Context(), c)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// answer is a response that was read to its end.
type answer struct {
	*http.Response
	body string
}

// do makes a request with the token of a role. Headers are name, value pairs.
func (b *bench) do(role Role, method, path, body string, headers ...string) answer {
	b.t.Helper()
	r := httptest.NewRequestWithContext(b.t.Context(), method, path, strings.NewReader(body))
	if role != "" {
		r.Header.Set("Authorization", "Bearer "+b.tokens[role])
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	text, err := io.ReadAll(w.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{w.Result(), string(text)}
}

// wants fails the test unless the answer has the status and holds the text.
func (b *bench) wants(got answer, status int, text string) {
	b.t.Helper()
	if got.StatusCode != status || !strings.Contains(got.body, text) {
		b.t.Errorf("got %d %s, want %d with %q", got.StatusCode, got.body, status, text)
	}
	if status >= 400 && got.Header.Get("Content-Type") != "application/problem+json" {
		b.t.Errorf("an error of type %s", got.Header.Get("Content-Type"))
	}
}

// put writes a document as the owner.
func (b *bench) put(path, spec string, headers ...string) answer {
	b.t.Helper()
	return b.do(RoleOwner, http.MethodPut, path, document(path, spec), headers...)
}

// document makes one for a path such as /v1/agents/A.
func document(path, spec string) string {
	path, _, _ = strings.Cut(path, "?")
	parts := strings.Split(path, "/")
	kinds := map[string]string{"agents": "Agent", "policies": "Policy", "upstreams": "Upstream"}
	return `{"apiVersion":"sallyport/v1","kind":"` + kinds[parts[2]] + `","metadata":{"name":"` + parts[3] + `"},"spec":` + spec + `}`
}

func (b *bench) read(path string, into any) {
	b.t.Helper()
	got := b.do(RoleOwner, http.MethodGet, path, "")
	if got.StatusCode != http.StatusOK {
		b.t.Fatalf("GET %s: %d %s", path, got.StatusCode, got.body)
	}
	if err := json.Unmarshal([]byte(got.body), into); err != nil {
		b.t.Fatal(err)
	}
}

func TestOpenAPI(t *testing.T) {
	b := newBench(t)
	got := b.do("", http.MethodGet, "/v1/openapi.json", "")
	var described struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			RequestBody struct {
				Content map[string]struct {
					Schema struct {
						Ref string `json:"$ref"`
					}
				}
			}
		}
	}
	if got.Header.Get("Content-Type") != "application/openapi+json" {
		t.Errorf("it is of type %s", got.Header.Get("Content-Type"))
	}
	if err := json.Unmarshal([]byte(got.body), &described); err != nil || described.OpenAPI == "" {
		t.Fatalf("no description: %v %s", err, got.body)
	}
	for _, path := range []string{
		"/v1/agents", "/v1/policies/{name}", "/v1/upstreams/{name}", "/v1/tokens", "/v1/admin-tokens", "/v1/revocations",
		"/v1/credentials", "/v1/status", "/v1/nodes", "/v1/policy/check", "/v1/audit",
	} {
		if len(described.Paths[path]) == 0 {
			t.Errorf("%s is not described", path)
		}
	}
	if ref := described.Paths["/v1/upstreams/{name}"]["put"].RequestBody.Content["application/json"].Schema.Ref; !strings.HasSuffix(ref, "/Upstream") {
		t.Errorf("the body of a PUT is described as %q", ref)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	b := newBench(t)
	b.wants(b.do(RoleOwner, http.MethodGet, "/v1/nothing", ""), http.StatusNotFound, "no such path")
	got := b.do(RoleOwner, http.MethodPost, "/v1/agents", "{}")
	b.wants(got, http.StatusMethodNotAllowed, "this path takes GET")
	if got.Header.Get("Allow") != "GET" {
		t.Errorf("Allow: %q", got.Header.Get("Allow"))
	}
	b.wants(b.do(RoleOwner, http.MethodGet, "/v1/agents?nam=x", ""), http.StatusUnprocessableEntity, "validation failed")
}

func TestNothingIsCached(t *testing.T) {
	b := newBench(t)
	if got := b.do(RoleViewer, http.MethodGet, "/v1/status", ""); got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control: %q", got.Header.Get("Cache-Control"))
	}
}
