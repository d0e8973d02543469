package demo

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
)

func TestHintsCanBeCopied(t *testing.T) {
	var out bytes.Buffer
	p := place{program: "/usr/local/bin/sallyport", dir: "/tmp/sallyport-demo-1234567890", gateway: "https://127.0.0.1:41873"}
	if err := hints(newScreen(&out, os.Getenv), p); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for line := range strings.Lines(text) {
		if columns := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); columns > 80 {
			t.Errorf("%d columns: %s", columns, line)
		}
	}

	sections := strings.Split(text, "\n\n")
	for _, key := range []string{"mcpServers", "servers"} {
		var found bool
		for _, section := range sections {
			var config map[string]map[string]clientEntry
			if json.Unmarshal([]byte(section), &config) != nil || config[key] == nil {
				continue
			}
			found = true
			entry := config[key]["accounting"]
			if entry.Command != p.program ||
				strings.Join(entry.Args, " ") != "connect --token-file /tmp/sallyport-demo-1234567890/finance.token https://127.0.0.1:41873/mcp/accounting" ||
				entry.Env["SALLYPORT_CACERT"] != "/tmp/sallyport-demo-1234567890/node/ca.pem" {
				t.Errorf("%s: %+v", key, entry)
			}
		}
		if !found {
			t.Errorf("no JSON document with %s:\n%s", key, text)
		}
	}
}

// A shell has to read the lines, in a place with an awkward name, and curl has
// to be given valid JSON.
func TestShellReadsTheLines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's here")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	tell := "#!/bin/sh\nprintf '%s\\n' \"$SALLYPORT_CACERT\" \"$@\"\n"
	for name, content := range map[string]string{tokenFile: "spt_fromfile", "curl": tell, "npx": tell, "sallyport": tell} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	program := filepath.Join(dir, "sallyport")
	if err := hints(newScreen(&out, os.Getenv), place{program: program, dir: dir, gateway: "https://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(out.String(), "token for FinanceAgent:\n")
	text, _, _ = strings.Cut(text, "\nClaude")
	var script strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "  ") { // a heading has no indent
			script.WriteString(line)
		}
	}
	shell := exec.CommandContext(t.Context(), "/bin/sh", "-euc", script.String())
	shell.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	printed, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, printed, script.String())
	}
	ca := dir + "/node/ca.pem\n"
	for _, want := range []string{
		ca + "call\n--token-file\nfinance.token\naccounting/query_ledger\naccount=travel\nlimit=5\n",
		ca + "audit\ntail\n--data-dir\nnode\n",
		ca + "apply\n--data-dir\nnode\n-f\npermit.yaml\n",
		"\namount=-99900\nmemo=a new sail\n",
		"\n--header\nAuthorization: Bearer spt_fromfile\n--method\ntools/list\n",
		"\nSALLYPORT_CACERT=" + ca + "--\n" + program + "\nconnect\n--token-file\n" + dir + "/finance.token\nhttps://127.0.0.1:1/mcp/accounting\n",
	} {
		if !strings.Contains(string(printed), want) {
			t.Errorf("no command got %q:\n%s", want, printed)
		}
	}

	arguments, body, _ := strings.Cut(string(printed), "\n-d\n")
	if !strings.Contains(arguments, "\nAuthorization: Bearer spt_fromfile\n") || !strings.HasSuffix(arguments, "\nhttps://127.0.0.1:1/mcp/accounting") {
		t.Errorf("curl got %s", printed)
	}
	var message struct {
		Method string
		Params struct{ Name string }
	}
	if err := json.NewDecoder(strings.NewReader(body)).Decode(&message); err != nil || message.Method != "tools/call" || message.Params.Name != "query_ledger" {
		t.Errorf("curl sends %s (%v)", body, err)
	}
}

func TestResourcesAreYAML(t *testing.T) {
	text, err := resources(setting{
		Issuer: "http://127.0.0.1:1", ClientID: "sallyport", SecretFile: "/tmp/x y/secret",
		AccountingURL: "http://127.0.0.1:2/mcp", AccountingScope: "ledger", CRMURL: "http://127.0.0.1:3/mcp", CRMScope: "customers",
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for document := range strings.SplitSeq(text, "\n---\n") {
		var resource struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string
			Metadata   struct{ Name string }
			Spec       map[string]any
		}
		if err := yaml.Unmarshal([]byte(document), &resource); err != nil {
			t.Fatalf("%v:\n%s", err, document)
		}
		if resource.APIVersion != "sallyport/v1" || len(resource.Spec) == 0 {
			t.Errorf("resource %+v", resource)
		}
		names = append(names, resource.Kind+"/"+resource.Metadata.Name)
	}
	want := "Upstream/accounting Upstream/crm Agent/FinanceAgent Agent/SupportAgent Policy/finance Policy/support"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("resources %s, want %s", got, want)
	}
}
