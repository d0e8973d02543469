package stdio

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"sallyport/crypto"
	"sallyport/transport"
)

// TestHTTP3 goes the whole way of a real connection: the SDK's client on stdio, the relay, QUIC,
// and the SDK's server.
func TestHTTP3(t *testing.T) {
	for name, c := range map[string]struct {
		version string
		options mcp.StreamableHTTPOptions
	}{
		"legacy": {"2025-11-25", mcp.StreamableHTTPOptions{}},
		"modern": {"2026-07-28", mcp.StreamableHTTPOptions{Stateless: true}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), testTime)
			defer cancel()
			var mu sync.Mutex
			seen := map[string]bool{}
			server := everything()
			handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &c.options)
			node, roots := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				seen[r.Method+" "+r.Proto] = true
				mu.Unlock()
				handler.ServeHTTP(w, r)
			}))
			quic := transport.NewClient(transport.ClientConfig{RootCAs: roots})
			defer quic.Close()
			relay := startNodes(t, Node{URL: "https://" + node, Token: crypto.SecretString(canary), Transport: quic})

			changed := make(chan struct{}, 1)
			client := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, &mcp.ClientOptions{
				ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
			})
			session, err := client.Connect(ctx, &mcp.IOTransport{Reader: relay.out, Writer: relay.in}, &mcp.ClientSessionOptions{ProtocolVersion: c.version})
			if err != nil {
				t.Fatal(err)
			}
			for _, params := range []*mcp.CallToolParams{{Name: "add", Arguments: addArgs{A: 1, B: 2}}, {Name: "grow"}} {
				if result, err := session.CallTool(ctx, params); err != nil || result.IsError {
					t.Fatalf("%s: %+v, %v", params.Name, result, err)
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				t.Error("no list_changed notification")
			}
			if err := session.Close(); err != nil && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("close: %v", err)
			}
			if err := relay.wait(t); err != nil {
				t.Errorf("Run = %v", err)
			}
			want := map[string]bool{"POST HTTP/3.0": true}
			if c.version < "2026-07-28" {
				want["GET HTTP/3.0"], want["DELETE HTTP/3.0"] = true, true
			}
			mu.Lock()
			defer mu.Unlock()
			for request := range want {
				if !seen[request] {
					t.Errorf("the node saw %v, not %s", seen, request)
				}
			}
		})
	}
}

// listen starts a node on loopback and returns its address and the certificates to trust.
func listen(t *testing.T, handler http.Handler) (address string, roots *x509.CertPool) {
	t.Helper()
	authority, err := crypto.NewAuthority("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := authority.IssueServer([]string{"127.0.0.1"}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	server, err := transport.Listen(transport.ServerConfig{
		Addr: "127.0.0.1:0", Handler: handler, Logger: slog.New(slog.DiscardHandler),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
		<-served
	})
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.CertPEM())
	return server.Addr().String(), roots
}

// TestNextNodeOverHTTP3 has a first node that is not there: the transport tries UDP and TCP before
// the relay asks the second one.
func TestNextNodeOverHTTP3(t *testing.T) {
	node, roots := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		m, err := parseMessage(body)
		if err != nil {
			t.Error(err)
		}
		answerJSON(w, http.StatusOK, result(m, `"second"`))
	}))
	quic := transport.NewClient(transport.ClientConfig{RootCAs: roots})
	defer quic.Close()
	gone := "https" + closedPort(t)[len("http"):]
	client := talk(t, startNodes(t, Node{URL: gone, Transport: quic}, Node{URL: "https://" + node, Transport: quic}))
	client.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	client.expect(`{"jsonrpc":"2.0","id":1,"result":"second"}`)
	client.end()
}
