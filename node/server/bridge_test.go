package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestUpstreamSessionsAreShared holds that calls of modern clients share a session at a legacy upstream, and that one which the upstream has
// forgotten is replaced once.
func TestUpstreamSessionsAreShared(t *testing.T) {
	f := start(t)
	var opened atomic.Int32
	var current atomic.Pointer[string]
	u := scripted(t, onlyLegacyEra, func(w http.ResponseWriter, s *seen) {
		if s.Method == "initialize" {
			id := fmt.Sprint("session-", opened.Add(1))
			current.Store(&id)
			w.Header().Set("Mcp-Session-Id", id)
			reply(w, s, `{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"u","version":"1"}}`)
			return
		}
		if s.Header.Get("Mcp-Session-Id") != *current.Load() {
			http.NotFound(w, s.Request)
			return
		}
		finished(w, s)
	})
	f.upstream("u", u.URL)
	rt := f.protocols()["HTTP/2.0"]
	parallel := func() {
		var calls sync.WaitGroup
		for i := range 50 {
			calls.Go(func() {
				resp, err := rt.RoundTrip(f.modern("u", fmt.Sprint(i), "t", "{}"))
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("call %d: %v", i, err)
					return
				}
				defer resp.Body.Close()
				var a answered
				if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || string(a.ID) != fmt.Sprint(i) || !strings.Contains(string(a.Result), "done") {
					t.Errorf("call %d: %+v, %v", i, a, err)
				}
			})
		}
		calls.Wait()
	}
	parallel()
	hold(t, "sessions opened for 50 calls", opened.Load() == 1, opened.Load())
	ids := map[string]bool{}
	for _, s := range u.got("tools/call") {
		hold(t, "an id is used twice in the session: "+string(s.ID), !ids[string(s.ID)])
		ids[string(s.ID)] = true
	}
	gone := "forgotten"
	current.Store(&gone)
	parallel()
	hold(t, "sessions opened after the upstream forgot one", opened.Load() == 2, opened.Load())
	for _, s := range u.got("") {
		for _, h := range []string{"Mcp-Method", "Mcp-Name", "Authorization"} {
			hold(t, "a header of another era or for the gateway alone: "+h, s.Header.Get(h) == "", s.Header)
		}
		hold(t, "the envelope of the modern era", !strings.Contains(s.Body, "io.modelcontextprotocol/"), s.Body)
	}
}

// TestBridgeAnswersTheUpstream lets a legacy upstream ask things of its client while a modern one calls.
func TestBridgeAnswersTheUpstream(t *testing.T) {
	f := start(t)
	replies := make(chan string, 16)
	u := scripted(t, onlyLegacyEra, func(w http.ResponseWriter, s *seen) {
		switch {
		case s.Method == "" && s.ID != nil:
			replies <- s.Body
			w.WriteHeader(http.StatusAccepted)
		case s.Method == "tools/call":
			send := events(w)
			send(`{"jsonrpc":"2.0","id":"s-1","method":"sampling/createMessage","params":{"messages":[]}}`)
			send(`{"jsonrpc":"2.0","id":9007199254740993,"method":"elicitation/create","params":{"message":"?"}}`)
			send(`{"jsonrpc":"2.0","id":"p-1","method":"ping"}`)
			var got []string
			for range 3 {
				select {
				case r := <-replies:
					got = append(got, r)
				case <-s.Context().Done():
					return
				}
			}
			text, _ := json.Marshal(got)
			send(`{"jsonrpc":"2.0","id":` + string(s.ID) + `,"result":{"content":[],"replies":` + string(text) + `}}`)
		default:
			finished(w, s)
		}
	})
	f.upstream("u", u.URL)
	resp, body := f.do(f.protocols()["HTTP/3.0"], f.modern("u", "1", "t", "{}"))
	var result struct {
		Replies    []string
		ResultType string
	}
	if err := json.Unmarshal(decode(t, body).Result, &result); err != nil || resp.StatusCode != http.StatusOK || result.ResultType != "complete" {
		t.Fatalf("%d: %s", resp.StatusCode, body)
	}
	for i, id := range []string{`"s-1"`, `9007199254740993`, `"p-1"`} {
		a := decode(t, result.Replies[i])
		hold(t, "reply", string(a.ID) == id && (i == 2 && string(a.Result) == "{}" || i < 2 && a.Error.Code == -32601), result.Replies[i])
	}
}

// TestProgressAndLogsCrossTheBridge in both directions, under the client's own token and level.
func TestProgressAndLogsCrossTheBridge(t *testing.T) {
	f := start(t)
	noisy := func(w http.ResponseWriter, s *seen) {
		if s.Method != "tools/call" {
			finished(w, s)
			return
		}
		var p struct {
			Meta struct {
				Token json.RawMessage `json:"progressToken"`
			} `json:"_meta"`
		}
		hold(t, "params", json.Unmarshal(s.Params, &p) == nil)
		send := events(w)
		if p.Meta.Token != nil {
			send(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + string(p.Meta.Token) + `,"progress":1}}`)
		}
		for _, level := range []string{"debug", "warning", "emergency"} {
			send(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"` + level + `","data":"x"}}`)
		}
		send(`{"jsonrpc":"2.0","id":` + string(s.ID) + `,"result":` + done + `}`)
	}
	old, modern := scripted(t, onlyLegacyEra, noisy), scripted(t, onlyModernEra, noisy)
	f.upstream("old", old.URL)
	f.upstream("new", modern.URL)
	rt := f.protocols()["HTTP/2.0"]
	call := func(token, level string) string {
		meta := `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}`
		if token != "" {
			meta += `,"progressToken":` + token
		}
		if level != "" {
			meta += `,"io.modelcontextprotocol/logLevel":"` + level + `"`
		}
		_, body := f.do(rt, f.post("old", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{},"_meta":{`+meta+`}}}`,
			"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "t"))
		return body
	}
	for _, c := range []struct {
		token, level    string
		progress, noise int
	}{{"", "", 0, 0}, {`"my-token"`, "", 1, 0}, {`9007199254740993`, "warning", 1, 2}, {"", "debug", 0, 3}, {"", "emergency", 0, 1}, {"", "warning", 0, 2}} {
		body := call(c.token, c.level)
		if strings.Count(body, `"progressToken":`+c.token) != c.progress || strings.Count(body, "notifications/message") != c.noise || !strings.Contains(body, "done") {
			t.Errorf("%+v: %s", c, body)
		}
	}
	var levels []string
	for _, s := range old.got("logging/setLevel") {
		levels = append(levels, string(s.Params))
	}
	hold(t, "levels asked of the upstream", fmt.Sprint(levels) == `[{"level":"warning"} {"level":"debug"}]`, levels)

	session := f.open(rt, "new")
	_, body := f.do(rt, f.legacy("new", session, "2", "logging/setLevel", `{"level":"error"}`))
	hold(t, "setLevel", string(decode(t, body).Result) == "{}", body)
	_, body = f.do(rt, f.legacy("new", session, "3", "tools/call", `{"name":"t","arguments":{},"_meta":{"progressToken":"mine"}}`))
	hold(t, "progress", strings.Contains(body, `"progressToken":"mine"`) && !strings.Contains(body, "resultType"), body)
	sent := modern.got("tools/call")[0]
	hold(t, "level", strings.Contains(sent.Body, `"io.modelcontextprotocol/logLevel":"error"`), sent.Body)
}

// TestParamHeadersAreMade for a legacy client, who knows of none (x-mcp-header).
func TestParamHeadersAreMade(t *testing.T) {
	f := start(t)
	u := scripted(t, onlyModernEra, func(w http.ResponseWriter, s *seen) {
		if s.Method != "tools/list" {
			finished(w, s)
			return
		}
		if !strings.Contains(s.Body, "page-2") {
			reply(w, s, `{"tools":[{"name":"other","inputSchema":{}}],"nextCursor":"page-2"}`)
			return
		}
		reply(w, s, `{"tools":[{"name":"t","inputSchema":{"properties":{"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"Count"},"deep":{"properties":{"on":{"type":"boolean","x-mcp-header":"On"}}},"gone":{"type":"string","x-mcp-header":"Gone"},"list":{"type":"array","x-mcp-header":"List"}}}}]}`)
	})
	f.upstream("u", u.URL)
	rt := f.protocols()["HTTP/1.1"]
	session := f.open(rt, "u")
	for range 2 {
		resp, body := f.do(rt, f.legacy("u", session, "1", "tools/call", `{"name":"t","arguments":{"region":"ü ","n":9007199254740993,"deep":{"on":true},"list":[1]}}`))
		hold(t, "answer", resp.StatusCode == http.StatusOK && strings.Contains(body, "done"), body)
	}
	for _, s := range u.got("tools/call") {
		got := fmt.Sprint(s.Header["Mcp-Param-Region"], s.Header["Mcp-Param-Count"], s.Header["Mcp-Param-On"], s.Header["Mcp-Param-Gone"], s.Header["Mcp-Param-List"], s.Header["Mcp-Name"], s.Header["Mcp-Protocol-Version"])
		if got != "[=?base64?w7wg?=] [9007199254740993] [true] [] [] [t] [2026-07-28]" {
			t.Errorf("headers %s", got)
		}
	}
	hold(t, "tools are listed once", len(u.got("tools/list")) == 2, len(u.got("tools/list")))
}

// TestSubscriptionsCrossTheBridge from a modern client to a legacy upstream.
func TestSubscriptionsCrossTheBridge(t *testing.T) {
	f := start(t)
	updates := make(chan string)
	var streams atomic.Int32
	u := scripted(t, onlyLegacyEra, func(w http.ResponseWriter, s *seen) {
		if s.Request.Method != http.MethodGet {
			finished(w, s)
			return
		}
		streams.Add(1)
		defer streams.Add(-1)
		send := events(w)
		for {
			select {
			case uri := <-updates:
				send(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"` + uri + `"}}`)
			case <-s.Context().Done():
				return
			}
		}
	})
	f.upstream("u", u.URL)
	rt := f.protocols()["HTTP/2.0"]
	listen := func(id, uri string) *stream {
		s := f.stream(rt, f.message("u", id, "subscriptions/listen", `"notifications":{"toolsListChanged":true,"resourceSubscriptions":["`+uri+`"]}`))
		ack := s.next()
		hold(t, "acknowledgement", strings.Contains(ack, "notifications/subscriptions/acknowledged") && strings.Contains(ack, `"io.modelcontextprotocol/subscriptionId":`+id) &&
			strings.Contains(ack, uri) && !strings.Contains(ack, "toolsListChanged"), ack)
		return s
	}
	updated := func(s *stream, id, uri string) {
		t.Helper()
		var got string
		for deadline := time.Now().Add(patience); got == ""; {
			select {
			case updates <- uri: // perhaps to a stream that has just been closed
			case <-time.After(patience):
			}
			select {
			case got = <-s.lines:
			case <-time.After(100 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				t.Fatal("no update came")
			}
		}
		hold(t, "update", strings.Contains(got, uri) && strings.Contains(got, `"io.modelcontextprotocol/subscriptionId":`+id), got)
	}
	for round := range 3 {
		first, second := listen(`"one"`, "test://one"), listen(`2`, "test://two")
		updated(first, `"one"`, "test://one")
		updated(second, `2`, "test://two")
		_ = first.resp.Body.Close()
		updated(second, `2`, "test://two")
		third := listen(`3`, "test://three")
		updated(third, `3`, "test://three")
		until(func() bool { return streams.Load() == 1 })
		hold(t, "streams of the session", streams.Load() == 1, streams.Load())
		_ = second.resp.Body.Close()
		_ = third.resp.Body.Close()
		until(func() bool { return len(u.got("resources/unsubscribe")) == 3*(round+1) })
		hold(t, "subscriptions", len(u.got("resources/subscribe")) == 3*(round+1) && len(u.got("resources/unsubscribe")) == 3*(round+1), len(u.got("resources/subscribe")), len(u.got("resources/unsubscribe")))
	}
}

// TestSubscriptionEndsWithItsCredential so that the client listens again, with the one that took its place.
func TestSubscriptionEndsWithItsCredential(t *testing.T) {
	f := start(t)
	acknowledged := make(chan struct{})
	u := scripted(t, onlyLegacyEra, func(w http.ResponseWriter, s *seen) {
		if s.Request.Method == http.MethodGet {
			select {
			case <-acknowledged:
			case <-s.Context().Done():
			}
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		finished(w, s)
	})
	f.upstream("u", u.URL)
	s := f.stream(f.protocols()["HTTP/3.0"], f.message("u", "1", "subscriptions/listen", `"notifications":{"resourceSubscriptions":["test://r"]}`))
	hold(t, "acknowledgement", strings.Contains(s.next(), "acknowledged"))
	close(acknowledged)
	end := s.next()
	hold(t, "the end of the stream", strings.Contains(end, `"id":1`) && strings.Contains(end, "credential"), end)
}

// TestLegacySubscriptionsAtModernUpstreams turns a session's subscriptions into what subscriptions/listen asks for.
func TestLegacySubscriptionsAtModernUpstreams(t *testing.T) {
	f := start(t)
	filters := make(chan string, 16)
	u := scripted(t, onlyModernEra, func(w http.ResponseWriter, s *seen) {
		if s.Method != "subscriptions/listen" {
			finished(w, s)
			return
		}
		send := events(w)
		meta := `"_meta":{"io.modelcontextprotocol/subscriptionId":` + string(s.ID) + `}`
		send(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{` + meta + `}}`)
		if strings.Contains(s.Body, "test://r") {
			send(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"test://r",` + meta + `}}`)
		}
		filters <- string(s.Params)
		<-s.Context().Done()
	})
	f.upstream("u", u.URL)
	rt := f.protocols()["HTTP/3.0"]
	session := f.open(rt, "u")
	s := f.stream(rt, f.request(http.MethodGet, "u", "", "Accept", "text/event-stream", "Mcp-Session-Id", session))
	first := <-filters
	hold(t, "filter", strings.Contains(first, `"toolsListChanged":true`) && !strings.Contains(first, "resourceSubscriptions"), first)
	_, body := f.do(rt, f.legacy("u", session, "1", "resources/subscribe", `{"uri":"test://r"}`))
	hold(t, "subscribe", string(decode(t, body).Result) == "{}", body)
	hold(t, "filter", strings.Contains(<-filters, `"resourceSubscriptions":["test://r"]`))
	if got := s.next(); !strings.Contains(got, "test://r") || strings.Contains(got, "subscriptionId") {
		t.Errorf("update %s", got)
	}
	f.do(rt, f.legacy("u", session, "2", "resources/unsubscribe", `{"uri":"test://r"}`))
	hold(t, "filter", !strings.Contains(<-filters, "resourceSubscriptions"))
	resp, _ := f.do(rt, f.request(http.MethodDelete, "u", "", "Mcp-Session-Id", session))
	hold(t, "delete", resp.StatusCode == http.StatusNoContent, resp.StatusCode)
	resp, body = f.do(rt, f.legacy("u", session, "3", "ping", `{}`))
	want(t, resp, body, http.StatusNotFound, 0, "initialize a new one")
	_ = s.resp.Body.Close()
}
