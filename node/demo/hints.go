package demo

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

// What is in the demo's directory.
const (
	nodeDir       = "node" // the node's data directory
	caFile        = nodeDir + "/ca.pem"
	logFile       = "demo.log"
	secretFile    = "client.secret"
	tokenFile     = "finance.token"
	resourcesFile = "resources.yaml"
	permitFile    = "permit.yaml"
)

// place is where the running demo can be reached and what it put on disk.
// Everything to copy names files instead of the secrets in them.
type place struct {
	program string // the sallyport binary
	dir     string
	gateway string // base URL of the node
}

func (p place) mcpURL() string { return p.gateway + "/mcp/accounting" }

// hints prints what to try on the running demo.
func hints(s *screen, p place) error {
	clients, err := clientConfig(p, "mcpServers", clientEntry{Command: p.program})
	if err != nil {
		return err
	}
	vscode, err := clientConfig(p, "servers", clientEntry{Type: "stdio", Command: p.program})
	if err != nil {
		return err
	}

	s.heading("Try it yourself")
	s.paragraph("All of it stays up until Ctrl-C and is gone after that. In another terminal, with a new token for FinanceAgent:")
	s.gap()
	s.verbatim(fmt.Sprintf(`cd %s
export SALLYPORT_ADDR=%s
export SALLYPORT_CACERT="$PWD/%s"
sallyport() { %s "$@"; }
`, quoted(p.dir), p.gateway, caFile, quoted(p.program)))

	s.heading("Call a tool as FinanceAgent, and watch the audit as the owner of the node")
	s.verbatim(fmt.Sprintf(`sallyport call --token-file %s \
  accounting/query_ledger account=travel limit=5

sallyport audit tail --data-dir %s
`, tokenFile, nodeDir))
	s.heading("Permit what was denied in step 2, and try it")
	s.verbatim(fmt.Sprintf(`sallyport apply --data-dir %s -f %s

sallyport call --token-file %s accounting/write_transaction \
  account=travel amount=-99900 memo="a new sail"
`, nodeDir, permitFile, tokenFile))
	s.heading("curl")
	s.verbatim(fmt.Sprintf(`curl --cacert %s -H "Authorization: Bearer $(cat %s)" \
  -H 'Content-Type: application/json' \
  -H 'Accept: application/json, text/event-stream' \
  -H 'MCP-Protocol-Version: %s' \
  -H 'Mcp-Method: tools/call' -H 'Mcp-Name: query_ledger' \
  %s -d '{
    "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
      "name": "query_ledger", "arguments": {"account": "travel", "limit": 5},
      "_meta": {"io.modelcontextprotocol/protocolVersion": "%s",
                "io.modelcontextprotocol/clientCapabilities": {}}}}'
`, caFile, tokenFile, mcpVersion, p.mcpURL(), mcpVersion))

	s.heading("The MCP inspector (Node.js 22 or newer), straight and through connect")
	s.verbatim(fmt.Sprintf(`npx -y -p @modelcontextprotocol/inspector \
  env NODE_EXTRA_CA_CERTS=%s mcp-inspector --cli \
  %s --transport http \
  --header "Authorization: Bearer $(cat %s)" --method tools/list

npx -y @modelcontextprotocol/inspector --cli --method tools/list \
  -e "SALLYPORT_CACERT=$SALLYPORT_CACERT" -- \
  %s connect --token-file "$PWD/%s" \
  %s
`, caFile, p.mcpURL(), tokenFile, quoted(p.program), tokenFile, p.mcpURL()))

	s.heading("Claude (claude_desktop_config.json) and Cursor (~/.cursor/mcp.json)")
	s.verbatim(clients)
	s.heading("VS Code (.vscode/mcp.json)")
	s.verbatim(vscode)
	s.gap()
	return nil
}

// clientEntry is an entry in the configuration of an MCP client.
type clientEntry struct {
	Type    string            `json:"type,omitempty"`
	Command string            `json:"command"`
	Args    []string          `json:"args"`
	Env     map[string]string `json:"env"`
}

// clientConfig is a client's configuration that reaches the node by connect.
func clientConfig(p place, key string, entry clientEntry) (string, error) {
	entry.Args = []string{"connect", "--token-file", filepath.Join(p.dir, tokenFile), p.mcpURL()}
	entry.Env = map[string]string{"SALLYPORT_CACERT": filepath.Join(p.dir, caFile)}
	text, err := json.MarshalIndent(map[string]any{key: map[string]clientEntry{"accounting": entry}}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write an MCP client's configuration: %w", err)
	}
	return string(text) + "\n", nil
}

// quoted makes one word of a path for a POSIX shell.
func quoted(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:", r)
	}
	if strings.TrimFunc(path, plain) == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
