package cli_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/crypto"
	"sallyport/node/api"
	"sallyport/node/api/client"
	"sallyport/node/api/kind"
)

// The tests in the files process_*_test.go run nodes as processes, in the hands of an operator who kills them, damages their files and
// takes their disk away.

// patience bounds every wait for something that has to happen.
const patience = 2 * time.Minute

// sallyport prepares the command as a process: this test binary, which TestMain lets be the command under that name.
func sallyport(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, args...)
	c.Args[0] = "sallyport"
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SALLYPORT_") {
			c.Env = append(c.Env, v)
		}
	}
	c.Env = append(c.Env, "SALLYPORT_CONFIG_DIR="+t.TempDir())
	return c
}

// said is what a process has written so far.
type said struct {
	mu      sync.Mutex // protects the following
	text    bytes.Buffer
	changed chan struct{}
}

func newSaid() *said { return &said{changed: make(chan struct{})} }

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
	return s.text.Write(p)
}

func (s *said) String() string {
	text, _ := s.now()
	return text
}

func (s *said) now() (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String(), s.changed
}

// process is a running command.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	out    *said
	errOut *said
	ended  chan struct{}
}

// launch starts a command. It does not outlive the test.
func launch(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, out: newSaid(), errOut: newSaid(), ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // ProcessState says what it came to
	}()
	t.Cleanup(p.kill)
	return p
}

// kill ends the process as kill -9 does. It may have ended before.
func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("kill: %v", err)
	}
	<-p.ended
	p.orderly()
}

// orderly checks that the process did not fall over: whatever it meets, it says so in words.
func (p *process) orderly() {
	p.t.Helper()
	for _, trace := range []string{"panic: ", "goroutine ", "fatal error: ", "unexpected fault address", "DATA RACE"} {
		if text := p.errOut.String(); strings.Contains(text, trace) {
			p.t.Errorf("the process fell over:\n%s", text)
			return
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// says waits until the process has written a text to stderr and returns the line.
func (p *process) says(text string) string {
	p.t.Helper()
	return p.line(p.errOut, text)
}

// prints waits until the process has written a text to stdout and returns the line.
func (p *process) prints(text string) string {
	p.t.Helper()
	return p.line(p.out, text)
}

func (p *process) line(from *said, text string) string {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		all, changed := from.now()
		for line := range strings.Lines(all) {
			if strings.Contains(line, text) && strings.HasSuffix(line, "\n") {
				return strings.TrimSuffix(line, "\n")
			}
		}
		select {
		case <-changed:
		case <-p.ended:
			if all == from.String() {
				p.t.Fatalf("it ended (%s) without saying %q:\n%s%s", p.cmd.ProcessState, text, p.out, p.errOut)
			}
		case <-timeout:
			p.t.Fatalf("it does not say %q:\n%s%s", text, p.out, p.errOut)
		}
	}
}

// announces tells when the process has written a text to stderr; it does not if the process ends before.
func (p *process) announces(text string) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		for {
			all, changed := p.errOut.now()
			if strings.Contains(all, text) {
				close(done)
				return
			}
			select {
			case <-changed:
			case <-p.ended:
				return
			}
		}
	}()
	return done
}

// exits waits for the end and returns the exit status.
func (p *process) exits() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("it does not end:\n%s", p.errOut)
	}
	p.orderly()
	return p.cmd.ProcessState.ExitCode()
}

// lastLine is what the process said at its end, without log lines.
func (p *process) lastLine() string {
	lines := strings.Split(strings.TrimSuffix(p.errOut.String(), "\n"), "\n")
	for _, line := range slices.Backward(lines) {
		if strings.HasPrefix(line, "sallyport: ") {
			return line
		}
	}
	return ""
}

// node is a node that is started, stopped and started again on one data directory.
type node struct {
	*process
	t    testing.TB
	dir  string
	args []string
	url  string
}

// newNode chooses a data directory; start starts it.
func newNode(t testing.TB, args ...string) *node {
	t.Helper()
	return &node{t: t, dir: filepath.Join(t.TempDir(), "data"), args: args}
}

// startArgs are the arguments of a node that disturbs nobody.
func startArgs(dir string, more ...string) []string {
	return append([]string{
		"node", "start", "--bootstrap", "--data-dir", dir, "--listen", "127.0.0.1:0", "--cluster-listen", "127.0.0.1:0",
		"--gossip-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0",
	}, more...)
}

func (n *node) launch() {
	n.t.Helper()
	n.process = launch(n.t, sallyport(n.t, startArgs(n.dir, n.args...)...))
}

// start starts the node and waits until it serves.
func (n *node) start() {
	n.t.Helper()
	n.launch()
	n.serves()
}

func (n *node) serves() {
	n.t.Helper()
	_, n.url, _ = strings.Cut(n.says("serving at https://"), "serving at ")
}

// stop stops the node as a service manager does.
func (n *node) stop() {
	n.t.Helper()
	n.signal(syscall.SIGTERM)
	if status := n.exits(); status != 0 {
		n.t.Errorf("stopping: exit status %d:\n%s", status, n.errOut)
	}
}

func (n *node) file(name string) string {
	n.t.Helper()
	text, err := os.ReadFile(filepath.Join(n.dir, name))
	if err != nil {
		n.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// web makes HTTP/2 connections that trust the node. It is made anew for each start, so that no connection is one to a process that is gone.
func (n *node) web() *http.Transport {
	n.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(n.file("ca.pem")))
	rt := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	n.t.Cleanup(rt.CloseIdleConnections)
	return rt
}

// admin asks the running node as its owner.
func (n *node) admin() *client.Client {
	n.t.Helper()
	return client.New(n.file("node.addr"), crypto.SecretString(n.file("admin.token")), n.web())
}

// put applies a document, which has to succeed.
func (n *node) put(r kind.Resource) {
	n.t.Helper()
	if _, err := n.admin().Put(within(n.t), r, client.Put{}); err != nil {
		n.t.Fatalf("apply %s: %v", r.Head().Metadata.Name, err)
	}
}

// issue issues a gateway token.
func (n *node) issue(agentName string) api.IssuedToken {
	n.t.Helper()
	issued, err := n.admin().IssueToken(within(n.t), api.TokenRequest{Agent: agentName})
	if err != nil {
		n.t.Fatal(err)
	}
	return issued
}

// within bounds what is asked of a node.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func envelope(k kind.Kind, name string) kind.Envelope {
	return kind.Envelope{APIVersion: kind.APIVersion, Kind: k, Metadata: kind.Metadata{Name: name}}
}

func agent(name string, roles ...string) *kind.Agent {
	return &kind.Agent{Envelope: envelope(kind.KindAgent, name), Spec: kind.AgentSpec{Roles: roles}}
}

func policy(name, cedar string) *kind.Policy {
	return &kind.Policy{Envelope: envelope(kind.KindPolicy, name), Spec: kind.PolicySpec{Cedar: cedar}}
}

func upstream(name, url string) *kind.Upstream {
	return &kind.Upstream{Envelope: envelope(kind.KindUpstream, name), Spec: kind.UpstreamSpec{URL: url}}
}

// everything lets an agent with the role do all it can.
func everything(role string) *kind.Policy {
	return policy("all-"+role, fmt.Sprintf(`permit (principal in Role::%q, action, resource);`, role))
}

// freeAddr is an address that nobody listens on at this moment.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
