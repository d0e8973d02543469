package demo

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
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
			var config map[string]map[string]server
			if json.Unmarshal([]byte(section), &config) != nil || config[key] == nil {
				continue
			}
			found = true
			entry := config[key]["accounting"]
			if entry.Command != p.program || strings.Join(entry.Args, " ") != "connect https://127.0.0.1:41873/mcp/accounting" ||
				entry.Env["SALLYPORT_CONFIG_DIR"] != "/tmp/sallyport-demo-1234567890/finance" {
				t.Errorf("%s: %+v", key, entry)
			}
		}
		if !found {
			t.Errorf("no JSON document with %s:\n%s", key, text)
		}
	}
}

// A shell has to read the commands, and curl has to be given valid JSON.
func TestCurlLineSendsWhatItShould(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{tokenFile: "spt_fromfile", "curl": "#!/bin/sh\nprintf '%s\\n' \"$@\"\n"} {
		if err := os.WriteFile(dir+"/"+name, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := hints(newScreen(&out, os.Getenv), place{program: "sallyport", dir: dir, gateway: "https://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(out.String(), "new token:\n")
	script, _, ended := strings.Cut(script, "\nThe MCP inspector")
	if !found || !ended {
		t.Fatalf("no curl command:\n%s", out.String())
	}
	script = strings.Replace(script, "\ncurl\n", "\n", 1) // the heading
	shell := exec.CommandContext(t.Context(), "/bin/sh", "-ec", script)
	shell.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	printed, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	arguments, body, found := strings.Cut(string(printed), "\n-d\n")
	if !found || !strings.Contains(arguments, "Authorization: Bearer spt_fromfile\n") || !strings.Contains(arguments, "https://127.0.0.1:1/mcp/accounting") {
		t.Errorf("curl got %s", printed)
	}
	var message struct {
		Method string
		Params struct{ Name string }
	}
	if err := json.Unmarshal([]byte(body), &message); err != nil || message.Method != "tools/call" || message.Params.Name != "query_ledger" {
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
