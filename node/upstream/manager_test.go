package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/crypto"
	"sallyport/raftfsm"
)

// store applies commands without Raft.
type store struct {
	*raftfsm.State
	mu   sync.Mutex
	next uint64
}

func (s *store) Apply(_ context.Context, c raftfsm.Command) (raftfsm.Result, error) {
	data, err := raftfsm.Encode(c)
	if err != nil {
		return raftfsm.Result{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	res, err := s.State.Apply(s.next, data)
	return res, errors.Join(err, res.Err)
}

type fixture struct {
	*Manager
	t     *testing.T
	store *store
	clock atomic.Int64 // nanoseconds that are added to the real time
	// forbidden is why no secret may leave.
	forbidden error
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	state, err := raftfsm.New()
	if err != nil {
		t.Fatal(err)
	}
	control, err := crypto.NewKeyring("control")
	if err != nil {
		t.Fatal(err)
	}
	data, err := crypto.NewKeyring("data")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, store: &store{State: state}}
	pool := NewPool()
	t.Cleanup(pool.Close)
	f.Manager = New(f.store, control, data, pool, func(context.Context, *raftfsm.Upstream) error { return f.forbidden }, slog.New(slog.DiscardHandler))
	f.now = func() time.Time { return time.Now().Add(time.Duration(f.clock.Load())) }
	return f
}

func (f *fixture) put(u raftfsm.Upstream, secret string) *raftfsm.Upstream {
	f.t.Helper()
	u.Name, u.Grant, u.SecretGeneration = "crm", raftfsm.GrantClientCredentials, 1
	if u.URL == "" {
		u.URL = "https://crm.example/mcp"
	}
	var err error
	u.ClientSecret, err = f.control.Seal(crypto.SecretString(secret), crypto.Binding{Kind: "upstream", ID: "crm", Generation: 1})
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.store.Apply(f.t.Context(), &raftfsm.PutUpstream{Upstream: u}); err != nil {
		f.t.Fatal(err)
	}
	got, ok := f.store.Read().Upstream("crm")
	if !ok {
		f.t.Fatal("the upstream is gone")
	}
	return got
}

// tokenServer answers token requests with answer.
func tokenServer(t *testing.T, answer http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s
}

func grant(w http.ResponseWriter, token string, rest string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer"%s}`, token, rest)
}

func TestOneFetchForManyCalls(t *testing.T) {
	f := newFixture(t)
	var fetches atomic.Int64
	release := make(chan struct{})
	s := tokenServer(t, func(w http.ResponseWriter, r *http.Request) {
		fetches.Add(1)
		<-release
		if id, secret, _ := r.BasicAuth(); id != "me" || secret != "s3cret" || r.FormValue("resource") != "https://crm.example/mcp" || r.FormValue("scope") != "a b" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		grant(w, fmt.Sprintf("token-%d", fetches.Load()), `,"expires_in":3600,"scope":"a"`)
	})
	u := f.put(raftfsm.Upstream{TokenURL: s.URL, ClientID: "me", Scopes: []string{"a", "b"}}, "s3cret")
	var calls sync.WaitGroup
	const n = 50
	for range n {
		calls.Go(func() {
			c, err := f.Credential(t.Context(), u)
			if err != nil || c.Value.ExposeString() != "Bearer token-1" || c.Header != "Authorization" || c.Generation != 1 {
				t.Errorf("credential %+v, %v", c, err)
			}
		})
	}
	close(release)
	calls.Wait()
	if fetches.Load() != 1 {
		t.Fatalf("%d fetches for %d calls", fetches.Load(), n)
	}
	stored, _ := f.store.Read().Credential("crm:gateway")
	if stored.Scope != "a" || strings.Contains(string(stored.Sealed), "token-1") {
		t.Fatalf("stored %+v", stored)
	}
}

func TestRenewalAndRejection(t *testing.T) {
	f := newFixture(t)
	var fetches atomic.Int64
	s := tokenServer(t, func(w http.ResponseWriter, _ *http.Request) {
		grant(w, fmt.Sprintf("token-%d", fetches.Add(1)), `,"expires_in":"100"`)
	})
	u := f.put(raftfsm.Upstream{TokenURL: s.URL}, "x")
	get := func(want string) Credential {
		t.Helper()
		c, err := f.Credential(t.Context(), u)
		if err != nil || c.Value.ExposeString() != "Bearer "+want {
			t.Fatalf("got %v, %v, want %s", c.Value.ExposeString(), err, want)
		}
		return c
	}
	first := get("token-1")
	f.renewDue(t.Context())
	get("token-1")
	f.clock.Store(int64(81 * time.Second))
	f.renewDue(t.Context())
	get("token-2")
	f.clock.Store(int64((81 + 96) * time.Second))
	second := get("token-3") // expired within its margin, nobody renewed it
	// An old refusal does not cost the new token.
	if c, err := f.Rejected(t.Context(), u, first); err != nil || c.Generation != second.Generation {
		t.Fatalf("after a late refusal: %+v, %v", c, err)
	}
	if c, err := f.Rejected(t.Context(), u, second); err != nil || c.Value.ExposeString() != "Bearer token-4" {
		t.Fatalf("after a refusal: %+v, %v", c, err)
	}
	if _, err := f.store.Apply(t.Context(), &raftfsm.Revoke{Revocation: raftfsm.Revocation{ID: "r", Kind: raftfsm.RevokeCredential, Subject: "crm:gateway"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Credential(t.Context(), u); !errors.Is(err, ErrNoCredential) {
		t.Fatalf("a revoked credential: %v", err)
	}
}

func TestTokenEndpointsThatMisbehave(t *testing.T) {
	const secret = "canary-secret"
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		says   string
	}{
		"refuses": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"error":"invalid_client","error_description":"wrong secret %s"}`, secret)
		}, "invalid_client"},
		"error with 200": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"error":"temporarily_unavailable"}`)
		}, "temporarily_unavailable"},
		"code of its own": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":%q}`, secret)
		}, "no OAuth error"},
		"redirects": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, "redirect"},
		"500":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "500"},
		"HTML":  {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>"+secret) }, "not a token response"},
		"empty": {func(http.ResponseWriter, *http.Request) {}, "not a token response"},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"access_token":"`+strings.Repeat("x", 2<<20))
		}, "not a token response"},
		"huge token":          {func(w http.ResponseWriter, _ *http.Request) { grant(w, strings.Repeat("x", maxTokenBytes+1), "") }, "more than"},
		"header in the token": {func(w http.ResponseWriter, _ *http.Request) { grant(w, "a\r\nX-Evil: 1", "") }, "no header can carry"},
		"negative lifetime":   {func(w http.ResponseWriter, _ *http.Request) { grant(w, "t", `,"expires_in":-5`) }, "positive"},
		"other token type": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"access_token":"t","token_type":"mac"}`)
		}, "bearer"},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			var fetches atomic.Int64
			s := tokenServer(t, func(w http.ResponseWriter, r *http.Request) {
				fetches.Add(1)
				c.answer(w, r)
			})
			u := f.put(raftfsm.Upstream{TokenURL: s.URL}, secret)
			_, err := f.Credential(t.Context(), u)
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), secret) {
				t.Fatalf("error %v, want %q", err, c.says)
			}
			if _, again := f.Credential(t.Context(), u); again == nil || fetches.Load() != 1 {
				t.Fatalf("asked %d times within the pause, %v", fetches.Load(), again)
			}
			// Another configuration is tried at once.
			u = f.put(raftfsm.Upstream{TokenURL: s.URL, Scopes: []string{"x"}}, secret)
			if _, err := f.Credential(t.Context(), u); err == nil || fetches.Load() != 2 {
				t.Fatalf("after a change asked %d times, %v", fetches.Load(), err)
			}
		})
	}
}

func TestLifetimes(t *testing.T) {
	for in, want := range map[string]struct {
		expires, renews time.Duration // 0: unknown
	}{
		``:                            {0, 48 * time.Minute},
		`,"expires_in":10`:            {10 * time.Second, 8 * time.Second},
		`,"expires_in":1000000000000`: {maxTokenLifetime, 24 * 24 * time.Hour},
		`,"expires_in":"3600"`:        {time.Hour, 48 * time.Minute},
	} {
		f := newFixture(t)
		at := time.Now()
		f.now = func() time.Time { return at }
		s := tokenServer(t, func(w http.ResponseWriter, _ *http.Request) { grant(w, "t", in) })
		if _, err := f.Credential(t.Context(), f.put(raftfsm.Upstream{TokenURL: s.URL}, "x")); err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		c, _ := f.store.Read().Credential("crm:gateway")
		expires := int64(0)
		if want.expires != 0 {
			expires = at.Add(want.expires).UnixMilli()
		}
		if c.ExpireTime != expires || c.RefreshTime != at.Add(want.renews).UnixMilli() {
			t.Errorf("%s: expires %d, renews %d", in, c.ExpireTime-at.UnixMilli(), c.RefreshTime-at.UnixMilli())
		}
	}
}

func TestClientAuthentication(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	for _, c := range []struct {
		u      raftfsm.Upstream
		secret string
		check  func(*http.Request) bool
	}{
		{raftfsm.Upstream{ClientAuth: raftfsm.ClientSecretPost, OmitResource: true}, "s", func(r *http.Request) bool {
			_, _, basic := r.BasicAuth()
			return !basic && r.PostFormValue("client_secret") == "s" && !r.PostForm.Has("resource")
		}},
		{raftfsm.Upstream{ClientAuth: raftfsm.PrivateKeyJWT, Resource: "urn:x", KeyID: "k1"}, private, func(r *http.Request) bool {
			return strings.Count(r.PostFormValue("client_assertion"), ".") == 2 && !r.PostForm.Has("client_secret") && r.PostFormValue("resource") == "urn:x"
		}},
	} {
		f := newFixture(t)
		s := tokenServer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.ParseForm() != nil || r.PostFormValue("client_id") != "me" || !c.check(r) {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			grant(w, "t", "")
		})
		c.u.TokenURL, c.u.ClientID = s.URL, "me"
		if _, err := f.Credential(t.Context(), f.put(c.u, c.secret)); err != nil {
			t.Errorf("%s: %v", c.u.ClientAuth, err)
		}
	}
	f := newFixture(t)
	if _, err := f.Credential(t.Context(), f.put(raftfsm.Upstream{TokenURL: "http://127.0.0.1:1", ClientAuth: raftfsm.PrivateKeyJWT}, "no key")); err == nil || !strings.Contains(err.Error(), "PEM") {
		t.Errorf("a private key that is none: %v", err)
	}
}

func TestSecretStaysWhereItsUseCannotBeRecorded(t *testing.T) {
	f := newFixture(t)
	f.forbidden = errors.New("no record")
	asked := false
	s := tokenServer(t, func(http.ResponseWriter, *http.Request) { asked = true })
	_, err := f.Credential(t.Context(), f.put(raftfsm.Upstream{TokenURL: s.URL}, "x"))
	if !errors.Is(err, f.forbidden) || asked {
		t.Fatalf("asked %v, %v", asked, err)
	}
}

// documentServer serves documents by path, in which BASE stands for its own address, and issues tokens at /token.
func documentServer(t *testing.T, documents map[string]string) (base string) {
	t.Helper()
	s := tokenServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			grant(w, "t", "")
			return
		}
		doc, ok := documents[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, strings.ReplaceAll(doc, "BASE", "http://"+r.Host))
	})
	return s.URL
}

func TestIssuerDiscovery(t *testing.T) {
	documents := map[string]string{}
	base := documentServer(t, documents)
	const good = `{"issuer":"BASE/t1","token_endpoint":"BASE/token"}`
	for name, c := range map[string]struct {
		path, doc, says string
	}{
		"RFC 8414":          {"/.well-known/oauth-authorization-server/t1", good, ""},
		"OpenID, inserted":  {"/.well-known/openid-configuration/t1", good, ""},
		"OpenID, appended":  {"/t1/.well-known/openid-configuration", good, ""},
		"of another issuer": {"/t1/.well-known/openid-configuration", `{"issuer":"BASE/t2","token_endpoint":"BASE/token"}`, "of issuer"},
		"no token endpoint": {"/t1/.well-known/openid-configuration", `{"issuer":"BASE/t1"}`, "no token_endpoint"},
		"no JSON":           {"/t1/.well-known/openid-configuration", `<html>`, "not a JSON"},
		"nowhere":           {"/elsewhere", good, "404"},
		"too large":         {"/t1/.well-known/openid-configuration", `{"x":"` + strings.Repeat("x", metadataBytes) + `"}`, "more than"},
	} {
		clear(documents)
		documents[c.path] = c.doc
		f := newFixture(t)
		_, err := f.Credential(t.Context(), f.put(raftfsm.Upstream{Issuer: base + "/t1"}, "x"))
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestIssuerIsFoundThroughTheUpstream(t *testing.T) {
	documents := map[string]string{}
	base := documentServer(t, documents)
	for name, c := range map[string]struct{ path, doc, says string }{
		"by path":           {"/.well-known/oauth-protected-resource/mcp", `{"resource":"BASE/mcp","authorization_servers":["BASE"]}`, ""},
		"by root":           {"/.well-known/oauth-protected-resource", `{"resource":"BASE","authorization_servers":["BASE"]}`, ""},
		"of another server": {"/.well-known/oauth-protected-resource", `{"resource":"https://other.example","authorization_servers":["BASE"]}`, "is of resource"},
		"names nobody":      {"/.well-known/oauth-protected-resource/mcp", `{"resource":"BASE/mcp"}`, "names no authorization server"},
		"nowhere":           {"/elsewhere", ``, "set spec.credential.issuer"},
	} {
		clear(documents)
		documents["/.well-known/oauth-authorization-server"] = `{"issuer":"BASE","token_endpoint":"BASE/token"}`
		documents[c.path] = c.doc
		f := newFixture(t)
		_, err := f.Credential(t.Context(), f.put(raftfsm.Upstream{URL: base + "/mcp"}, "x"))
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestTokenOfAnOldConfigurationIsDropped(t *testing.T) {
	f := newFixture(t)
	reached, release := make(chan struct{}), make(chan struct{})
	s := tokenServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("scope") == "old" {
			close(reached)
			<-release
			grant(w, "old", "")
			return
		}
		grant(w, "new", "")
	})
	old := f.put(raftfsm.Upstream{TokenURL: s.URL, Scopes: []string{"old"}}, "x")
	done := make(chan error, 1)
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		_, err := f.Credential(ctx, old)
		done <- err
	}()
	<-reached
	u := f.put(raftfsm.Upstream{TokenURL: s.URL, Scopes: []string{"new"}}, "x")
	if c, err := f.Credential(t.Context(), u); err != nil || c.Value.ExposeString() != "Bearer new" {
		t.Fatalf("after the change: %+v, %v", c, err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	leave()
	if c, err := f.Credential(t.Context(), u); err != nil || c.Value.ExposeString() != "Bearer new" {
		t.Fatalf("the token of the old configuration replaced the new one: %+v, %v", c, err)
	}
}
