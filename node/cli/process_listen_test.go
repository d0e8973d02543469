package cli_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/crypto"
	"sallyport/node/api/client"
	"sallyport/node/api/kind"
)

// certificates is an authority of the operator's own, and where it puts what the node serves.
type certificates struct {
	t         testing.TB
	authority *crypto.Authority
	cert, key string
}

func newCertificates(t testing.TB) *certificates {
	t.Helper()
	authority, err := crypto.NewAuthority("operator", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &certificates{t: t, authority: authority, cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	c.issue()
	return c
}

// issue puts a new certificate in place and returns its serial number.
func (c *certificates) issue() (serial string) {
	c.t.Helper()
	issued, err := c.authority.IssueServer([]string{"127.0.0.1"}, time.Now(), time.Hour)
	if err != nil {
		c.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(issued.Certificate[0])
	if err != nil {
		c.t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(issued.PrivateKey)
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(c.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
	c.write(c.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return leaf.SerialNumber.String()
}

func (c *certificates) write(path string, content []byte) {
	c.t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *certificates) web() *http.Transport {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.authority.CertPEM())
	rt := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	c.t.Cleanup(rt.CloseIdleConnections)
	return rt
}

// serial asks for /healthz and tells which certificate the connection has.
func serial(t testing.TB, rt http.RoundTripper, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(within(t), http.MethodGet, url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("/healthz: status %d, %v", resp.StatusCode, err)
	}
	return resp.TLS.PeerCertificates[0].SerialNumber.String()
}

func TestHangupChangesTheCertificate(t *testing.T) {
	t.Parallel()
	files := newCertificates(t)
	n := newNode(t, "--tls-cert", files.cert, "--tls-key", files.key)
	n.start()
	old := files.web()
	before := serial(t, old, n.url)

	files.write(files.cert, []byte("not a certificate"))
	n.signal(syscall.SIGHUP)
	n.says("the old one stays")
	if got := serial(t, files.web(), n.url); got != before {
		t.Error("a certificate that cannot be read replaced the one that could")
	}

	after := files.issue()
	n.signal(syscall.SIGHUP)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := within(t); serial(t, files.web(), n.url) != after; {
		select {
		case <-tick.C:
		case <-limit.Done():
			t.Fatal("new connections still get the old certificate")
		}
	}
	if got := serial(t, old, n.url); got != before {
		t.Error("the old connection did not live on")
	}
	n.stop()
}

// get asks for a page and returns status and body.
func get(t testing.TB, rt http.RoundTripper, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(within(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	status, body, err := exchange(rt, r)
	if err != nil {
		t.Fatal(err)
	}
	return status, body
}

func TestAdminAPIOnAnAddressOfItsOwn(t *testing.T) {
	t.Parallel()
	n := newNode(t, "--admin-listen", "127.0.0.1:0")
	n.start()
	rt, admin := n.web(), n.file("admin.addr")
	if admin == n.url {
		t.Fatalf("the admin API is at %s, where MCP is", admin)
	}
	if status, _ := get(t, rt, n.url+"/v1/status"); status != http.StatusNotFound {
		t.Errorf("the admin API answers at the public address with %d", status)
	}
	for path, want := range map[string]int{"/mcp/u": http.StatusNotFound, "/v1/status": http.StatusUnauthorized} {
		if status, _ := get(t, rt, admin+path); status != want {
			t.Errorf("%s at the admin address is answered with %d, want %d", path, status, want)
		}
	}
	owner := client.New(admin, crypto.SecretString(n.file("admin.token")), rt)
	if _, err := owner.Put(within(t), agent("A", "r"), client.Put{}); err != nil {
		t.Error(err)
	}
	// Commands on the machine of the node find it by themselves.
	p := launch(t, sallyport(t, "get", string(kind.KindAgent), "--data-dir", n.dir))
	if status := p.exits(); status != 0 || !strings.Contains(p.out.String(), "A") {
		t.Errorf("sallyport get: exit status %d: %s%s", status, p.out, p.errOut)
	}
	n.stop()
}

func TestOpsAddress(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	_, after, _ := strings.Cut(n.says("metrics, profiles and health are served"), `"address":"`)
	ops, _, _ := strings.Cut(after, `"`)
	if host, _, err := net.SplitHostPort(ops); err != nil || host != "127.0.0.1" {
		t.Fatalf("the log gives the ops address as %q", ops)
	}
	plain := &http.Transport{}
	t.Cleanup(plain.CloseIdleConnections)
	status, body := get(t, plain, "http://"+ops+"/metrics")
	if status != http.StatusOK || !strings.Contains(body, "sallyport_raft_leader 1") || !strings.Contains(body, "sallyport_disk_low 0") {
		t.Errorf("/metrics is answered with %d: %s", status, body)
	}
	if status, _ := get(t, plain, "http://"+ops+"/debug/pprof/goroutine?debug=1"); status != http.StatusOK {
		t.Errorf("a profile is answered with %d", status)
	}
	rt := n.web()
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready"} {
		for place, from := range map[string]func() (int, string){
			"public": func() (int, string) { return get(t, rt, n.url+path) },
			"ops":    func() (int, string) { return get(t, plain, "http://"+ops+path) },
		} {
			if status, body := from(); status != http.StatusOK || strings.TrimSpace(body) != want {
				t.Errorf("%s at the %s address is answered with %d: %s", path, place, status, body)
			}
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/"} {
		if status, _ := get(t, rt, n.url+path); status != http.StatusNotFound {
			t.Errorf("%s at the public address is answered with %d", path, status)
		}
	}
	n.stop()
}
