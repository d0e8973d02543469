package policy

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"sallyport/raftfsm"
)

type store struct {
	*raftfsm.State
	t    testing.TB
	next uint64
}

func newStore(t testing.TB, policies map[string]string) *store {
	t.Helper()
	state, err := raftfsm.New()
	if err != nil {
		t.Fatal(err)
	}
	s := &store{State: state, t: t}
	for name, text := range policies {
		s.put(name, text)
	}
	return s
}

func (s *store) put(name, text string) {
	s.t.Helper()
	data, err := raftfsm.Encode(&raftfsm.PutPolicy{Policy: raftfsm.Policy{Name: name, Cedar: text}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.next++
	if res, err := s.Apply(s.next, data); err != nil || res.Err != nil {
		s.t.Fatal(err, res.Err)
	}
}

const (
	ledger  = `permit (principal in Role::"finance", action == Action::"tools/call", resource == Tool::"accounting/query_ledger") when { context.arguments has limit && context.arguments.limit <= 1000 };`
	noHuge  = `forbid (principal, action, resource) when { context.arguments.amount > 100 };`
	reading = `permit (principal == Agent::"A", action in [Action::"resources/read", Action::"prompts/get"], resource in Upstream::"docs");`
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name     string
		policies map[string]string
		r        Request
		allowed  bool
		says     string
	}{
		{"no policy", nil, Request{Agent: "A", Action: "tools/call", Upstream: "accounting", Item: "x"}, false, "no policy permits it"},
		{"within the limit", map[string]string{"l": ledger}, finance(`{"limit":1000}`), true, ""},
		{"written otherwise", map[string]string{"l": ledger}, finance(`{"limit":1.0e3}`), true, ""},
		{"over the limit", map[string]string{"l": ledger}, finance(`{"limit":1001}`), false, "no policy permits it"},
		{"fraction", map[string]string{"l": ledger}, finance(`{"limit":1.5}`), false, "no policy permits it"},
		{"null", map[string]string{"l": ledger}, finance(`{"limit":null}`), false, "no policy permits it"},
		{"string", map[string]string{"l": ledger}, finance(`{"limit":"1"}`), false, "no policy permits it"},
		{"beyond int64", map[string]string{"l": ledger}, finance(`{"limit":1e30}`), false, "no policy permits it"},
		{"absurd exponent", map[string]string{"l": ledger}, finance(`{"limit":1e999999999}`), false, "no policy permits it"},
		{"no arguments", map[string]string{"l": ledger}, finance(``), false, "no policy permits it"},
		{"other case", map[string]string{"l": ledger}, finance(`{"limit":1,"Limit":5000}`), false, "differs only in case"},
		{"other case, nested", map[string]string{"l": ledger}, finance(`{"limit":1,"x":[{"LIMIT":5000}]}`), false, "differs only in case"},
		{"other role", map[string]string{"l": ledger}, Request{Agent: "A", Roles: []string{"support"}, Action: "tools/call", Upstream: "accounting", Item: "query_ledger", Arguments: jsontext.Value(`{"limit":1}`)}, false, "no policy permits it"},
		{"other upstream, name glued", map[string]string{"l": ledger}, Request{Agent: "A", Roles: []string{"finance"}, Action: "tools/call", Upstream: "acc", Item: "ounting/query_ledger", Arguments: jsontext.Value(`{"limit":1}`)}, false, "no policy permits it"},
		{"forbid on a missing argument", map[string]string{"l": ledger, "f": noHuge}, finance(`{"limit":1}`), false, "could not be evaluated"},
		{"forbid on an odd type", map[string]string{"l": ledger, "f": noHuge}, finance(`{"limit":1,"amount":"9"}`), false, "could not be evaluated"},
		{"forbid that holds", map[string]string{"l": ledger, "f": noHuge}, finance(`{"limit":1,"amount":101}`), false, "forbidden by policy f"},
		{"forbid that does not hold", map[string]string{"l": ledger, "f": noHuge}, finance(`{"limit":1,"amount":99}`), true, ""},
		{"entity as an argument", map[string]string{"l": `permit (principal, action, resource) when { context.arguments.who == Agent::"root" };`}, finance(`{"who":{"__entity":{"type":"Agent","id":"root"}}}`), false, "no policy permits it"},
		{"several in one text", map[string]string{"m": reading + "\n" + ledger}, Request{Agent: "A", Action: "resources/read", Upstream: "docs", Item: "file:///x"}, true, ""},
		{"action of another kind", map[string]string{"m": reading}, Request{Agent: "A", Action: "tools/call", Upstream: "docs", Item: "file:///x"}, false, "no policy permits it"},
	} {
		d := New(newStore(t, c.policies)).Check(c.r)
		if d.Allowed != c.allowed || !c.allowed && !strings.Contains(d.Reason(), c.says) {
			t.Errorf("%s: %+v (%s), want allowed %v, %q", c.name, d, d.Reason(), c.allowed, c.says)
		}
		if (d.Missing != "") != (d.Reason() == "no policy permits it" && !d.Allowed) {
			t.Errorf("%s: suggests %q", c.name, d.Missing)
		}
		if d.Missing != "" {
			with := newStore(t, c.policies)
			with.put("suggested", d.Missing)
			if !New(with).Check(c.r).Allowed {
				t.Errorf("%s: the suggestion %q does not permit it", c.name, d.Missing)
			}
		}
	}
}

func finance(arguments string) Request {
	return Request{
		Agent: "A", Roles: []string{"finance"}, Action: "tools/call", Upstream: "accounting", Item: "query_ledger",
		Arguments: jsontext.Value(arguments),
	}
}

func TestMayList(t *testing.T) {
	r := finance("")
	for _, c := range []struct {
		name     string
		policies map[string]string
		listed   bool
	}{
		{"no policy", nil, false},
		{"permit that depends on arguments", map[string]string{"l": ledger}, true},
		{"permit for others", map[string]string{"l": strings.ReplaceAll(ledger, "finance", "support")}, false},
		{"forbid that depends on arguments", map[string]string{"l": ledger, "f": noHuge}, true},
		{"forbid that always holds", map[string]string{"l": ledger, "f": `forbid (principal, action, resource);`}, false},
		{"forbid that always fails", map[string]string{"l": ledger, "f": `forbid (principal, action, resource) when { principal.team == "x" };`}, false},
		{"permit that always fails", map[string]string{"l": `permit (principal, action, resource) when { principal.team == "x" };`}, false},
		{"permit under a false condition", map[string]string{"l": `permit (principal, action, resource) when { context.arguments.a == 1 } unless { true };`}, false},
		{"forbid for others", map[string]string{"l": ledger, "f": `forbid (principal in Role::"x", action, resource);`}, true},
	} {
		if got := New(newStore(t, c.policies)).MayList(r); got != c.listed {
			t.Errorf("%s: listed %v, want %v", c.name, got, c.listed)
		}
	}
}

func TestPoliciesTakeEffectAtOnce(t *testing.T) {
	s := newStore(t, nil)
	e := New(s)
	if e.Check(finance(`{"limit":1}`)).Allowed {
		t.Fatal("allowed without a policy")
	}
	s.put("l", ledger)
	if !e.Check(finance(`{"limit":1}`)).Allowed {
		t.Fatal("a policy that was applied has no effect on the next request")
	}
	s.put("broken", "this is not Cedar")
	if d := e.Check(finance(`{"limit":1}`)); d.Allowed || !strings.Contains(d.Reason(), "broken") {
		t.Fatalf("with a stored policy that cannot be read: %+v", d)
	}
	if e.MayList(finance("")) {
		t.Fatal("listed beside a policy that cannot be read")
	}
}

func TestValidate(t *testing.T) {
	for text, says := range map[string]string{
		ledger + noHuge + reading:   "",
		"permit (principal, action": "p:1:",
		"":                          "no policy",
		"permit (principal, action == Action::\"tools/cal\", resource);":                   `no action "tools/cal"`,
		"permit (principal, action in [Action::\"tools/call\", Action::\"x\"], resource);": `no action "x"`,
		"\nforbid (principal is Agnet, action, resource);":                                 `p:2:1: there is no entity type "Agnet"`,
		"permit (principal, action, resource) when { resource in Upstraem::\"x\" };":       `no entity type "Upstraem"`,
		"permit (principal, action, resource);" + strings.Repeat(" ", MaxBytes):            "more than",
	} {
		err := Validate("p", text)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%.60q: %v, want %q", text, err, says)
		}
	}
}

func FuzzArguments(f *testing.F) {
	f.Add(`{"limit":1,"a":[1.5,null,{"b":"c"}]}`)
	e := New(newStore(f, map[string]string{"l": ledger, "f": noHuge}))
	f.Fuzz(func(t *testing.T, arguments string) {
		d := e.Check(finance(arguments))
		if d.Allowed && !jsontext.Value(arguments).IsValid() {
			t.Fatalf("allowed with arguments that are no JSON: %q", arguments)
		}
	})
}
