package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// sallyport runs the command in this process.
func sallyport(t *testing.T, stdin string, args ...string) (status int, out, errOut string) {
	t.Helper()
	t.Setenv("SALLYPORT_CONFIG_DIR", t.TempDir())
	var stdout, stderr bytes.Buffer
	status = run(t.Context(), "test", args, strings.NewReader(stdin), &stdout, &stderr)
	return status, stdout.String(), stderr.String()
}

func TestWrongUsage(t *testing.T) {
	for command, want := range map[string]string{
		"bogus":                                  `there is no command "bogus"; see sallyport --help`,
		"node":                                   "sallyport node needs a command",
		"node bogus":                             `there is no command "node bogus"`,
		"token create":                           `there is no command "token create"`,
		"version now":                            `"now" is too much`,
		"-o xml version":                         "-o xml does not exist: use table, json or yaml; see sallyport version --help",
		"version --bogus":                        "unknown flag: --bogus",
		"get":                                    "give a kind",
		"get agents a b":                         `"b" is too much`,
		"get roles":                              `kind "roles" does not exist in this version; it knows Agent, Policy, Upstream`,
		"get role":                               "kind role is not supported by this version",
		"describe agent":                         "an argument is missing",
		"delete agent":                           "an argument is missing",
		"apply":                                  "-f is missing",
		"apply x":                                `"x" is too much`,
		"diff":                                   "-f is missing",
		"policy check":                           "-f is missing",
		"token issue":                            "give one of --agent NAME",
		"token issue --agent A --admin owner":    "give one of --agent NAME",
		"token issue --admin owner --upstream u": "--upstream belongs to --agent",
		"token issue --agent A --name n":         "--name belongs to --admin",
		"token issue --agent A --ttl -1h":        "is in the past",
		"token issue --agent A --ttl soon":       "invalid argument",
		"token list --agent A --admin":           "--agent and --admin exclude each other",
		"revoke agent":                           "an argument is missing",
		"revoke upstream u":                      `"upstream" cannot be revoked`,
		"call":                                   "give the tool as UPSTREAM/TOOL",
		"call accounting":                        `"accounting" names no tool`,
		"call /tool":                             "names no tool",
		"call u/t limit":                         `"limit" is no NAME=VALUE`,
		"call u/t --arg-json {}x":                "--arg-json is no JSON object",
		"call u/t a=1 --arg-json {}":             "exclude each other",
		"audit":                                  "sallyport audit needs a command",
		"audit search --since yesterday":         "--since yesterday is neither a time",
		"import a b":                             `"b" is too much`,
	} {
		t.Run(command, func(t *testing.T) {
			status, out, errOut := sallyport(t, "", strings.Fields(command)...)
			if status != exitUsage || out != "" || !strings.HasPrefix(errOut, "sallyport: ") || !strings.Contains(errOut, want) || strings.Count(errOut, "\n") != 1 {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit 2 and one line with %q", status, out, errOut, want)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"help", "apply"}, {"audit", "tail", "--help"}, {"completion", "bash"}, {"version"}} {
		if status, out, errOut := sallyport(t, "", args...); status != exitDone || out == "" || errOut != "" {
			t.Errorf("%v: exit %d, %d bytes on stdout, stderr %q", args, status, len(out), errOut)
		}
	}
	if _, out, _ := sallyport(t, "", "version", "-o", "json"); out != "{\n  \"version\": \"test\"\n}\n" {
		t.Errorf("version is %q", out)
	}
}

func TestEveryCommandSaysWhatItIsFor(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s has no description", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&app{}).root())
}

func TestNoNodeIsKnown(t *testing.T) {
	status, _, errOut := sallyport(t, "", "get", "agents")
	if status != exitFailed || !strings.Contains(errOut, "no node is known") {
		t.Errorf("exit %d, stderr %q", status, errOut)
	}
	status, _, errOut = sallyport(t, "", "get", "agents", "--data-dir", t.TempDir())
	if status != exitFailed || !strings.Contains(errOut, "no node has been started with the data directory") {
		t.Errorf("exit %d, stderr %q", status, errOut)
	}
}

func TestToolArguments(t *testing.T) {
	for name, test := range map[string]struct {
		pairs []string
		whole string
		want  string
	}{
		"none":      {nil, "", `{}`},
		"typed":     {[]string{"n=10", "t=true", "l=[1,2]", "o={\"a\":null}", "big=9007199254740993"}, "", `{"n":10,"t":true,"l":[1,2],"o":{"a":null},"big":9007199254740993}`},
		"texts":     {[]string{"a=operating", "b=", "c=x=y", "d=01", `e="10"`, "f=say \"hi\""}, "", `{"a":"operating","b":"","c":"x=y","d":"01","e":"10","f":"say \"hi\""}`},
		"odd names": {[]string{`a"b=1`}, "", `{"a\"b":1}`},
		"whole":     {nil, `{"a": 1}`, `{"a": 1}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := toolArguments(test.pairs, test.whole)
			if err != nil || string(got) != test.want {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestAge(t *testing.T) {
	for ago, want := range map[time.Duration]string{
		5 * time.Second: "5s", 90 * time.Second: "1m", 3 * time.Hour: "3h", 47 * time.Hour: "47h", 100 * time.Hour: "4d", -time.Hour: "0s",
	} {
		if got := age(time.Now().Add(-ago)); got != want {
			t.Errorf("%s ago is %s, want %s", ago, got, want)
		}
	}
}
