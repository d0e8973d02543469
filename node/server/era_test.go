package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// realUpstream is a server of the go-sdk: stateless speaks 2026-07-28, else sessions.
func realUpstream(t *testing.T, stateless bool) (*mcp.Server, string) {
	t.Helper()
	s := mcp.NewServer(&mcp.Implementation{Name: "real", Version: "1"}, &mcp.ServerOptions{
		Instructions:       "be nice",
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	type in struct {
		Text string `json:"text"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, i in) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: i.Text}}}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "progress"}, func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		for i := range 3 {
			err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: float64(i + 1), Total: 3})
			if err != nil {
				return nil, nil, err
			}
		}
		return &mcp.CallToolResult{}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "secret"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{}, nil, nil
	})
	s.AddResource(&mcp.Resource{Name: "r", URI: "test://r"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "test://r", Text: "content"}}}, nil
	})
	s.AddPrompt(&mcp.Prompt{Name: "p"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Description: "d"}, nil
	})
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: stateless})
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return s, server.URL
}

// onlyModern makes a server of the go-sdk one that has forgotten the sessions of old.
func onlyModern(t *testing.T, url string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if r.Header.Get("Mcp-Protocol-Version") != "2026-07-28" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"x","data":{"supported":["2026-07-28"],"requested":""}}}`)
			return
		}
		out, err := http.NewRequestWithContext(r.Context(), r.Method, url, bytes.NewReader(body))
		if err != nil {
			return
		}
		out.Header = r.Header
		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		maps.Copy(w.Header(), resp.Header)
		w.Header().Del("Content-Length")
		w.WriteHeader(resp.StatusCode)
		buf := make([]byte, 64<<10)
		for {
			n, err := resp.Body.Read(buf)
			answer := bytes.ReplaceAll(buf[:n], []byte(`"2025-11-25"`), []byte(`"2020-01-01"`))
			for _, old := range []string{"2025-06-18", "2025-03-26", "2024-11-05"} {
				answer = bytes.ReplaceAll(answer, []byte(old), []byte("2020-01-01"))
			}
			if _, werr := w.Write(answer); err != nil || werr != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// bearer adds the gateway token, as the configuration of a client would.
type bearer struct {
	http.RoundTripper
	token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.RoundTripper.RoundTrip(r)
}

// TestEveryEraOverEveryProtocol drives the gateway with the go-sdk's client: two eras of client, two of upstream, three versions of HTTP.
func TestEveryEraOverEveryProtocol(t *testing.T) {
	f := start(t)
	for _, name := range []string{"both", "modern", "legacy"} {
		server, url := realUpstream(t, name != "legacy")
		if name == "modern" {
			url = onlyModern(t, url)
		}
		f.upstream("to-"+name, url)
		for proto, rt := range f.protocols() {
			for _, version := range []string{"2026-07-28", "2025-11-25"} {
				t.Run(fmt.Sprintf("%s to %s over %s", version, name, proto), func(t *testing.T) {
					testClient(t, f, server, "to-"+name, version, rt)
				})
			}
		}
	}
}

func testClient(t *testing.T, f *fixture, server *mcp.Server, upstream, version string, rt http.RoundTripper) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	progress := make(chan float64, 16)
	changed := make(chan struct{}, 16)
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			if r.Params.ProgressToken == "tok" {
				progress <- r.Params.Progress
			}
		},
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
	})
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: f.URL() + "/mcp/" + upstream, HTTPClient: &http.Client{Transport: bearer{rt, f.token}}}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := session.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	if got := session.InitializeResult(); got == nil || got.ProtocolVersion != version || got.Instructions != "be nice" {
		t.Fatalf("initialized: %+v", got)
	}
	tools, err := session.ListTools(ctx, nil)
	if err != nil || len(tools.Tools) < 3 {
		t.Fatalf("tools: %+v, %v", tools, err)
	}
	res, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "hällo"}})
	if err != nil || len(res.Content) != 1 || res.Content[0].(*mcp.TextContent).Text != "hällo" {
		t.Fatalf("echo: %+v, %v", res, err)
	}
	params := &mcp.CallToolParams{Name: "progress"}
	params.SetProgressToken("tok")
	if _, err := session.CallTool(ctx, params); err != nil {
		t.Fatalf("progress: %v", err)
	}
	for want := range 3 {
		select {
		case got := <-progress:
			if got != float64(want+1) {
				t.Fatalf("progress %v, want %d", got, want+1)
			}
		case <-ctx.Done():
			t.Fatal("the progress does not arrive")
		}
	}
	if r, err := session.ReadResource(ctx, &mcp.ReadResourceParams{URI: "test://r"}); err != nil || r.Contents[0].Text != "content" {
		t.Fatalf("resource: %+v, %v", r, err)
	}
	if p, err := session.GetPrompt(ctx, &mcp.GetPromptParams{Name: "p"}); err != nil || p.Description != "d" {
		t.Fatalf("prompt: %+v, %v", p, err)
	}
	if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "none"}); err == nil {
		t.Fatal("a tool that does not exist was called")
	}
	if upstream == "to-both" && version != "2026-07-28" {
		return // stateless towards old clients: such a server has no stream to notify on
	}
	mcp.AddTool(server, &mcp.Tool{Name: "fresh" + rand.Text()}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{}, nil, nil
	})
	select {
	case <-changed:
	case <-ctx.Done():
		t.Error("the client is not told that the tools have changed")
	}
}
