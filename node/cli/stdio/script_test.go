package stdio

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// scripted is a node whose answers a test writes itself.
func scripted(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, m message)) *httptest.Server {
	t.Helper()
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("the request broke off: %v", err)
			return
		}
		var m message
		if r.Method == http.MethodPost {
			if m, err = parseMessage(body); err != nil {
				t.Errorf("the node got %q: %v", body, err)
			}
		}
		answer(w, r, m)
	}))
	t.Cleanup(func() {
		node.CloseClientConnections()
		node.Close()
	})
	return node
}

// legacyNode is a scripted node that opens sessions session-1, session-2, ... by itself.
func legacyNode(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, m message)) *httptest.Server {
	t.Helper()
	var sessions atomic.Int32
	return scripted(t, func(w http.ResponseWriter, r *http.Request, m message) {
		switch {
		case m.method == "initialize":
			w.Header().Set("Mcp-Session-Id", fmt.Sprintf("session-%d", sessions.Add(1)))
			answerJSON(w, http.StatusOK, result(m, `{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"n","version":"1"}}`))
		case m.method == "notifications/initialized":
			w.WriteHeader(http.StatusAccepted)
		default:
			answer(w, r, m)
		}
	})
}

func result(m message, result string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.id, result)
}

func answerJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// answerStream writes events as they are given and flushes them.
func answerStream(w http.ResponseWriter, events ...string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, event := range events {
		_, _ = io.WriteString(w, event)
	}
	if err := http.NewResponseController(w).Flush(); err != nil {
		return // the other side is gone
	}
}

// client is the other end of a relay, line by line.
type client struct {
	*running
	t     *testing.T
	lines chan string
}

func connect(t *testing.T, urls ...string) *client {
	t.Helper()
	return talk(t, startRelay(t, urls...))
}

func talk(t *testing.T, r *running) *client {
	t.Helper()
	c := &client{running: r, t: t, lines: make(chan string, 1000)}
	go func() {
		defer close(c.lines)
		in := bufio.NewReaderSize(r.out, 64<<10)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			c.lines <- strings.TrimSuffix(line, "\n")
		}
	}()
	t.Cleanup(func() {
		if strings.Contains(r.logs.String(), canary) {
			t.Error("the token is on stderr")
		}
	})
	return c
}

func (c *client) send(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

// next is the next line on stdout.
func (c *client) next() string {
	c.t.Helper()
	select {
	case line, ok := <-c.lines:
		if !ok {
			c.t.Fatal("stdout was closed")
		}
		if strings.Contains(line, canary) {
			c.t.Error("the token is on stdout")
		}
		if !json.Valid([]byte(line)) {
			c.t.Errorf("not JSON on stdout: %q", line)
		}
		return line
	case <-time.After(testTime):
		c.t.Fatal("no line on stdout")
		return ""
	}
}

func (c *client) expect(want string) {
	c.t.Helper()
	if got := c.next(); got != want {
		c.t.Errorf("stdout: %s\nwant:   %s", got, want)
	}
}

// failure is the next line, which must be an error response to id.
func (c *client) failure(id string) (code int, text string) {
	c.t.Helper()
	line := c.next()
	var answer struct {
		ID    json.RawMessage `json:"id"`
		Error struct {
			Code    int
			Message string
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(line), &answer); err != nil || answer.Error.Code == 0 || string(answer.ID) != id {
		c.t.Fatalf("stdout: %s\nwant an error for id %s", line, id)
	}
	return answer.Error.Code, answer.Error.Message
}

func (c *client) expectFailure(id string, code int, part string) {
	c.t.Helper()
	if got, text := c.failure(id); got != code || !strings.Contains(text, part) {
		c.t.Errorf("error %d %q, want %d with %q", got, text, code, part)
	}
}

// end closes stdin and waits; nothing may come on stdout any more.
func (c *client) end() {
	c.t.Helper()
	if err := c.in.Close(); err != nil {
		c.t.Fatal(err)
	}
	if err := c.wait(c.t); err != nil {
		c.t.Errorf("Run = %v", err)
	}
	for line := range c.lines {
		c.t.Errorf("unexpected on stdout: %s", line)
	}
}

// initialize opens a legacy session.
func (c *client) initialize() {
	c.t.Helper()
	c.send(`{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`)
	if line := c.next(); !strings.Contains(line, `"id":"init","result":`) {
		c.t.Fatalf("initialize was answered with %s", line)
	}
	c.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

// modern is a request of MCP 2026-07-28 with further members of params.
func modern(id, method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}%s}}`, id, method, params)
}
