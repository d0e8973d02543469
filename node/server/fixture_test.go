package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"sallyport/crypto"
	"sallyport/node/config"
	"sallyport/raftfsm"
)

// fixture is a node with one agent, A, of role r, that may do everything on every upstream but what the policies of a test forbid.
type fixture struct {
	*Node
	t     *testing.T
	cfg   config.Node
	logs  *syncBuffer
	roots *x509.CertPool
	token string
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func testConfig(dir string) config.Node {
	cfg := config.Default()
	cfg.DataDir, cfg.Listen, cfg.OpsListen, cfg.Bootstrap = dir, "127.0.0.1:0", "127.0.0.1:0", true
	return cfg
}

func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, cfg: testConfig(t.TempDir()), logs: new(syncBuffer)}
	f.restart()
	f.apply(&raftfsm.PutAgent{Agent: raftfsm.Agent{Name: "A", Roles: []string{"r"}}})
	f.apply(&raftfsm.PutPolicy{Policy: raftfsm.Policy{Name: "all", Cedar: `permit (principal in Role::"r", action, resource);`}})
	_, f.token = f.issue("A")
	return f
}

// restart starts the node, after stopping the one that runs.
func (f *fixture) restart() {
	f.t.Helper()
	if f.Node != nil {
		f.stop()
	}
	n, err := Start(context.Background(), f.cfg, "test", slog.New(slog.NewJSONHandler(f.logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		f.t.Fatal(err)
	}
	f.Node = n
	f.t.Cleanup(f.stop)
	pem, err := os.ReadFile(n.CACertPath())
	if err != nil {
		f.t.Fatal(err)
	}
	f.roots = x509.NewCertPool()
	f.roots.AppendCertsFromPEM(pem)
}

func (f *fixture) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := f.Shutdown(ctx); err != nil {
		f.t.Errorf("shutdown: %v", err)
	}
}

func (f *fixture) apply(c raftfsm.Command) {
	f.t.Helper()
	if _, err := f.cluster.Apply(f.t.Context(), c); err != nil {
		f.t.Fatalf("%T: %v", c, err)
	}
}

func (f *fixture) issue(agent string) (id, text string) {
	f.t.Helper()
	secret, hash, err := crypto.NewToken(crypto.GatewayToken)
	if err != nil {
		f.t.Fatal(err)
	}
	id = rand.Text()
	f.apply(&raftfsm.PutGatewayToken{Token: raftfsm.GatewayToken{ID: id, Agent: agent, Hash: hash}})
	return id, secret.ExposeString()
}

// upstream configures an upstream without credential.
func (f *fixture) upstream(name, url string) {
	f.t.Helper()
	f.apply(&raftfsm.PutUpstream{Upstream: raftfsm.Upstream{Name: name, URL: url, Grant: raftfsm.GrantNone}})
}

// static configures an upstream with a static header.
func (f *fixture) static(name, url, header, value string) {
	f.t.Helper()
	id := raftfsm.CredentialID(name, raftfsm.SubjectGateway)
	sealed, err := f.keys.data.Seal(crypto.SecretString(value), crypto.Binding{Kind: "credential", ID: id, Generation: 1})
	if err != nil {
		f.t.Fatal(err)
	}
	f.apply(&raftfsm.PutUpstream{
		Upstream:   raftfsm.Upstream{Name: name, URL: url, Grant: raftfsm.GrantStatic, Header: header},
		Credential: &raftfsm.Credential{ID: id, Upstream: name, Subject: raftfsm.SubjectGateway, Grant: raftfsm.GrantStatic, State: raftfsm.CredentialActive, Generation: 1, Sealed: sealed, Header: header},
	})
}

// protocols gives a client for each HTTP version.
func (f *fixture) protocols() map[string]http.RoundTripper {
	tlsConfig := &tls.Config{RootCAs: f.roots}
	h1 := &http.Transport{TLSClientConfig: tlsConfig.Clone(), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}, MaxIdleConnsPerHost: 64}
	h2 := &http.Transport{TLSClientConfig: tlsConfig.Clone(), ForceAttemptHTTP2: true}
	h3 := &http3.Transport{TLSClientConfig: tlsConfig.Clone()}
	f.t.Cleanup(func() {
		h1.CloseIdleConnections()
		h2.CloseIdleConnections()
		if err := h3.Close(); err != nil {
			f.t.Errorf("close the HTTP/3 client: %v", err)
		}
	})
	return map[string]http.RoundTripper{"HTTP/1.1": h1, "HTTP/2.0": h2, "HTTP/3.0": h3}
}

// post makes the request of a client.
func (f *fixture) post(upstream, body string, header ...string) *http.Request {
	f.t.Helper()
	return f.request(http.MethodPost, upstream, body, header...)
}

func (f *fixture) request(method, upstream, body string, header ...string) *http.Request {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, f.URL()+"/mcp/"+upstream, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Authorization": {"Bearer " + f.token}}
	for i := 0; i < len(header); i += 2 {
		r.Header.Del(header[i])
		if header[i+1] != "" {
			r.Header.Set(header[i], header[i+1])
		}
	}
	if h := r.Header.Get("Host"); h != "" {
		r.Host = h
	}
	return r
}

// modern makes a tools/call of the modern era.
func (f *fixture) modern(upstream, id, tool, arguments string, header ...string) *http.Request {
	f.t.Helper()
	body := `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + arguments +
		`,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	return f.post(upstream, body, append([]string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", tool}, header...)...)
}

// do sends a request and reads the whole answer.
func (f *fixture) do(rt http.RoundTripper, r *http.Request) (*http.Response, string) {
	f.t.Helper()
	resp, err := rt.RoundTrip(r)
	if err != nil {
		f.t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("%s %s: read the answer: %v", r.Method, r.URL, err)
	}
	return resp, string(body)
}
