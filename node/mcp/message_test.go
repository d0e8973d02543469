package mcp

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestParse(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/call","params":{"name":"query","arguments":{"limit":1e2},` +
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":"p","x":[1,{"y":2}]}}}`
	m, err := Parse([]byte(call))
	if err != nil {
		t.Fatal(err)
	}
	if m.Kind != Request || string(m.ID) != "9007199254740993" || m.Name != "query" || string(m.Arguments) != `{"limit":1e2}` ||
		m.Meta.ProtocolVersion != Version20260728 || string(m.Meta.ProgressToken) != `"p"` || m.Item() != "query" {
		t.Fatalf("parsed %+v", m)
	}
	if !strings.HasPrefix(string(m.Meta.Raw), `{"io.model`) || !strings.HasPrefix(string(m.Params), `{"name"`) || !strings.HasSuffix(string(m.Params), `}}`) {
		t.Fatalf("raw parts: params %s, meta %s", m.Params, m.Meta.Raw)
	}
	for text, kind := range map[string]Kind{
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`:                 Notification,
		`{"jsonrpc":"2.0","id":"a\"b","method":"ping"}`:                          Request,
		`{"jsonrpc":"2.0","id":-3,"method":"ping","params" : {} }` + " \n":       Request,
		`{"jsonrpc":"2.0","id":1,"result":{}}`:                                   Response,
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}`:      Response,
		`{"jsonrpc":"2.0","id":1,"\u006dethod":"ping","extra":{"METHOD":1}}`:     Request,
		`{"jsonrpc":"2.0","id":1,"method":"x","params":{"argument":{"Name":1}}}`: Request,
	} {
		if m, err := Parse([]byte(text)); err != nil || m.Kind != kind {
			t.Errorf("%s: kind %v, %v", text, m, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	deep := strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)
	for _, c := range []struct {
		name, body string
		code       int
		says       string
	}{
		{"empty", "", CodeParse, "empty"},
		{"spaces", " \n ", CodeParse, "empty"},
		{"no JSON", "hello", CodeParse, "not valid JSON"},
		{"HTML", "<html>", CodeParse, "not valid JSON"},
		{"cut", `{"jsonrpc":"2.0","id":1,"method":"ping"`, CodeParse, "not valid JSON"},
		{"batch", `[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, CodeInvalidRequest, "batches"},
		{"string", `"ping"`, CodeInvalidRequest, "not a JSON object"},
		{"trailing", `{"jsonrpc":"2.0","id":1,"method":"ping"}{}`, CodeParse, "behind"},
		{"duplicate", `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`, CodeParse, "duplicate"},
		{"duplicate by escape", `{"jsonrpc":"2.0","id":1,"method":"ping","\u006dethod":"x"}`, CodeParse, "duplicate"},
		{"duplicate in arguments", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"a":1,"a":2}}}`, CodeParse, "duplicate"},
		{"case of method", `{"jsonrpc":"2.0","id":1,"method":"ping","Method":"x"}`, CodeInvalidRequest, "differs only in case"},
		{"case of name", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","NAME":"b"}}`, CodeInvalidRequest, "differs only in case"},
		{"depth", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":` + deep + `}}`, CodeInvalidRequest, "deeper"},
		{"UTF-8", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", CodeParse, "not valid JSON"},
		{"null id", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, CodeInvalidRequest, `"id"`},
		{"fraction id", `{"jsonrpc":"2.0","id":1.5,"method":"ping"}`, CodeInvalidRequest, `"id"`},
		{"exponent id", `{"jsonrpc":"2.0","id":1e3,"method":"ping"}`, CodeInvalidRequest, `"id"`},
		{"boolean id", `{"jsonrpc":"2.0","id":true,"method":"ping"}`, CodeInvalidRequest, `"id"`},
		{"array id", `{"jsonrpc":"2.0","id":[1],"method":"ping"}`, CodeInvalidRequest, `"id"`},
		{"object id", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, CodeInvalidRequest, `"id"`},
		{"huge id", `{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 300) + `","method":"ping"}`, CodeInvalidRequest, `"id"`},
		{"version", `{"jsonrpc":"1.0","id":1,"method":"ping"}`, CodeInvalidRequest, "2.0"},
		{"no version", `{"id":1,"method":"ping"}`, CodeInvalidRequest, "2.0"},
		{"nothing", `{"jsonrpc":"2.0","id":1}`, CodeInvalidRequest, "no method"},
		{"method and result", `{"jsonrpc":"2.0","id":1,"method":"x","result":{}}`, CodeInvalidRequest, "either"},
		{"params array", `{"jsonrpc":"2.0","id":1,"method":"x","params":[1]}`, CodeInvalidRequest, "object was expected"},
		{"name number", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}`, CodeInvalidParams, "name"},
		{"long method", `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("m", 200) + `"}`, CodeInvalidRequest, "method"},
	} {
		_, err := Parse([]byte(c.body))
		var se *SyntaxError
		if !errors.As(err, &se) || se.Code != c.code || !strings.Contains(se.Text, c.says) {
			t.Errorf("%s: %v, want code %d and %q", c.name, err, c.code, c.says)
		}
	}
}

func TestHeaderValues(t *testing.T) {
	for v, want := range map[string]string{
		"query": "query", "": "", "a b": "a b", " a": "=?base64?IGE=?=", "ä": "=?base64?w6Q=?=", "a\r\nX: y": "=?base64?YQ0KWDogeQ==?=",
		"=?base64?YQ==?=": "=?base64?PT9iYXNlNjQ/WVE9PT89?=",
	} {
		got := EncodeHeaderValue(v)
		back, err := DecodeHeaderValue(got)
		if got != want || err != nil || back != v {
			t.Errorf("%q: encoded %q, decoded %q, %v; want %q", v, got, back, err, want)
		}
	}
	for _, bad := range []string{"=?base64?YQ=?=", "=?base64?!!!!?=", "=?base64?/w==?=", "ä", "a\x00"} {
		if v, err := DecodeHeaderValue(bad); !errors.Is(err, ErrHeaderValue) {
			t.Errorf("%q was read as %q, %v", bad, v, err)
		}
	}
}

func TestCheckHeaders(t *testing.T) {
	m, err := Parse([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ä","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]string{HeaderVersion: Version20260728, HeaderMethod: "tools/call", HeaderName: "=?base64?w6Q=?="}
	for _, c := range []struct{ name, header, value, says string }{
		{"as it should be", "", "", ""},
		{"other version", HeaderVersion, "2025-11-25", "Version"},
		{"no version", HeaderVersion, "", "missing"},
		{"other method", HeaderMethod, "Tools/Call", "Mcp-Method"},
		{"no method", HeaderMethod, "", "missing"},
		{"other name", HeaderName, "a", "Mcp-Name"},
		{"no name", HeaderName, "", "missing"},
		{"bad encoding", HeaderName, "=?base64?%?=", "not encoded"},
	} {
		h := http.Header{}
		for k, v := range good {
			h.Set(k, v)
		}
		if c.header != "" {
			h.Del(c.header)
			if c.value != "" {
				h.Set(c.header, c.value)
			}
		}
		err := CheckHeaders(h, m)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	h := http.Header{HeaderVersion: {Version20260728}, HeaderMethod: {"tools/call", "ping"}, HeaderName: {"=?base64?w6Q=?="}}
	if err := CheckHeaders(h, m); err == nil {
		t.Error("a header that is there twice was taken")
	}
}

func TestEvents(t *testing.T) {
	in := ": hello\n\nid: 1\ndata:\n\nevent: message\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nretry: 10\ndata:x\n\n"
	r := NewEventReader(strings.NewReader(in), 100)
	var out []byte
	for range 3 {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		out = AppendEvent(out, e)
	}
	if _, err := r.Next(); err == nil || err.Error() != "EOF" {
		t.Fatalf("at the end: %v", err)
	}
	want := "id: 1\ndata: \n\nevent: message\ndata: {\"a\":\ndata: 1}\n\nretry: 10\ndata: x\n\n"
	if string(out) != want {
		t.Fatalf("events came out as %q", out)
	}
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"cut in a line":   {"data: x", ErrEventCut},
		"cut in an event": {"data: x\n", ErrEventCut},
		"one long line":   {"data: " + strings.Repeat("x", 300) + "\n\n", ErrEventSize},
		"many lines":      {strings.Repeat("data: xxxxxxxx\n", 30) + "\n", ErrEventSize},
	} {
		if _, err := NewEventReader(strings.NewReader(c.in), 100).Next(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewEventReader(strings.NewReader("data: a\rdata: b\n\n"), 100).Next(); err == nil {
		t.Error("a bare carriage return was taken")
	}
}

func copyReply(t testing.TB, in string, id string, chunk int) (string, Reply, error) {
	t.Helper()
	var out bytes.Buffer
	c := NewReplyCopier(&out, jsontext.Value(id), func(s string) (string, error) { return "<" + s + ">", nil })
	for b := []byte(in); len(b) > 0; {
		n := min(chunk, len(b))
		if _, err := c.Write(b[:n]); err != nil {
			return out.String(), c.Reply, err
		}
		b = b[n:]
	}
	return out.String(), c.Reply, c.Close()
}

func TestReplyCopier(t *testing.T) {
	for _, chunk := range []int{1, 3, 7, 1 << 20} {
		for _, c := range []struct {
			in, out string
			reply   Reply
		}{
			{`{"jsonrpc":"2.0","id":7,"result":{"content":[{"isError":true,"requestState":"x"}],"isError":false}}`, "", Reply{HasResult: true}},
			{` { "result" : { "isError" : true , "resultType" : "complete" } , "id" : 7 , "jsonrpc":"2.0" } ` + "\n", "", Reply{HasResult: true, ToolError: true, ResultType: "complete"}},
			{`{"id":7,"error":{"code":-32602,"message":"}\"{"},"jsonrpc":"2.0"}`, "", Reply{IsError: true, Code: "-32602"}},
			{
				`{"id":7,"result":{"resultType":"input_required","requestState":"a\"\u00e4","inputRequests":{}}}`,
				`{"id":7,"result":{"resultType":"input_required","requestState":"<a\"ä>","inputRequests":{}}}`,
				Reply{HasResult: true, ResultType: "input_required"},
			},
			{`{"id":7,"result":{"request\u0053tate":"s"}}`, `{"id":7,"result":{"request\u0053tate":"<s>"}}`, Reply{HasResult: true}},
			{`{"id":7,"result":[{"requestState":"s"}]}`, "", Reply{HasResult: true}},
			{`{"id":null,"error":{"code":-32700}}`, `{"id":7,"error":{"code":-32700}}`, Reply{IsError: true, Code: "-32700"}},
		} {
			if c.out == "" {
				c.out = c.in
			}
			out, reply, err := copyReply(t, c.in, "7", chunk)
			if err != nil || out != c.out || reply != c.reply {
				t.Errorf("chunks of %d: %s\ncame out %s\n%+v, %v", chunk, c.in, out, reply, err)
			}
		}
	}
	for name, in := range map[string]string{
		"empty": "", "HTML": "<html>", "array": "[]", "cut": `{"id":7,"result":{"a":"`, "other id": `{"id":8,"result":{}}`, "no id": `{"result":{}}`,
		"string id": `{"id":"7","result":{}}`, "null id": `{"id":null,"result":{}}`, "two objects": `{"id":7,"result":{}}{}`, "behind": `{"id":7,"result":{}} x`,
		"neither": `{"id":7}`, "both": `{"id":7,"result":{},"error":{}}`, "object as id": `{"id":{},"result":{}}`, "task": `{"id":7,"result":{"resultType":"task"}}`,
		"state number": `{"id":7,"result":{"requestState":7}}`, "second id": `{"id":7,"result":{},"id":8}`, "brackets": `{"id":7,"result":{}}}`,
	} {
		if out, _, err := copyReply(t, in, "7", 2); !errors.Is(err, ErrReply) {
			t.Errorf("%s: passed as %s, %v", name, out, err)
		}
	}
}

func TestObject(t *testing.T) {
	o, err := ParseObject(jsontext.Value(`{ "b" : [1, 2] , "a":"x\n" }`))
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := o.Text("a"); !ok || s != "x\n" {
		t.Fatalf("text %q", s)
	}
	o = o.Set("c", jsontext.Value("null")).Set("b", jsontext.Value("2")).Set("a", nil).Set("none", nil)
	if got := string(o.JSON()); got != `{"b":2,"c":null}` {
		t.Fatalf("written %s", got)
	}
	items, err := ParseArray(jsontext.Value(`[ 1, {"a":[2]} ,"x"]`))
	if err != nil || string(Array(items)) != `[1,{"a":[2]},"x"]` {
		t.Fatalf("array %s, %v", Array(items), err)
	}
	for _, bad := range []string{`[1`, `{}`, `{"a":1,"a":2}`, `{"a":1} x`, ``} {
		_, errArray := ParseArray(jsontext.Value(bad))
		_, errObject := ParseObject(jsontext.Value(bad))
		if errArray == nil || errObject == nil && bad != `{}` {
			t.Errorf("%s was taken: %v, %v", bad, errArray, errObject)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":[1,2]},"_meta":{}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := Parse(body)
		if err != nil {
			var se *SyntaxError
			if !errors.As(err, &se) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if !jsontext.Value(body).IsValid() {
			t.Fatal("took what is not JSON")
		}
		for _, v := range []jsontext.Value{m.ID, m.Params, m.Result, m.Error, m.Arguments, m.Meta.Raw} {
			if v != nil && !v.IsValid() {
				t.Fatalf("a part is not JSON: %q", v)
			}
		}
	})
}

func FuzzHeaderValue(f *testing.F) {
	f.Add("=?base64?YQ==?=")
	f.Fuzz(func(t *testing.T, v string) {
		if d, err := DecodeHeaderValue(v); err == nil {
			if back, err := DecodeHeaderValue(EncodeHeaderValue(d)); err != nil || back != d {
				t.Fatalf("%q -> %q -> %q, %v", v, d, back, err)
			}
		}
	})
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte("id: 1\nevent: message\ndata: {}\n\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewEventReader(bytes.NewReader(in), 1<<10)
		for {
			e, err := r.Next()
			if err != nil {
				return
			}
			again, err := NewEventReader(bytes.NewReader(AppendEvent(nil, e)), 4<<10).Next()
			if err != nil || !bytes.Equal(again.Data, e.Data) || again.ID != e.ID || again.Type != e.Type {
				t.Fatalf("%+v was written so that it reads %+v, %v", e, again, err)
			}
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add(`{"jsonrpc":"2.0","id":7,"result":{"requestState":"x"}}`, 3)
	f.Fuzz(func(t *testing.T, in string, chunk int) {
		whole, _, errWhole := copyReply(t, in, "7", 1<<30)
		parts, _, errParts := copyReply(t, in, "7", max(1, chunk%16))
		if (errWhole == nil) != (errParts == nil) || errWhole == nil && whole != parts {
			t.Fatalf("in one piece %q (%v), in parts %q (%v)", whole, errWhole, parts, errParts)
		}
	})
}
