package server

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/cluster"
	"sallyport/node/audit"
	"sallyport/raftfsm"
)

// records searches the audit as it stands on disk.
func (f *fixture) records(filter audit.Filter) (out []audit.Record) {
	f.t.Helper()
	if err := f.audit.Search(f.t.Context(), filter, func(r audit.Record) bool {
		out = append(out, r)
		return true
	}); err != nil {
		f.t.Errorf("search the audit: %v", err)
	}
	return out
}

// outcome waits for the outcome record of a use; it is written after the answer has gone out.
func (f *fixture) outcome(id string) audit.Record {
	f.t.Helper()
	var found []audit.Record
	until(func() bool {
		found = f.records(audit.Filter{ID: id, Kind: string(audit.KindOutcome)})
		return len(found) > 0
	})
	if len(found) > 0 {
		return found[0]
	}
	f.t.Fatalf("call %s has no outcome", id)
	return audit.Record{}
}

func TestUseIsRecordedBeforeTheUpstreamSeesIt(t *testing.T) {
	f := start(t)
	for _, eras := range []string{onlyModernEra, onlyLegacyEra} {
		u := scripted(t, eras, func(w http.ResponseWriter, s *seen) {
			if s.Method == "tools/call" {
				found := f.records(audit.Filter{Agent: "A", Upstream: "u", Item: "t", Kind: string(audit.KindUse)})
				if len(found) != 1 || found[0].Decision != audit.Allowed || found[0].Credential != "u:gateway" || found[0].Generation == 0 || found[0].ArgumentsSHA256 == "" || found[0].Token == "" || fmt.Sprint(found[0].Policies) != "[all]" {
					t.Errorf("while the upstream holds the call, the audit has %+v", found)
				}
			}
			finished(w, s)
		})
		name := map[string]string{onlyModernEra: "u", onlyLegacyEra: "old"}[eras]
		f.static(name, u.URL, "X-Api-Key", "k")
		resp, body := f.do(f.protocols()["HTTP/3.0"], f.modern(name, "1", "t", `{"a":1}`))
		if resp.StatusCode != http.StatusOK || !strings.Contains(body, "done") {
			t.Fatalf("status %d: %s", resp.StatusCode, body)
		}
		use := f.records(audit.Filter{Upstream: name, Kind: string(audit.KindUse)})
		if len(use) != 1 {
			t.Fatalf("uses: %+v", use)
		}
		if o := f.outcome(use[0].ID); o.Status != "ok" || o.Bytes != int64(len(body)) || o.Item != "t" || o.Micros <= 0 {
			t.Errorf("outcome %+v of %d bytes", o, len(body))
		}
	}
}

func TestOutcomesAreRecorded(t *testing.T) {
	f := start(t)
	u := scripted(t, onlyModernEra, func(w http.ResponseWriter, s *seen) {
		switch s.Header.Get("Mcp-Name") {
		case "tool-error":
			reply(w, s, `{"resultType":"complete","content":[],"isError":true}`)
		case "error":
			writeJSON(w, http.StatusOK, `{"jsonrpc":"2.0","id":`+string(s.ID)+`,"error":{"code":-32602,"message":"no"}}`)
		case "input":
			reply(w, s, `{"resultType":"input_required","requestState":"s"}`)
		case "down":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "stream":
			send := events(w)
			send(`{"jsonrpc":"2.0","id":` + string(s.ID) + `,"result":{"isError":true,"content":[]}}`)
		}
	})
	f.upstream("u", u.URL)
	rt := f.protocols()["HTTP/2.0"]
	for tool, want := range map[string]string{"tool-error": "tool_error ", "error": "error -32602", "input": "input_required ", "down": "upstream_error 1003", "stream": "tool_error "} {
		_, body := f.do(rt, f.modern("u", "1", tool, "{}"))
		use := f.records(audit.Filter{Item: tool, Kind: string(audit.KindUse)})
		if len(use) != 1 {
			t.Fatalf("%s: uses %+v", tool, use)
		}
		if o := f.outcome(use[0].ID); o.Status+" "+o.Code != want || o.Bytes != int64(len(body)) {
			t.Errorf("%s: outcome %+v, want %q and %d bytes", tool, o, want, len(body))
		}
	}
}

func TestDenialsAreRecorded(t *testing.T) {
	f := start(t)
	u := scripted(t, onlyModernEra, finished)
	f.upstream("u", u.URL)
	f.apply(&raftfsm.PutPolicy{Policy: raftfsm.Policy{Name: "no", Cedar: `forbid (principal, action, resource) when { resource != Tool::"u/t" };`}})
	rt := f.protocols()["HTTP/2.0"]
	// An agent chooses the name; it must not choose whether the denial is recorded.
	for _, tool := range []string{"denied", strings.Repeat("long", 40<<10), strings.Repeat(`\u0001`, 20<<10)} {
		before := len(f.records(audit.Filter{Decision: audit.Denied}))
		resp, body := f.do(rt, f.legacy("u", "", "1", "tools/call", `{"name":"`+tool+`","arguments":{}}`))
		if a := decode(t, body); resp.StatusCode != http.StatusOK || a.Error.Code != 1001 {
			t.Fatalf("status %d, code %d", resp.StatusCode, a.Error.Code)
		}
		found := f.records(audit.Filter{Decision: audit.Denied, Agent: "A", Upstream: "u"})
		if len(found) != before+1 || found[before].Reason == "" || fmt.Sprint(found[before].Policies) != "[no]" || found[before].Item == "" {
			t.Errorf("a tool name of %d bytes: %d denials, had %d", len(tool), len(found), before)
		}
	}
	hold(t, "denied calls reached the upstream", len(u.got("")) == 0, u.got(""))
}

func TestNothingIsSentUnrecorded(t *testing.T) {
	f := start(t)
	var low atomic.Bool
	log, err := audit.Open(t.TempDir(), "n", low.Load)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	f.gateway.Audit = log
	u := scripted(t, onlyModernEra, finished)
	f.static("u", u.URL, "X-Api-Key", "k")
	rt := f.protocols()["HTTP/1.1"]

	low.Store(true)
	resp, body := f.do(rt, f.modern("u", "1", "t", "{}"))
	want(t, resp, body, http.StatusOK, -32603, "the operator has to make room for the audit")
	hold(t, "a call that was not recorded reached the upstream", len(u.got("")) == 0)

	low.Store(false)
	f.serves(rt, "u")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	before := len(u.got(""))
	resp, body = f.do(rt, f.modern("u", "1", "t", "{}"))
	want(t, resp, body, http.StatusOK, -32603, "cannot be recorded")
	hold(t, "a call that was not recorded reached the upstream", len(u.got("")) == before)
	resp, body = f.do(rt, f.request(http.MethodGet, "u", "", "Accept", "text/event-stream", "Mcp-Session-Id", "x"))
	want(t, resp, body, http.StatusNotFound, 0, "initialize a new session")
}

// lateFreshness is asked right before the first byte leaves.
type lateFreshness struct {
	*cluster.Freshness
	check func() error
}

func (l lateFreshness) Check() error                    { return l.check() }
func (l lateFreshness) CheckWithin(time.Duration) error { return l.check() }

func TestNothingIsSentFromStaleState(t *testing.T) {
	f := start(t)
	var stale atomic.Bool
	f.gateway.Freshness = lateFreshness{f.cluster.Freshness(), func() error {
		if stale.Load() {
			return fmt.Errorf("%w: for a test", cluster.ErrStale)
		}
		return nil
	}}
	u := scripted(t, onlyModernEra, finished)
	f.static("u", u.URL, "X-Api-Key", "k")
	f.upstream("open", u.URL)
	for proto, rt := range f.protocols() {
		stale.Store(false)
		f.serves(rt, "u") // leaves a connection to be used again
		f.serves(rt, "open")
		before := len(u.got(""))
		stale.Store(true)
		for i := range 20 {
			for _, upstream := range []string{"u", "open"} {
				resp, body := f.do(rt, f.modern(upstream, "1", "t", "{}"))
				want(t, resp, body, http.StatusOK, 1002, "call another node")
			}
			if sent := u.got("")[before:]; len(sent) > 0 {
				t.Fatalf("over %s, call %d of a stale node reached the upstream with %v", proto, i, sent[0].Header)
			}
		}
	}
	found := f.records(audit.Filter{Kind: string(audit.KindOutcome)})
	if o := found[len(found)-1]; o.Status != "stale" || o.Code != "1002" {
		t.Errorf("outcome %+v", o)
	}
}

// TestRevocationRightBeforeTheFirstByte revokes while the call waits for its connection, after everything else has been decided.
func TestRevocationRightBeforeTheFirstByte(t *testing.T) {
	f := start(t)
	var revoke atomic.Pointer[string]
	f.gateway.Freshness = lateFreshness{f.cluster.Freshness(), func() error {
		id := revoke.Swap(nil)
		if id == nil {
			return nil
		}
		_, err := f.cluster.Apply(f.t.Context(), &raftfsm.Revoke{Revocation: raftfsm.Revocation{ID: *id, Kind: raftfsm.RevokeToken, Subject: *id}})
		return err
	}}
	u := scripted(t, onlyModernEra, finished)
	f.upstream("u", u.URL)
	rt := f.protocols()["HTTP/2.0"]
	f.serves(rt, "u")
	before := len(u.got(""))
	for range 20 {
		id, token := f.issue("A")
		revoke.Store(&id)
		resp, body := f.do(rt, f.modern("u", "1", "t", "{}", "Authorization", "Bearer "+token))
		want(t, resp, body, http.StatusUnauthorized, 0, "revoked")
		if sent := u.got("")[before:]; len(sent) > 0 {
			t.Fatalf("a call of a revoked agent reached the upstream: %s", sent[0].Body)
		}
	}
	f.serves(rt, "u")
}
