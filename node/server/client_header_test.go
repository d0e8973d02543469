package server

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestHeadersMustMatch holds modern clients to the rules that let an intermediary decide by headers (2026-07-28, server validation).
func TestHeadersMustMatch(t *testing.T) {
	f := start(t)
	u := scripted(t, bothEras, func(w http.ResponseWriter, s *seen) {
		if s.Method == "tools/list" {
			reply(w, s, `{"resultType":"complete","tools":[{"name":"t","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"N"}}}}]}`)
			return
		}
		finished(w, s)
	})
	f.upstream("u", u.URL)
	protocols := f.protocols()
	f.do(protocols["HTTP/1.1"], f.message("u", "1", "tools/list", ""))
	before := len(u.got(""))
	b64 := func(s string) string { return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?=" }
	const arguments = `{"region":"ü"}`
	region := b64("ü")
	for name, c := range map[string]struct {
		header []string
		status int
		code   int
		words  string
	}{
		"another name":            {[]string{"Mcp-Name", "other"}, 400, -32020, "Mcp-Name"},
		"no name":                 {[]string{"Mcp-Name", ""}, 400, -32020, "Mcp-Name is missing"},
		"a name in another case":  {[]string{"Mcp-Name", "T"}, 400, -32020, "Mcp-Name"},
		"another name, encoded":   {[]string{"Mcp-Name", b64("other")}, 400, -32020, "Mcp-Name"},
		"broken base64":           {[]string{"Mcp-Name", "=?base64?!!!?="}, 400, -32020, "Mcp-Name"},
		"base64 without padding":  {[]string{"Mcp-Name", "=?base64?dA?="}, 400, -32020, "Mcp-Name"},
		"base64 that is no UTF-8": {[]string{"Mcp-Name", "=?base64?" + base64.StdEncoding.EncodeToString([]byte{0xff}) + "?="}, 400, -32020, "UTF-8"},
		"upper case sentinel":     {[]string{"Mcp-Name", "=?BASE64?dA==?="}, 400, -32020, "Mcp-Name"},
		"another method":          {[]string{"Mcp-Method", "tools/list"}, 400, -32020, "Mcp-Method"},
		"no method":               {[]string{"Mcp-Method", ""}, 400, -32020, "Mcp-Method is missing"},
		"no version":              {[]string{"Mcp-Protocol-Version", ""}, 400, -32020, "Mcp-Protocol-Version is missing"},
		"another version":         {[]string{"Mcp-Protocol-Version", "2025-11-25"}, 400, -32020, "MCP-Protocol-Version"},
		"a later version":         {[]string{"Mcp-Protocol-Version", "2027-01-01"}, 400, -32020, "MCP-Protocol-Version"},
		"a param that differs":    {[]string{"Mcp-Param-Region", "eu"}, 400, -32020, "Mcp-Param-Region"},
		"a param that is missing": {[]string{"Mcp-Param-Region", ""}, 400, -32020, "Mcp-Param-Region"},
		"a param too many":        {[]string{"Mcp-Param-Region", region, "Mcp-Param-N", "1"}, 400, -32020, "Mcp-Param-N"},
		"encoded name":            {[]string{"Mcp-Name", b64("t"), "Mcp-Param-Region", region}, 200, 0, ""},
		"plain name":              {[]string{"Mcp-Param-Region", region}, 200, 0, ""},
		"an unknown param":        {[]string{"Mcp-Param-Region", region, "Mcp-Param-Zone", "x"}, 200, 0, ""},
	} {
		for _, rt := range protocols {
			resp, body := f.do(rt, f.modern("u", "1", "t", arguments, c.header...))
			want(t, resp, body, c.status, c.code, c.words)
			if t.Failed() {
				t.Fatal(name)
			}
		}
	}
	sent := u.got("")[before:]
	hold(t, "calls that reached the upstream", len(sent) == 9, len(sent))
	zones := 0
	for _, s := range sent {
		hold(t, "the headers that reached the upstream", s.Header.Get("Mcp-Param-Region") == region && s.Header.Get("Mcp-Method") == "tools/call", s.Header)
		zones += len(s.Header["Mcp-Param-Zone"])
	}
	hold(t, "unknown params pass", zones == 3, zones)
	for _, name := range []string{"Mcp-Name", "Mcp-Method", "Mcp-Protocol-Version", "Mcp-Param-Region"} {
		r := f.modern("u", "1", "t", arguments, "Mcp-Param-Region", region)
		r.Header[name] = append(slices.Clone(r.Header[name]), r.Header[name]...)
		resp, body := f.do(protocols["HTTP/2.0"], r)
		want(t, resp, body, http.StatusBadRequest, -32020, "")
	}
}

func TestVersions(t *testing.T) {
	f := start(t)
	u := scripted(t, bothEras, finished)
	f.upstream("u", u.URL)
	rt := f.protocols()["HTTP/3.0"]
	session := f.open(rt, "u")
	before := len(u.got(""))
	future := func(version string) *http.Request {
		body := strings.ReplaceAll(`{"jsonrpc":"2.0","id":1,"method":"tools/call",`+callParams+`}`, "2026-07-28", version)
		return f.post("u", body, "Mcp-Protocol-Version", version, "Mcp-Method", "tools/call", "Mcp-Name", "t")
	}
	for _, version := range []string{"2026-07-29", "2099-01-01", "2025-11-25", "draft", "9999999999"} {
		resp, body := f.do(rt, future(version))
		want(t, resp, body, http.StatusBadRequest, -32022, "unsupported protocol version")
		hold(t, "what is supported", strings.Contains(body, `"2026-07-28"`) && strings.Contains(body, `"requested":"`+version+`"`), body)
	}
	for _, version := range []string{"2025-11-24", "latest", "1.0", "2025-11-25, 2026-07-28"} {
		resp, body := f.do(rt, f.legacy("u", session, "1", "tools/call", `{"name":"t"}`, "Mcp-Protocol-Version", version))
		want(t, resp, body, http.StatusBadRequest, -32022, "unsupported protocol version")
		resp, body = f.do(rt, f.legacy("u", session, "", "notifications/initialized", `{}`, "Mcp-Protocol-Version", version))
		want(t, resp, body, http.StatusBadRequest, 0, "names no version")
		resp, body = f.do(rt, f.request(http.MethodGet, "u", "", "Accept", "text/event-stream", "Mcp-Session-Id", session, "Mcp-Protocol-Version", version))
		want(t, resp, body, http.StatusBadRequest, 0, "names no version")
	}
	twice := f.legacy("u", session, "1", "tools/call", `{"name":"t"}`)
	twice.Header["Mcp-Protocol-Version"] = []string{"2025-11-25", "2026-07-28"}
	resp, body := f.do(rt, twice)
	want(t, resp, body, http.StatusBadRequest, -32022, "unsupported protocol version")
	resp, body = f.do(rt, f.post("u", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}`, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "t"))
	want(t, resp, body, http.StatusBadRequest, -32602, "_meta")
	hold(t, "a wrong version reached the upstream", len(u.got("")) == before, len(u.got("")))
	resp, body = f.do(rt, f.legacy("u", session, "1", "tools/call", `{"name":"t"}`, "Mcp-Protocol-Version", ""))
	hold(t, "no version is that of old", resp.StatusCode == http.StatusOK && strings.Contains(body, "done"), body)
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		resp, body = f.do(rt, f.request(method, "u", "", "Accept", "text/event-stream", "Mcp-Session-Id", session, "Mcp-Protocol-Version", "2026-07-28"))
		want(t, resp, body, http.StatusMethodNotAllowed, 0, "POST only")
		hold(t, "Allow", resp.Header.Get("Allow") == "POST", resp.Header)
	}
}

// TestHTTPRules holds requests to what can be asked of them before there is a message.
func TestHTTPRules(t *testing.T) {
	f := start(t)
	u := scripted(t, onlyModernEra, finished)
	f.upstream("u", u.URL)
	protocols := f.protocols()
	for name, c := range map[string]struct {
		method string
		header []string
		status int
		words  string
	}{
		"no content type":        {"POST", []string{"Content-Type", ""}, 415, "Content-Type: application/json"},
		"text":                   {"POST", []string{"Content-Type", "text/plain"}, 415, "Content-Type: application/json"},
		"a form":                 {"POST", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "Content-Type: application/json"},
		"a broken content type":  {"POST", []string{"Content-Type", "application/json; charset"}, 415, "Content-Type: application/json"},
		"gzip":                   {"POST", []string{"Content-Encoding", "gzip"}, 415, "without Content-Encoding"},
		"accepts nothing":        {"POST", []string{"Accept", ""}, 406, "Accept: application/json, text/event-stream"},
		"accepts JSON alone":     {"POST", []string{"Accept", "application/json"}, 406, "Accept: application/json, text/event-stream"},
		"accepts events alone":   {"POST", []string{"Accept", "text/event-stream"}, 406, "Accept: application/json, text/event-stream"},
		"a GET for JSON":         {"GET", []string{"Accept", "application/json"}, 406, "Accept: text/event-stream"},
		"PUT":                    {"PUT", nil, 405, "MCP uses POST"},
		"PATCH":                  {"PATCH", nil, 405, "MCP uses POST"},
		"another host":           {"POST", []string{"Host", "evil.example"}, 421, "use its address or advertised name"},
		"a host that looks own":  {"POST", []string{"Host", "localhost.evil.example"}, 421, "use its address or advertised name"},
		"another origin":         {"POST", []string{"Origin", "https://evil.example"}, 403, "pages of this origin"},
		"an origin by rebinding": {"POST", []string{"Origin", "http://127.0.0.1.evil.example"}, 403, "pages of this origin"},
		"no origin":              {"POST", []string{"Origin", "null"}, 403, "pages of this origin"},
		"an origin of a file":    {"POST", []string{"Origin", "file://localhost"}, 403, "pages of this origin"},
		"an address elsewhere":   {"POST", []string{"Origin", "https://192.0.2.1"}, 403, "pages of this origin"},
	} {
		for proto, rt := range protocols {
			r := f.modern("u", "1", "t", "{}", c.header...)
			r.Method = c.method
			if c.method != http.MethodPost {
				r.Body, r.ContentLength = http.NoBody, 0
			}
			resp, body := f.do(rt, r)
			want(t, resp, body, c.status, 0, c.words)
			if resp.StatusCode == http.StatusMethodNotAllowed {
				hold(t, "Allow", resp.Header.Get("Allow") == "POST, GET, DELETE", resp.Header)
			}
			if t.Failed() {
				t.Fatalf("%s over %s", name, proto)
			}
		}
	}
	hold(t, "what breaks the rules reached the upstream", len(u.got("")) == 0)
	for _, header := range [][]string{
		{"Origin", "http://localhost:6274"},
		{"Origin", "https://127.0.0.1"},
		{"Host", "localhost"},
		{"Accept", "*/*"},
		{"Accept", "application/*;q=0.5, text/*"},
		{"Content-Type", "Application/JSON; charset=utf-8"},
	} {
		resp, body := f.do(protocols["HTTP/2.0"], f.modern("u", "1", "t", "{}", header...))
		hold(t, header[1], resp.StatusCode == http.StatusOK && strings.Contains(body, "done"), resp.StatusCode, body)
	}
}

// TestMethodsDoNotMultiplyMetrics keeps callers from growing the node's memory by inventing methods, which needs no token.
func TestMethodsDoNotMultiplyMetrics(t *testing.T) {
	f := start(t)
	u := scripted(t, onlyModernEra, finished)
	f.upstream("u", u.URL)
	rt := f.protocols()["HTTP/1.1"]
	for _, method := range []string{"INVENTED", "BREW"} {
		r := f.modern("u", "1", "t", "{}", "Authorization", "")
		r.Method = method
		f.do(rt, r)
	}
	f.do(rt, f.message("u", "1", "invented/method", ""))
	families, err := f.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if v := strings.ToLower(l.GetValue()); strings.Contains(v, "invented") || strings.Contains(v, "brew") {
					t.Errorf("metric %s has the label %s=%q", family.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
}
