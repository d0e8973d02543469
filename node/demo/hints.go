package demo

import (
	"encoding/json"
	"fmt"
	"path/filepath"
)

// place is where the running demo can be reached and what it put on disk.
// Everything to copy names files instead of the secrets in them.
type place struct {
	program string // the sallyport binary
	dir     string
	gateway string // base URL of the node
}

const (
	caFile      = "ca.pem"
	tokenFile   = "finance.token"
	profileName = "finance"

	resourcesFile = "resources.yaml"
)

// profileDir is the SALLYPORT_CONFIG_DIR with FinanceAgent's token in it.
func (p place) profileDir() string { return filepath.Join(p.dir, profileName) }

func (p place) mcpURL() string { return p.gateway + "/mcp/accounting" }

// hints prints what to try on the running demo.
func hints(s *screen, p place) error {
	clients, err := mcpServers(p, "mcpServers", server{Command: p.program})
	if err != nil {
		return err
	}
	vscode, err := mcpServers(p, "servers", server{Type: "stdio", Command: p.program})
	if err != nil {
		return err
	}

	s.heading("Try it yourself")
	s.paragraph("All of it stays up until Ctrl-C and is gone after that. In another terminal, as FinanceAgent with a new token:")
	s.verbatim(fmt.Sprintf(`
cd %s
export SALLYPORT_CONFIG_DIR=$PWD/%s
`, p.dir, profileName))

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
	s.verbatim(fmt.Sprintf(`NODE_EXTRA_CA_CERTS=%s npx @modelcontextprotocol/inspector --cli \
  %s --transport http \
  --header "Authorization: Bearer $(cat %s)" --method tools/list

npx @modelcontextprotocol/inspector --cli \
  -e SALLYPORT_CONFIG_DIR=$SALLYPORT_CONFIG_DIR \
  %s connect %s \
  --method tools/list
`, caFile, p.mcpURL(), tokenFile, p.program, p.mcpURL()))

	s.heading("Claude (claude_desktop_config.json) and Cursor (~/.cursor/mcp.json)")
	s.verbatim(clients)
	s.heading("VS Code (.vscode/mcp.json)")
	s.verbatim(vscode)
	s.heading("The node itself, as its owner")
	s.verbatim(fmt.Sprintf(`%s get policies
%s audit tail
%s apply -f %s
`, p.program, p.program, p.program, resourcesFile))
	return nil
}

// server is an entry in the configuration of an MCP client.
type server struct {
	Type    string            `json:"type,omitempty"`
	Command string            `json:"command"`
	Args    []string          `json:"args"`
	Env     map[string]string `json:"env"`
}

// mcpServers is a client's configuration that reaches the node by connect.
func mcpServers(p place, key string, entry server) (string, error) {
	entry.Args = []string{"connect", p.mcpURL()}
	entry.Env = map[string]string{"SALLYPORT_CONFIG_DIR": p.profileDir()}
	text, err := json.MarshalIndent(map[string]any{key: map[string]server{"accounting": entry}}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write an MCP client's configuration: %w", err)
	}
	return string(text) + "\n", nil
}
