package stdio

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/crypto"
	"sallyport/node/mcp"
)

// echo answers every request with its method.
func echo(t *testing.T) *httptest.Server {
	return scripted(t, func(w http.ResponseWriter, _ *http.Request, m message) {
		answerJSON(w, http.StatusOK, result(m, `"`+m.method+`"`))
	})
}

func TestStdin(t *testing.T) {
	cases := map[string]struct {
		line string
		code int
		part string
	}{
		"not JSON":           {`hello`, mcp.CodeParse, "not an MCP message"},
		"cut":                {`{"jsonrpc":"2.0","id":1,"method":"ping"`, mcp.CodeParse, "unexpected end"},
		"two on a line":      {`{"jsonrpc":"2.0","id":1,"method":"a"}{"jsonrpc":"2.0","id":2,"method":"b"}`, mcp.CodeParse, "after top-level value"},
		"batch":              {`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, mcp.CodeInvalidRequest, "batch"},
		"a string":           {`"hello"`, mcp.CodeInvalidRequest, "neither"},
		"nothing in it":      {`{"jsonrpc":"2.0","id":1}`, mcp.CodeInvalidRequest, "neither"},
		"null id":            {`{"jsonrpc":"2.0","id":null,"method":"ping"}`, mcp.CodeInvalidRequest, "id of a request"},
		"object id":          {`{"jsonrpc":"2.0","id":{},"method":"ping"}`, mcp.CodeInvalidRequest, "id of a request"},
		"method is a number": {`{"jsonrpc":"2.0","id":1,"method":1}`, mcp.CodeInvalidRequest, "neither"},
		"deep":               {strings.Repeat("[", 100_000), mcp.CodeInvalidRequest, "batch"},
		"deeper":             {`{"a":` + strings.Repeat("[", 100_000), mcp.CodeParse, "depth"},
		"far too long":       {`{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("x", maxLine) + `"}`, mcp.CodeInvalidRequest, "longer than 16 MiB"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			client := connect(t, echo(t).URL)
			client.send(c.line)
			client.expectFailure("null", c.code, c.part)
			client.send("\r\n \n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}\r")
			client.expect(`{"jsonrpc":"2.0","id":2,"result":"ping"}`)
			client.end()
		})
	}
}

func TestTooLongIsRefusedByID(t *testing.T) {
	client := connect(t, echo(t).URL)
	long := strings.Repeat("x", maxMessage)
	client.send(`{"jsonrpc":"2.0","method":"` + long + `"}`)
	client.send(`{"jsonrpc":"2.0","method":"tools/call","params":{"a":"` + long + `"},"id":"last"}`)
	client.expectFailure(`"last"`, mcp.CodeInvalidRequest, "longer than 16 MiB")
	client.end()
	if logs := client.logs.String(); len(logs) > 10_000 {
		t.Errorf("stderr has %d bytes of the message", len(logs))
	}
}

func TestLastLineWithoutEnd(t *testing.T) {
	client := connect(t, echo(t).URL)
	if _, err := io.WriteString(client.in, `{"jsonrpc":"2.0","id":1,"method":"ping"}`); err != nil {
		t.Fatal(err)
	}
	if err := client.in.Close(); err != nil {
		t.Fatal(err)
	}
	client.expect(`{"jsonrpc":"2.0","id":1,"result":"ping"}`)
	if err := client.wait(t); err != nil {
		t.Error(err)
	}
}

// TestBodyIsTheLine checks that requests leave as they came.
func TestBodyIsTheLine(t *testing.T) {
	const line = `{"id" : 9007199254740993,"x":1,"x":2,"jsonrpc":"2.0","method":"tools/call","params":{"a":1.0,"b":"\u003c"},"vendor":[ ]}`
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != line {
			t.Errorf("the node got %q, %v", body, err)
		}
		answerJSON(w, http.StatusOK, `{"jsonrpc":"2.0","id":9007199254740993,"result":{}}`)
	}))
	defer node.Close()
	client := connect(t, node.URL)
	client.send(line)
	client.expect(`{"jsonrpc":"2.0","id":9007199254740993,"result":{}}`)
	client.end()
}

func TestTooManyAtOnce(t *testing.T) {
	release := make(chan struct{})
	node := scripted(t, func(w http.ResponseWriter, _ *http.Request, m message) {
		<-release
		answerJSON(w, http.StatusOK, result(m, `{}`))
	})
	client := connect(t, node.URL)
	for i := range maxInFlight {
		client.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"ping"}`, i))
	}
	client.send(`{"jsonrpc":"2.0","id":"more","method":"ping"}`)
	client.expectFailure(`"more"`, mcp.CodeLimited, "more than 256")
	close(release)
	for range maxInFlight {
		client.next()
	}
	client.send(`{"jsonrpc":"2.0","id":"again","method":"ping"}`)
	client.expect(`{"jsonrpc":"2.0","id":"again","result":{}}`)
	client.end()
}

func TestIDInUse(t *testing.T) {
	release := make(chan struct{})
	node := scripted(t, func(w http.ResponseWriter, _ *http.Request, m message) {
		<-release
		answerJSON(w, http.StatusOK, result(m, `{}`))
	})
	client := connect(t, node.URL)
	client.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	client.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	client.expectFailure("1", mcp.CodeInvalidRequest, "in use")
	close(release)
	client.expect(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	client.end()
}

func TestStdoutIsGone(t *testing.T) {
	client := connect(t, echo(t).URL)
	if err := client.out.Close(); err != nil {
		t.Fatal(err)
	}
	client.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	if err := client.wait(t); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Run = %v, want %v", err, io.ErrClosedPipe)
	}
}

// TestStop ends the context, as SIGTERM does: what is under way is given up, the session is not.
func TestStop(t *testing.T) {
	seen := newJournal()
	node := legacyNode(t, func(w http.ResponseWriter, r *http.Request, m message) {
		seen.add("%s %s", r.Method, m.method)
		if r.Method == http.MethodDelete {
			return
		}
		answerStream(w)
		<-r.Context().Done()
	})
	client := connect(t, node.URL)
	client.initialize()
	client.send(`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`)
	seen.waitFor(t, "POST tools/call")
	client.stop()
	if err := client.wait(t); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want %v", err, context.Canceled)
	}
	seen.waitFor(t, "DELETE ")
}

func TestStdinThatFails(t *testing.T) {
	broken := errors.New("broken")
	err := Run(t.Context(), Config{
		Nodes: []Node{{URL: "https://127.0.0.1:1", Transport: http.DefaultTransport}},
		In:    io.MultiReader(strings.NewReader("\n"), iotest(broken)), Out: io.Discard, Logger: slog.New(slog.DiscardHandler),
	})
	if !errors.Is(err, broken) {
		t.Errorf("Run = %v, want %v", err, broken)
	}
	if err := Run(t.Context(), Config{}); err == nil {
		t.Error("Run without a node gave no error")
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func iotest(err error) io.Reader { return failingReader{err} }

// closedPort is an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return "http://" + listener.Addr().String()
}

func TestNextNode(t *testing.T) {
	second := echo(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	for name, first := range map[string]string{
		"nobody listens":         closedPort(t),
		"no such name":           "http://no-such-host.invalid",
		"certificate unverified": untrusted.URL,
		"no TLS handshake":       "https://" + silent.Addr().String(),
	} {
		t.Run(name, func(t *testing.T) {
			impatient := &http.Transport{TLSHandshakeTimeout: 200 * time.Millisecond}
			defer impatient.CloseIdleConnections()
			client := talk(t, startNodes(t, Node{URL: first, Transport: impatient}, Node{URL: second.URL, Transport: impatient}))
			for i := range 2 {
				client.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"ping"}`, i))
				client.expect(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":"ping"}`, i))
			}
			client.end()
			if logs := client.logs.String(); strings.Count(logs, "cannot be reached") != 1 {
				t.Errorf("stderr: %s\nwant the first node tried once", logs)
			}
		})
	}
}

// TestNoSecondAttempt has a first node that took the request and went away: the second must not be
// asked, and the first one stays the one in use.
func TestNoSecondAttempt(t *testing.T) {
	var calls atomic.Int32
	first := scripted(t, func(w http.ResponseWriter, _ *http.Request, m message) {
		if calls.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		answerJSON(w, http.StatusOK, result(m, `"first"`))
	})
	second := scripted(t, func(http.ResponseWriter, *http.Request, message) {
		t.Error("the request was repeated at the second node")
	})
	client := connect(t, first.URL, second.URL)
	client.send(`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`)
	client.expectFailure("1", codeBroken, "may have been done")
	client.send(`{"jsonrpc":"2.0","id":2,"method":"tools/call"}`)
	client.expect(`{"jsonrpc":"2.0","id":2,"result":"first"}`)
	client.end()
}

func TestNoNodeAnswers(t *testing.T) {
	a, b := closedPort(t), closedPort(t)
	client := connect(t, a, b)
	client.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	code, text := client.failure("1")
	if code != codeUnreachable || !strings.Contains(text, a) || !strings.Contains(text, b) || !strings.Contains(text, "SALLYPORT_CACERT") || strings.Contains(text, "\n") {
		t.Errorf("error %d %q, want both addresses and what to check", code, text)
	}
	client.send(`{"jsonrpc":"2.0","method":"notifications/x"}`)
	client.end()
}

func TestNoConnection(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errors.New("refused")}
	read := &net.OpError{Op: "read", Err: errors.New("reset")}
	cases := map[string]struct {
		err  error
		want bool
	}{
		"dial":                          {fmt.Errorf("x: %w", dial), true},
		"name":                          {&net.DNSError{}, true},
		"dial for want of a name":       {&net.OpError{Op: "dial", Err: &net.DNSError{}}, true},
		"certificate":                   {&tls.CertificateVerificationError{Err: errors.New("x")}, true},
		"read":                          {read, false},
		"end of file":                   {io.EOF, false},
		"first over TCP, then anything": {fmt.Errorf("%w (and before that over HTTP/3: %w)", dial, errors.New("no answer")), true},
		"sent over TCP after a dial":    {fmt.Errorf("%w (and before that over HTTP/3: %w)", io.EOF, dial), false},
		"read after a dial":             {errors.Join(read, dial), false},
	}
	for name, c := range cases {
		if got := noConnection(c.err); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		failures   int
		asked      time.Duration
		least, top time.Duration
	}{
		{1, 0, minBackoff / 2, minBackoff},
		{1, 250 * time.Millisecond, 250 * time.Millisecond, 250 * time.Millisecond},
		{2, 250 * time.Millisecond, minBackoff, 2 * minBackoff},
		{3, time.Hour, time.Hour, time.Hour},
		{1000, 0, maxBackoff / 2, maxBackoff},
	} {
		for range 100 {
			if got := backoff(c.failures, c.asked); got < c.least || got > c.top {
				t.Errorf("backoff(%d, %v) = %v, want between %v and %v", c.failures, c.asked, got, c.least, c.top)
			}
		}
	}
}

func TestPrintedConfigHidesToken(t *testing.T) {
	config := Config{Nodes: []Node{{URL: "https://127.0.0.1", Token: crypto.SecretString(canary)}}}
	if text := fmt.Sprintf("%+v %#v", config, config); strings.Contains(text, canary) {
		t.Errorf("the token is in %s", text)
	}
}
