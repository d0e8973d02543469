//go:build interop

package interop

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The answer of everything-server's test_simple_text.
const simpleText = "This is a simple text response for testing."

// trusting is what makes a Node program trust the node's CA.
func (n *node) trusting() []string { return []string{"NODE_EXTRA_CA_CERTS=" + n.caFile()} }

func TestInspector(t *testing.T) {
	for eras, upstream := range upstreams {
		n := startNode(t, upstream(t))
		for _, client := range []string{"legacy", "modern"} {
			t.Run(client+" inspector, "+eras+" server", func(t *testing.T) {
				inspect(t, n.trusting(), n.endpoint(), "--transport", "http", "--protocol-era", client, "--header", "Authorization: Bearer "+n.token)
			})
		}
	}
}

// The inspector with nothing but a command, as an MCP client's configuration
// has it: sallyport connect finds the node's CA and the token by itself.
func TestInspectorThroughConnect(t *testing.T) {
	for eras, upstream := range upstreams {
		t.Run(eras+" server", func(t *testing.T) {
			n := startNode(t, upstream(t))
			inspect(t, n.remembered(t), n.program, "connect", n.endpoint())
		})
	}
}

// remembered has sallyport keep the node's CA and the agent's token in a fresh
// home, and is what makes a program use that home. There is no keyring in it:
// a test leaves nothing in the developer's.
func (n *node) remembered(t *testing.T) []string {
	t.Helper()
	home := t.TempDir()
	env := []string{"HOME=" + home, "XDG_CONFIG_HOME=" + filepath.Join(home, ".config"), "DBUS_SESSION_BUS_ADDRESS=unix:path=" + filepath.Join(home, "no-bus")}
	if _, err := run(t, append(env, "SALLYPORT_CACERT="+n.caFile(), "SALLYPORT_TOKEN="+n.token), n.program, "connect", "--save", n.endpoint()); err != nil {
		t.Fatalf("sallyport connect --save: %v", err)
	}
	return env
}

// inspect lists and calls tools with the inspector's command line.
func inspect(t *testing.T, env []string, target ...string) {
	t.Helper()
	inspector := func(args ...string) []byte {
		args = append([]string{"--cli", "--format", "json", "--quiet"}, args...)
		printed, err := run(t, env, nodeModules(t, ".bin/mcp-inspector"), append(args, target...)...)
		if err != nil {
			t.Fatalf("inspector: %v", err)
		}
		return []byte(printed)
	}
	var list struct {
		Result mcp.ListToolsResult `json:"result"`
	}
	if printed := inspector("--method", "tools/list"); json.Unmarshal(printed, &list) != nil || len(list.Result.Tools) < 10 {
		t.Errorf("tools/list printed %s", printed)
	}
	var call struct {
		Result struct {
			Content []struct{ Text string }
		}
	}
	printed := inspector("--method", "tools/call", "--tool-name", "test_simple_text")
	if err := json.Unmarshal(printed, &call); err != nil || len(call.Result.Content) != 1 || call.Result.Content[0].Text != simpleText {
		t.Errorf("tools/call printed %s", printed)
	}
}

// mcp-remote is a stdio server before the node for clients that know no HTTP.
func TestMCPRemote(t *testing.T) {
	for eras, upstream := range upstreams {
		t.Run(eras+" server", func(t *testing.T) {
			n := startNode(t, upstream(t))
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			cmd := command(ctx, t, nodeModules(t, ".bin/mcp-remote"), n.endpoint(), "--transport", "http-only", "--header", "Authorization: Bearer "+n.token)
			cmd.Env = append(cmd.Env, n.trusting()...)
			var printed output
			cmd.Stderr = &printed
			useStdio(ctx, t, cmd)
			if t.Failed() {
				t.Logf("mcp-remote printed:\n%s", tail(printed.String(), 40))
			}
		})
	}
}

// useStdio lists and calls tools of a stdio server with the go-sdk client.
func useStdio(ctx context.Context, t *testing.T, server *exec.Cmd) {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "sallyport-interop", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.CommandTransport{Command: server}, nil)
	if err != nil {
		t.Errorf("connect: %v", err)
		return
	}
	defer session.Close()
	tools, err := session.ListTools(ctx, nil)
	if err != nil || len(tools.Tools) < 10 {
		t.Errorf("tools/list: %+v, %v", tools, err)
	}
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "test_simple_text"})
	if err != nil || len(result.Content) != 1 {
		t.Errorf("tools/call: %+v, %v", result, err)
		return
	}
	if text, ok := result.Content[0].(*mcp.TextContent); !ok || text.Text != simpleText {
		t.Errorf("tools/call answers %+v", result.Content[0])
	}
}
