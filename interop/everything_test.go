//go:build interop

package interop

import (
	"net"
	"os/exec"
	"path/filepath"
	"testing"
)

// era is one of the two ways to speak MCP, by the revision that stands for it.
type era string

const (
	modern era = "2026-07-28"
	legacy era = "2025-11-25"
)

// everythingServer starts go-sdk's conformance server, which speaks one era at
// a time, and gives the URL of its endpoint.
func everythingServer(t *testing.T, e era) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "everything-server")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/modelcontextprotocol/go-sdk/conformance/everything-server")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build go-sdk's everything-server: %v\n%s", err, out)
	}
	addr := freeAddr(t)
	stateless := "-stateless=false"
	if e == modern {
		stateless = "-stateless=true"
	}
	server := background(t, program, "-http", addr, stateless)
	server.await(t, "its port", func() error {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return "http://" + addr + "/mcp"
}
