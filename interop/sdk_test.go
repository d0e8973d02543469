//go:build interop

package interop

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/quic-go/quic-go/http3"
)

// authorized sends every request over HTTP/3 with the gateway token, and keeps
// a line on each answer.
type authorized struct {
	http3 *http3.Transport
	token string

	mu      sync.Mutex
	answers []string // "METHOD PROTOCOL STATUS CONTENT-TYPE"
}

func (a *authorized) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+a.token)
	resp, err := a.http3.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers = append(a.answers, fmt.Sprintf("%s %s %d %s", req.Method, resp.Proto, resp.StatusCode, resp.Header.Get("Content-Type")))
	return resp, nil
}

// saw tells whether an answer begins with a text.
func (a *authorized) saw(prefix string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.answers, func(line string) bool { return strings.HasPrefix(line, prefix) })
}

// The go-sdk client over real HTTP/3, in both eras before servers of both.
func TestSDKOverHTTP3(t *testing.T) {
	for eras, upstream := range upstreams {
		n := startNode(t, upstream(t))
		for _, client := range []era{legacy, modern} {
			t.Run(fmt.Sprintf("%s client, %s server", client, eras), func(t *testing.T) {
				// The dual server serves legacy clients without sessions, and so without streams.
				useSDK(t, client, client == modern || eras != "dual", n)
			})
		}
	}
}

func useSDK(t *testing.T, e era, streams bool, n *node) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	transport := &authorized{http3: &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: n.roots, MinVersion: tls.VersionTLS13}}, token: n.token}
	defer transport.http3.Close()

	progress := make(chan float64, 16)
	updated := make(chan string, 16)
	client := mcp.NewClient(&mcp.Implementation{Name: "sallyport-interop", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) { progress <- req.Params.Progress },
		ResourceUpdatedHandler:      func(_ context.Context, req *mcp.ResourceUpdatedNotificationRequest) { updated <- req.Params.URI },
	})
	session, err := client.Connect(ctx,
		&mcp.StreamableClientTransport{Endpoint: n.endpoint(), HTTPClient: &http.Client{Transport: transport}},
		&mcp.ClientSessionOptions{ProtocolVersion: string(e)})
	if err != nil {
		t.Fatalf("connect: %v; answers: %q", err, transport.answers)
	}
	if got := session.InitializeResult().ProtocolVersion; got != string(e) {
		t.Errorf("the session speaks %s, want %s", got, e)
	}
	if hasSession := session.ID() != ""; hasSession != (e == legacy && streams) {
		t.Errorf("session id %q in the %s era", session.ID(), e)
	}

	tools, err := session.ListTools(ctx, nil)
	if err != nil {
		t.Fatalf("tools/list: %v", err)
	}
	if !slices.ContainsFunc(tools.Tools, func(tool *mcp.Tool) bool { return tool.Name == "test_simple_text" }) {
		t.Errorf("tools/list lacks test_simple_text among %d tools", len(tools.Tools))
	}

	call := &mcp.CallToolParams{Name: "test_tool_with_progress"}
	call.SetProgressToken("p-1")
	result, err := session.CallTool(ctx, call)
	if err != nil || result.IsError || len(result.Content) == 0 {
		t.Fatalf("tools/call: %+v, %v", result, err)
	}
	if text, ok := result.Content[0].(*mcp.TextContent); !ok || text.Text == "" {
		t.Errorf("tools/call answers %+v, want the progress token it was called with", result.Content[0])
	}
	for _, want := range []float64{0, 50, 100} {
		if got := receive(ctx, t, progress, "progress"); got != want {
			t.Errorf("progress %v, want %v", got, want)
		}
	}

	const watched = "test://watched-resource"
	if streams {
		if err := session.Subscribe(ctx, &mcp.SubscribeParams{URI: watched}); err != nil {
			t.Fatalf("subscribe: %v", err)
		}
		if got := receive(ctx, t, updated, "a resource update"); got != watched {
			t.Errorf("update of %s, want %s", got, watched)
		}
	}

	if err := session.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	var want []string
	switch {
	case e == legacy && streams:
		want = []string{"GET HTTP/3.0 200 text/event-stream", "DELETE HTTP/3.0 20"}
	case e == legacy:
		want = []string{"GET HTTP/3.0 405"}
	}
	for _, answer := range want {
		if !transport.saw(answer) {
			t.Errorf("no answer %q among %q", answer, transport.answers)
		}
	}
	for _, answer := range transport.answers {
		if !strings.Contains(answer, " HTTP/3.0 ") {
			t.Errorf("not over HTTP/3: %s", answer)
		}
	}
}

func receive[T any](ctx context.Context, t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-ctx.Done():
		t.Fatalf("waited in vain for %s: %v", what, ctx.Err())
	}
	var none T
	return none
}
