package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"sallyport/crypto"
	"sallyport/node/mcp"
)

// endpointOf serves MCP in the way of answer, after checking what every request must have.
func endpointOf(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, m *mcp.Message)) mcpCaller {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		m, err := mcp.Parse(body)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			return
		}
		if err := mcp.CheckHeaders(r.Header, m); err != nil || r.Header.Get("Authorization") != "Bearer spt_x" {
			t.Errorf("%s: %v, authorization %q", body, err, r.Header.Get("Authorization"))
		}
		answer(w, r, m)
	}))
	t.Cleanup(server.Close)
	return mcpCaller{transport: server.Client().Transport, endpoint: server.URL, token: crypto.SecretString("spt_x"), version: "test"}
}

func fixedAnswer(status int, contentType, body string) func(http.ResponseWriter, *http.Request, *mcp.Message) {
	return func(w http.ResponseWriter, _ *http.Request, _ *mcp.Message) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestCallToolReadsAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		status            int
		contentType, body string
		want, wantErr     string
	}{
		"JSON":          {200, "application/json", `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`, `{"content":[]}`, ""},
		"events":        {200, "text/event-stream; charset=utf-8", "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":1}}\n\n", `{"a":1}`, ""},
		"denied":        {200, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":1001,"message":"denied","data":{"advice":"ask for it"}}}`, "", "denied; ask for it"},
		"error":         {400, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"bad params","data":[1]}}`, "", "bad params"},
		"problem":       {401, "application/problem+json", `{"detail":"this token is revoked"}`, "", "this token is revoked"},
		"a page":        {502, "text/html", `<html>`, "", "no answer of an MCP endpoint (502 Bad Gateway)"},
		"empty stream":  {200, "text/event-stream", "", "", "the stream ended without an answer"},
		"broken stream": {200, "text/event-stream", "data: x", "", "read the answer"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := endpointOf(t, fixedAnswer(test.status, test.contentType, test.body)).callTool(t.Context(), "tool", jsontext.Value("{}"))
			if test.wantErr == "" && (err != nil || string(got) != test.want) {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
			if test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)) {
				t.Errorf("got %s, %v, want an error with %q", got, err, test.wantErr)
			}
		})
	}
}

func TestCallToolRepeatsArgumentsInHeaders(t *testing.T) {
	const page1 = `{"tools":[{"name":"other","inputSchema":{}}],"nextCursor":"2"}`
	const page2 = `{"tools":[{"name":"tool","inputSchema":{"properties":{
		"region":{"type":"string","x-mcp-header":"Region"},"plain":{"type":"string"},"absent":{"type":"string","x-mcp-header":"Absent"},
		"deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"Deep-N"}}}}}}]}`
	calls := 0
	caller := endpointOf(t, func(w http.ResponseWriter, r *http.Request, m *mcp.Message) {
		answer := func(body string) { fixedAnswer(200, "application/json", body)(w, r, m) }
		switch {
		case m.Method == "tools/list" && m.Cursor == "":
			answer(string(mcp.ResultBody(m.ID, jsontext.Value(page1))))
		case m.Method == "tools/list":
			answer(string(mcp.ResultBody(m.ID, jsontext.Value(page2))))
		case r.Header.Get("Mcp-Param-Region") == "":
			calls++
			fixedAnswer(400, "application/json", string(mcp.ErrorBody(m.ID, mcp.CodeHeaderMismatch, "Mcp-Param-Region is missing", nil)))(w, r, m)
		default:
			calls++
			headers, err := json.Marshal(map[string]string{"region": r.Header.Get("Mcp-Param-Region"), "n": r.Header.Get("Mcp-Param-Deep-N"), "absent": r.Header.Get("Mcp-Param-Absent")})
			if err != nil {
				t.Error(err)
			}
			answer(string(mcp.ResultBody(m.ID, headers)))
		}
	})
	got, err := caller.callTool(t.Context(), "tool", jsontext.Value(`{"region":"Zürich","plain":"x","deep":{"n":9007199254740993}}`))
	want := `{"absent":"","n":"9007199254740993","region":"` + mcp.EncodeHeaderValue("Zürich") + `"}`
	if err != nil || string(got) != want || calls != 2 {
		t.Errorf("after %d calls got %s, %v, want %s", calls, got, err, want)
	}
}
