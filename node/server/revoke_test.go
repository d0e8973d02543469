package server

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/crypto"
	"sallyport/raftfsm"
)

// stream is an answer that is being read line by line.
type stream struct {
	t     *testing.T
	lines chan string // closed at the end of the stream
	resp  *http.Response
}

func (f *fixture) stream(rt http.RoundTripper, r *http.Request) *stream {
	f.t.Helper()
	resp, err := rt.RoundTrip(r)
	if err != nil {
		f.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(resp.Body)
		f.t.Fatalf("status %d: %s, %v", resp.StatusCode, body, err)
	}
	s := &stream{t: f.t, lines: make(chan string, 1024), resp: resp}
	go func() {
		defer close(s.lines)
		defer resp.Body.Close()
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			if data, ok := strings.CutPrefix(in.Text(), "data: "); ok {
				s.lines <- data
			}
		}
	}()
	return s
}

const patience = 30 * time.Second

// next is the data of the next event.
func (s *stream) next() string {
	s.t.Helper()
	select {
	case line, ok := <-s.lines:
		if !ok {
			s.t.Fatal("the stream ended")
		}
		return line
	case <-time.After(patience):
		s.t.Fatal("no event came")
	}
	return ""
}

// rest waits for the end of the stream and returns what came until then.
func (s *stream) rest() (out []string) {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				return out
			}
			out = append(out, line)
		case <-timeout:
			s.t.Fatal("the stream does not end")
		}
	}
}

// streaming is an upstream whose GET streams and calls of the tool "slow" send one notification and stay open until their client goes away
// or finish is closed.
type streaming struct {
	*script
	gone   chan string // what was cancelled
	finish chan struct{}
}

const note = `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"one"}}`

func openStreams(t *testing.T, eras string) *streaming {
	u := &streaming{gone: make(chan string, 64), finish: make(chan struct{})}
	u.script = scripted(t, eras, func(w http.ResponseWriter, s *seen) {
		what := s.Method
		switch {
		case s.Request.Method == http.MethodGet:
			what = "GET"
		case s.Method == "subscriptions/listen", s.Header.Get("Mcp-Name") == "slow", strings.Contains(s.Body, `"slow"`):
		default:
			finished(w, s)
			return
		}
		send := events(w)
		send(note)
		select {
		case <-s.Context().Done():
			u.gone <- what
		case <-u.finish:
			if s.ID != nil {
				send(`{"jsonrpc":"2.0","id":` + string(s.ID) + `,"result":` + done + `}`)
			}
		}
	})
	return u
}

func (u *streaming) cancelled(t *testing.T) string {
	t.Helper()
	select {
	case what := <-u.gone:
		return what
	case <-time.After(patience):
		t.Fatal("the upstream is not told")
		return ""
	}
}

func (f *fixture) revoke(kind raftfsm.SubjectKind, subject string) {
	f.t.Helper()
	f.apply(&raftfsm.Revoke{Revocation: raftfsm.Revocation{ID: rand.Text(), Kind: kind, Subject: subject}})
}

// openStreamRequests are the three kinds of streams that a client can have open.
func (f *fixture) openStreamRequests(rt http.RoundTripper, token string) map[string]*http.Request {
	auth := []string{"Authorization", "Bearer " + token}
	owner := f.token
	f.token = token
	session := f.open(rt, "old")
	f.token = owner
	return map[string]*http.Request{
		"GET":                  f.request(http.MethodGet, "old", "", append(auth, "Accept", "text/event-stream", "Mcp-Session-Id", session)...),
		"tools/call":           f.modern("new", "7", "slow", "{}", auth...),
		"subscriptions/listen": f.message("new", "8", "subscriptions/listen", `"notifications":{"toolsListChanged":true}`, auth...),
	}
}

func TestRevocationEndsOpenStreams(t *testing.T) {
	f := start(t)
	modern, legacy := openStreams(t, onlyModernEra), openStreams(t, onlyLegacyEra)
	legacy.gone = modern.gone
	f.static("new", modern.URL, "X-Api-Key", "k")
	f.static("old", legacy.URL, "X-Api-Key", "k")
	for proto, rt := range f.protocols() {
		for _, kind := range []raftfsm.SubjectKind{raftfsm.RevokeToken, raftfsm.RevokeAgent} {
			t.Run(fmt.Sprintf("%s of %s", proto, kind), func(t *testing.T) {
				agent := "Temporary" + strings.NewReplacer("/", "-", ".", "-").Replace(proto)
				f.apply(&raftfsm.PutAgent{Agent: raftfsm.Agent{Name: agent, Roles: []string{"r"}}})
				id, token := f.issue(agent)
				subject := map[raftfsm.SubjectKind]string{raftfsm.RevokeToken: id, raftfsm.RevokeAgent: agent}[kind]
				open := map[string]*stream{}
				for what, r := range f.openStreamRequests(rt, token) {
					open[what] = f.stream(rt, r)
					if got := open[what].next(); got != note {
						t.Fatalf("%s: %s", what, got)
					}
				}
				other := f.stream(rt, f.modern("new", "9", "slow", "{}"))
				hold(t, "another agent's stream", other.next() == note)

				f.revoke(kind, subject)
				for what, s := range open {
					last := strings.Join(s.rest(), "")
					if what == "GET" {
						hold(t, "a GET stream ended with", last == "", last)
					} else if a := decode(t, last); a.Error.Code != 1001 || !strings.Contains(a.text(), "revoked") {
						t.Errorf("%s ended with %s", what, last)
					}
				}
				resp, body := f.do(rt, f.modern("new", "1", "t", "{}", "Authorization", "Bearer "+token))
				want(t, resp, body, http.StatusUnauthorized, 0, "revoked")
				hold(t, "challenge", resp.Header.Get("WWW-Authenticate") == `Bearer error="invalid_token"`, resp.Header)
				select {
				case line, ok := <-other.lines:
					t.Errorf("another agent's stream: %q, %v", line, ok)
				default:
				}
				_ = other.resp.Body.Close()
				for range len(open) + 1 {
					modern.cancelled(t)
				}
			})
		}
	}
}

func TestExpiryEndsOpenStreams(t *testing.T) {
	f := start(t)
	u := openStreams(t, onlyModernEra)
	f.upstream("new", u.URL)
	secret, hash, err := crypto.NewToken(crypto.GatewayToken)
	if err != nil {
		t.Fatal(err)
	}
	expires := time.Now().Add(2 * time.Second)
	f.apply(&raftfsm.PutGatewayToken{Token: raftfsm.GatewayToken{ID: rand.Text(), Agent: "A", Hash: hash, ExpireTime: expires.UnixMilli()}})
	rt := f.protocols()["HTTP/3.0"]
	s := f.stream(rt, f.modern("new", "1", "slow", "{}", "Authorization", "Bearer "+secret.ExposeString()))
	hold(t, "first event", s.next() == note)
	a := decode(t, strings.Join(s.rest(), ""))
	hold(t, "the end", a.Error.Code == 1001 && strings.Contains(a.text(), "expired"), a)
	hold(t, "it ended early", !time.Now().Before(expires.Add(-time.Millisecond)))
	hold(t, "upstream", u.cancelled(t) == "tools/call")
	resp, body := f.do(rt, f.modern("new", "1", "t", "{}", "Authorization", "Bearer "+secret.ExposeString()))
	want(t, resp, body, http.StatusUnauthorized, 0, "sallyport token issue")
}

// TestRevocationWhileTheUpstreamThinks ends a call that has not been answered at all.
func TestRevocationWhileTheUpstreamThinks(t *testing.T) {
	f := start(t)
	thinking := make(chan struct{}, 1)
	gone := make(chan struct{}, 1)
	u := scripted(t, onlyModernEra, func(_ http.ResponseWriter, s *seen) {
		thinking <- struct{}{}
		<-s.Context().Done()
		gone <- struct{}{}
	})
	f.upstream("u", u.URL)
	for proto, rt := range f.protocols() {
		id, token := f.issue("A")
		go func() {
			<-thinking
			_, _ = f.cluster.Apply(context.Background(), &raftfsm.Revoke{Revocation: raftfsm.Revocation{ID: rand.Text(), Kind: raftfsm.RevokeToken, Subject: id}})
		}()
		resp, body := f.do(rt, f.modern("u", "1", "t", "{}", "Authorization", "Bearer "+token))
		want(t, resp, body, http.StatusUnauthorized, 0, "revoked")
		select {
		case <-gone:
		case <-time.After(patience):
			t.Fatalf("%s: the upstream is not told", proto)
		}
	}
}

func TestDrain(t *testing.T) {
	f := start(t)
	modern, legacy := openStreams(t, onlyModernEra), openStreams(t, onlyLegacyEra)
	f.upstream("new", modern.URL)
	f.upstream("old", legacy.URL)
	for proto, rt := range f.protocols() {
		t.Run(proto, func(t *testing.T) {
			open := map[string]*stream{}
			for what, r := range f.openStreamRequests(rt, f.token) {
				open[what] = f.stream(rt, r)
				hold(t, "first event", open[what].next() == note)
			}
			stopped := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				stopped <- f.Shutdown(ctx)
			}()
			hold(t, "a GET stream ends", len(open["GET"].rest()) == 0)
			last := strings.Join(open["subscriptions/listen"].rest(), "")
			if a := decode(t, last); string(a.ID) != "8" || !strings.Contains(string(a.Result), `"complete"`) || a.Error.Code != 0 {
				t.Errorf("subscriptions/listen ended with %s", last)
			}
			close(modern.finish)
			last = strings.Join(open["tools/call"].rest(), "")
			if a := decode(t, last); string(a.ID) != "7" || !strings.Contains(string(a.Result), "done") {
				t.Errorf("a slow call was answered %s", last)
			}
			if err := <-stopped; err != nil {
				t.Errorf("shutdown: %v", err)
			}
			modern.finish = make(chan struct{})
			f.restart()
		})
	}
}
