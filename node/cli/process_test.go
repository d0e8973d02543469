package cli

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/crypto"
)

// program is this test binary under the name by which TestMain knows it for the command.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sallyport")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// process is the command as a process whose output can be waited for.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	ended chan error
}

func start(t *testing.T, output func(*exec.Cmd) (io.ReadCloser, error), args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program(t), args...), lines: make(chan string, 1000), ended: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), "SALLYPORT_CONFIG_DIR="+t.TempDir())
	out, err := output(p.cmd)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			select {
			case p.lines <- scanner.Text():
			default: // a test waits for the first lines only
			}
		}
		p.ended <- p.cmd.Wait()
	}()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// says waits for a line with a text.
func (p *process) says(text string) {
	p.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	var said []string
	for {
		select {
		case line, open := <-p.lines:
			if strings.Contains(line, text) {
				return
			}
			if said = append(said, line); !open {
				p.t.Fatalf("it ended without saying %q:\n%s", text, strings.Join(said, "\n"))
			}
		case <-limit.C:
			p.t.Fatalf("it does not say %q:\n%s", text, strings.Join(said, "\n"))
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits for the end, which has to be a good one.
func (p *process) ends() {
	p.t.Helper()
	select {
	case err := <-p.ended:
		if err != nil {
			p.t.Errorf("it ended with %v", err)
		}
	case <-time.After(patience):
		p.t.Fatal("it does not end")
	}
}

func startNode(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	args = append([]string{
		"node", "start", "--bootstrap", "--data-dir", dir, "--listen", "127.0.0.1:0",
		"--cluster-listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0", "--ops-listen", "",
	}, args...)
	p := start(t, (*exec.Cmd).StderrPipe, args...)
	p.says("serving at https://")
	return p
}

// do runs the command to its good end.
func do(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	status, out, errOut := sallyport(t, stdin, args...)
	if status != exitDone {
		t.Fatalf("%v: exit %d: %s", args, status, errOut)
	}
	return out
}

func TestTailShowsWhatWasAndWhatComes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	node := startNode(t, dir)
	do(t, agentA, "apply", "-f", "-", "--data-dir", dir)
	tail := start(t, (*exec.Cmd).StdoutPipe, "audit", "tail", "--data-dir", dir, "-o", "json")
	tail.says(`"subject":"agent/A"`)
	do(t, agentB, "apply", "-f", "-", "--data-dir", dir)
	tail.says(`"subject":"agent/B"`)
	tail.signal(os.Interrupt)
	tail.ends()
	node.signal(syscall.SIGTERM)
	node.ends()
}

func TestHangupReadsTheCertificateAgain(t *testing.T) {
	dir := t.TempDir()
	authority, err := crypto.NewAuthority("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issued, err := authority.IssueServer([]string{"127.0.0.1"}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := writeCertificate(t, dir, issued)
	node := startNode(t, filepath.Join(dir, "d"), "--tls-cert", certFile, "--tls-key", keyFile)
	if err := os.WriteFile(certFile, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	node.signal(syscall.SIGHUP)
	node.says("the old one stays")
	node.signal(syscall.SIGTERM)
	node.ends()
}

func TestCallsInFlightFinishWhenTheNodeStops(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			ID     json.RawMessage
			Method string
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		result := `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"slow","version":"1"}}`
		if m.Method == "tools/call" {
			close(arrived)
			<-release
			result = `{"resultType":"complete","content":[{"type":"text","text":"done"}]}`
		}
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":`+result+`}`)
	}))
	defer upstream.Close()
	dir := filepath.Join(t.TempDir(), "d")
	node := startNode(t, dir)
	slow := "apiVersion: sallyport/v1\nkind: Upstream\nmetadata: {name: slow}\nspec: {url: " + upstream.URL + "}\n"
	do(t, slow+"---\n"+agentA+"---\n"+allow, "apply", "-f", "-", "--data-dir", dir)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(do(t, "", "token", "issue", "--agent", "A", "--data-dir", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	call := start(t, (*exec.Cmd).StdoutPipe, "call", "slow/tool", "--data-dir", dir, "--token-file", token)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case <-arrived:
	case <-ctx.Done():
		t.Fatal("the call does not arrive")
	}
	node.signal(syscall.SIGTERM)
	node.says("letting the calls in flight finish")
	close(release)
	call.says("done")
	call.ends()
	node.ends()
}

// writeCertificate writes a certificate and its key as PEM files.
func writeCertificate(t *testing.T, dir string, c *tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, one := range c.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: one})...)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := os.WriteFile(certFile, chain, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}
