package stdio

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"testing"
)

func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/call","params":{"name":"x","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`,
		"{\r\n\"jsonrpc\":\"2.0\",\n\"id\":null,\"error\":{\"code\":1,\"message\":\"\\n\"}}",
		`{"method":"a","id":1.5e3,"id":"b"}`, `[]`, `{"result":`, "\u2028{}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMessage(data)
		if err != nil {
			return
		}
		if bytes.ContainsAny(m.raw, "\r\n") || !json.Valid(m.raw) {
			t.Fatalf("%q cannot be a line", m.raw)
		}
		var before, after bytes.Buffer
		if json.Compact(&before, data) != nil || json.Compact(&after, m.raw) != nil || before.String() != after.String() {
			t.Errorf("%q became %q", data, m.raw)
		}
		if m.kind == request && !json.Valid(failed(1, "x").response(m.id)) {
			t.Errorf("the id %q does not fit into an answer", m.id)
		}
		_, _ = m.modernVersion(), mirroredName(m)
	})
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n",
		":x\r\n\r\nid: 1\nretry: 5\ndata:\n\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"method\":\"a\"}\n\n",
		`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}`, `{"title":"x","detail":"y"}`, "data: x",
	} {
		f.Add([]byte(seed), 200, "text/event-stream")
		f.Add([]byte(seed), 404, "application/problem+json")
		f.Add([]byte(seed), 200, "application/json; charset=utf-8")
	}
	f.Fuzz(func(t *testing.T, body []byte, status int, contentType string) {
		resp := &http.Response{
			StatusCode: status,
			Header:     http.Header{"Content-Type": {contentType}},
			Body:       io.NopCloser(bytes.NewReader(body)),
			Request:    &http.Request{URL: &url.URL{Scheme: "https", Host: "127.0.0.1"}},
		}
		var at cursor
		answered := false
		err := readAnswer(resp, &at, func(m message) bool {
			if answered {
				t.Error("a message after the answer")
			}
			if bytes.ContainsAny(m.raw, "\r\n") || !json.Valid(m.raw) {
				t.Errorf("%q cannot be a line", m.raw)
			}
			answered = m.answers(json.RawMessage("1"))
			return answered
		})
		if answered != (err == nil) {
			t.Errorf("answered: %t, error: %v", answered, err)
		}
		if at.lastID != "" && !usableHeader(at.lastID) {
			t.Errorf("the event id %q cannot be sent back", at.lastID)
		}
		var f *failure
		if err != nil && !errors.Is(err, errUnanswered) && (!errors.As(err, &f) || !json.Valid(f.response(nil))) {
			t.Errorf("error %v cannot be told", err)
		}
	})
}

func FuzzTools(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[`+annotated+`,{"name":"bad","inputSchema":{"x-mcp-header":1}}]}}`), []byte(`{"region":"a","limit":1e2}`))
	f.Add([]byte(`{"result":{"tools":[]},"id":1,"result":{"tools":[{"inputSchema":{"x-mcp-header":1}}],"tools":[null]}}`), []byte(`[]`))
	f.Fuzz(func(t *testing.T, list, arguments []byte) {
		answer, err := parseMessage(list)
		if err != nil || answer.result == nil {
			return
		}
		r := &relay{log: slog.New(slog.DiscardHandler)}
		filtered := r.learn(answer)
		if !json.Valid(filtered.raw) || !bytes.Equal(filtered.id, answer.id) {
			t.Errorf("%q became %q", answer.raw, filtered.raw)
		}
		if again := r.learn(filtered); !bytes.Equal(again.raw, filtered.raw) {
			t.Errorf("%q became %q when filtered again", filtered.raw, again.raw)
		}
		if !json.Valid(arguments) {
			return
		}
		for tool := range r.tools.byTool {
			name, err := json.Marshal(tool)
			if err != nil {
				t.Fatal(err)
			}
			header := http.Header{}
			r.tools.mirror(header, message{params: map[string]json.RawMessage{"name": name, "arguments": arguments}})
			for name, values := range header {
				if values[0] != "" && !usableHeader(values[0]) {
					t.Errorf("%s: %q is no header value", name, values)
				}
			}
		}
	})
}
