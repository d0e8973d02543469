package importer

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sallyport/crypto"
)

// want is what a fixture must give, in the shape of summary.
type want struct {
	client    Client
	upstreams []string // name, address, headers with values
	skipped   []string
	problems  []string // server: a part of the message
	missing   []string
}

func environ(values map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
}

func TestFixtures(t *testing.T) {
	cases := map[string]struct {
		file, path string
		options    Options
		want       want
	}{
		"Claude Desktop": {
			file: "claude_desktop_config.json", path: "/home/ada/.config/Claude/claude_desktop_config.json",
			want: want{
				client: ClaudeDesktop,
				upstreams: []string{
					"accounting-eu https://accounting.example/mcp Authorization=Bearer canary-accounting",
					"crm https://crm.example/mcp X-Api-Key=canary-crm",
				},
				skipped:  []string{"filesystem: npx @modelcontextprotocol/server-filesystem", "postgres: (docker)", "gateway: through Sallyport already"},
				problems: []string{"old: HTTP+SSE transport of 2024", "intranet: http://intranet.example:8080 is plain http"},
			},
		},
		"Claude Code": {
			file: "dot.claude.json", path: `C:\Users\ada\.claude.json`,
			options: Options{Env: environ(map[string]string{"GITHUB_TOKEN": "canary-github"})},
			want: want{
				client: ClaudeCode,
				upstreams: []string{
					"sentry https://mcp.sentry.example/mcp",
					"github https://api.github.example/mcp/ Authorization=Bearer canary-github",
				},
				problems: []string{"asana: HTTP+SSE", "search (project /home/ada/blog): ${SEARCH_BASE}"},
			},
		},
		"Claude Code without environment": {
			file: "dot.claude.json", path: "/home/ada/.claude.json",
			want: want{
				client: ClaudeCode,
				upstreams: []string{
					"sentry https://mcp.sentry.example/mcp",
					"github https://api.github.example/mcp/",
					"gh https://api.github.example/mcp/ Authorization=Bearer canary-default",
				},
				problems: []string{
					"asana: HTTP+SSE", "github (project /home/ada/shop): the header Authorization refers to ${GITHUB_TOKEN}",
					"search (project /home/ada/blog): ${SEARCH_BASE}",
				},
			},
		},
		"VS Code": {
			file: "vscode.mcp.json", path: ".vscode/mcp.json",
			want: want{
				client: VSCode,
				upstreams: []string{
					"github https://api.githubcopilot.example/mcp/ X-Mcp-Toolsets=repos,issues",
					"docs https://docs.example/mcp",
					"local http://127.0.0.1:3845/mcp",
				},
				skipped:  []string{"perplexity: uvx server-perplexity-ask"},
				problems: []string{"GitHub: the header Authorization refers to ${input:github-token}", "legacy: HTTP+SSE"},
				missing:  []string{"github-token: GitHub token // classic"},
			},
		},
		"VS Code with answers": {
			file: "vscode.mcp.json", path: ".vscode/mcp.json",
			options: Options{Input: func(id string) (crypto.Secret, bool) { return crypto.SecretString("canary-" + id), true }},
			want: want{
				client: VSCode,
				upstreams: []string{
					"github https://api.githubcopilot.example/mcp/ Authorization=Bearer canary-github-token X-Mcp-Toolsets=repos,issues",
					"docs https://docs.example/mcp",
					"local http://127.0.0.1:3845/mcp",
				},
				skipped:  []string{"perplexity: uvx server-perplexity-ask"},
				problems: []string{"legacy: HTTP+SSE"},
			},
		},
		"Cursor": {
			file: "cursor.json", path: "/home/ada/.cursor/mcp.json",
			options: Options{Env: environ(map[string]string{"VAULT_KEY": "canary-vault"})},
			want: want{
				client: Cursor,
				upstreams: []string{
					"linear https://mcp.linear.example/mcp",
					"mcp-1password https://vault.example/mcp?tenant=7 X-Api-Key=canary-vault",
					"figma http://localhost:3845/sse",
				},
				skipped:  []string{"windows: (node)"},
				problems: []string{"broken: user or password", "empty: neither", "odd: not a JSON object"},
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(filepath.Join("testdata", c.file))
			if err != nil {
				t.Fatal(err)
			}
			result, err := Parse(content, c.path, c.options)
			if err != nil {
				t.Fatal(err)
			}
			if result.Client != c.want.client {
				t.Errorf("client = %q, want %q", result.Client, c.want.client)
			}
			var upstreams []string
			for _, u := range result.Upstreams {
				line := u.Name + " " + u.URL
				for _, header := range slices.Sorted(maps.Keys(u.Headers)) {
					line += " " + header + "=" + u.Headers[header].ExposeString()
				}
				upstreams = append(upstreams, line)
			}
			if !slices.Equal(upstreams, c.want.upstreams) {
				t.Errorf("upstreams:\n%s\nwant:\n%s", strings.Join(upstreams, "\n"), strings.Join(c.want.upstreams, "\n"))
			}
			var skipped, problems, missing []string
			for _, s := range result.Skipped {
				skipped = append(skipped, s.Server+": "+s.Reason)
			}
			for _, p := range result.Problems {
				problems = append(problems, p.Server+": "+p.Message)
			}
			for _, m := range result.Missing {
				missing = append(missing, m.ID+": "+m.Description)
			}
			checkLines(t, "skipped", skipped, c.want.skipped)
			checkLines(t, "problems", problems, c.want.problems)
			checkLines(t, "missing", missing, c.want.missing)
			checkNoSecret(t, result)
		})
	}
}

// checkLines wants each line to be of the server, and to have the text, that the pattern says.
func checkLines(t *testing.T, what string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
		return
	}
	for i := range got {
		server, part, _ := strings.Cut(want[i], ": ")
		if !strings.HasPrefix(got[i], server+": ") || !strings.Contains(got[i], part) {
			t.Errorf("%s: %q, want %q", what, got[i], want[i])
		}
	}
}

// checkNoSecret prints all that may be printed; every secret of the fixtures is a canary.
func checkNoSecret(t *testing.T, result Result) {
	t.Helper()
	replacement, err := result.Replacement("https://node.example:8443/")
	if err != nil {
		t.Fatal(err)
	}
	if all := fmt.Sprintf("%+v\n%#v\n%s", result, result, replacement); strings.Contains(all, "canary") {
		t.Errorf("a secret shows in:\n%s", all)
	}
}

func TestNotes(t *testing.T) {
	cases := map[string]struct{ server, note string }{
		"no credential":   {`{"url": "https://a.example/mcp"}`, "set spec.credential"},
		"two headers":     {`{"url": "https://a.example/mcp", "headers": {"X-B": "1", "X-A": "2"}}`, "choose among X-A, X-B"},
		"loopback":        {`{"url": "http://[::1]:80/mcp"}`, "on this machine"},
		"old address":     {`{"url": "https://a.example/v1/sse"}`, "ends in /sse"},
		"parameters":      {`{"url": "https://a.example/mcp?api_key=x"}`, "has parameters"},
		"reference":       {`{"url": "https://a.example/${WHERE:-eu}/mcp"}`, "only refers to"},
		"off":             {`{"url": "https://a.example/mcp", "disabled": true}`, "switched off"},
		"OAuth client":    {`{"url": "https://a.example/mcp", "auth": {"CLIENT_ID": "x"}}`, "OAuth client of its own"},
		"mcp-remote OIDC": {`{"command": "mcp-remote", "args": ["https://a.example/mcp", "--static-oauth-client-info", "{}"]}`, "OAuth client of its own"},
		"package named":   {`{"command": "npx", "args": ["-p", "mcp-remote", "mcp-remote", "https://a.example/mcp"]}`, "set spec.credential"},
		"hidden tools":    {`{"command": "pnpm", "args": ["dlx", "mcp-remote", "--ignore-tool", "delete*", "https://a.example/mcp"]}`, "--ignore-tool"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			result, err := Parse([]byte(`{"mcpServers": {"a": `+c.server+`}}`), "", Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(result.Upstreams) != 1 {
				t.Fatalf("no upstream, but %+v", result)
			}
			if notes := strings.Join(result.Upstreams[0].Notes, "\n"); !strings.Contains(notes, c.note) {
				t.Errorf("notes = %q, want one with %q", notes, c.note)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	cases := map[string]struct{ server, problem string }{
		"web socket":          {`{"type": "ws", "url": "wss://a.example"}`, `transport "ws"`},
		"no URL":              {`{"url": "a.example/mcp"}`, "not an http or https URL"},
		"URL is a number":     {`{"url": 1}`, `"url" is not what it should be`},
		"args are a string":   {`{"command": "x", "args": "y"}`, `"args" is not what it should be`},
		"headers are a list":  {`{"url": "https://a.example", "headers": []}`, "headers are not a JSON object"},
		"header is a number":  {`{"url": "https://a.example", "headers": {"X-A": 1}}`, `"X-A" is not a string`},
		"header name":         {`{"url": "https://a.example", "headers": {"X A": "1"}}`, "not the name of a header"},
		"header value":        {`{"url": "https://a.example", "headers": {"X-A": "a\nb"}}`, "not allowed in a header"},
		"unresolved default":  {`{"url": "https://a.example/${WHERE:-}"}`, ""},
		"nothing after it":    {`{"command": "npx", "args": ["mcp-remote"]}`, "without an address"},
		"env inside args":     {`{"command": "npx", "args": ["mcp-remote", "https://a.example", "--header", "A:${B}"], "env": {"B": "${input:c}"}}`, "refers to ${input:c}"},
		"null":                {`null`, "not a JSON object"},
		"mcp-remote not http": {`{"command": "npx", "args": ["mcp-remote", "ftp://a.example"]}`, "not an http or https URL"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			result, err := Parse([]byte(`{"mcpServers": {"a": `+c.server+`}}`), "", Options{})
			if err != nil {
				t.Fatal(err)
			}
			if c.problem == "" {
				if len(result.Problems) > 0 {
					t.Errorf("problems = %+v, want none", result.Problems)
				}
				return
			}
			if len(result.Problems) != 1 || !strings.Contains(result.Problems[0].Message, c.problem) {
				t.Errorf("problems = %+v, want %q", result.Problems, c.problem)
			}
		})
	}
}

func TestUnreadable(t *testing.T) {
	cases := map[string]struct{ content, err string }{
		"empty":               {"", "unexpected end"},
		"not JSON":            {"{\n  \"mcpServers\": {,}\n}", "line 2"},
		"not an object":       {"[]", "not a JSON object"},
		"no servers":          {`{"theme": "dark"}`, "no MCP servers"},
		"servers are a list":  {`{"servers": []}`, "not an object of name and server"},
		"comment without end": {"{\n\n/* x", "line 3"},
		"stray slash":         {`{"a": /}`, "line 1"},
		"deep":                {strings.Repeat("[", 65), "nested"},
		"two texts":           {`{"mcpServers": {}} {}`, "after top-level value"},
		"large":               {strings.Repeat(" ", maxFile+1), "larger than"},
		"many":                {`{"mcpServers": {` + manyServers(maxServers+1) + `}}`, "more than 1000 servers"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.content), "", Options{})
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("error = %v, want one with %q", err, c.err)
			}
		})
	}
}

func manyServers(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"s%d": {"command": "x"}`, i))
	}
	return strings.Join(all, ",")
}

func TestReplacement(t *testing.T) {
	cases := map[string]struct{ content, path, want string }{
		"mcpServers": {
			`{"mcpServers": {"B <1>": {"url": "https://b.example/mcp"}, "a": {"url": "https://a.example/mcp"}, "x": {"command": "y"}}}`, "", `{
  "mcpServers": {
    "B <1>": {
      "command": "sallyport",
      "args": [
        "connect",
        "https://127.0.0.1:8443/mcp/b-1"
      ]
    },
    "a": {
      "command": "sallyport",
      "args": [
        "connect",
        "https://127.0.0.1:8443/mcp/a"
      ]
    }
  }
}
`,
		},
		"VS Code settings": {
			`{"mcp": {"servers": {"a": {"type": "http", "url": "https://a.example/mcp"}}}}`, "settings.json", `{
  "servers": {
    "a": {
      "type": "stdio",
      "command": "sallyport",
      "args": [
        "connect",
        "https://127.0.0.1:8443/mcp/a"
      ]
    }
  }
}
`,
		},
		"projects": {
			`{"projects": {"/p": {"mcpServers": {"a": {"url": "https://a.example/mcp"}}}, "/q": {"mcpServers": {"b": {"url": "https://a.example/mcp"}}}}}`, ".claude.json", `{
  "projects": {
    "/p": {
      "mcpServers": {
        "a": {
          "command": "sallyport",
          "args": [
            "connect",
            "https://127.0.0.1:8443/mcp/a"
          ]
        }
      }
    },
    "/q": {
      "mcpServers": {
        "b": {
          "command": "sallyport",
          "args": [
            "connect",
            "https://127.0.0.1:8443/mcp/a"
          ]
        }
      }
    }
  }
}
`,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			result, err := Parse([]byte(c.content), c.path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := result.Replacement("https://127.0.0.1:8443")
			if err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("replacement:\n%s\nwant:\n%s", got, c.want)
			}
			again, err := Parse([]byte(got), c.path, Options{})
			if err != nil || len(again.Upstreams) != 0 || len(again.Skipped) == 0 {
				t.Errorf("the replacement is read as %+v, %v; want servers that go through Sallyport already", again, err)
			}
		})
	}
}

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

func TestUniqueName(t *testing.T) {
	taken := map[string]bool{}
	for _, c := range []struct{ server, want string }{
		{"GitHub", "github"},
		{"github", "github-2"},
		{"git_hub", "git-hub"},
		{"  My  Server! ", "my-server"},
		{"1password", "mcp-1password"},
		{"会計", "mcp"},
		{"", "mcp-2"},
		{strings.Repeat("long-", 10), "long-long-long-long-long-long-l"},
		{strings.Repeat("long-", 10), "long-long-long-long-long-long-2"},
		{strings.Repeat("x", 40), strings.Repeat("x", 31)},
		{strings.Repeat("x", 40), strings.Repeat("x", 29) + "-2"},
	} {
		got := uniqueName(c.server, taken)
		if got != c.want || !validName.MatchString(got) {
			t.Errorf("uniqueName(%q) = %q, want %q", c.server, got, c.want)
		}
	}
}

func TestPlaces(t *testing.T) {
	home, project := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	t.Setenv("AppData", filepath.Join(home, "AppData"))

	places, err := Places(project)
	if err != nil || len(places) != 0 {
		t.Fatalf("Places = %v, %v; want none", places, err)
	}
	if _, _, err := ReadFirst(places, Options{}); err == nil || !strings.Contains(err.Error(), "name the file") {
		t.Errorf("error = %v, want one that says what to do", err)
	}

	config, err := os.UserConfigDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []struct{ path, content string }{
		{filepath.Join(project, ".vscode", "mcp.json"), `{"servers": {}}`},
		{filepath.Join(project, ".cursor", "mcp.json"), `{`},
		{filepath.Join(config, "Claude", "claude_desktop_config.json"), `{"mcpServers": {"a": {"url": "https://a.example"}}}`},
		{filepath.Join(home, ".cursor", "mcp.json"), `{"mcpServers": {"b": {"url": "https://b.example"}}}`},
	} {
		if err := os.MkdirAll(filepath.Dir(file.path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file.path, []byte(file.content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	places, err = Places(project)
	if err != nil || len(places) != 4 {
		t.Fatalf("Places = %v, %v; want four", places, err)
	}
	place, result, err := ReadFirst(places, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if place.Client != ClaudeDesktop || len(result.Upstreams) != 1 || result.Upstreams[0].Name != "a" {
		t.Errorf("used %+v with %+v, want the file of Claude Desktop", place, result.Upstreams)
	}
	if _, _, err := ReadFirst(places[:2], Options{}); err == nil || !strings.Contains(err.Error(), places[0].Path) || !strings.Contains(err.Error(), places[1].Path) {
		t.Errorf("error = %v, want what is wrong with both files", err)
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no fixtures", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content, file)
	}
	f.Add([]byte("\xef\xbb\xbf{//\n\"servers\":{\"a\":{\"url\":\"https://a\",},/**/},}"), "mcp.json")
	f.Fuzz(func(t *testing.T, content []byte, path string) {
		result, err := Parse(content, path, Options{})
		if err != nil {
			return
		}
		names := map[string]bool{}
		for _, u := range result.Upstreams {
			if !validName.MatchString(u.Name) || names[u.Name] {
				t.Errorf("name %q", u.Name)
			}
			names[u.Name] = true
			if _, err := checkAddress(u.URL); err != nil {
				t.Errorf("address %q: %v", u.URL, err)
			}
		}
		replacement, err := result.Replacement("https://127.0.0.1:8443")
		if err != nil || !json.Valid([]byte(replacement)) {
			t.Errorf("replacement %q: %v", replacement, err)
		}
	})
}
