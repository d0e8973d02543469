package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"sallyport/raftfsm"
)

func (f *fixture) policy(name, cedar string) {
	f.t.Helper()
	f.apply(&raftfsm.PutPolicy{Policy: raftfsm.Policy{Name: name, Cedar: cedar}})
}

// lists is an upstream with items whose spelling must survive.
const (
	toolItem     = `{"name":"%s",  "inputSchema":{"type":"object","x-big":9007199254740993,"x-vendor":{"\u00fc":[1.0,1e3]}},"title":"T\u0026"}`
	promptItem   = `{ "name":"%s","arguments":[]}`
	resourceItem = `{"uri":"test://%s","name":"r" ,"size":9007199254740993}`
	templateItem = `{"uriTemplate":"test://%s/{id}","name":"r"}`
)

func listing(w http.ResponseWriter, s *seen) {
	items := func(format string) string {
		return "[" + fmt.Sprintf(format, "open") + "," + fmt.Sprintf(format, "closed") + " , " + fmt.Sprintf(format, "limited") + "]"
	}
	const more = `"ttlMs":60000,"cacheScope":"public","x-more":[ 1 ]`
	switch s.Method {
	case "tools/list":
		reply(w, s, `{"tools":`+items(toolItem)+`,`+more+`}`)
	case "prompts/list":
		reply(w, s, `{"prompts":`+items(promptItem)+`,`+more+`}`)
	case "resources/list":
		reply(w, s, `{"resources":`+items(resourceItem)+`,`+more+`}`)
	case "resources/templates/list":
		reply(w, s, `{"resourceTemplates":`+items(templateItem)+`,`+more+`}`)
	default:
		finished(w, s)
	}
}

func TestListsShowWhatMayBeUsed(t *testing.T) {
	f := start(t)
	f.policy("all", `
		permit (principal, action, resource) when { [Tool::"new/open", Prompt::"new/open", Resource::"new/test://open", Resource::"new/test://open/{id}",
			Tool::"old/open", Prompt::"old/open", Resource::"old/test://open", Resource::"old/test://open/{id}"].contains(resource) };
		permit (principal, action == Action::"tools/call", resource) when { [Tool::"new/limited", Tool::"old/limited"].contains(resource) && context.arguments.limit <= 10 };`)
	f.upstream("new", scripted(t, onlyModernEra, listing).URL)
	f.upstream("old", scripted(t, onlyLegacyEra, listing).URL)
	protocols := f.protocols()
	for proto, rt := range protocols {
		sessions := map[string]string{"new": f.open(rt, "new"), "old": f.open(rt, "old")}
		for method, c := range map[string]struct {
			member, item string
			shown        []string
		}{
			"tools/list":               {"tools", toolItem, []string{"open", "limited"}},
			"prompts/list":             {"prompts", promptItem, []string{"open"}},
			"resources/list":           {"resources", resourceItem, []string{"open"}},
			"resources/templates/list": {"resourceTemplates", templateItem, []string{"open"}},
		} {
			var shown []string
			for _, name := range c.shown {
				shown = append(shown, fmt.Sprintf(c.item, name))
			}
			list := `"` + c.member + `":[` + strings.Join(shown, ",") + `]`
			for _, upstream := range []string{"new", "old"} {
				for era, r := range map[string]*http.Request{
					"modern": f.message(upstream, "1", method, ""), "legacy": f.legacy(upstream, sessions[upstream], "1", method, `{}`),
				} {
					resp, body := f.do(rt, r)
					if resp.StatusCode != http.StatusOK || !strings.Contains(body, list) || strings.Contains(body, "closed") || strings.Contains(body, `"public"`) || !strings.Contains(body, `"x-more":[ 1 ]`) {
						t.Errorf("%s over %s, %s client of %s: %s", method, proto, era, upstream, body)
					}
					if era == "modern" && !strings.Contains(body, `"cacheScope":"private"`) {
						t.Errorf("%s of %s may be cached for others: %s", method, upstream, body)
					}
				}
			}
		}
	}
}

// TestEveryMethodIsDecided holds each method to the decision on the item that it names.
func TestEveryMethodIsDecided(t *testing.T) {
	f := start(t)
	f.policy("all", `
		permit (principal, action == Action::"tools/call", resource == Tool::"u/open");
		permit (principal, action == Action::"tools/call", resource == Tool::"u/limited") when { context.arguments has limit && context.arguments.limit <= 1000 };
		permit (principal, action == Action::"prompts/get", resource == Prompt::"u/open");
		permit (principal, action == Action::"resources/read", resource == Resource::"u/test://open");
		permit (principal, action == Action::"tools/call", resource == Tool::"u/fatal");
		forbid (principal, action == Action::"tools/call", resource == Tool::"u/fatal");`)
	u := scripted(t, bothEras, finished)
	f.upstream("u", u.URL)
	rt := f.protocols()["HTTP/3.0"]
	session := f.open(rt, "u")
	listen := func(uris string) *http.Request {
		return f.message("u", "1", "subscriptions/listen", `"notifications":{"resourceSubscriptions":[`+uris+`]}`)
	}
	complete := func(ref string) *http.Request {
		return f.message("u", "1", "completion/complete", `"ref":`+ref+`,"argument":{"name":"a","value":""}`)
	}
	legacy := func(method, params string) *http.Request { return f.legacy("u", session, "1", method, params) }
	for name, c := range map[string]struct {
		r      *http.Request
		denied string // empty: allowed
	}{
		"an open tool":                {f.modern("u", "1", "open", `{}`), ""},
		"a closed tool":               {f.modern("u", "1", "closed", `{}`), `resource == Tool::"u/closed"`},
		"a tool in another case":      {f.modern("u", "1", "Open", `{}`), "no policy permits it"},
		"a tool of a longer name":     {f.modern("u", "1", "open/x", `{}`), "no policy permits it"},
		"a tool without name":         {f.modern("u", "1", "", `{}`, "Mcp-Name", " "), "no policy permits it"},
		"a prompt as a tool":          {f.message("u", "1", "prompts/get", `"name":"limited"`), "no policy permits it"},
		"forbid beats permit":         {f.modern("u", "1", "fatal", `{}`), "forbidden by policy all#6"},
		"within the limit":            {f.modern("u", "1", "limited", `{"limit":1000}`), ""},
		"within, written otherwise":   {f.modern("u", "1", "limited", `{"limit":1e3}`), ""},
		"over the limit":              {f.modern("u", "1", "limited", `{"limit":1001}`), "no policy permits it"},
		"without the argument":        {f.modern("u", "1", "limited", `{}`), "no policy permits it"},
		"the argument as text":        {f.modern("u", "1", "limited", `{"limit":"5"}`), "no policy permits it"},
		"the argument as fraction":    {f.modern("u", "1", "limited", `{"limit":5.5}`), "no policy permits it"},
		"the argument beyond int64":   {f.modern("u", "1", "limited", `{"limit":-9223372036854775809}`), "no policy permits it"},
		"the argument in other case":  {f.modern("u", "1", "limited", `{"limit":5,"LIMIT":5000}`), "differs only in case"},
		"an open prompt":              {f.message("u", "1", "prompts/get", `"name":"open"`), ""},
		"a closed prompt":             {f.message("u", "1", "prompts/get", `"name":"closed"`), `Prompt::"u/closed"`},
		"an open resource":            {f.message("u", "1", "resources/read", `"uri":"test://open"`), ""},
		"a closed resource":           {f.message("u", "1", "resources/read", `"uri":"test://closed"`), `Resource::"u/test://closed"`},
		"completion of a prompt":      {complete(`{"type":"ref/prompt","name":"open"}`), ""},
		"completion of a closed one":  {complete(`{"type":"ref/prompt","name":"closed"}`), `Action::"prompts/get"`},
		"completion of a resource":    {complete(`{"type":"ref/resource","uri":"test://open"}`), ""},
		"completion of a closed URI":  {complete(`{"type":"ref/resource","uri":"test://closed","name":"open"}`), `Action::"resources/read"`},
		"listening to a resource":     {listen(`"test://open"`), ""},
		"listening to a closed one":   {listen(`"test://closed"`), `Resource::"u/test://closed"`},
		"listening to one too many":   {listen(`"test://open","test://closed"`), `Resource::"u/test://closed"`},
		"subscribing":                 {legacy("resources/subscribe", `{"uri":"test://open"}`), ""},
		"subscribing to a closed one": {legacy("resources/subscribe", `{"uri":"test://closed"}`), `Action::"resources/read"`},
		"a closed tool, legacy":       {legacy("tools/call", `{"name":"closed"}`), `Tool::"u/closed"`},
	} {
		before := len(u.got(""))
		resp, body := f.do(rt, c.r)
		reached := len(u.got("")) > before
		if c.denied == "" {
			hold(t, name, resp.StatusCode == http.StatusOK && reached && decode(t, body).Error.Code == 0, body)
			continue
		}
		want(t, resp, body, http.StatusOK, 1001, c.denied)
		hold(t, name+" reached the upstream", !reached)
		hold(t, name+": advice", strings.Contains(decode(t, body).Error.Data.Advice, "operator"), body)
	}
}

func TestAgentsWithoutRightsDoNotReachTheUpstream(t *testing.T) {
	f := start(t)
	u := scripted(t, bothEras, finished)
	f.static("u", u.URL, "X-Api-Key", "k")
	f.upstream("v", u.URL)
	f.policy("some", `permit (principal == Agent::"B", action, resource in Upstream::"v");`)
	f.apply(&raftfsm.PutAgent{Agent: raftfsm.Agent{Name: "B"}})
	_, f.token = f.issue("B")
	rt := f.protocols()["HTTP/2.0"]
	for _, r := range []*http.Request{
		f.legacy("u", "", "1", "initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}`),
		f.legacy("u", "", "1", "ping", `{}`), f.message("u", "1", "server/discover", ""), f.message("u", "1", "tools/list", ""),
		f.message("u", "1", "subscriptions/listen", `"notifications":{"toolsListChanged":true}`), f.modern("u", "1", "t", "{}"),
	} {
		resp, body := f.do(rt, r)
		want(t, resp, body, http.StatusOK, 1001, "operator")
	}
	for _, r := range []*http.Request{
		f.legacy("u", "", "", "notifications/initialized", `{}`), f.request(http.MethodGet, "u", "", "Accept", "text/event-stream"), f.request(http.MethodDelete, "u", ""),
	} {
		resp, body := f.do(rt, r)
		want(t, resp, body, http.StatusForbidden, 0, "no policy permits agent B anything on upstream u")
	}
	hold(t, "an agent without rights reached the upstream", len(u.got("")) == 0, len(u.got("")))
	f.open(rt, "v")
}

func TestPoliciesHoldFromTheNextCall(t *testing.T) {
	f := start(t)
	u := scripted(t, onlyModernEra, finished)
	f.upstream("u", u.URL)
	rt := f.protocols()["HTTP/1.1"]
	for i := range 20 {
		f.serves(rt, "u")
		f.policy("no", `forbid (principal, action, resource == Tool::"u/t");`)
		resp, body := f.do(rt, f.modern("u", "1", "t", "{}"))
		want(t, resp, body, http.StatusOK, 1001, "forbidden by policy no")
		if i%2 == 0 {
			f.policy("no", `forbid (principal, action, resource == Tool::"u/other");`)
		} else {
			f.apply(&raftfsm.DeletePolicy{Name: "no"})
		}
	}
	f.apply(&raftfsm.DeletePolicy{Name: "all"})
	resp, body := f.do(rt, f.modern("u", "1", "t", "{}"))
	want(t, resp, body, http.StatusOK, 1001, `permit (principal in Role::"r", action == Action::"tools/call", resource == Tool::"u/t");`)
}
