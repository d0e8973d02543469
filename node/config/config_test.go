package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func load(t *testing.T, file string, environ []string, args ...string) (Node, error) {
	t.Helper()
	flags := pflag.NewFlagSet("node start", pflag.ContinueOnError)
	flags.String("output", "table", "not a setting")
	Flags(flags)
	if file != "" {
		path := filepath.Join(t.TempDir(), "node.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Load(flags, environ)
}

func TestLaterSourcesReplaceEarlierOnes(t *testing.T) {
	tests := map[string]struct {
		file    string
		environ []string
		args    []string
		want    func(*Node)
	}{
		"defaults": {args: []string{"--data-dir", "d"}, want: func(*Node) {}},
		"file": {
			file: "data-dir: d\nlisten: 127.0.0.1:1\nmax-staleness: 30s\nbootstrap: true\nlog-level: debug\n",
			want: func(n *Node) {
				n.Listen, n.MaxStaleness, n.Bootstrap, n.LogLevel = "127.0.0.1:1", 30*time.Second, true, slog.LevelDebug
			},
		},
		"empty file": {file: "# nothing\n", args: []string{"--data-dir", "d"}, want: func(*Node) {}},
		"environment over file": {
			file:    "data-dir: d\nlisten: 127.0.0.1:1\nregion: eu\n",
			environ: []string{"SALLYPORT_LISTEN=127.0.0.1:2", "SALLYPORT_MAX_STALENESS=1m", "SALLYPORT_BOOTSTRAP=true"},
			want: func(n *Node) {
				n.Listen, n.Region, n.MaxStaleness, n.Bootstrap = "127.0.0.1:2", "eu", time.Minute, true
			},
		},
		"flag over environment, also with the default's value": {
			environ: []string{"SALLYPORT_LISTEN=127.0.0.1:2", "SALLYPORT_DATA_DIR=e"},
			args:    []string{"--listen", ":8443", "--data-dir", "d"},
			want:    func(*Node) {},
		},
		"foreign and empty variables": {
			environ: []string{"SALLYPORT_TOKEN=x", "SALLYPORT_SERVICE_HOST=10.0.0.1", "SALLYPORT_LISTEN=", "LISTEN=:1", "SALLYPORT"},
			args:    []string{"--data-dir", "d"},
			want:    func(*Node) {},
		},
		"no ops address": {args: []string{"--data-dir", "d", "--ops-listen", ""}, want: func(n *Node) { n.OpsListen = "" }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := load(t, test.file, test.environ, test.args...)
			if err != nil {
				t.Fatal(err)
			}
			want := Default()
			want.DataDir = "d"
			test.want(&want)
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestConfigFileFromEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(path, []byte("data-dir: from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := load(t, "", []string{"SALLYPORT_CONFIG=" + path})
	if err != nil || n.DataDir != "from-file" {
		t.Fatalf("data directory %q, error %v", n.DataDir, err)
	}
}

func TestRefused(t *testing.T) {
	tests := map[string]struct {
		file    string
		environ []string
		args    []string
		want    string
	}{
		"unknown setting":         {file: "data-dir: d\nlisten: :1\nlistn: :2\n", want: `:3:1: unknown setting "listn"`},
		"duplicate setting":       {file: "data-dir: d\ndata-dir: e\n", want: ":2:1: "},
		"wrong type":              {file: "data-dir: d\nbootstrap: [1]\n", want: ":2:12: "},
		"bad duration in a file":  {file: "data-dir: d\nmax-staleness: soon\n", want: "node.yaml"},
		"not YAML":                {file: "data-dir: \"d\n", want: ":1:11: "},
		"two documents":           {file: "data-dir: d\n---\nregion: eu\n", want: "more than one YAML document"},
		"a list":                  {file: "- data-dir\n", want: "node.yaml:1:"},
		"large":                   {file: "# " + strings.Repeat("x", maxFileBytes), want: "has more than"},
		"bad duration":            {environ: []string{"SALLYPORT_MAX_STALENESS=soon"}, want: `environment: 'max-staleness' time: invalid duration`},
		"bad level":               {args: []string{"--data-dir", "d", "--log-level", "loud"}, want: "command line: 'log-level' "},
		"no data directory":       {want: "data-dir is not set"},
		"missing file":            {args: []string{"--config", "/nonexistent/node.yaml"}, want: "read the configuration: open /nonexistent/node.yaml"},
		"no port":                 {args: []string{"--data-dir", "d", "--listen", "localhost"}, want: `listen "localhost": is not host:port`},
		"port too large":          {args: []string{"--data-dir", "d", "--listen", ":65536"}, want: `port "65536"`},
		"empty public address":    {args: []string{"--data-dir", "d", "--listen", ""}, want: `listen ""`},
		"one address twice":       {args: []string{"--data-dir", "d", "--ops-listen", ":8443"}, want: "listen and ops-listen are both :8443"},
		"certificate without key": {args: []string{"--data-dir", "d", "--tls-cert", "c"}, want: "tls-key is not"},
		"key without certificate": {args: []string{"--data-dir", "d", "--tls-key", "k"}, want: "tls-cert is not"},
		"advertise plain http":    {args: []string{"--data-dir", "d", "--advertise", "http://a"}, want: "is not an https URL"},
		"advertise with path":     {args: []string{"--data-dir", "d", "--advertise", "https://a/b"}, want: "is not an https URL"},
		"node id":                 {args: []string{"--data-dir", "d", "--id", "a/b"}, want: `id "a/b"`},
		"region":                  {args: []string{"--data-dir", "d", "--region", ""}, want: `region ""`},
		"no staleness":            {args: []string{"--data-dir", "d", "--max-staleness", "0s"}, want: "must be more than 0"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, test.file, test.environ, test.args...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	n := Default()
	n.Listen, n.TLSCert = "nowhere", "c"
	err := n.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got %v, want data-dir, listen and tls-key on a line each", err)
	}
}

func TestEverySettingHasAFlag(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	Flags(flags)
	for _, name := range names() {
		if flags.Lookup(name) == nil {
			t.Errorf("setting %s has no flag", name)
		}
	}
}

func TestKeyURI(t *testing.T) {
	if got := (Node{DataDir: "d"}).KeyURI(); got != filepath.Join("d", "node.key") {
		t.Errorf("got %s", got)
	}
	if got := (Node{DataDir: "d", Key: "file:k"}).KeyURI(); got != "file:k" {
		t.Errorf("got %s", got)
	}
}
