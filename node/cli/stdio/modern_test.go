package stdio

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestModernHeaders(t *testing.T) {
	cases := map[string]struct {
		method, params string
		want           map[string]string
	}{
		"list":         {"tools/list", ``, nil},
		"call":         {"tools/call", `,"name":"add","arguments":{}`, map[string]string{"Mcp-Name": "add"}},
		"prompt":       {"prompts/get", `,"name":"grüße"`, map[string]string{"Mcp-Name": "=?base64?Z3LDvMOfZQ==?="}},
		"resource":     {"resources/read", `,"uri":"file:///a b"`, map[string]string{"Mcp-Name": "file:///a b"}},
		"padded":       {"resources/read", `,"uri":" x"`, map[string]string{"Mcp-Name": "=?base64?IHg=?="}},
		"sentinel":     {"prompts/get", `,"name":"=?base64?literal?="`, map[string]string{"Mcp-Name": "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="}},
		"newline":      {"prompts/get", `,"name":"line1\nline2"`, map[string]string{"Mcp-Name": "=?base64?bGluZTEKbGluZTI=?="}},
		"task":         {"tasks/get", `,"taskId":"t1"`, map[string]string{"Mcp-Name": "t1"}},
		"other method": {"completion/complete", `,"name":"x","uri":"y"`, nil},
		"other case":   {"prompts/get", `,"NAME":"x"`, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			node := scripted(t, func(w http.ResponseWriter, r *http.Request, m message) {
				want := map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": c.method}
				maps.Copy(want, c.want)
				if got := mcpHeaders(r.Header); !maps.Equal(got, want) {
					t.Errorf("headers = %q, want %q", got, want)
				}
				answerJSON(w, http.StatusOK, result(m, `{}`))
			})
			client := connect(t, node.URL)
			client.send(modern("1", c.method, c.params))
			client.expect(`{"jsonrpc":"2.0","id":1,"result":{}}`)
			client.end()
		})
	}
}

func mcpHeaders(header http.Header) map[string]string {
	got := map[string]string{}
	for name, values := range header {
		if strings.HasPrefix(name, "Mcp-") {
			got[name] = strings.Join(values, "|")
		}
	}
	return got
}

const annotated = `{"name":"run","inputSchema":{"type":"object","properties":{
	"region":{"type":"string","x-mcp-header":"Region"},
	"limit":{"type":"integer","x-mcp-header":"Limit"},
	"dry":{"type":["boolean","null"],"x-mcp-header":"Dry-Run"},
	"where":{"type":"object","properties":{"city":{"type":"string","x-mcp-header":"City"}}},
	"x-mcp-header":{"type":"string"},
	"query":{"type":"string","default":{"x-mcp-header":"no annotation"}}}}}`

func TestParameterHeaders(t *testing.T) {
	cases := map[string]struct {
		arguments string
		want      map[string]string
	}{
		"all":         {`{"region":"us-west1","limit":42,"dry":true,"where":{"city":"Köln"},"query":"x"}`, map[string]string{"Region": "us-west1", "Limit": "42", "Dry-Run": "true", "City": "=?base64?S8O2bG4=?="}},
		"none":        {`{"query":"x"}`, nil},
		"null":        {`{"region":null,"dry":null,"where":null}`, nil},
		"no object":   {`[1]`, nil},
		"integers":    {`{"limit":-42.0}`, map[string]string{"Limit": "-42"}},
		"exponent":    {`{"limit":4.2e1}`, map[string]string{"Limit": "42"}},
		"fraction":    {`{"limit":4.5}`, nil},
		"largest":     {`{"limit":9007199254740991}`, map[string]string{"Limit": "9007199254740991"}},
		"too large":   {`{"limit":9007199254740993}`, nil},
		"huge":        {`{"limit":1e400}`, nil},
		"other types": {`{"region":["a"],"limit":"7","where":{"city":false}}`, map[string]string{"Limit": "7", "City": "false"}},
		"empty":       {`{"region":""}`, map[string]string{"Region": ""}},
		"injection":   {`{"region":"a\r\nX-Evil: 1"}`, map[string]string{"Region": "=?base64?YQ0KWC1FdmlsOiAx?="}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			node := scripted(t, func(w http.ResponseWriter, r *http.Request, m message) {
				if m.method == "tools/list" {
					answerJSON(w, http.StatusOK, result(m, `{"tools":[`+annotated+`]}`))
					return
				}
				want := map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "run"}
				for name, value := range c.want {
					want["Mcp-Param-"+name] = value
				}
				if got := mcpHeaders(r.Header); !maps.Equal(got, want) {
					t.Errorf("headers = %q, want %q", got, want)
				}
				answerJSON(w, http.StatusOK, result(m, `{}`))
			})
			client := connect(t, node.URL)
			client.send(modern("1", "tools/list", ""))
			client.next()
			client.send(modern("2", "tools/call", `,"name":"run","arguments":`+c.arguments))
			client.expect(`{"jsonrpc":"2.0","id":2,"result":{}}`)
			client.end()
		})
	}
}

func TestInvalidToolsAreLeftOut(t *testing.T) {
	properties := func(p string) string { return `{"type":"object","properties":{"a":` + p + `}}` }
	cases := map[string]struct {
		schema string
		valid  bool
	}{
		"none":             {`{"type":"object"}`, true},
		"no schema":        {`null`, true},
		"string":           {properties(`{"type":"string","x-mcp-header":"A"}`), true},
		"named so":         {`{"properties":{"x-mcp-header":{"type":"number"}}}`, true},
		"in a value":       {properties(`{"const":{"x-mcp-header":"A"}}`), true},
		"number":           {properties(`{"type":"number","x-mcp-header":"A"}`), false},
		"object":           {properties(`{"type":"object","x-mcp-header":"A"}`), false},
		"no type":          {properties(`{"x-mcp-header":"A"}`), false},
		"two types":        {properties(`{"type":["string","integer"],"x-mcp-header":"A"}`), false},
		"empty":            {properties(`{"type":"string","x-mcp-header":""}`), false},
		"not a string":     {properties(`{"type":"string","x-mcp-header":1}`), false},
		"space":            {properties(`{"type":"string","x-mcp-header":"A B"}`), false},
		"newline":          {properties(`{"type":"string","x-mcp-header":"A\r\nB"}`), false},
		"twice":            {`{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}`, false},
		"root":             {`{"type":"string","x-mcp-header":"A"}`, false},
		"items":            {properties(`{"type":"array","items":{"type":"string","x-mcp-header":"A"}}`), false},
		"properties below": {properties(`{"items":{"properties":{"b":{"type":"string","x-mcp-header":"A"}}}}`), false},
		"anyOf":            {properties(`{"anyOf":[{"type":"string","x-mcp-header":"A"}]}`), false},
		"then":             {`{"then":` + properties(`{"type":"string","x-mcp-header":"A"}`) + `}`, false},
		"$defs":            {`{"$defs":{"a":{"type":"string","x-mcp-header":"A"}}}`, false},
		"deep":             {strings.Repeat(`{"items":`, 100) + properties(`{"x-mcp-header":"A"}`) + strings.Repeat("}", 100), false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tool := `{"name":"t", "inputSchema":` + c.schema + `}`
			const before, first, last = `{"ttlMs":5, "tools" : [`, `{"name":"a", "big":9007199254740993}`, `{"vendor":1.0,"name":"z"}`
			node := scripted(t, func(w http.ResponseWriter, _ *http.Request, m message) {
				answerJSON(w, http.StatusOK, result(m, before+first+`,`+tool+`,`+last+`] }`))
			})
			client := connect(t, node.URL)
			client.send(modern("1", "tools/list", ""))
			want := before + first + `,` + last + `] }`
			if c.valid {
				want = before + first + `,` + tool + `,` + last + `] }`
			}
			client.expect(`{"jsonrpc":"2.0","id":1,"result":` + want + `}`)
			client.end()
			if logs := client.logs.String(); strings.Contains(logs, "left out") == c.valid {
				t.Errorf("stderr: %s", logs)
			}
		})
	}
}

// TestHeaderMismatchIsHealed has a client that calls a tool without having listed the tools.
func TestHeaderMismatchIsHealed(t *testing.T) {
	seen := newJournal()
	node := scripted(t, func(w http.ResponseWriter, r *http.Request, m message) {
		seen.add("%s %s", m.method, r.Header.Get("Mcp-Param-Region"))
		switch {
		case m.method == "tools/list" && text(m.params["cursor"]) == "":
			if _, ok := m.meta()["progressToken"]; ok || m.modernVersion() != "2026-07-28" {
				t.Errorf("_meta = %s", m.params["_meta"])
			}
			answerJSON(w, http.StatusOK, result(m, `{"tools":[{"name":"other"}],"nextCursor":"2"}`))
		case m.method == "tools/list":
			answerJSON(w, http.StatusOK, result(m, `{"tools":[`+annotated+`]}`))
		case r.Header.Get("Mcp-Param-Region") == "":
			answerJSON(w, http.StatusBadRequest, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32020,"message":"Mcp-Param-Region is missing"}}`, m.id))
		default:
			answerJSON(w, http.StatusOK, result(m, `{}`))
		}
	})
	client := connect(t, node.URL)
	client.send(modern("1", "tools/call", `,"name":"run","arguments":{"region":"eu"}`))
	client.expect(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	// Nothing can be learnt for a tool that has no such parameter.
	client.send(modern("2", "tools/call", `,"name":"unknown"`))
	client.expect(`{"jsonrpc":"2.0","id":2,"error":{"code":-32020,"message":"Mcp-Param-Region is missing"}}`)
	client.end()
	want := []string{
		"tools/call ", "tools/list ", "tools/list ", "tools/call eu",
		"tools/call ", "tools/list ", "tools/list ",
	}
	if got := seen.all(); !slices.Equal(got, want) {
		t.Errorf("the node saw %q, want %q", got, want)
	}
}

func TestModernCancellation(t *testing.T) {
	seen := newJournal()
	node := scripted(t, func(w http.ResponseWriter, r *http.Request, m message) {
		seen.add("begin %s", m.method)
		if m.method == "ping" {
			answerJSON(w, http.StatusOK, result(m, `{}`))
			return
		}
		answerStream(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n")
		<-r.Context().Done()
		seen.add("end %s", m.method)
	})
	for name, method := range map[string]string{"call": "tools/call", "subscription": "subscriptions/listen"} {
		t.Run(name, func(t *testing.T) {
			client := connect(t, node.URL)
			client.send(modern(`"a"`, method, ""))
			client.expect(`{"jsonrpc":"2.0","method":"notifications/x"}`)
			client.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"\u0061"}}`)
			seen.waitFor(t, "end "+method)
			client.send(modern(`"a"`, "ping", "")) // the id is free again
			client.expect(`{"jsonrpc":"2.0","id":"a","result":{}}`)
			client.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"b"}}`)
			client.end()
			if slices.Contains(seen.all(), "begin notifications/cancelled") {
				t.Error("notifications/cancelled was sent, which modern HTTP does not have")
			}
		})
	}
}

func TestSubscriptionEndsWithStdin(t *testing.T) {
	ended := make(chan struct{})
	node := scripted(t, func(w http.ResponseWriter, r *http.Request, _ message) {
		answerStream(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\"}\n\n")
		<-r.Context().Done()
		close(ended)
	})
	client := connect(t, node.URL)
	client.send(modern("1", "subscriptions/listen", ""))
	client.next()
	client.end()
	<-ended
}

func TestBothErasInOneProcess(t *testing.T) {
	node := legacyNode(t, func(w http.ResponseWriter, r *http.Request, m message) {
		switch {
		case m.method == "server/discover":
			answerJSON(w, http.StatusBadRequest, `{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"no"}}`)
		case m.kind == request:
			session, _ := json.Marshal(r.Header.Get("Mcp-Session-Id"))
			answerJSON(w, http.StatusOK, result(m, string(session)))
		default:
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	})
	client := connect(t, node.URL)
	client.send(modern("0", "server/discover", ""))
	client.expectFailure("0", -32022, "no")
	client.initialize()
	client.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	client.expect(`{"jsonrpc":"2.0","id":1,"result":"session-1"}`)
	client.send(modern("2", "tools/list", ""))
	client.expect(`{"jsonrpc":"2.0","id":2,"result":""}`)
	client.end()
}
