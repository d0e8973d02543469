package server

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/node/audit"
)

// TestLeavingCancelsTheCall over every version of HTTP, whether or not the upstream has begun to answer.
func TestLeavingCancelsTheCall(t *testing.T) {
	f := start(t)
	began, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	u := scripted(t, onlyModernEra, func(w http.ResponseWriter, s *seen) {
		switch s.Header.Get("Mcp-Name") {
		case "silent":
			began <- struct{}{}
			<-s.Context().Done()
		case "endless":
			w.Header().Set("Content-Type", "application/json")
			began <- struct{}{}
			_, err := io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"content":"`)
			for piece := strings.Repeat("x", 64<<10); err == nil && s.Context().Err() == nil; {
				_, err = io.WriteString(w, piece)
			}
		case "stream":
			send := events(w)
			began <- struct{}{}
			for s.Context().Err() == nil {
				send(note)
			}
		default:
			finished(w, s)
			return
		}
		gone <- struct{}{}
	})
	f.upstream("u", u.URL)
	for proto, rt := range f.protocols() {
		for _, tool := range []string{"silent", "endless", "stream"} {
			ctx, leave := context.WithCancel(t.Context())
			left := make(chan error, 1)
			go func() {
				resp, err := rt.RoundTrip(f.modern("u", "1", tool, "{}").WithContext(ctx))
				if err == nil {
					_, err = io.CopyN(io.Discard, resp.Body, 256<<10)
					leave()
					_ = resp.Body.Close()
				}
				left <- err
			}()
			<-began
			if tool == "silent" {
				leave()
			}
			<-left
			select {
			case <-gone:
			case <-time.After(patience):
				t.Fatalf("%s, %s: the upstream is not told that the client left", proto, tool)
			}
			leave()
		}
		f.serves(rt, "u")
	}
	for _, use := range f.records(audit.Filter{Kind: string(audit.KindUse)}) {
		if o := f.outcome(use.ID); o.Status != "cancelled" && use.Item != "t" {
			t.Errorf("%s: outcome %+v", use.Item, o)
		}
	}
}

// TestLeavingCancelsInALegacySession, where a closed connection means nothing to the upstream and a notification does.
func TestLeavingCancelsInALegacySession(t *testing.T) {
	f := start(t)
	began, notified := make(chan string, 1), make(chan string, 1)
	u := scripted(t, onlyLegacyEra, func(w http.ResponseWriter, s *seen) {
		switch s.Method {
		case "tools/call":
			events(w)(note)
			began <- string(s.ID)
			<-s.Context().Done()
		case "notifications/cancelled":
			hold(t, "the session", s.Header.Get("Mcp-Session-Id") == "upstream-session", s.Header)
			notified <- string(s.Params)
			w.WriteHeader(http.StatusAccepted)
		default:
			finished(w, s)
		}
	})
	f.upstream("u", u.URL)
	for proto, rt := range f.protocols() {
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			resp, err := rt.RoundTrip(f.modern("u", `"client's"`, "t", "{}").WithContext(ctx))
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}()
		id := <-began
		leave()
		select {
		case params := <-notified:
			hold(t, proto+": what was cancelled", strings.Contains(params, `"requestId":`+id), params, " not ", id)
		case <-time.After(patience):
			t.Fatalf("%s: the upstream is not told", proto)
		}
	}
}

// TestLegacyClientCancelsAtAModernUpstream, where closing the request is what cancels.
func TestLegacyClientCancelsAtAModernUpstream(t *testing.T) {
	f := start(t)
	began, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	u := scripted(t, onlyModernEra, func(w http.ResponseWriter, s *seen) {
		if s.Method != "tools/call" {
			finished(w, s)
			return
		}
		if name := s.Header.Get("Mcp-Name"); name != "silent" {
			send := events(w)
			if name == "noisy" {
				send(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}`)
			}
		}
		began <- struct{}{}
		<-s.Context().Done()
		gone <- struct{}{}
	})
	f.upstream("u", u.URL)
	for proto, rt := range f.protocols() {
		session := f.open(rt, "u")
		for _, tool := range []string{"silent", "open", "noisy"} {
			answer := make(chan string, 1)
			go func() {
				resp, err := rt.RoundTrip(f.legacy("u", session, "9007199254740993", "tools/call", `{"name":"`+tool+`","arguments":{}}`))
				if err != nil {
					answer <- err.Error()
					return
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				answer <- string(body)
			}()
			<-began
			other := f.open(rt, "u")
			for _, cancel := range []*http.Request{
				f.legacy("u", session, "", "notifications/cancelled", `{"requestId":9007199254740992}`),
				f.legacy("u", other, "", "notifications/cancelled", `{"requestId":9007199254740993}`),
			} {
				f.do(rt, cancel)
			}
			select {
			case <-gone:
				t.Fatal("another request or another session's was cancelled")
			default:
			}
			resp, _ := f.do(rt, f.legacy("u", session, "", "notifications/cancelled", `{"requestId":9007199254740993}`))
			hold(t, "status", resp.StatusCode == http.StatusAccepted, resp.StatusCode)
			select {
			case <-gone:
			case <-time.After(patience):
				t.Fatalf("%s, %s: the upstream is not told", proto, tool)
			}
			// Who has cancelled gets no answer (2025-11-25, cancellation).
			if got := <-answer; strings.Contains(got, `"id"`) {
				t.Errorf("%s, %s: a cancelled request was answered: %s", proto, tool, got)
			}
		}
	}
	for _, use := range f.records(audit.Filter{Kind: string(audit.KindUse)}) {
		if o := f.outcome(use.ID); use.Method == "tools/call" && o.Status != "cancelled" {
			t.Errorf("outcome %+v", o)
		}
	}
}
