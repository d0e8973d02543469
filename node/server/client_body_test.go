package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

const (
	modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	callParams = `"params":{"name":"t","arguments":{},` + modernMeta + `}`
)

func nested(depth int) string {
	return strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth)
}

// TestBadBodies holds that what is not exactly one message is refused, with the reason, and reaches no upstream.
func TestBadBodies(t *testing.T) {
	f := start(t)
	u := scripted(t, bothEras, finished)
	f.static("u", u.URL, "X-Api-Key", "k")
	protocols := f.protocols()
	f.serves(protocols["HTTP/2.0"], "u")
	before := len(u.got(""))
	whole := `{"jsonrpc":"2.0","id":1,"method":"tools/call",` + callParams + `}`
	for name, c := range map[string]struct {
		body   string
		status int
		code   int
		words  string
	}{
		"empty":                      {"", 400, -32700, "the body is empty: send one"},
		"blank":                      {" \n\t ", 400, -32700, "the body is empty"},
		"cut":                        {whole[:len(whole)-1], 400, -32700, "not valid JSON"},
		"cut within a string":        {whole[:20], 400, -32700, "not valid JSON"},
		"not JSON":                   {"<html>", 400, -32700, "not valid JSON"},
		"a form":                     {"jsonrpc=2.0&id=1", 400, -32700, "not valid JSON"},
		"a string":                   {`"tools/call"`, 400, -32600, "not a JSON object"},
		"a number":                   {`7`, 400, -32600, "not a JSON object"},
		"null":                       {`null`, 400, -32600, "not a JSON object"},
		"a batch":                    {"[" + whole + "]", 400, -32600, "send one message per request"},
		"an empty batch":             {"[]", 400, -32600, "send one message per request"},
		"two messages":               {whole + whole, 400, -32700, "something behind the message"},
		"bytes behind":               {whole + "\x00", 400, -32700, "something behind the message"},
		"a byte order mark":          {"\ufeff" + whole, 400, -32700, "not valid JSON"},
		"another charset":            {strings.Replace(whole, `"t"`, "\"\xe4\"", 1), 400, -32700, "UTF-8"},
		"half a surrogate":           {strings.Replace(whole, `"t"`, `"\ud800"`, 1), 400, -32700, "surrogate"},
		"too deep":                   {strings.Replace(whole, `"arguments":{}`, `"arguments":`+nested(65), 1), 400, -32600, "deeper than 64"},
		"far too deep":               {strings.Repeat("[", 1<<20), 400, -32600, "deeper than 64"},
		"a method twice":             {strings.Replace(whole, `"id":1`, `"id":1,"method":"ping"`, 1), 400, -32700, "duplicate"},
		"a name twice":               {strings.Replace(whole, `"name":"t"`, `"name":"t","name":"u"`, 1), 400, -32700, "duplicate"},
		"a name twice, escaped":      {strings.Replace(whole, `"name":"t"`, `"name":"t","n\u0061me":"u"`, 1), 400, -32700, "duplicate"},
		"an argument twice":          {strings.Replace(whole, `"arguments":{}`, `"arguments":{"a":{"b":1,"b":2}}`, 1), 400, -32700, "duplicate"},
		"a method in another case":   {strings.Replace(whole, `"id":1`, `"id":1,"Method":"ping"`, 1), 400, -32600, "differs only in case"},
		"a name in another case":     {strings.Replace(whole, `"name":"t"`, `"name":"t","Name":"u"`, 1), 400, -32600, "differs only in case"},
		"a filter in another case":   {strings.Replace(whole, `"name":"t"`, `"name":"t","Notifications":{}`, 1), 400, -32600, "differs only in case"},
		"a filter of another type":   {strings.Replace(whole, `"name":"t"`, `"name":"t","notifications":[]`, 1), 400, -32600, "an object was expected"},
		"URIs in another case":       {strings.Replace(whole, `"name":"t"`, `"name":"t","notifications":{"resourcesubscriptions":[]}`, 1), 400, -32600, "differs only in case"},
		"URIs of another type":       {strings.Replace(whole, `"name":"t"`, `"name":"t","notifications":{"resourceSubscriptions":["a",{}]}`, 1), 400, -32602, "must be a list of strings"},
		"a reference of its own":     {strings.Replace(whole, "tools/call", "completion/complete", 1), 400, -32602, `"ref" must be of the type`},
		"JSON-RPC 1.0":               {strings.Replace(whole, "2.0", "1.0", 1), 400, -32600, `must be "2.0"`},
		"no version":                 {strings.Replace(whole, `"jsonrpc":"2.0",`, "", 1), 400, -32600, `"jsonrpc": "2.0" is missing`},
		"a number as version":        {strings.Replace(whole, `"2.0"`, `2.0`, 1), 400, -32602, `"jsonrpc" must be`},
		"an id that is null":         {strings.Replace(whole, `"id":1`, `"id":null`, 1), 400, -32600, "must be a string or an integer"},
		"an id that is a fraction":   {strings.Replace(whole, `"id":1`, `"id":1.5`, 1), 400, -32600, "must be a string or an integer"},
		"an id with exponent":        {strings.Replace(whole, `"id":1`, `"id":1e2`, 1), 400, -32600, "must be a string or an integer"},
		"an id that is true":         {strings.Replace(whole, `"id":1`, `"id":true`, 1), 400, -32600, "must be a string or an integer"},
		"an id that is an object":    {strings.Replace(whole, `"id":1`, `"id":{}`, 1), 400, -32600, "must be a string or an integer"},
		"an id that is a list":       {strings.Replace(whole, `"id":1`, `"id":[1]`, 1), 400, -32600, "must be a string or an integer"},
		"an id without end":          {strings.Replace(whole, `"id":1`, `"id":"`+strings.Repeat("x", 300)+`"`, 1), 400, -32600, "must be a string or an integer"},
		"a method that is a number":  {strings.Replace(whole, `"tools/call"`, `1`, 1), 400, -32602, `"method" must be a string`},
		"a method and a result":      {strings.Replace(whole, `"id":1`, `"id":1,"result":{}`, 1), 400, -32600, "either a method or a result"},
		"a method without end":       {strings.Replace(whole, "tools/call", strings.Repeat("m", 200), 1), 400, -32600, "more than 128"},
		"neither method nor result":  {`{"jsonrpc":"2.0","id":1}`, 400, -32600, "no method"},
		"a result and an error":      {`{"jsonrpc":"2.0","id":1,"result":{},"error":{}}`, 400, -32600, "no response either"},
		"params that are a list":     {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}`, 400, -32600, "an object was expected"},
		"a name that is a number":    {strings.Replace(whole, `"name":"t"`, `"name":1`, 1), 400, -32602, `"name" must be a string`},
		"a cursor that is a number":  {strings.Replace(whole, `"name":"t"`, `"cursor":1`, 1), 400, -32602, `"cursor" must be a string`},
		"arguments that are a list":  {strings.Replace(whole, `"arguments":{}`, `"arguments":[]`, 1), 200, 1001, "arguments must be an object"},
		"arguments that are null":    {strings.Replace(whole, `"arguments":{}`, `"arguments":null`, 1), 200, 1001, "arguments must be an object"},
		"a state that was not given": {strings.Replace(whole, `"name":"t"`, `"name":"t","requestState":"x"`, 1), 200, -32602, "call anew without it"},
	} {
		for _, proto := range []string{"HTTP/1.1", "HTTP/3.0"} {
			resp, body := f.do(protocols[proto], f.post("u", c.body, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "t"))
			a := decode(t, body)
			if resp.StatusCode != c.status || a.Error.Code != c.code || !strings.Contains(a.text(), c.words) {
				t.Errorf("%s over %s: status %d: %.300s", name, proto, resp.StatusCode, body)
			}
		}
	}
	hold(t, "a bad message reached the upstream", len(u.got("")) == before, u.got("")[before:])
	f.serves(protocols["HTTP/3.0"], "u")
}

func TestBodiesTooLargeOrCutShort(t *testing.T) {
	f := start(t)
	u := scripted(t, onlyModernEra, finished)
	f.upstream("u", u.URL)
	padded := func(size int) string {
		pattern := `{"pad":"%s"}`
		r := f.modern("u", "1", "t", fmt.Sprintf(pattern, ""))
		return fmt.Sprintf(pattern, strings.Repeat("x", size-int(r.ContentLength)))
	}
	for proto, rt := range f.protocols() {
		resp, body := f.do(rt, f.modern("u", "1", "t", padded(4<<20)))
		hold(t, proto+": a body of 4 MiB", resp.StatusCode == http.StatusOK && strings.Contains(body, "done"), resp.StatusCode, body)
		for _, known := range []bool{true, false} {
			r := f.modern("u", "1", "t", padded(4<<20+1))
			if !known {
				r.ContentLength, r.GetBody = -1, nil
			}
			resp, err := rt.RoundTrip(r)
			if err != nil {
				t.Errorf("%s: one byte more, length known: %v: %v", proto, known, err)
				continue
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.Body.Close() != nil {
				t.Fatal(err)
			}
			want(t, resp, string(body), http.StatusRequestEntityTooLarge, 0, "more than 4 MiB")
		}
		sent := len(u.got(""))
		r := f.modern("u", "1", "t", "{}")
		r.GetBody, r.Body = nil, io.NopCloser(io.MultiReader(io.LimitReader(r.Body, 50), iotest.ErrReader(io.ErrUnexpectedEOF)))
		if resp, err := rt.RoundTrip(r); err == nil {
			hold(t, proto+": a body that breaks off", resp.StatusCode == http.StatusBadRequest, resp.StatusCode)
			_ = resp.Body.Close()
		}
		f.serves(rt, "u")
		hold(t, proto+": a body that broke off reached the upstream", len(u.got("")) == sent+1)
	}
}

// TestIDsComeBackExactly holds ids of every size through the same era and across the eras, in JSON and in event streams.
func TestIDsComeBackExactly(t *testing.T) {
	f := start(t)
	stream := func(w http.ResponseWriter, s *seen) {
		if s.Method != "tools/call" {
			finished(w, s)
			return
		}
		if strings.Contains(s.Body, `"stream"`) {
			events(w)(`{"jsonrpc":"2.0","id":` + string(s.ID) + `,"result":` + done + `}`)
			return
		}
		finished(w, s)
	}
	f.upstream("new", scripted(t, onlyModernEra, stream).URL)
	f.upstream("old", scripted(t, onlyLegacyEra, stream).URL)
	rt := f.protocols()["HTTP/2.0"]
	sessions := map[string]string{"new": f.open(rt, "new"), "old": f.open(rt, "old")}
	ids := []string{`0`, `-1`, `-0`, `9007199254740993`, `-9007199254740993`, `123456789012345678901234567890`, `""`, `"1"`, `"\u0031"`, `"ü😀"`, `"a\"b\\c"`, `"null"`}
	for _, id := range ids {
		for _, upstream := range []string{"new", "old"} {
			for _, tool := range []string{"json", "stream"} {
				for era, r := range map[string]*http.Request{
					"modern": f.modern(upstream, id, tool, "{}"),
					"legacy": f.legacy(upstream, sessions[upstream], id, "tools/call", `{"name":"`+tool+`","arguments":{}}`),
				} {
					resp, body := f.do(rt, r)
					body = strings.TrimPrefix(strings.TrimPrefix(body, "event: message\n"), "data: ")
					if a := decode(t, body); resp.StatusCode != http.StatusOK || string(a.ID) != id || !strings.Contains(string(a.Result), "done") {
						t.Errorf("id %s, %s client to %s upstream, %s: status %d: %s", id, era, upstream, tool, resp.StatusCode, body)
					}
				}
			}
		}
	}
}

func TestUnknownMethodsAndTasks(t *testing.T) {
	f := start(t)
	u := scripted(t, bothEras, finished)
	f.upstream("u", u.URL)
	rt := f.protocols()["HTTP/3.0"]
	session := f.open(rt, "u")
	before := len(u.got(""))
	for _, method := range []string{"tasks/get", "tasks/list", "tasks/cancel", "tasks/result", "tools/Call", "tools/call ", "x", "rpc.discover", "sampling/createMessage", "elicitation/create", "roots/list", "initialize", "resources/subscribe", "logging/setLevel", "ping"} {
		resp, body := f.do(rt, f.message("u", "1", method, `"taskId":"1"`, "Mcp-Name", "1"))
		if strings.TrimSpace(method) != method {
			want(t, resp, body, http.StatusBadRequest, -32020, "Mcp-Method")
			continue
		}
		want(t, resp, body, http.StatusNotFound, -32601, "does not know the method")
	}
	for _, method := range []string{"tasks/get", "tasks/list", "tasks/cancel", "tasks/result", "tools/Call", "x", "sampling/createMessage", "roots/list", "server/discover", "subscriptions/listen"} {
		resp, body := f.do(rt, f.legacy("u", session, "1", method, `{}`))
		want(t, resp, body, http.StatusOK, -32601, "use a method of the protocol version")
	}
	for _, method := range []string{"notifications/tasks/status", "x", "notifications/resources/updated"} {
		resp, body := f.do(rt, f.legacy("u", session, "", method, `{}`))
		want(t, resp, body, http.StatusBadRequest, 0, "does not know the method")
	}
	resp, body := f.do(rt, f.legacy("u", session, "1", "tools/call", `{"name":"t","task":{"ttl":60000}}`))
	want(t, resp, body, http.StatusOK, -32602, "call without `task`")
	hold(t, "what nobody can decide on reached the upstream", len(u.got("")) == before, len(u.got("")))
}
