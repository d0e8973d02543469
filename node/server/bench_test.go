//go:build unix

package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"sallyport/crypto"
	"sallyport/raftfsm"
	"sallyport/transport"
)

// The benchmark runs the server in a process of its own, so that its processor time is its own too.
const (
	benchRole     = "SALLYPORT_BENCH_ROLE"
	benchUpstream = "SALLYPORT_BENCH_UPSTREAM"

	benchWorkers = 64
	benchConns   = 16
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(benchRole); role {
	case "":
		os.Exit(m.Run())
	default:
		if err := benchChild(role, os.Getenv(benchUpstream)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// benchTarget is what a child says of itself on its first line.
type benchTarget struct {
	URL, Token string
	CA         []byte
}

// benchUsage is what a child has used so far.
type benchUsage struct {
	CPU     time.Duration
	Mallocs uint64
}

func benchChild(role, upstream string) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	start := benchGateway
	if role == "bare" {
		start = benchBare
	}
	target, stop, err := start(dir, upstream)
	if err != nil {
		return err
	}
	defer stop()
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(target); err != nil {
		return err
	}
	// Each line asks for the usage so far; the end of input ends the child.
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var ru syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
			return err
		}
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		if err := out.Encode(benchUsage{time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), ms.Mallocs}); err != nil {
			return err
		}
	}
	return nil
}

// benchGateway is the whole path: token, policy, unsealing, injection, audit.
func benchGateway(dir, upstream string) (benchTarget, func(), error) {
	cfg := testConfig(dir)
	cfg.OpsListen = ""
	n, err := Start(context.Background(), cfg, "bench", slog.New(slog.DiscardHandler))
	if err != nil {
		return benchTarget{}, nil, err
	}
	secret, hash, err := crypto.NewToken(crypto.GatewayToken)
	if err != nil {
		return benchTarget{}, nil, err
	}
	id := raftfsm.CredentialID("u", raftfsm.SubjectGateway)
	sealed, err := n.keys.data.Seal(crypto.SecretString("upstream-secret"), crypto.Binding{Kind: "credential", ID: id, Generation: 1})
	if err != nil {
		return benchTarget{}, nil, err
	}
	for _, c := range []raftfsm.Command{
		&raftfsm.PutAgent{Agent: raftfsm.Agent{Name: "A", Roles: []string{"r"}}},
		&raftfsm.PutPolicy{Policy: raftfsm.Policy{Name: "p", Cedar: `permit (principal in Role::"r", action == Action::"tools/call", resource == Tool::"u/echo");`}},
		&raftfsm.PutGatewayToken{Token: raftfsm.GatewayToken{ID: "t", Agent: "A", Hash: hash}},
		&raftfsm.PutUpstream{
			Upstream: raftfsm.Upstream{Name: "u", URL: upstream, Grant: raftfsm.GrantStatic, Header: "Authorization"},
			Credential: &raftfsm.Credential{
				ID: id, Upstream: "u", Subject: raftfsm.SubjectGateway, Grant: raftfsm.GrantStatic, State: raftfsm.CredentialActive,
				Generation: 1, Sealed: sealed, Header: "Authorization", Scheme: "Bearer",
			},
		},
	} {
		if _, err := n.cluster.Apply(context.Background(), c); err != nil {
			return benchTarget{}, nil, err
		}
	}
	ca, err := os.ReadFile(n.CACertPath())
	return benchTarget{n.URL() + "/mcp/u", secret.ExposeString(), ca}, func() { _ = n.Shutdown(context.Background()) }, err
}

// benchBare is a plain reverse proxy over the same listener.
func benchBare(_, upstream string) (benchTarget, func(), error) {
	to, err := url.Parse(upstream)
	if err != nil {
		return benchTarget{}, nil, err
	}
	ca, err := crypto.NewAuthority("bench", time.Now())
	if err != nil {
		return benchTarget{}, nil, err
	}
	cert, err := ca.IssueServer([]string{"127.0.0.1"}, time.Now(), time.Hour)
	if err != nil {
		return benchTarget{}, nil, err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: transport.NewUpstreamTransport(transport.UpstreamLimits{}),
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
	}
	s, err := transport.Listen(transport.ServerConfig{
		Addr: "127.0.0.1:0", Handler: proxy, Logger: slog.New(slog.DiscardHandler),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
	})
	if err != nil {
		return benchTarget{}, nil, err
	}
	go func() { _ = s.Serve() }()
	return benchTarget{"https://" + s.Addr().String() + "/", "none", ca.CertPEM()}, func() { _ = s.Shutdown(context.Background()) }, nil
}

// benchProcess is a child that is being measured.
type benchProcess struct {
	target benchTarget
	ask    io.Writer
	out    *json.Decoder
}

func benchSpawn(b *testing.B, role, upstream string) *benchProcess {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchRole+"="+role, benchUpstream+"="+upstream, "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := in.Close(); err != nil {
			b.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	p := &benchProcess{ask: in, out: json.NewDecoder(out)}
	if err := p.out.Decode(&p.target); err != nil {
		b.Fatalf("%s: %v", role, err)
	}
	return p
}

func (p *benchProcess) usage(b *testing.B) (u benchUsage) {
	b.Helper()
	if _, err := io.WriteString(p.ask, "\n"); err != nil {
		b.Fatal(err)
	}
	if err := p.out.Decode(&u); err != nil {
		b.Fatal(err)
	}
	return u
}

// echoUpstream answers tools/call with 400 bytes, and server/discover.
func echoUpstream(b *testing.B) string {
	b.Helper()
	text := strings.Repeat("x", 300)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
		}
		if json.Unmarshal(body, &m) != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if m.Method == "server/discover" {
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}}`, m.ID)
			return
		}
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","content":[{"type":"text","text":%q}]}}`, m.ID, text)
	}))
	b.Cleanup(s.Close)
	return s.URL
}

// BenchmarkPath compares the whole path with a bare reverse proxy, both over HTTP/3 on the same machine in one run: processor time of
// the server per call, its allocations, and the throughput. Repeat with -count to interleave.
func BenchmarkPath(b *testing.B) {
	upstream := echoUpstream(b)
	processes := map[string]*benchProcess{"gateway": benchSpawn(b, "gateway", upstream), "bare": benchSpawn(b, "bare", upstream)}
	for _, role := range []string{"gateway", "bare"} {
		b.Run(role, func(b *testing.B) { benchCalls(b, processes[role]) })
	}
}

func benchCalls(b *testing.B, p *benchProcess) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.target.CA)
	body := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"` + strings.Repeat("y", 80) +
		`"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`)
	header := http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Authorization": {"Bearer " + p.target.Token},
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"echo"},
	}
	conns := make([]*http3.Transport, benchConns)
	for i := range conns {
		conns[i] = &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
		defer conns[i].Close()
	}
	call := func(rt http.RoundTripper) error {
		r, err := http.NewRequest(http.MethodPost, p.target.URL, bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header = header
		resp, err := rt.RoundTrip(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(answer, []byte(`"content"`)) {
			return fmt.Errorf("status %d, %v: %s", resp.StatusCode, err, answer)
		}
		return nil
	}
	for _, c := range conns {
		if err := call(c); err != nil {
			b.Fatal(err)
		}
	}
	before := p.usage(b)
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var workers sync.WaitGroup
	for w := range benchWorkers {
		workers.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(conns[w%benchConns]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	b.StopTimer()
	after := p.usage(b)
	b.ReportMetric(float64((after.CPU-before.CPU).Microseconds())/float64(b.N), "server-cpu-us/op")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N), "server-allocs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
