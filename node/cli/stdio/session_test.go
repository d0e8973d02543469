package stdio

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// journal is what a node saw, in order.
type journal struct {
	mu      sync.Mutex
	entries []string
	changed chan struct{}
}

func newJournal() *journal { return &journal{changed: make(chan struct{}, 1000)} }

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	j.entries = append(j.entries, fmt.Sprintf(format, args...))
	j.mu.Unlock()
	j.changed <- struct{}{}
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.entries)
}

// waitFor returns when the entry is there.
func (j *journal) waitFor(t *testing.T, entry string) {
	t.Helper()
	deadline := time.After(testTime)
	for !slices.Contains(j.all(), entry) {
		select {
		case <-j.changed:
		case <-deadline:
			t.Fatalf("the node saw %q, not %q", j.all(), entry)
		}
	}
}

func TestLegacyHeaders(t *testing.T) {
	seen := newJournal()
	node := scripted(t, func(w http.ResponseWriter, r *http.Request, m message) {
		for name, want := range map[string]string{
			"Authorization": "Bearer " + canary, "Mcp-Method": "", "Mcp-Name": "",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s %s: %s = %q, want %q", r.Method, m.method, name, got, want)
			}
		}
		seen.add("%s %s session=%s version=%s accept=%s type=%s", r.Method, m.method, r.Header.Get("Mcp-Session-Id"),
			r.Header.Get("Mcp-Protocol-Version"), r.Header.Get("Accept"), r.Header.Get("Content-Type"))
		switch {
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case m.method == "initialize":
			w.Header().Set("Mcp-Session-Id", "session-1")
			answerJSON(w, http.StatusOK, result(m, `{"protocolVersion":"2025-06-18"}`))
		case m.kind == request:
			answerJSON(w, http.StatusOK, result(m, `{}`))
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	client := connect(t, node.URL)
	client.initialize()
	seen.waitFor(t, "GET  session=session-1 version=2025-06-18 accept=text/event-stream type=")
	client.send(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
	client.expect(`{"jsonrpc":"2.0","id":2,"result":{}}`)
	client.end()
	const both = "accept=application/json, text/event-stream type=application/json"
	want := []string{
		"POST initialize session= version= " + both,
		"POST notifications/initialized session=session-1 version=2025-06-18 " + both,
		"GET  session=session-1 version=2025-06-18 accept=text/event-stream type=",
		"POST tools/list session=session-1 version=2025-06-18 " + both,
		"DELETE  session=session-1 version=2025-06-18 accept= type=",
	}
	if got := seen.all(); !slices.Equal(got, want) {
		t.Errorf("the node saw\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestOrder sends everything at once: what needs the session waits for it.
func TestOrder(t *testing.T) {
	var mu sync.Mutex
	var order []string
	node := scripted(t, func(w http.ResponseWriter, r *http.Request, m message) {
		mu.Lock()
		order = append(order, r.Method+" "+m.method)
		mu.Unlock()
		switch {
		case m.method == "initialize":
			w.Header().Set("Mcp-Session-Id", "session-1")
			answerJSON(w, http.StatusOK, result(m, `{"protocolVersion":"2025-06-18"}`))
		case r.Method != http.MethodDelete && r.Header.Get("Mcp-Session-Id") != "session-1":
			t.Errorf("%s without the session", m.method)
		case m.kind == request:
			answerJSON(w, http.StatusOK, result(m, `{}`))
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	client := connect(t, node.URL)
	lines := []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
	}
	for i := range 100 {
		lines = append(lines, fmt.Sprintf(`{"jsonrpc":"2.0","id":"c%d","method":"ping"}`, i))
	}
	client.send(strings.Join(lines, "\n"))
	got := map[string]bool{}
	for range 101 {
		got[client.next()] = true
	}
	if len(got) != 101 {
		t.Errorf("%d different answers, want 101", len(got))
	}
	client.end()
	if order[0] != "POST initialize" || order[1] != "POST notifications/initialized" || order[len(order)-1] != "DELETE " {
		t.Errorf("order = %v", order)
	}
}

func TestRequestsRunConcurrently(t *testing.T) {
	both := make(chan struct{}, 2)
	release := make(chan struct{})
	node := scripted(t, func(w http.ResponseWriter, _ *http.Request, m message) {
		both <- struct{}{}
		<-release
		answerJSON(w, http.StatusOK, result(m, `{}`))
	})
	client := connect(t, node.URL)
	client.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	client.send(`{"jsonrpc":"2.0","id":"1","method":"ping"}`)
	for range 2 {
		select {
		case <-both:
		case <-time.After(testTime):
			t.Fatal("the second request waits for the first")
		}
	}
	close(release)
	if a, b := client.next(), client.next(); a == b {
		t.Errorf("the same answer twice: %s", a)
	}
	client.end()
}

func TestLostSessionIsReplaced(t *testing.T) {
	seen := newJournal()
	var both sync.WaitGroup
	both.Add(2)
	node := legacyNode(t, func(w http.ResponseWriter, r *http.Request, m message) {
		session := r.Header.Get("Mcp-Session-Id")
		seen.add("%s %s %s", r.Method, m.method, session)
		switch {
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case session == "session-1":
			// Both requests find the same session lost.
			both.Done()
			both.Wait()
			answerJSON(w, http.StatusNotFound, `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}`)
		default:
			answerJSON(w, http.StatusOK, result(m, `{"session":"`+session+`"}`))
		}
	})
	client := connect(t, node.URL)
	client.initialize()
	client.send(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	client.send(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
	got := []string{client.next(), client.next()}
	slices.Sort(got)
	want := []string{`{"jsonrpc":"2.0","id":1,"result":{"session":"session-2"}}`, `{"jsonrpc":"2.0","id":2,"result":{"session":"session-2"}}`}
	if !slices.Equal(got, want) {
		t.Errorf("answers = %q, want %q", got, want)
	}
	client.end()
	if all := seen.all(); all[len(all)-1] != "DELETE  session-2" {
		t.Errorf("the node saw %q, want session-2 deleted at the end", all)
	}
}

func TestLostSessionThatCannotBeReplaced(t *testing.T) {
	cases := map[string]struct {
		second func(w http.ResponseWriter, m message)
		code   int
		part   string
	}{
		"lost again": {func(w http.ResponseWriter, m message) {
			w.Header().Set("Mcp-Session-Id", "session-2")
			answerJSON(w, 200, result(m, `{"protocolVersion":"2025-11-25"}`))
		}, codeHTTP, "404"},
		"other version": {func(w http.ResponseWriter, m message) {
			answerJSON(w, 200, result(m, `{"protocolVersion":"2025-03-26"}`))
		}, codeBroken, "MCP 2025-03-26 instead of 2025-11-25"},
		"refused": {func(w http.ResponseWriter, m message) {
			answerJSON(w, 200, `{"jsonrpc":"2.0","id":"init","error":{"code":1001,"message":"denied"}}`)
		}, codeBroken, "refused a new one (denied)"},
		"token revoked": {func(w http.ResponseWriter, _ message) { w.WriteHeader(401) }, codeToken, "refused the token"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var opened atomic.Int32
			node := scripted(t, func(w http.ResponseWriter, r *http.Request, m message) {
				switch {
				case m.method == "initialize" && opened.Add(1) == 1:
					w.Header().Set("Mcp-Session-Id", "session-1")
					answerJSON(w, 200, result(m, `{"protocolVersion":"2025-11-25"}`))
				case m.method == "initialize":
					c.second(w, m)
				case m.kind == notification:
					w.WriteHeader(202)
				case r.Method == http.MethodGet:
					w.WriteHeader(405)
				default:
					w.WriteHeader(404)
				}
			})
			client := connect(t, node.URL)
			client.initialize()
			client.send(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
			client.expectFailure("1", c.code, c.part)
			client.end()
		})
	}
}

func TestUnusableSession(t *testing.T) {
	cases := map[string]struct{ session, result string }{
		"space in the id": {"a\tb", `{"protocolVersion":"2025-11-25"}`},
		"no version":      {"a", `{}`},
		"odd version":     {"a", `{"protocolVersion":"a\nb"}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			node := scripted(t, func(w http.ResponseWriter, _ *http.Request, m message) {
				w.Header().Set("Mcp-Session-Id", c.session)
				answerJSON(w, 200, result(m, c.result))
			})
			client := connect(t, node.URL)
			client.send(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`)
			client.expectFailure("1", codeBroken, "unusable protocol version or session id")
			client.end()
		})
	}
}

func TestGetStreamIsResumed(t *testing.T) {
	seen := newJournal()
	var streams atomic.Int32
	node := legacyNode(t, func(w http.ResponseWriter, r *http.Request, m message) {
		if r.Method != http.MethodGet {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		stream := streams.Add(1)
		seen.add("GET %d after %q", stream, r.Header.Get("Last-Event-ID"))
		switch stream {
		case 1:
			answerStream(w, "id: a1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/one\"}\n\n", "retry: 1\n\n", "id: a\x80\n\n")
		case 2:
			w.WriteHeader(http.StatusBadGateway)
		case 3:
			answerStream(w, "id: a2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/two\"}\n\n", "data: {\"jsonrpc\":\"2.0\",\"id\":\"init\",\"result\":{}}\n\n")
		default:
			answerStream(w)
			<-r.Context().Done()
		}
	})
	client := connect(t, node.URL)
	client.initialize()
	client.expect(`{"jsonrpc":"2.0","method":"notifications/one"}`)
	client.expect(`{"jsonrpc":"2.0","method":"notifications/two"}`)
	seen.waitFor(t, `GET 4 after "a2"`)
	client.end()
	want := []string{`GET 1 after ""`, `GET 2 after "a1"`, `GET 3 after "a1"`, `GET 4 after "a2"`}
	if got := seen.all(); !slices.Equal(got, want) {
		t.Errorf("streams = %q, want %q", got, want)
	}
}

func TestGetStreamFindsSessionLost(t *testing.T) {
	seen := newJournal()
	var streams atomic.Int32
	node := legacyNode(t, func(w http.ResponseWriter, r *http.Request, m message) {
		if r.Method != http.MethodGet {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		stream := streams.Add(1)
		seen.add("GET %s", r.Header.Get("Mcp-Session-Id"))
		switch stream {
		case 1:
			answerStream(w, "retry: 1\n\n")
		case 2:
			w.WriteHeader(http.StatusNotFound)
		default:
			answerStream(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/again\"}\n\n")
			<-r.Context().Done()
		}
	})
	client := connect(t, node.URL)
	client.initialize()
	client.expect(`{"jsonrpc":"2.0","method":"notifications/again"}`)
	client.end()
	want := []string{"GET session-1", "GET session-1", "GET session-2"}
	if got := seen.all(); !slices.Equal(got, want) {
		t.Errorf("streams = %q, want %q", got, want)
	}
}

// TestNoGetStream has servers that answer the first GET in ways that mean there is none; a 404 must
// not be taken for a lost session then, or sessions would be opened without end.
func TestNoGetStream(t *testing.T) {
	for _, status := range []int{200, 400, 401, 404, 405} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			seen := newJournal()
			node := legacyNode(t, func(w http.ResponseWriter, r *http.Request, m message) {
				switch {
				case r.Method == http.MethodGet:
					w.WriteHeader(status)
					seen.add("GET %s", r.Header.Get("Mcp-Session-Id"))
				case m.kind == request:
					answerJSON(w, 200, result(m, `{"session":"`+r.Header.Get("Mcp-Session-Id")+`"}`))
				}
			})
			client := connect(t, node.URL)
			client.initialize()
			seen.waitFor(t, "GET session-1")
			client.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
			client.expect(`{"jsonrpc":"2.0","id":1,"result":{"session":"session-1"}}`)
			client.end()
			if got := seen.all(); len(got) != 1 {
				t.Errorf("streams = %q, want one", got)
			}
		})
	}
}

func TestStreamOfRequestIsResumed(t *testing.T) {
	seen := newJournal()
	var polls atomic.Int32
	node := scripted(t, func(w http.ResponseWriter, r *http.Request, m message) {
		seen.add("%s %s after %q", r.Method, m.method, r.Header.Get("Last-Event-ID"))
		switch {
		case r.Method == http.MethodPost:
			answerStream(w, "id: p1\nretry: 1\ndata:\n\n", "id: p2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n")
		case polls.Add(1) == 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			answerStream(w, "id: p3\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n")
		}
	})
	client := connect(t, node.URL)
	client.send(`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`)
	client.expect(`{"jsonrpc":"2.0","method":"notifications/progress"}`)
	client.expect(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	client.end()
	want := []string{`POST tools/call after ""`, `GET  after "p2"`, `GET  after "p2"`}
	if got := seen.all(); !slices.Equal(got, want) {
		t.Errorf("the node saw %q, want %q", got, want)
	}
}

// TestStreamOfRequestIsGone has streams that cannot be resumed: the request may have been carried
// out, and must not look as if it was not.
func TestStreamOfRequestIsGone(t *testing.T) {
	for name, status := range map[string]int{"session over": 404, "not resumable": 405, "token revoked": 401} {
		t.Run(name, func(t *testing.T) {
			node := scripted(t, func(w http.ResponseWriter, r *http.Request, _ message) {
				if r.Method == http.MethodPost {
					answerStream(w, "id: p1\nretry: 1\ndata:\n\n")
					return
				}
				w.WriteHeader(status)
			})
			client := connect(t, node.URL)
			client.send(`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`)
			client.expectFailure("1", codeBroken, fmt.Sprintf("resuming it was answered %d", status))
			client.end()
		})
	}
}

func TestLegacyCancellation(t *testing.T) {
	seen := newJournal()
	cancelled := make(chan struct{})
	node := legacyNode(t, func(w http.ResponseWriter, r *http.Request, m message) {
		seen.add("%s %s %s", r.Method, m.method, m.params["requestId"])
		switch {
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case m.method == "tools/call":
			answerStream(w, ":\n\n")
			select {
			case <-cancelled: // and ends the stream without an answer
			case <-r.Context().Done():
				t.Error("the stream was closed; for a legacy server that is no cancellation")
			}
		case m.method == "notifications/cancelled":
			w.WriteHeader(http.StatusAccepted)
			close(cancelled)
		default:
			answerJSON(w, http.StatusOK, result(m, `{}`))
		}
	})
	client := connect(t, node.URL)
	client.initialize()
	client.send(`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"slow"}}`)
	seen.waitFor(t, "POST tools/call ")
	client.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}`)
	seen.waitFor(t, "POST notifications/cancelled 5")
	client.send(`{"jsonrpc":"2.0","id":6,"method":"ping"}`)
	client.expect(`{"jsonrpc":"2.0","id":6,"result":{}}`)
	client.end()
}
