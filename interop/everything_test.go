//go:build interop

package interop

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// era is one of the two ways to speak MCP, by the revision that stands for it.
type era string

const (
	modern era = "2026-07-28"
	legacy era = "2025-11-25"
)

// upstreams are the servers to put behind a node, by the eras that they speak.
var upstreams = map[string]func(*testing.T) string{
	"legacy": func(t *testing.T) string { return everythingServer(t, legacy) },
	"modern": func(t *testing.T) string { return modernOnly(t, everythingServer(t, modern)) },
	"dual":   func(t *testing.T) string { return everythingServer(t, modern) },
}

// everythingServer starts go-sdk's conformance server and gives the URL of its
// endpoint. For the legacy era it has sessions and knows nothing else; for the
// modern one it has none, and answers legacy requests too.
func everythingServer(t *testing.T, e era) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "everything-server")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/modelcontextprotocol/go-sdk/conformance/everything-server")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build go-sdk's everything-server: %v\n%s", err, out)
	}
	addr := freeAddr(t)
	stateless := "-stateless=false"
	if e == modern {
		stateless = "-stateless=true"
	}
	server := background(t, program, "-http", addr, stateless)
	server.await(t, "its port", func() error {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return "http://" + addr + "/mcp"
}

var supportedVersions = regexp.MustCompile(`"supportedVersions":\[[^\]]*\]`)

// modernOnly puts in front of a server what makes it one that never knew the
// legacy era.
func modernOnly(t *testing.T, endpoint string) string {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host },
		ModifyResponse: func(resp *http.Response) error {
			if resp.Request.Header.Get("Mcp-Method") != "server/discover" {
				return nil
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			body = supportedVersions.ReplaceAll(body, []byte(`"supportedVersions":["`+string(modern)+`"]`))
			resp.Body = io.NopCloser(bytes.NewReader(body))
			resp.Header.Del("Content-Length")
			return nil
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		version := r.Header.Get("Mcp-Protocol-Version")
		switch {
		case r.Method != http.MethodPost:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case version != string(modern):
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"unsupported protocol version","data":{"supported":[%q],"requested":%q}}}`, modern, version)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL + target.Path
}
