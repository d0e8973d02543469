package server

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/crypto"
	"sallyport/raftfsm"
)

// token makes a gateway token of agent A, changed as the test wants.
func (f *fixture) tokenLike(change func(*raftfsm.GatewayToken)) string {
	f.t.Helper()
	secret, hash, err := crypto.NewToken(crypto.GatewayToken)
	if err != nil {
		f.t.Fatal(err)
	}
	token := raftfsm.GatewayToken{ID: rand.Text(), Agent: "A", Hash: hash}
	change(&token)
	f.apply(&raftfsm.PutGatewayToken{Token: token})
	return secret.ExposeString()
}

func TestOnlyGoodTokensOpenMCP(t *testing.T) {
	f := start(t)
	u := scripted(t, onlyModernEra, finished)
	f.upstream("u", u.URL)
	foreign, _, err := crypto.NewToken(crypto.GatewayToken)
	if err != nil {
		t.Fatal(err)
	}
	adminText, err := os.ReadFile(f.AdminTokenPath())
	if err != nil {
		t.Fatal(err)
	}
	admin := strings.TrimSpace(string(adminText))
	revokedID, revoked := f.issue("A")
	f.revoke(raftfsm.RevokeToken, revokedID)
	f.apply(&raftfsm.PutAgent{Agent: raftfsm.Agent{Name: "Gone", Roles: []string{"r"}}})
	_, deleted := f.issue("Gone")
	f.apply(&raftfsm.DeleteAgent{Name: "Gone", RevocationID: "gone"})
	f.apply(&raftfsm.PutAgent{Agent: raftfsm.Agent{Name: "Gone", Roles: []string{"r"}}})
	expired := f.tokenLike(func(g *raftfsm.GatewayToken) { g.ExpireTime = time.Now().Add(-time.Second).UnixMilli() })
	other := f.tokenLike(func(g *raftfsm.GatewayToken) { g.Upstreams = []string{"v", "w"} })
	for name, c := range map[string]struct {
		authorization string
		words         string
	}{
		"none":               {"", "Authorization: Bearer spt_..."},
		"basic":              {"Basic " + base64.StdEncoding.EncodeToString([]byte("spt:"+f.token)), "one bearer token"},
		"nothing behind":     {"Bearer", "one bearer token"},
		"blank":              {"Bearer  ", "not valid"},
		"not a token":        {"Bearer hunter2", "mistyped or cut off"},
		"cut off":            {"Bearer " + f.token[:len(f.token)-1], "mistyped or cut off"},
		"one digit more":     {"Bearer " + f.token + "0", "mistyped or cut off"},
		"in another case":    {"Bearer " + strings.ToUpper(f.token), "mistyped or cut off"},
		"another kind":       {"Bearer spa_" + strings.TrimPrefix(f.token, "spt_"), "not valid"},
		"two in one":         {"Bearer " + f.token + ", Bearer " + f.token, "mistyped or cut off"},
		"of a service":       {"Bearer ghp_" + strings.Repeat("a", 36), "mistyped or cut off"},
		"of another cluster": {"Bearer " + foreign.ExposeString(), "this cluster did not issue it"},
		"expired":            {"Bearer " + expired, "sallyport token issue"},
		"revoked":            {"Bearer " + revoked, "revoked"},
		"deleted":            {"Bearer " + deleted, "did not issue it"},
		"an admin's":         {"Bearer " + admin, "admin tokens work on /v1 only"},
	} {
		for proto, rt := range f.protocols() {
			for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
				r := f.modern("u", "1", "t", "{}", "Authorization", c.authorization)
				if method != http.MethodPost {
					r = f.request(method, "u", "", "Authorization", c.authorization)
				}
				resp, body := f.do(rt, r)
				want(t, resp, body, http.StatusUnauthorized, 0, c.words)
				challenge := `Bearer error="invalid_token"`
				if name == "none" {
					challenge = "Bearer"
				}
				if got := resp.Header.Get("WWW-Authenticate"); got != challenge || strings.Contains(body, "spt_") && name != "none" {
					t.Errorf("%s over %s: challenge %q: %s", name, proto, got, body)
				}
			}
		}
	}
	rt := f.protocols()["HTTP/1.1"]
	twice := f.modern("u", "1", "t", "{}")
	twice.Header["Authorization"] = append(twice.Header["Authorization"], "Bearer "+f.token)
	resp, body := f.do(rt, twice)
	want(t, resp, body, http.StatusUnauthorized, 0, "one bearer token")
	query := f.modern("u", "1", "t", "{}", "Authorization", "")
	query.URL.RawQuery = "access_token=" + f.token
	resp, body = f.do(rt, query)
	want(t, resp, body, http.StatusUnauthorized, 0, "there is no gateway token")
	resp, body = f.do(rt, f.modern("u", "1", "t", "{}", "Authorization", "Bearer "+other))
	want(t, resp, body, http.StatusOK, 1001, "use a token that is")
	hold(t, "a bad token reached the upstream", len(u.got("")) == 0)
	hold(t, "the tokens stand in the log", !strings.Contains(f.logs.String(), f.token) && !strings.Contains(f.logs.String(), "hunter2"))

	admins := f.request(http.MethodGet, "u", "")
	admins.URL.Path = "/v1/upstreams"
	resp, body = f.do(rt, admins)
	want(t, resp, body, http.StatusUnauthorized, 0, "this is a gateway token, which opens /mcp only")
	resp, body = f.do(rt, f.modern("none", "1", "t", "{}"))
	want(t, resp, body, http.StatusNotFound, 0, "sallyport get upstreams")
	resp, _ = f.do(rt, f.modern("u", "1", "t", "{}", "Authorization", "bEaReR "+f.token))
	hold(t, "the scheme has no case", resp.StatusCode == http.StatusOK, resp.StatusCode)
	f.serves(rt, "u")
}

// session seals a session id as the gateway would.
func (f *fixture) session(agent, upstream, content string) string {
	f.t.Helper()
	u, ok := f.cluster.Read().Upstream(upstream)
	if !ok {
		f.t.Fatal("no such upstream")
	}
	id := strings.Join([]string{agent, upstream, u.URL, ""}, " ")
	sealed, err := f.keys.data.Seal(crypto.SecretString(content), crypto.Binding{Kind: "session", ID: id})
	if err != nil {
		f.t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(sealed)
}

// TestSessionsOfOthers holds that a session id opens nothing but the session of its own agent at its own upstream, and that whatever is wrong
// with it the client learns to begin anew (404).
func TestSessionsOfOthers(t *testing.T) {
	f := start(t)
	u := scripted(t, onlyLegacyEra, finished)
	f.upstream("u", u.URL)
	f.upstream("v", u.URL)
	rt := f.protocols()["HTTP/3.0"]
	good := f.open(rt, "u")
	hold(t, "the upstream's session id stays here", !strings.Contains(good, "upstream-session") && len(good) > 40, good)
	f.apply(&raftfsm.PutAgent{Agent: raftfsm.Agent{Name: "B", Roles: []string{"r"}}})
	_, tokenB := f.issue("B")
	fresh := fmt.Sprintf(`{"u":"upstream-session","v":"2025-11-25","i":%d,"e":%d}`, f.cluster.Read().Index(), time.Now().Add(time.Hour).Unix())
	resp, body := f.do(rt, f.legacy("u", f.session("A", "u", fresh), "1", "tools/call", `{"name":"t"}`))
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "done") {
		t.Fatalf("a session as the gateway seals it: %d %s", resp.StatusCode, body)
	}
	before := len(u.got(""))
	middle := []byte(good)
	middle[len(middle)/2] ^= 1
	for name, c := range map[string]struct {
		upstream, session string
		header            []string
	}{
		"forged":                  {"u", "c2Vzc2lvbg", nil},
		"the upstream's own":      {"u", "upstream-session", nil},
		"cut":                     {"u", good[:len(good)-2], nil},
		"altered":                 {"u", string(middle), nil},
		"with padding":            {"u", good + "==", nil},
		"far too long":            {"u", strings.Repeat("A", 8<<10), nil},
		"of another agent":        {"u", good, []string{"Authorization", "Bearer " + tokenB}},
		"for another upstream":    {"v", good, nil},
		"expired":                 {"u", f.session("A", "u", `{"u":"upstream-session","v":"2025-11-25","i":99999,"e":1}`), nil},
		"sealed, but no session":  {"u", f.session("A", "u", `[]`), nil},
		"sealed for another kind": {"u", strings.Replace(good, "A", "B", 1), nil},
	} {
		for _, r := range []*http.Request{
			f.legacy(c.upstream, c.session, "1", "tools/call", `{"name":"t"}`, c.header...),
			f.request(http.MethodGet, c.upstream, "", append([]string{"Accept", "text/event-stream", "Mcp-Session-Id", c.session}, c.header...)...),
			f.request(http.MethodDelete, c.upstream, "", append([]string{"Mcp-Session-Id", c.session}, c.header...)...),
		} {
			resp, body := f.do(rt, r)
			want(t, resp, body, http.StatusNotFound, 0, "initialize a new session")
			if t.Failed() {
				t.Fatal(name)
			}
		}
	}
	hold(t, "a bad session reached the upstream", len(u.got("")) == before)

	f.revoke(raftfsm.RevokeAgent, "A")
	_, f.token = f.issue("A")
	resp, body = f.do(rt, f.legacy("u", good, "1", "tools/call", `{"name":"t"}`))
	want(t, resp, body, http.StatusNotFound, 0, "initialize a new session")
	again := f.open(rt, "u")
	f.apply(&raftfsm.DeleteAgent{Name: "A", RevocationID: "again"})
	f.apply(&raftfsm.PutAgent{Agent: raftfsm.Agent{Name: "A", Roles: []string{"r"}}})
	_, f.token = f.issue("A")
	resp, body = f.do(rt, f.legacy("u", again, "1", "tools/call", `{"name":"t"}`))
	want(t, resp, body, http.StatusNotFound, 0, "initialize a new session")
}

func TestCursorsAndStatesBelongToTheirCaller(t *testing.T) {
	f := start(t)
	u := scripted(t, onlyModernEra, func(w http.ResponseWriter, s *seen) {
		switch s.Method {
		case "tools/list", "prompts/list":
			if strings.Contains(s.Body, `"cursor":"their-cursor"`) {
				reply(w, s, `{"resultType":"complete","tools":[],"prompts":[]}`)
				return
			}
			reply(w, s, `{"resultType":"complete","tools":[],"prompts":[],"nextCursor":"their-cursor"}`)
		default:
			if strings.Contains(s.Body, `"requestState":"their-state"`) {
				reply(w, s, done)
				return
			}
			reply(w, s, `{"resultType":"input_required","inputRequests":{},"requestState":"their-state"}`)
		}
	})
	f.upstream("u", u.URL)
	f.upstream("v", u.URL)
	f.apply(&raftfsm.PutAgent{Agent: raftfsm.Agent{Name: "B", Roles: []string{"r"}}})
	_, tokenB := f.issue("B")
	asB := []string{"Authorization", "Bearer " + tokenB}
	rt := f.protocols()["HTTP/2.0"]
	handedOut := func(body, member string) string {
		t.Helper()
		_, after, ok := strings.Cut(body, `"`+member+`":"`)
		text, _, _ := strings.Cut(after, `"`)
		if !ok || text == "" || strings.Contains(body, "their-") {
			t.Fatalf("handed out: %s", body)
		}
		return text
	}
	_, body := f.do(rt, f.message("u", "1", "tools/list", ""))
	cursor := handedOut(body, "nextCursor")
	_, body = f.do(rt, f.modern("u", "1", "t", "{}"))
	state := handedOut(body, "requestState")
	with := func(upstream, tool, state string, header ...string) *http.Request {
		return f.message(upstream, "2", "tools/call", `"name":"`+tool+`","arguments":{},"requestState":"`+state+`"`, header...)
	}
	before := len(u.got(""))
	for name, r := range map[string]*http.Request{
		"cursor of another agent":    f.message("u", "2", "tools/list", `"cursor":"`+cursor+`"`, asB...),
		"cursor of another upstream": f.message("v", "2", "tools/list", `"cursor":"`+cursor+`"`),
		"cursor of another list":     f.message("u", "2", "prompts/list", `"cursor":"`+cursor+`"`),
		"cursor altered":             f.message("u", "2", "tools/list", `"cursor":"x`+cursor[1:]+`"`),
		"cursor of the upstream":     f.message("u", "2", "tools/list", `"cursor":"their-cursor"`),
		"cursor that is a state":     f.message("u", "2", "tools/list", `"cursor":"`+state+`"`),
		"state of another agent":     with("u", "t", state, asB...),
		"state of another upstream":  with("v", "t", state),
		"state of another tool":      with("u", "other", state),
		"state altered":              with("u", "t", state[:len(state)-3]+"abc"),
		"state of the upstream":      with("u", "t", "their-state"),
		"state that is empty":        with("u", "t", ""),
		"state that is a cursor":     with("u", "t", cursor),
	} {
		resp, body := f.do(rt, r)
		a := decode(t, body)
		hold(t, name, resp.StatusCode == http.StatusOK && a.Error.Code == -32602 && strings.Contains(a.text(), "not handed out by this gateway"), body)
	}
	hold(t, "what is not the caller's reached the upstream", len(u.got("")) == before)
	_, body = f.do(rt, f.message("u", "2", "tools/list", `"cursor":"`+cursor+`"`))
	hold(t, "my own cursor", strings.Contains(body, `"tools":[]`) && !strings.Contains(body, "nextCursor"), body)
	_, body = f.do(rt, with("u", "t", state))
	hold(t, "my own state", strings.Contains(body, "done"), body)
}
