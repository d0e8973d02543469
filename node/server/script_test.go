package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// script is an upstream whose answers a test writes. What asks for its era it answers itself.
type script struct {
	*httptest.Server
	mu       sync.Mutex // protects the following
	requests []*seen
}

// seen is a request as it reached the upstream.
type seen struct {
	*http.Request
	Body   string
	ID     json.RawMessage
	Method string // of the message; that of HTTP is Request.Method
	Params json.RawMessage
}

const (
	onlyModernEra = `["2026-07-28"]`
	onlyLegacyEra = ``
	bothEras      = `["2025-11-25","2026-07-28"]`
)

// scripted starts an upstream of the given eras, which are the versions that it tells when it is discovered.
func scripted(t *testing.T, eras string, answer func(http.ResponseWriter, *seen)) *script {
	t.Helper()
	u := new(script)
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s := &seen{Request: r, Body: string(body)}
		if len(body) > 0 {
			var m struct {
				ID     json.RawMessage
				Method string
				Params json.RawMessage
			}
			if err := json.Unmarshal(body, &m); err != nil {
				t.Errorf("the upstream got %q: %v", body, err)
				return
			}
			s.ID, s.Method, s.Params = m.ID, m.Method, m.Params
		}
		if s.Method == "server/discover" && string(s.ID) == `"probe"` {
			if eras == onlyLegacyEra {
				http.Error(w, "what is that?", http.StatusNotFound)
				return
			}
			reply(w, s, `{"resultType":"complete","supportedVersions":`+eras+`,"capabilities":{}}`)
			return
		}
		u.mu.Lock()
		u.requests = append(u.requests, s)
		u.mu.Unlock()
		answer(w, s)
	}))
	t.Cleanup(u.Close)
	return u
}

// got lists the requests with that message, or all if method is empty.
func (u *script) got(method string) (out []*seen) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.requests {
		if method == "" || s.Method == method {
			out = append(out, s)
		}
	}
	return out
}

func reply(w http.ResponseWriter, s *seen, result string) {
	writeJSON(w, http.StatusOK, `{"jsonrpc":"2.0","id":`+string(s.ID)+`,"result":`+result+`}`)
}

func writeJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// events begins an event stream; what it returns sends one message.
func events(w http.ResponseWriter) func(message string) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	_ = rc.Flush()
	return func(message string) {
		_, _ = io.WriteString(w, "data: "+message+"\n\n")
		_ = rc.Flush()
	}
}

const done = `{"resultType":"complete","content":[{"type":"text","text":"done"}]}`

// finished answers every request as a server that does nothing.
func finished(w http.ResponseWriter, s *seen) {
	switch s.Method {
	case "initialize":
		w.Header().Set("Mcp-Session-Id", "upstream-session")
		reply(w, s, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{},"resources":{"subscribe":true}},"serverInfo":{"name":"u","version":"1"}}`)
	case "":
		w.WriteHeader(http.StatusMethodNotAllowed)
	default:
		if s.ID == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		reply(w, s, done)
	}
}

// message writes a request of the modern era. params are members, without braces.
func (f *fixture) message(upstream, id, method, params string, header ...string) *http.Request {
	f.t.Helper()
	if params != "" {
		params += ","
	}
	body := `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":{` + params +
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	h := []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", method}
	var named struct{ Name, URI string }
	if err := json.Unmarshal([]byte(`{`+strings.TrimSuffix(params, ",")+`}`), &named); err == nil && named.Name+named.URI != "" {
		h = append(h, "Mcp-Name", named.Name+named.URI)
	}
	return f.post(upstream, body, append(h, header...)...)
}

// legacy writes a request of the legacy era. params is an object, or empty.
func (f *fixture) legacy(upstream, session, id, method, params string, header ...string) *http.Request {
	f.t.Helper()
	body := `{"jsonrpc":"2.0","method":"` + method + `"`
	if id != "" {
		body += `,"id":` + id
	}
	if params != "" {
		body += `,"params":` + params
	}
	return f.post(upstream, body+`}`, append([]string{"Mcp-Protocol-Version", "2025-11-25", "Mcp-Session-Id", session}, header...)...)
}

// open begins a session of the legacy era.
func (f *fixture) open(rt http.RoundTripper, upstream string) (session string) {
	f.t.Helper()
	params := `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}`
	resp, body := f.do(rt, f.legacy(upstream, "", "0", "initialize", params))
	if session = resp.Header.Get("Mcp-Session-Id"); resp.StatusCode != http.StatusOK || session == "" {
		f.t.Fatalf("initialize: status %d, session %q: %s", resp.StatusCode, session, body)
	}
	return session
}

// answered is a response of the gateway.
type answered struct {
	ID     json.RawMessage
	Result json.RawMessage
	Error  struct {
		Code    int
		Message string
		Data    struct{ Advice, RequestID string }
	}
	Detail string // of a problem document
	Params json.RawMessage
	Method string
}

// text is everything that tells a person what happened.
func (a answered) text() string {
	return strings.TrimSpace(a.Error.Message + " " + a.Error.Data.Advice + a.Detail)
}

func decode(t *testing.T, body string) (a answered) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(body))
	if err := dec.Decode(&a); err != nil {
		t.Fatalf("answer %q: %v", body, err)
	}
	return a
}

// messages reads the data of an event stream.
func messages(t *testing.T, body string) (out []answered) {
	t.Helper()
	for line := range strings.SplitSeq(body, "\n") {
		if data, ok := strings.CutPrefix(line, "data: "); ok && data != "" {
			out = append(out, decode(t, data))
		}
	}
	return out
}

// serves tells that the node goes on serving.
func (f *fixture) serves(rt http.RoundTripper, upstream string) {
	f.t.Helper()
	resp, body := f.do(rt, f.modern(upstream, `"alive"`, "t", "{}"))
	if resp.StatusCode != http.StatusOK || !bytes.Contains([]byte(body), []byte(`"done"`)) {
		f.t.Errorf("the node no longer serves: status %d: %s", resp.StatusCode, body)
	}
}

// want holds an answer to a status, a JSON-RPC code (0: none) and words that it must say.
func want(t *testing.T, resp *http.Response, body string, status, code int, words string) {
	t.Helper()
	a := decode(t, body)
	if resp.StatusCode != status || a.Error.Code != code || !strings.Contains(a.text(), words) || a.text() == "" && words != "" {
		t.Errorf("status %d, code %d: %s; want %d, %d and %q", resp.StatusCode, a.Error.Code, body, status, code, words)
	}
	for _, name := range []string{"Set-Cookie", "X-Upstream", "Mcp-Session-Id"} {
		if resp.Header.Get(name) != "" {
			t.Errorf("header %s: %q", name, resp.Header.Get(name))
		}
	}
	if resp.StatusCode != http.StatusUnauthorized && resp.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("header WWW-Authenticate: %q", resp.Header.Get("WWW-Authenticate"))
	}
}

func hold(t *testing.T, what string, held bool, detail ...any) {
	t.Helper()
	if !held {
		t.Error(what, fmt.Sprint(detail...))
	}
}

// until waits for what another goroutine does, which the test then looks at.
func until(reached func() bool) {
	for deadline := time.Now().Add(patience); !reached() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
}
