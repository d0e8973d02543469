package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"sallyport/crypto"
	"sallyport/node/api/kind"
)

const upstreamSecret = "the-upstream-wants-this"

// server is an MCP server (2026-07-28) that wants upstreamSecret in X-Api-Key. Its tool echo answers at once, slow when it is let go, and
// the tool stream tells on a stream of events that it has begun and then does as slow.
type server struct {
	*httptest.Server
	t       testing.TB
	arrived chan struct{} // one for each call of slow or stream, and each listener
	letGo   chan struct{} // closed by release

	mu   sync.Mutex // protects the following
	seen map[string]int
	once sync.Once
}

func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{t: t, arrived: make(chan struct{}, 100), letGo: make(chan struct{}), seen: map[string]int{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.release()
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *server) release() { s.once.Do(func() { close(s.letGo) }) }

// waits until a call of slow or stream has arrived.
func (s *server) waits() {
	s.t.Helper()
	select {
	case <-s.arrived:
	case <-within(s.t).Done():
		s.t.Fatal("the call does not arrive at the upstream")
	}
}

// counts are how often the tool echo was called with which arguments.
func (s *server) counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	for arguments, n := range s.seen {
		out[arguments] = n
	}
	return out
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Api-Key") != upstreamSecret {
		http.Error(w, "no key", http.StatusUnauthorized)
		return
	}
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct {
			Name      string
			Arguments json.RawMessage
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		http.Error(w, "no message", http.StatusBadRequest) // the node was killed while it sent
		return
	}
	answer := func(result string) {
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
	}
	events := func() {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"begun\"}}\n\n")
		w.(http.Flusher).Flush()
		s.arrived <- struct{}{}
		select {
		case <-s.letGo:
		case <-r.Context().Done():
		}
	}
	done := `{"resultType":"complete","content":[{"type":"text","text":"done"}]}`
	switch {
	case m.Method == "server/discover":
		w.Header().Set("Content-Type", "application/json")
		answer(`{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"1"}}`)
	case m.Method == "subscriptions/listen":
		events()
	case m.Method == "tools/list":
		w.Header().Set("Content-Type", "application/json")
		answer(`{"resultType":"complete","tools":[{"name":"echo","inputSchema":{"type":"object"}}]}`)
	case m.Params.Name == "stream":
		events()
		_, _ = io.WriteString(w, "data: ")
		answer(done)
		_, _ = io.WriteString(w, "\n\n")
	case m.Params.Name == "slow":
		s.arrived <- struct{}{}
		select {
		case <-s.letGo:
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "application/json")
		answer(done)
	default:
		s.mu.Lock()
		s.seen[string(m.Params.Arguments)]++
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		answer(done)
	}
}

// serve puts the server behind a node, with an agent that may do everything, and returns the agent's token.
func (n *node) serve(s *server) (token string) {
	n.t.Helper()
	up := upstream("u", s.URL)
	up.Spec.Credential = kind.CredentialSpec{
		Grant: "static", Header: kind.StaticHeader{Name: "X-Api-Key", Value: kind.NewSecret(crypto.SecretString(upstreamSecret))},
	}
	n.put(up)
	n.put(agent("A", "r"))
	n.put(everything("r"))
	return n.issue("A").Text
}

// message makes a request of a modern client.
func (n *node) message(t testing.TB, token, method, name, arguments string) *http.Request {
	t.Helper()
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	params := `{"notifications":{"toolsListChanged":true},` + meta + `}`
	if name != "" {
		params = fmt.Sprintf(`{"name":%q,"arguments":%s,%s}`, name, arguments, meta)
	}
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, params)
	r, err := http.NewRequestWithContext(within(t), http.MethodPost, n.url+"/mcp/u", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{
		"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {method},
	}
	if name != "" {
		r.Header.Set("Mcp-Name", name)
	}
	return r
}

// exchange sends a request and reads the whole answer.
func exchange(rt http.RoundTripper, r *http.Request) (status int, body string, err error) {
	resp, err := rt.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}
