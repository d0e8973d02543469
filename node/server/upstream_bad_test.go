package server

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/raftfsm"
)

// misbehaving is how an upstream answers a call, by the name of the tool.
func misbehaving(elsewhere string) map[string]func(http.ResponseWriter, *seen) {
	raw := func(status int, contentType, body string) func(http.ResponseWriter, *seen) {
		return func(w http.ResponseWriter, s *seen) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			fmt.Fprint(w, strings.ReplaceAll(body, "ID", string(s.ID)))
		}
	}
	const isJSON, isEvents = "application/json", "text/event-stream"
	return map[string]func(http.ResponseWriter, *seen){
		"status-500":      raw(500, "text/plain", "stack trace"),
		"status-500-json": raw(500, isJSON, `{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"x"}}`),
		"status-418":      raw(418, isJSON, `{}`),
		"status-206":      raw(206, isJSON, `{"jsonrpc":"2.0","id":ID,"result":{}}`),
		"status-401":      raw(401, isJSON, `{}`),
		"status-403":      raw(403, isJSON, `{}`),
		"html":            raw(200, "text/html", "<p>hello"),
		"html-as-json":    raw(200, isJSON, "<p>hello"),
		"no-type":         raw(200, "", `{"jsonrpc":"2.0","id":ID,"result":{}}`),
		"empty":           raw(200, isJSON, ""),
		"list":            raw(200, isJSON, `[{"jsonrpc":"2.0","id":ID,"result":{}}]`),
		"two":             raw(200, isJSON, `{"jsonrpc":"2.0","id":ID,"result":{}}{"jsonrpc":"2.0","id":ID,"result":{}}`),
		"wrong-id":        raw(200, isJSON, `{"jsonrpc":"2.0","id":"another","result":{}}`),
		"no-id":           raw(200, isJSON, `{"jsonrpc":"2.0","result":{}}`),
		"null-id":         raw(200, isJSON, `{"jsonrpc":"2.0","id":null,"result":{}}`),
		"no-result":       raw(200, isJSON, `{"jsonrpc":"2.0","id":ID}`),
		"both":            raw(200, isJSON, `{"jsonrpc":"2.0","id":ID,"result":{},"error":{"code":1,"message":"x"}}`),
		"cut":             raw(200, isJSON, `{"jsonrpc":"2.0","id":ID,"result":{"content":[`),
		"deep":            raw(200, isJSON, `{"jsonrpc":"2.0","id":ID,"result":`+nested(2000)+`}`),
		"task":            raw(200, isJSON, `{"jsonrpc":"2.0","id":ID,"result":{"resultType":"task","task":{"taskId":"1"}}}`),
		"broken-off": func(w http.ResponseWriter, s *seen) {
			w.Header().Set("Content-Length", "1000")
			raw(200, isJSON, `{"jsonrpc":"2.0","id":ID,"result":{`)(w, s)
		},
		"redirect": func(w http.ResponseWriter, s *seen) {
			http.Redirect(w, s.Request, elsewhere, http.StatusTemporaryRedirect)
		},
		"gzip": func(w http.ResponseWriter, _ *seen) {
			var bomb bytes.Buffer
			z := gzip.NewWriter(&bomb)
			_, _ = z.Write(make([]byte, 16<<20))
			_ = z.Close()
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Type", isJSON)
			_, _ = w.Write(bomb.Bytes())
		},
		"hangs-up": func(w http.ResponseWriter, _ *seen) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = conn.Close()
			}
		},
		"long-header": func(w http.ResponseWriter, s *seen) {
			w.Header().Set("X-Upstream", strings.Repeat("x", 128<<10))
			reply(w, s, done)
		},
		"stream-empty":     raw(200, isEvents, ""),
		"stream-comments":  raw(200, isEvents, ": hello\n\n: there\n\n"),
		"stream-cut":       raw(200, isEvents, `data: {"jsonrpc":"2.0","id":ID,"result":{}}`),
		"stream-bare-cr":   raw(200, isEvents, "data: {}\rdata: {}\n\n"),
		"stream-no-json":   raw(200, isEvents, "data: hello\n\n"),
		"stream-two-json":  raw(200, isEvents, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}{}\n\n"),
		"stream-wrong-id":  raw(200, isEvents, `data: {"jsonrpc":"2.0","id":"another","result":{}}`+"\n\n"),
		"stream-task":      raw(200, isEvents, `data: {"jsonrpc":"2.0","id":ID,"result":{"resultType":"task"}}`+"\n\n"),
		"stream-oversized": raw(200, isEvents, "data: "+strings.Repeat("x", 16<<20+10)+"\n\n"),
	}
}

// TestBadUpstreams holds that whatever an upstream answers, the caller gets a response to its request that says what is wrong, and nothing of
// what the upstream sent besides.
func TestBadUpstreams(t *testing.T) {
	f := start(t)
	var strayed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayed.Add(1) }))
	t.Cleanup(elsewhere.Close)
	answers := misbehaving(elsewhere.URL)
	handler := func(w http.ResponseWriter, s *seen) {
		for tool, answer := range answers {
			if strings.Contains(s.Body, `"name":"`+tool+`"`) && s.Method == "tools/call" {
				w.Header().Set("Set-Cookie", "a=b")
				w.Header().Set("WWW-Authenticate", "Bearer realm=x")
				w.Header().Set("X-Upstream", "x")
				answer(w, s)
				return
			}
		}
		finished(w, s)
	}
	for name, eras := range map[string]string{"new": onlyModernEra, "old": onlyLegacyEra} {
		f.static(name, scripted(t, eras, handler).URL, "X-Api-Key", "k")
	}
	words := map[string]string{
		"status-500": "status 500", "status-401": "refuses the credential", "status-403": "refuses the credential", "redirect": "redirect", "html": "neither JSON nor an event stream",
		"gzip": "compressed", "wrong-id": "another id", "stream-wrong-id": "another id", "stream-no-json": "no message", "stream-oversized": "too large",
		"stream-bare-cr": "carriage return", "stream-cut": "ended within an event", "task": "made a task",
	}
	rt := f.protocols()["HTTP/2.0"]
	session := f.open(rt, "old")
	bridged := f.open(rt, "new")
	for tool := range answers {
		for way, r := range map[string]*http.Request{
			"modern to modern": f.modern("new", "1", tool, "{}"),
			"modern to legacy": f.modern("old", "1", tool, "{}"),
			"legacy to legacy": f.legacy("old", session, "1", "tools/call", `{"name":"`+tool+`","arguments":{}}`),
			"legacy to modern": f.legacy("new", bridged, "1", "tools/call", `{"name":"`+tool+`","arguments":{}}`),
		} {
			if strings.HasSuffix(tool, "task") && way != "modern to modern" && way != "legacy to legacy" {
				continue // see TestBridge
			}
			resp, body := f.do(rt, r)
			if resp.Header.Get("Content-Type") == "text/event-stream" {
				all := messages(t, body)
				if len(all) == 0 {
					t.Errorf("%s, %s: the stream has no answer", tool, way)
					continue
				}
				body = body[strings.LastIndex(body, "data: ")+len("data: "):]
			}
			want(t, resp, body, http.StatusOK, 1003, words[tool])
			if a := decode(t, body); string(a.ID) != "1" || a.Result != nil || a.Error.Data.Advice == "" || a.Error.Data.RequestID == "" {
				t.Errorf("%s, %s: %s", tool, way, body)
			}
			if t.Failed() {
				t.Fatalf("%s, %s", tool, way)
			}
		}
	}
	hold(t, "a redirect was followed", strayed.Load() == 0)
	f.serves(rt, "new")
	f.serves(rt, "old")
}

func TestUpstreamsThatAreDownOrSlow(t *testing.T) {
	f := start(t)
	u := scripted(t, onlyModernEra, func(w http.ResponseWriter, s *seen) {
		if s.Header.Get("Mcp-Name") == "slow" {
			<-s.Context().Done()
			return
		}
		finished(w, s)
	})
	f.apply(&raftfsm.PutUpstream{Upstream: raftfsm.Upstream{Name: "slow", URL: u.URL, Grant: raftfsm.GrantNone, TimeoutMillis: 200}})
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	f.upstream("down", down.URL)
	for _, rt := range f.protocols() {
		resp, body := f.do(rt, f.modern("slow", "1", "slow", "{}"))
		want(t, resp, body, http.StatusOK, 1003, "timeout")
		resp, body = f.do(rt, f.modern("down", "1", "t", "{}"))
		want(t, resp, body, http.StatusOK, 1003, "connection refused")
		hold(t, "the address of the upstream is told", !strings.Contains(body, strings.TrimPrefix(down.URL, "http://")), body)
		f.serves(rt, "slow")
	}
}

// TestHeadersOfUpstreamsStayBehind looks at good answers: of a header that an upstream sets, nothing passes.
func TestHeadersOfUpstreamsStayBehind(t *testing.T) {
	f := start(t)
	for name, eras := range map[string]string{"new": onlyModernEra, "old": onlyLegacyEra} {
		f.upstream(name, scripted(t, eras, func(w http.ResponseWriter, s *seen) {
			for _, h := range []string{"Set-Cookie", "WWW-Authenticate", "Proxy-Authenticate", "X-Upstream", "Server", "Location", "Access-Control-Allow-Origin", "Alt-Svc", "Strict-Transport-Security", "Clear-Site-Data", "Mcp-Session-Id"} {
				w.Header().Set(h, "canary-of-a-header")
			}
			finished(w, s)
		}).URL)
	}
	for proto, rt := range f.protocols() {
		session := f.open(rt, "old")
		for _, r := range []*http.Request{
			f.modern("new", "1", "t", "{}"), f.modern("old", "1", "t", "{}"), f.legacy("old", session, "1", "tools/call", `{"name":"t"}`),
			f.legacy("old", session, "", "notifications/initialized", `{}`), f.message("new", "1", "server/discover", ""),
		} {
			resp, _ := f.do(rt, r)
			hold(t, proto+": headers", !strings.Contains(fmt.Sprint(resp.Header), "canary-of-a-header"), resp.Header)
			hold(t, "status", resp.StatusCode < 300, resp.StatusCode)
		}
	}
}

func TestLongUpstreamSessionIsRefused(t *testing.T) {
	f := start(t)
	length := 1 << 10
	u := scripted(t, onlyLegacyEra, func(w http.ResponseWriter, s *seen) {
		w.Header().Set("Mcp-Session-Id", strings.Repeat("s", length))
		reply(w, s, `{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"u","version":"1"}}`)
	})
	f.upstream("u", u.URL)
	rt := f.protocols()["HTTP/1.1"]
	f.open(rt, "u")
	length++
	resp, body := f.do(rt, f.legacy("u", "", "1", "initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}`))
	want(t, resp, body, http.StatusBadGateway, 0, "more than 1024 bytes")
	resp, body = f.do(rt, f.modern("u", "1", "t", "{}"))
	want(t, resp, body, http.StatusOK, 1003, "more than 1024 bytes")
}
