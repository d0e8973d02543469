package kind

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const designExample = `apiVersion: sallyport/v1
kind: Upstream
metadata: {name: accounting, labels: {team: finance}}
spec:
  url: https://accounting.example/mcp     # plain http only to loopback
  userData: true
  allowService: true
  timeout: 30s
  credential:
    grant: client_credentials
    issuer: https://login.example
    clientID: sallyport
    clientSecret: {valueFrom: {env: ACCOUNTING_SECRET}}
    scopes: [ledger.read]
---
apiVersion: sallyport/v1
kind: Agent
metadata: {name: FinanceAgent}
spec: {roles: [finance]}
---
apiVersion: sallyport/v1
kind: Policy
metadata: {name: finance}
spec:
  cedar: |
    permit (principal in Role::"finance", action == Action::"tools/call", resource == Tool::"accounting/query_ledger")
      when { context.arguments has limit && context.arguments.limit <= 1000 };
---
# nothing
`

func TestParseYAML(t *testing.T) {
	documents, err := ParseYAML("f.yaml", []byte(designExample))
	if err != nil {
		t.Fatal(err)
	}
	if len(documents) != 3 {
		t.Fatalf("got %d documents, want 3", len(documents))
	}
	u, ok := documents[0].Resource.(*Upstream)
	if !ok || u.Metadata.Name != "accounting" || u.Metadata.Labels["team"] != "finance" || !u.Spec.UserData || u.Spec.Credential.Scopes[0] != "ledger.read" {
		t.Errorf("the upstream is %+v", documents[0].Resource)
	}
	if c := u.Spec.Credential.ClientSecret; !c.Given() || !c.Value().Empty() || c.unresolved().Env != "ACCOUNTING_SECRET" {
		t.Errorf("the secret is not one to read from the environment")
	}
	if a, ok := documents[1].Resource.(*Agent); !ok || a.Spec.Roles[0] != "finance" || documents[1].At != "f.yaml:16" {
		t.Errorf("the agent at %s is %+v", documents[1].At, documents[1].Resource)
	}
	if c, ok := documents[2].Resource.(*Policy); !ok || !strings.HasPrefix(c.Spec.Cedar, "permit (") || !strings.HasSuffix(c.Spec.Cedar, "};\n") {
		t.Errorf("the policy is %+v", documents[2].Resource)
	}
}

func TestJSONIsYAML(t *testing.T) {
	documents, err := ParseYAML("f.json", []byte(`{"apiVersion": "sallyport/v1", "kind": "Agent", "metadata": {"name": "A"}}`))
	if err != nil || len(documents) != 1 {
		t.Fatalf("got %v, %v", documents, err)
	}
}

func TestParseYAMLRefuses(t *testing.T) {
	agent := "apiVersion: sallyport/v1\nkind: Agent\nmetadata: {name: A}\n"
	upstream := "apiVersion: sallyport/v1\nkind: Upstream\nmetadata: {name: u}\nspec:\n  url: https://u.example\n"
	policy := "apiVersion: sallyport/v1\nkind: Policy\nmetadata: {name: p}\nspec:\n"
	tests := map[string]struct{ text, want string }{
		"unknown field":          {upstream + "  urls: x\n", "f:6:3: spec.urls: unknown field"},
		"unknown field deep":     {upstream + "  credential:\n    grant: static\n    header: {nam: x}\n", "f:8:14: spec.credential.header.nam: unknown field"},
		"field of later":         {upstream + "  credential: {grant: none, reuse: strict}\n", "f:6:29: spec.credential.reuse: is not supported by this version"},
		"duplicate key":          {upstream + "  url: https://v.example\n", "f:6:3: "},
		"number for text":        {agent + "spec: {roles: [1]}\n", "f:4:16: spec.roles.0: has to be a text, not a number (a text needs quotes)"},
		"text for bool":          {upstream + "  insecure: \"yes\"\n", "f:6:3: spec.insecure: has to be true or false, not a text"},
		"yes is a text":          {upstream + "  insecure: yes\n", "spec.insecure: has to be true or false, not a text"},
		"mapping for list":       {agent + "spec: {roles: {a: b}}\n", "f:4:8: spec.roles: has to be a list, not a mapping"},
		"list for mapping":       {agent + "spec: [a]\n", "f:4:1: spec: has to be a mapping, not a list"},
		"number as label":        {"apiVersion: sallyport/v1\nkind: Agent\nmetadata:\n  name: A\n  labels: {v: 1}\n", "f:5:12: metadata.labels.v: has to be a text"},
		"number as secret":       {upstream + "  credential:\n    grant: static\n    header: {name: X, value: 1234}\n", "f:8:23: spec.credential.header.value: has to be a text, {valueFrom"},
		"two sources":            {upstream + "  credential: {grant: static, header: {name: X, value: {valueFrom: {env: A, file: B}}}}\n", "valueFrom has to name one of env and file"},
		"duration":               {upstream + "  timeout: 30\n", "spec.timeout: has to be a text"},
		"bad duration":           {upstream + "  timeout: soon\n", `f:6:3: spec.timeout: "soon" is no duration`},
		"on stale":               {upstream + "  onStale: {server: 1m}\n", "spec.onStale: has to be refuse or {serve: DURATION}"},
		"kind of later":          {"apiVersion: sallyport/v1\nkind: Role\nmetadata: {name: r}\n", "f:2:1: kind: kind Role is not supported by this version; it knows Agent, Policy, Upstream"},
		"no such kind":           {"apiVersion: sallyport/v1\nkind: agent\n", `kind "agent" does not exist in this version`},
		"other version":          {"apiVersion: sallyport/v2\nkind: Agent\n", `f:1:1: apiVersion: is "sallyport/v2"`},
		"no document":            {"mcpServers: {}\n", "is no document"},
		"a text":                 {"hello\n", "f:1:1: has to be a mapping, not a text"},
		"no name":                {"apiVersion: sallyport/v1\nkind: Agent\nmetadata: {}\n", "f:3:1: metadata.name: is missing"},
		"same name twice":        {agent + "---\n" + agent, "f:7:12: metadata.name: Agent A is declared at f:1 already"},
		"anchor":                 {agent + "spec: &a {roles: []}\n", "f:4:7: anchors, aliases and merges are not supported"},
		"alias bomb":             {"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "f:1:4: anchors"},
		"merge":                  {agent + "<<: {spec: {}}\n", "f:4:1: anchors, aliases and merges are not supported"},
		"tag":                    {agent + "spec: {roles: [!!str 1]}\n", "f:4:16: tags are not supported"},
		"complex key":            {"? [a]\n: b\n", "f:1:1: complex keys are not supported"},
		"number as key":          {"1: a\n", "f:1:1: is a key that is no text"},
		"not a number":           {agent + "spec: .nan\n", "f:4:"},
		"syntax":                 {agent + "spec: {roles: [\n", "f:"},
		"tab":                    {agent + "spec:\n\troles: []\n", "f:5:1: "},
		"deep flow":              {strings.Repeat("[", 100000), "f:1:33: is nested more than 32 deep"},
		"deep mappings":          {strings.Repeat("{a: ", 100000), "is nested more than 32 deep"},
		"deep sequences":         {strings.Repeat("- ", 100000) + "a", "is nested more than 32 deep"},
		"deep blocks":            {deepBlocks(100), "is nested more than 32 deep"},
		"many keys":              {manyKeys(20000), "the document is too large"},
		"many documents":         {strings.Repeat("---\n", 1001), "has more than 1000 documents"},
		"large":                  {strings.Repeat("#", MaxBytes+1), "f: is larger than 1 MiB"},
		"empty policy":           {policy + "  cedar: ''\n", "f:5:3: spec.cedar: is empty"},
		"grant of later":         {upstream + "  credential: {grant: authorization_code}\n", "f:6:16: spec.credential.grant: authorization_code is not supported by this version: it knows none, static and client_credentials"},
		"two problems, both":     {agent + "spec: {roles: ['1', '2']}\n", "f:4:21: spec.roles.1"},
		"two documents, first":   {agent + "spec: {role: [a]}\n---\n" + upstream + "  urls: x\n", "f:4:8: spec.role: unknown field"},
		"two documents, second":  {agent + "spec: {role: [a]}\n---\n" + upstream + "  urls: x\n", "f:11:3: spec.urls: unknown field"},
		"invalid UTF-8":          {agent + "spec: {roles: [\"\xff\"]}\n", "f:"},
		"large integer":          {agent + "spec: {roles: [99999999999999999999999999]}\n", "f:4:16"},
		"a secret is not quoted": {upstream + "  credential: {grant: static, header: {name: X, value: [hunter2]}}\n", "spec.credential.header.value: has to be a text"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := ParseYAML("f", []byte(test.text))
			var problems Problems
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error quotes a secret: %v", err)
			}
			for _, p := range problems {
				if p.At == "" || p.Message == "" {
					t.Errorf("problem %+v says not where or what", p)
				}
			}
		})
	}
}

func deepBlocks(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%sa:\n", strings.Repeat(" ", i))
	}
	return b.String()
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d: v\n", i)
	}
	return b.String()
}

func FuzzParseYAML(f *testing.F) {
	for document := range strings.SplitSeq(designExample, "---\n") {
		f.Add(document)
	}
	f.Add("apiVersion: sallyport/v1\nkind: Upstream\nmetadata: {name: u}\nspec: {url: http://127.0.0.1:1, onStale: {serve: 1m}, credential: {grant: static, header: {name: A, value: b c}}}")
	f.Add("{\"apiVersion\": \"sallyport/v1\", \"kind\": \"Agent\"}")
	f.Add("a: &a [x]\nb: *a\n")
	f.Add("- |\n  x\n- >-\n  y\n- 'z'\n- \"\\u0041\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		documents, err := ParseYAML("f", []byte(text))
		if err != nil {
			return
		}
		for _, d := range documents {
			body, err := Reveal(d.Resource)
			if err != nil {
				t.Fatalf("%s is accepted and cannot be written: %v", d.At, err)
			}
			again, err := Decode(body)
			if err != nil {
				t.Fatalf("%s is accepted but not what was written of it: %v\n%s", d.At, err, body)
			}
			if problems := again.Validate(); len(problems) > 0 {
				t.Fatalf("%s changed its meaning when written: %v\n%s", d.At, problems, body)
			}
		}
	})
}
