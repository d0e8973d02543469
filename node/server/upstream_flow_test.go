package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/crypto"
	"sallyport/node/audit"
	"sallyport/raftfsm"
)

// TestLargeResultsStreamThrough sends many MiB of JSON and holds every byte of it, and that the node never has it whole.
func TestLargeResultsStreamThrough(t *testing.T) {
	const piece, bound = 1 << 20, 20 << 20
	f := start(t)
	var base, most atomic.Uint64
	inUse := func() uint64 {
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		return now.HeapInuse
	}
	sums := make(chan string, 1)
	u := scripted(t, onlyModernEra, func(w http.ResponseWriter, s *seen) {
		pieces, err := strconv.Atoi(s.Header.Get("Mcp-Name"))
		if err != nil {
			finished(w, s)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		sum := sha256.New()
		out := io.MultiWriter(w, sum)
		fmt.Fprintf(out, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","content":[{"type":"text","text":"`, s.ID)
		for i := range pieces {
			fmt.Fprint(out, strings.Repeat(string(rune('a'+i%26)), piece))
			if now := inUse(); now > base.Load() {
				most.Store(max(most.Load(), now-base.Load()))
			}
		}
		fmt.Fprint(out, `"}]}}`)
		sums <- string(sum.Sum(nil))
	})
	f.upstream("u", u.URL)
	protocols := f.protocols()
	for proto, pieces := range map[string]int{"HTTP/1.1": 64, "HTTP/2.0": 24, "HTTP/3.0": 24} {
		rt := protocols[proto]
		f.serves(rt, "u")
		runtime.GC()
		base.Store(inUse())
		most.Store(0)
		resp, err := rt.RoundTrip(f.modern("u", "1", strconv.Itoa(pieces), "{}"))
		if err != nil {
			t.Fatal(err)
		}
		got := sha256.New()
		n, err := io.Copy(got, resp.Body)
		if err != nil || resp.Body.Close() != nil || n < int64(pieces)*piece || string(got.Sum(nil)) != <-sums {
			t.Errorf("%s: %d bytes came, %v", proto, n, err)
		}
		// What the test itself makes of each piece is in it.
		hold(t, proto+": the memory it took", most.Load() < bound, most.Load())
	}
}

// TestAnswersThatMustBeReadWholeAreBounded sends a list without end.
func TestAnswersThatMustBeReadWholeAreBounded(t *testing.T) {
	f := start(t)
	endless := func(w http.ResponseWriter, s *seen) {
		if s.Method != "tools/list" {
			finished(w, s)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"tools":[`, s.ID)
		for s.Context().Err() == nil {
			if _, err := io.WriteString(w, `{"name":"t","inputSchema":{}},`); err != nil {
				return
			}
		}
	}
	f.upstream("new", scripted(t, onlyModernEra, endless).URL)
	f.upstream("old", scripted(t, onlyLegacyEra, endless).URL)
	rt := f.protocols()["HTTP/2.0"]
	for _, upstream := range []string{"new", "old"} {
		resp, body := f.do(rt, f.message(upstream, "1", "tools/list", ""))
		want(t, resp, body, http.StatusOK, 1003, "more than 16777216 bytes")
		f.serves(rt, upstream)
	}
}

// TestUpstreamsThatHangHalfWay holds that the client's leaving ends the wait, and that nobody else waits with it.
func TestUpstreamsThatHangHalfWay(t *testing.T) {
	f := start(t)
	hanging, gone := make(chan string, 8), make(chan string, 8)
	hang := func(w http.ResponseWriter, s *seen) {
		var name string
		for _, tool := range []string{"json", "events", "header"} {
			if strings.Contains(s.Body, `"name":"`+tool+`"`) {
				name = tool
			}
		}
		switch name {
		case "json":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{`, s.ID)
		case "events":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "data: %s\n\ndata: {\"jsonrpc\"", note)
		case "header":
		default:
			finished(w, s)
			return
		}
		if name != "header" {
			_ = http.NewResponseController(w).Flush()
		}
		hanging <- name
		<-s.Context().Done()
		gone <- name
	}
	f.upstream("new", scripted(t, onlyModernEra, hang).URL)
	f.upstream("old", scripted(t, onlyLegacyEra, hang).URL)
	for proto, rt := range f.protocols() {
		for _, upstream := range []string{"new", "old"} {
			for _, tool := range []string{"json", "events", "header"} {
				ctx, leave := context.WithCancel(t.Context())
				left := make(chan error, 1)
				go func() {
					resp, err := rt.RoundTrip(f.modern(upstream, "1", tool, "{}").WithContext(ctx))
					if err == nil {
						_, err = io.Copy(io.Discard, resp.Body)
						_ = resp.Body.Close()
					}
					left <- err
				}()
				<-hanging
				f.serves(rt, upstream)
				leave()
				if err := <-left; !errors.Is(err, context.Canceled) && proto != "HTTP/3.0" {
					t.Errorf("%s, %s: %v", proto, tool, err)
				}
				select {
				case <-gone:
				case <-time.After(patience):
					t.Fatalf("%s, %s, %s: the upstream is not told that the client left", proto, upstream, tool)
				}
			}
		}
	}
	for _, use := range f.records(audit.Filter{Kind: string(audit.KindUse)}) {
		if o := f.outcome(use.ID); o.Status != "cancelled" && use.Item != "t" {
			t.Errorf("%s: outcome %+v", use.Item, o)
		}
	}
}

// TestUpstreamsThatDoNotLetGo answer, and then keep their answer open.
func TestUpstreamsThatDoNotLetGo(t *testing.T) {
	f := start(t)
	keeps := func(w http.ResponseWriter, s *seen) {
		if s.Request.Method == http.MethodGet {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		if s.ID == nil {
			w.Header().Set("Content-Length", "10")
			w.WriteHeader(http.StatusAccepted)
		} else {
			result := done
			if s.Method == "initialize" {
				result = `{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"u","version":"1"}}`
				w.Header().Set("Mcp-Session-Id", "s")
			}
			send := events(w)
			send(`{"jsonrpc":"2.0","id":` + string(s.ID) + `,"result":` + result + `}`)
			send(`{"jsonrpc":"2.0","id":` + string(s.ID) + `,"result":{"content":[{"text":"second answer"}]}}`)
		}
		_ = http.NewResponseController(w).Flush()
		<-s.Context().Done()
	}
	f.upstream("new", scripted(t, onlyModernEra, keeps).URL)
	f.upstream("old", scripted(t, onlyLegacyEra, keeps).URL)
	rt := f.protocols()["HTTP/2.0"]
	var session string
	for _, one := range []struct {
		name string
		r    func() *http.Request
	}{
		{"modern to modern", func() *http.Request { return f.modern("new", "1", "t", "{}") }},
		{"modern to legacy", func() *http.Request { return f.modern("old", "1", "t", "{}") }},
		{"initialize", func() *http.Request {
			return f.legacy("old", "", "0", "initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}`)
		}},
		{"notification", func() *http.Request { return f.legacy("old", session, "", "notifications/initialized", `{}`) }},
		{"legacy to legacy", func() *http.Request { return f.legacy("old", session, "1", "tools/call", `{"name":"t"}`) }},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		resp, err := rt.RoundTrip(one.r().WithContext(ctx))
		if err != nil {
			t.Fatalf("%s: %v", one.name, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.Body.Close() != nil {
			t.Fatalf("%s: %v after %q", one.name, err, body)
		}
		cancel()
		if one.name == "initialize" {
			session = resp.Header.Get("Mcp-Session-Id")
		}
		hold(t, one.name, resp.StatusCode < 300 && !strings.Contains(string(body), "second"), resp.StatusCode, string(body))
	}
}

// TestRequestsOfModernServers are not part of the protocol: servers ask in their result.
func TestRequestsOfModernServers(t *testing.T) {
	f := start(t)
	u := scripted(t, onlyModernEra, func(w http.ResponseWriter, s *seen) {
		send := events(w)
		send(note)
		send(`{"jsonrpc":"2.0","id":"theirs","method":"sampling/createMessage","params":{"secret":"prompt"}}`)
		send(`{"jsonrpc":"2.0","id":` + string(s.ID) + `,"result":` + done + `}`)
	})
	f.upstream("u", u.URL)
	resp, body := f.do(f.protocols()["HTTP/3.0"], f.modern("u", "1", "t", "{}"))
	all := messages(t, body)
	if resp.StatusCode != http.StatusOK || len(all) != 2 || all[0].Method != "notifications/message" || all[1].Error.Code != 1003 || strings.Contains(body, "prompt") || strings.Contains(body, "done") {
		t.Fatalf("the client saw %s", body)
	}
}

// oauth configures an upstream whose credential is obtained from a token endpoint, which issues t1, t2 and so on.
func (f *fixture) oauth(name, url string) (issued *atomic.Int32) {
	f.t.Helper()
	issued = new(atomic.Int32)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, fmt.Sprintf(`{"access_token":"t%d","token_type":"Bearer","expires_in":3600}`, issued.Add(1)))
	}))
	f.t.Cleanup(endpoint.Close)
	sealed, err := f.keys.control.Seal(crypto.SecretString("s"), crypto.Binding{Kind: "upstream", ID: name, Generation: 1})
	if err != nil {
		f.t.Fatal(err)
	}
	f.apply(&raftfsm.PutUpstream{Upstream: raftfsm.Upstream{
		Name: name, URL: url, Grant: raftfsm.GrantClientCredentials, TokenURL: endpoint.URL, ClientID: "c", ClientAuth: raftfsm.ClientSecretBasic,
		ClientSecret: sealed, SecretGeneration: 1,
	}})
	return issued
}

func TestRefusedCredentialIsReplacedOnce(t *testing.T) {
	f := start(t)
	var accepted atomic.Pointer[string]
	accept := func(token string) { accepted.Store(&token) }
	u := scripted(t, onlyModernEra, func(w http.ResponseWriter, s *seen) {
		if s.Header.Get("Authorization") != *accepted.Load() {
			w.Header().Set("Content-Length", "1000") // of which nothing comes
			w.WriteHeader(http.StatusUnauthorized)
			_ = http.NewResponseController(w).Flush()
			<-s.Context().Done()
			return
		}
		finished(w, s)
	})
	issued := f.oauth("u", u.URL)
	rt := f.protocols()["HTTP/2.0"]
	accept("Bearer t1")
	f.serves(rt, "u")
	accept("Bearer t2")
	f.serves(rt, "u")
	hold(t, "tokens obtained", issued.Load() == 2, issued.Load())
	var generations []uint64
	for _, r := range f.records(audit.Filter{Kind: string(audit.KindUse)}) {
		generations = append(generations, r.Generation)
	}
	hold(t, "each use has a record, that of the client secret as 0", fmt.Sprint(generations) == "[0 1 1 0 2]", generations)

	accept("Bearer none")
	before := len(u.got(""))
	resp, body := f.do(rt, f.modern("u", "1", "t", "{}"))
	want(t, resp, body, http.StatusOK, 1003, "refuses the credential")
	hold(t, "requests of one call", len(u.got("")) == before+2, len(u.got(""))-before)
	hold(t, "tokens obtained", issued.Load() == 3, issued.Load())

	f.static("fixed", u.URL, "X-Api-Key", "k")
	before = len(u.got(""))
	resp, body = f.do(rt, f.modern("fixed", "1", "t", "{}"))
	want(t, resp, body, http.StatusOK, 1003, "refuses the credential")
	hold(t, "a static value is not sent twice", len(u.got("")) == before+1, len(u.got(""))-before)
}
