//go:build interop

package interop

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// node is a running sallyport with one upstream, everything, and an agent that
// may use all of it.
type node struct {
	program string
	dataDir string
	url     string
	admin   string
	roots   *x509.CertPool
	token   string // the agent's gateway token
}

const resources = `
apiVersion: sallyport/v1
kind: Upstream
metadata: {name: everything}
spec:
  url: %s
  credential: {grant: none}
---
apiVersion: sallyport/v1
kind: Agent
metadata: {name: ConformanceAgent}
spec: {roles: [conformance]}
---
apiVersion: sallyport/v1
kind: Policy
metadata: {name: conformance}
spec:
  cedar: |
    permit (principal in Role::"conformance", action, resource in Upstream::"everything");
`

// startNode does what an operator does: start, apply, issue a token.
func startNode(t *testing.T, upstream string) *node {
	t.Helper()
	program, err := filepath.Abs("../bin/sallyport")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: build it with make build, or run make test-interop", err)
	}
	addr := freeAddr(t)
	n := &node{program: program, dataDir: filepath.Join(t.TempDir(), "node"), url: "https://" + addr}
	p := background(t, program, "node", "start", "--bootstrap", "--data-dir", n.dataDir, "--listen", addr,
		"--cluster-listen", freeAddr(t), "--gossip-listen", freeAddr(t), "--ops-listen", freeAddr(t))
	p.await(t, "its CA", n.readCA)
	p.await(t, "readiness", n.ready)

	admin, err := os.ReadFile(filepath.Join(n.dataDir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	n.admin = strings.TrimSpace(string(admin))
	file := filepath.Join(t.TempDir(), "resources.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, resources, upstream), 0o600); err != nil {
		t.Fatal(err)
	}
	n.sallyport(t, "apply", "-f", file)
	n.token = strings.TrimSpace(n.sallyport(t, "token", "issue", "--agent", "ConformanceAgent"))
	return n
}

func (n *node) endpoint() string { return n.url + "/mcp/everything" }

func (n *node) caFile() string { return filepath.Join(n.dataDir, "ca.pem") }

// sallyport runs a command as the administrator.
func (n *node) sallyport(t *testing.T, args ...string) string {
	t.Helper()
	printed, err := run(t, []string{"SALLYPORT_ADDR=" + n.url, "SALLYPORT_TOKEN=" + n.admin, "SALLYPORT_CACERT=" + n.caFile()}, n.program, args...)
	if err != nil {
		t.Fatalf("sallyport %s: %v", strings.Join(args, " "), err)
	}
	return printed
}

func (n *node) readCA() error {
	pem, err := os.ReadFile(n.caFile())
	if err != nil {
		return err
	}
	n.roots = x509.NewCertPool()
	if !n.roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate", n.caFile())
	}
	return nil
}

func (n *node) ready() error {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: n.roots}, DisableKeepAlives: true}}
	resp, err := client.Get(n.url + "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answers %s", resp.Status)
	}
	return nil
}
