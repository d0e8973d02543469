package stdio

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"sallyport/crypto"
)

const testTime = 60 * time.Second

// canary is the token in every test; it must never come out anywhere but in the header.
const canary = "spt_canarycanarycanary"

type logBuffer struct {
	mu  sync.Mutex
	all []byte
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, p...)
	return len(p), nil
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.all)
}

// running is a relay under test with the client's ends of its pipes.
type running struct {
	in   *io.PipeWriter
	out  *io.PipeReader
	logs *logBuffer
	done chan error
	stop context.CancelFunc
}

func startRelay(t *testing.T, urls ...string) *running {
	t.Helper()
	var list []Node
	for _, url := range urls {
		list = append(list, Node{URL: url, Token: crypto.SecretString(canary), Transport: http.DefaultTransport})
	}
	return startNodes(t, list...)
}

func startNodes(t *testing.T, list ...Node) *running {
	t.Helper()
	inReader, inWriter := io.Pipe()
	outReader, outWriter := io.Pipe()
	r := &running{in: inWriter, out: outReader, logs: &logBuffer{}, done: make(chan error, 1)}
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func() {
		err := Run(ctx, Config{
			Nodes: list, In: inReader, Out: outWriter,
			Logger: slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		_ = outWriter.Close()
		r.done <- err
	}()
	t.Cleanup(func() {
		stop()
		_ = inWriter.Close()
		_ = outReader.Close()
		if t.Failed() {
			t.Logf("stderr of the relay:\n%s", r.logs)
		}
	})
	return r
}

// wait returns what Run returned.
func (r *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(testTime):
		t.Fatal("the relay did not end")
		return nil
	}
}

type addArgs struct {
	A int64 `json:"a"`
	B int64 `json:"b"`
}

// everything is an MCP server with something of each kind.
func everything() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "everything", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "add"}, func(ctx context.Context, req *mcp.CallToolRequest, args addArgs) (*mcp.CallToolResult, map[string]int64, error) {
		if token := req.Params.GetProgressToken(); token != nil {
			if err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 1}); err != nil {
				return nil, nil, err
			}
		}
		return nil, map[string]int64{"sum": args.A + args.B}, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "ask"}, func(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, map[string]string, error) {
		answer, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "name?", RequestedSchema: map[string]any{
			"type": "object", "properties": map[string]any{"name": map[string]any{"type": "string"}},
		}})
		if err != nil {
			return nil, nil, err
		}
		return nil, map[string]string{"name": answer.Content["name"].(string)}, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "grow"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		mcp.AddTool(server, &mcp.Tool{Name: "grown"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{}, nil, nil
		})
		return &mcp.CallToolResult{}, nil, nil
	})
	return server
}

// endpoint serves server and demands the token.
func endpoint(t *testing.T, server *mcp.Server, options *mcp.StreamableHTTPOptions) *httptest.Server {
	t.Helper()
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, options)
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+canary {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		node.CloseClientConnections()
		node.Close()
	})
	return node
}

func TestSDKClient(t *testing.T) {
	cases := map[string]struct {
		version string
		options mcp.StreamableHTTPOptions
	}{
		"legacy, sessions":       {"2025-11-25", mcp.StreamableHTTPOptions{}},
		"legacy, JSON":           {"2025-06-18", mcp.StreamableHTTPOptions{JSONResponse: true}},
		"legacy, resumable":      {"2025-11-25", mcp.StreamableHTTPOptions{EventStore: mcp.NewMemoryEventStore(nil)}},
		"legacy without session": {"2025-11-25", mcp.StreamableHTTPOptions{Stateless: true}},
		"modern":                 {"2026-07-28", mcp.StreamableHTTPOptions{Stateless: true}},
		"modern, JSON":           {"2026-07-28", mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}},
		"modern, then legacy":    {"2026-07-28", mcp.StreamableHTTPOptions{}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), testTime)
			defer cancel()
			node := endpoint(t, everything(), &c.options)
			relay := startRelay(t, node.URL)
			progress := make(chan struct{}, 1)
			client := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, &mcp.ClientOptions{
				ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) { progress <- struct{}{} },
			})
			session, err := client.Connect(ctx, &mcp.IOTransport{Reader: relay.out, Writer: relay.in}, &mcp.ClientSessionOptions{ProtocolVersion: c.version})
			if err != nil {
				t.Fatal(err)
			}
			tools, err := session.ListTools(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(tools.Tools) != 3 {
				t.Fatalf("tools = %d, want 3", len(tools.Tools))
			}
			params := &mcp.CallToolParams{Name: "add", Arguments: addArgs{A: 40, B: 2}}
			if !c.options.JSONResponse { // which leaves no room for notifications
				params.SetProgressToken("p1")
			}
			result, err := session.CallTool(ctx, params)
			if err != nil {
				t.Fatal(err)
			}
			if got := result.StructuredContent.(map[string]any)["sum"]; got != 42.0 {
				t.Errorf("sum = %v, want 42", got)
			}
			if !c.options.JSONResponse {
				select {
				case <-progress:
				case <-ctx.Done():
					t.Error("no progress notification")
				}
			}
			_, err = session.CallTool(ctx, &mcp.CallToolParams{Name: "unknown"})
			if err == nil {
				t.Error("an unknown tool was called")
			}
			if err := session.Close(); err != nil && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("close: %v", err)
			}
			if err := relay.wait(t); err != nil {
				t.Errorf("Run = %v", err)
			}
		})
	}
}

func TestServerAsksClient(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	node := endpoint(t, everything(), nil)
	relay := startRelay(t, node.URL)
	changed := make(chan struct{}, 1)
	client := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
		},
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
	})
	session, err := client.Connect(ctx, &mcp.IOTransport{Reader: relay.out, Writer: relay.in}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	if err != nil {
		t.Fatal(err)
	}
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "ask"})
	if err != nil {
		t.Fatal(err)
	}
	if got := result.StructuredContent.(map[string]any)["name"]; got != "Ada" {
		t.Errorf("name = %v, want Ada", got)
	}
	if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "grow"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	case <-ctx.Done():
		t.Error("no list_changed notification on the GET stream")
	}
}

func TestModernSubscription(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	node := endpoint(t, everything(), &mcp.StreamableHTTPOptions{Stateless: true})
	relay := startRelay(t, node.URL)
	changed := make(chan struct{}, 1)
	client := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
	})
	session, err := client.Connect(ctx, &mcp.IOTransport{Reader: relay.out, Writer: relay.in}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "grow"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	case <-ctx.Done():
		t.Error("no list_changed notification on the subscription")
	}
	if err := session.Close(); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("close: %v", err)
	}
	if err := relay.wait(t); err != nil {
		t.Errorf("Run = %v", err)
	}
}
