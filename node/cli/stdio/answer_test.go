package stdio

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestAnswers(t *testing.T) {
	ok := func(body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, http.StatusOK, body) }
	}
	stream := func(events ...string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { answerStream(w, events...) }
	}
	status := func(code int, mediaType, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	const answer = `{"jsonrpc":"2.0","id":7,"result":{}}`
	cases := map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		id     string // 7 if empty
		lines  []string
		code   int // of the error that follows the lines
		part   string
	}{
		"JSON":              {answer: ok(answer), lines: []string{answer}},
		"with newlines":     {answer: ok("{\n  \"jsonrpc\": \"2.0\",\r\n \"id\": 7, \"result\": {\"a\": \"x\\ny  z\", \"n\": 1.50e+3}\n}\n"), lines: []string{`{"jsonrpc":"2.0","id":7,"result":{"a":"x\ny  z","n":1.50e+3}}`}},
		"kept as it is":     {answer: ok(`{"id":7,  "jsonrpc":"2.0","result":{"big":9007199254740993,"u":"\u00e9é<","x":1,"x":2},"vendor":true}`), lines: []string{`{"id":7,  "jsonrpc":"2.0","result":{"big":9007199254740993,"u":"\u00e9é<","x":1,"x":2},"vendor":true}`}},
		"large id":          {id: "9007199254740993", answer: ok(`{"jsonrpc":"2.0","id":9007199254740993,"result":{}}`), lines: []string{`{"jsonrpc":"2.0","id":9007199254740993,"result":{}}`}},
		"neighbour of it":   {id: "9007199254740993", answer: ok(`{"jsonrpc":"2.0","id":9007199254740992,"result":{}}`), code: codeBroken, part: "no MCP response"},
		"fraction":          {id: "1.5", answer: ok(`{"jsonrpc":"2.0","id":1.5,"result":{}}`), lines: []string{`{"jsonrpc":"2.0","id":1.5,"result":{}}`}},
		"string id":         {id: `"7"`, answer: ok(`{"jsonrpc":"2.0","id":"\u0037","result":{}}`), lines: []string{`{"jsonrpc":"2.0","id":"\u0037","result":{}}`}},
		"number for string": {id: `"7"`, answer: ok(answer), code: codeBroken, part: "no MCP response"},
		"error":             {answer: ok(`{"jsonrpc":"2.0","id":7,"error":{"code":1001,"message":"denied"}}`), lines: []string{`{"jsonrpc":"2.0","id":7,"error":{"code":1001,"message":"denied"}}`}},
		"error with status": {answer: status(400, "application/json", `{"jsonrpc":"2.0","id":7,"error":{"code":-32022,"message":"no"}}`), lines: []string{`{"jsonrpc":"2.0","id":7,"error":{"code":-32022,"message":"no"}}`}},
		"error, null id":    {answer: status(400, "application/json", `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}`), lines: []string{`{"jsonrpc":"2.0","id":7,"error":{"code":-32700,"message":"no"}}`}},
		"error, no id":      {answer: status(403, "application/json", `{"jsonrpc":"2.0","error":{"code":-32000,"message":"origin"}}`), lines: []string{`{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"origin"}}`}},
		"result, null id":   {answer: ok(`{"jsonrpc":"2.0","id":null,"result":{}}`), code: codeBroken, part: "no MCP response"},
		"batch":             {answer: ok("[" + answer + "]"), code: codeBroken, part: "no MCP response"},
		"not JSON":          {answer: ok("<html>"), code: codeBroken, part: `content type "application/json"`},
		"two texts":         {answer: ok(answer + answer), code: codeBroken, part: "no MCP response"},
		"HTML":              {answer: status(200, "text/html; charset=utf-8", "<html>hello</html>"), code: codeBroken, part: `"text/html"`},
		"accepted only":     {answer: status(202, "", ""), code: codeBroken, part: "202 Accepted"},
		"too large":         {answer: ok(`{"jsonrpc":"2.0","id":7,"result":"` + strings.Repeat("x", maxMessage) + `"}`), code: codeBroken, part: "longer than"},
		"cut": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			answerJSON(w, 200, answer)
		}, code: codeBroken, part: "broke off"},
		"hung up": {answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, code: codeBroken, part: "may have been done"},

		"stream":                   {answer: stream("event: message\ndata: " + answer + "\n\n"), lines: []string{answer}},
		"stream, CRLF":             {answer: stream("data: " + answer + "\r\n\r\n"), lines: []string{answer}},
		"stream, several lines":    {answer: stream(":hi\n\nid: 1\ndata:\n\n", "data: {\"jsonrpc\":\"2.0\",\"id\":7,\ndata:   \"result\":{}}\n\n"), lines: []string{answer}},
		"stream with notification": {answer: stream("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progress\":1}}\n\n", "event: ping\ndata: x\n\n", "data: "+answer+"\n\n"), lines: []string{`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}`, answer}},
		"stream with request":      {answer: stream("data: {\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}\n\n", "data: "+answer+"\n\n"), lines: []string{`{"jsonrpc":"2.0","id":7,"method":"ping"}`, answer}},
		"stream, error, no id":     {answer: stream("data: {\"jsonrpc\":\"2.0\",\"error\":{\"code\":1,\"message\":\"x\"}}\n\n"), lines: []string{`{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"x"}}`}},
		"stream, other answer":     {answer: stream("data: {\"jsonrpc\":\"2.0\",\"id\":8,\"result\":{}}\n\n", "data: "+answer+"\n\n"), lines: []string{answer}},
		"stream without answer":    {answer: stream("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n"), lines: []string{`{"jsonrpc":"2.0","method":"notifications/message"}`}, code: codeBroken, part: "ended before the response"},
		"stream, cut event":        {answer: stream("data: " + answer), code: codeBroken, part: "ended before the response"},
		"stream, not JSON":         {answer: stream("data: hello\n\n"), code: codeBroken, part: "not an MCP message"},
		"stream, too large":        {answer: stream("data: " + strings.Repeat("x", maxMessage+1) + "\n\n"), code: codeBroken, part: "longer than"},
		"stream that goes on": {answer: func(w http.ResponseWriter, r *http.Request) {
			answerStream(w, "data: "+answer+"\n\n")
			<-r.Context().Done()
		}, lines: []string{answer}},

		"401":              {answer: status(401, "text/plain", "revoked: "+canary), code: codeToken, part: "sallyport token issue"},
		"403 problem":      {answer: status(403, "application/problem+json", `{"title":"Forbidden","detail":"agent has\n\u001b[31m no role"}`), code: codeHTTP, part: "403 Forbidden: agent has  [31m no role"},
		"404":              {answer: status(404, "application/problem+json", `{"title":"no upstream"}`), code: codeHTTP, part: "check the name of the upstream"},
		"413":              {answer: status(413, "", ""), code: codeHTTP, part: "413 Request Entity Too Large"},
		"500 HTML":         {answer: status(500, "text/html", "<h1>oops</h1>"), code: codeHTTP, part: "answered 500 Internal Server Error"},
		"503":              {answer: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "3"); w.WriteHeader(503) }, code: codeHTTP, part: "503 Service Unavailable"},
		"302":              {answer: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, code: codeHTTP, part: "not followed"},
		"error of another": {answer: status(400, "application/json", `{"jsonrpc":"2.0","id":8,"error":{"code":1,"message":"for 8"}}`), code: codeHTTP, part: "400 Bad Request: for 8"},
		"long detail":      {answer: status(400, "text/plain", strings.Repeat("é", 5000)), code: codeHTTP, part: strings.Repeat("é", maxDetail) + "..."},
	}
	for name, c := range cases {
		for era, request := range map[string]func(id string) string{
			"legacy": func(id string) string { return `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/list"}` },
			"modern": func(id string) string { return modern(id, "tools/list", "") },
		} {
			if era == "modern" && name == "stream with request" {
				continue // TestModernStreamHasNoRequests
			}
			t.Run(name+", "+era, func(t *testing.T) {
				node := scripted(t, func(w http.ResponseWriter, r *http.Request, _ message) {
					if r.URL.Path != "/mcp/x" {
						t.Errorf("a redirect was followed to %s", r.URL)
					}
					c.answer(w, r)
				})
				client := connect(t, node.URL+"/mcp/x")
				id := c.id
				if id == "" {
					id = "7"
				}
				client.send(request(id))
				for _, line := range c.lines {
					client.expect(line)
				}
				if c.code != 0 {
					client.expectFailure(id, c.code, c.part)
				}
				client.end()
			})
		}
	}
}

func TestModernStreamHasNoRequests(t *testing.T) {
	node := scripted(t, func(w http.ResponseWriter, _ *http.Request, m message) {
		answerStream(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"roots/list\"}\n\n", "data: "+result(m, "{}")+"\n\n")
	})
	client := connect(t, node.URL)
	client.send(modern("1", "tools/list", ""))
	client.expect(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	client.end()
}

func TestNoTokenKnown(t *testing.T) {
	node := scripted(t, func(w http.ResponseWriter, r *http.Request, _ message) {
		if r.Header.Get("Authorization") != "" {
			t.Error("an Authorization header without a token")
		}
		w.WriteHeader(http.StatusUnauthorized)
	})
	client := talk(t, startNodes(t, Node{URL: node.URL, Transport: http.DefaultTransport}))
	client.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	client.expectFailure("1", codeToken, "wants a token and none is known")
	client.end()
}

func TestFailedNotificationIsNotAnswered(t *testing.T) {
	node := scripted(t, func(w http.ResponseWriter, _ *http.Request, _ message) {
		answerJSON(w, http.StatusBadRequest, `{"jsonrpc":"2.0","error":{"code":1,"message":"not that one"}}`)
	})
	client := connect(t, node.URL)
	client.send(`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)
	client.send(`{"jsonrpc":"2.0","id":"of the server","result":{}}`)
	client.send(`{"jsonrpc":"2.0","method":"notifications/x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`)
	client.end()
	if logs := client.logs.String(); strings.Count(logs, "not delivered") != 3 || !strings.Contains(logs, "not that one") {
		t.Errorf("stderr: %s\nwant a line for each message", logs)
	}
}
