//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// maxShimBody bounds what the shim holds of a request.
const maxShimBody = 8 << 20

// shim listens on loopback without TLS, adds the gateway token to each request
// and hands it to the endpoint: the conformance suite can send no token and
// trusts no private CA. All else passes as it came, Host and Origin too, since
// the suite checks what becomes of foreign ones.
func shim(t *testing.T, endpoint, token string, roots *x509.CertPool) string {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13},
		ForceAttemptHTTP2:  true,
		DisableCompression: true,
	}
	proxy := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.Path = target.Scheme, target.Host, target.Path
			r.Out.Header.Set("Authorization", "Bearer "+token)
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A ReverseProxy that still reads the body when the answer comes may cut
		// the answer (golang/go#40747), and notices no disconnect before.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxShimBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL + target.Path
}

func TestShim(t *testing.T) {
	received := make(chan *http.Request, 1)
	cancelled := make(chan struct{})
	endpoint := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read what the shim sent: %v", err)
		}
		received <- r
		w.Header().Set("Content-Type", "text/event-stream")
		w.Write(append([]byte("data: "), append(body, "\n\n"...)...))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(cancelled)
	}))
	endpoint.EnableHTTP2 = true
	endpoint.StartTLS()
	defer endpoint.Close()
	roots := x509.NewCertPool()
	roots.AddCert(endpoint.Certificate())

	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, shim(t, endpoint.URL+"/mcp/everything", "spt_x", roots), strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "elsewhere.example"
	req.Header.Set("Origin", "http://elsewhere.example")
	req.Header.Set("Mcp-Method", "ping")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	got := <-received
	for name, values := range map[string][2]string{
		"protocol":      {got.Proto, "HTTP/2.0"},
		"path":          {got.URL.Path, "/mcp/everything"},
		"host":          {got.Host, "elsewhere.example"},
		"Origin":        {got.Header.Get("Origin"), "http://elsewhere.example"},
		"Mcp-Method":    {got.Header.Get("Mcp-Method"), "ping"},
		"Authorization": {got.Header.Get("Authorization"), "Bearer spt_x"},
	} {
		if values[0] != values[1] {
			t.Errorf("%s is %q, want %q", name, values[0], values[1])
		}
	}
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if err != nil || line != "data: {}\n" {
		t.Fatalf("read %q, %v before the stream ended, want the event at once", line, err)
	}
	cancel()
	<-cancelled
}
