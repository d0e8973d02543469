package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// relay passes TCP on to a node; UDP vanishes, as behind many firewalls.
type relay struct {
	url   string
	taken atomic.Int64 // connections
	lost  atomic.Int64 // datagrams
}

func newRelay(t testing.TB, node string) *relay {
	t.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	for range 20 {
		var err error
		if tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if udp, err = net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			break
		}
		_ = tcp.Close()
	}
	if udp == nil {
		t.Fatal("no port is free for TCP and UDP")
	}
	t.Cleanup(func() { _, _ = tcp.Close(), udp.Close() })
	r := &relay{url: "https://" + tcp.Addr().String()}
	go func() {
		for b := make([]byte, 2048); ; r.lost.Add(1) {
			if _, _, err := udp.ReadFrom(b); err != nil {
				return
			}
		}
	}()
	go func() {
		for {
			in, err := tcp.Accept()
			if err != nil {
				return
			}
			r.taken.Add(1)
			go pass(in, strings.TrimPrefix(node, "https://"))
		}
	}()
	return r
}

// pass copies both ways until both have ended.
func pass(in net.Conn, to string) {
	defer in.Close()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(in, out)
		_ = in.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(out, in)
	_ = out.(*net.TCPConn).CloseWrite()
	<-back
}

// stdio speaks to a command as an MCP client that started it.
type stdio struct {
	*process
	in io.WriteCloser
	id int
}

func newStdio(t testing.TB, env []string, args ...string) *stdio {
	t.Helper()
	cmd := sallyport(t, args...)
	cmd.Env = append(cmd.Env, env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	return &stdio{process: launch(t, cmd), in: in}
}

// ask sends a request and returns the line with its response.
func (s *stdio) ask(method, params string) string {
	s.t.Helper()
	s.id++
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	if _, err := fmt.Fprintf(s.in, `{"jsonrpc":"2.0","id":"q%d","method":%q,"params":{%s%s}}`+"\n", s.id, method, params, meta); err != nil {
		s.t.Fatal(err)
	}
	return s.prints(fmt.Sprintf(`"id":"q%d"`, s.id))
}

// tour asks what a client asks, and then ends as clients do, by closing stdin.
func (s *stdio) tour() {
	s.t.Helper()
	for _, step := range []struct{ method, params, want string }{
		{"server/discover", "", `"serverInfo"`},
		{"tools/list", "", `"echo"`},
		{"tools/call", `"name":"echo","arguments":{"text":"grüße\u0000"},`, `"done"`},
	} {
		if got := s.ask(step.method, step.params); !strings.Contains(got, step.want) {
			s.t.Errorf("%s is answered with %s", step.method, got)
		}
	}
	if err := s.in.Close(); err != nil {
		s.t.Fatal(err)
	}
	if status := s.exits(); status != 0 {
		s.t.Errorf("exit status %d:\n%s", status, s.errOut)
	}
	for line := range strings.Lines(s.out.String()) {
		if !json.Valid([]byte(line)) {
			s.t.Errorf("stdout has what is no message: %q", line)
		}
	}
}

func TestImportedServerWorksThroughConnect(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	n := newNode(t)
	n.start()
	dir := t.TempDir()
	file := filepath.Join(dir, "mcp.json")
	config := fmt.Sprintf(`{"mcpServers": {"u": {"url": %q, "headers": {"X-Api-Key": "${env:UPSTREAM_KEY}"}}, "local": {"command": "local-server"}}}`, s.URL)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"SALLYPORT_CONFIG_DIR=" + filepath.Join(dir, "profile"), "UPSTREAM_KEY=" + upstreamSecret}

	cmd := sallyport(t, "import", file, "--agent", "A", "--data-dir", n.dir)
	cmd.Env = append(cmd.Env, env...)
	p := launch(t, cmd)
	if status := p.exits(); status != 0 {
		t.Fatalf("import: exit status %d:\n%s", status, p.errOut)
	}
	if !strings.Contains(p.errOut.String(), "local") {
		t.Errorf("import does not name the server that it cannot take:\n%s", p.errOut)
	}
	if all := p.out.String() + p.errOut.String(); strings.Contains(all, upstreamSecret) {
		t.Errorf("import shows the secret:\n%s", all)
	}
	var replacement struct {
		MCPServers map[string]struct {
			Command string
			Args    []string
		} `json:"mcpServers"`
	}
	if err := json.Unmarshal([]byte(p.out.String()), &replacement); err != nil {
		t.Fatalf("import prints %s: %v", p.out, err)
	}
	entry, ok := replacement.MCPServers["u"]
	if !ok || len(entry.Args) == 0 || entry.Args[0] != "connect" {
		t.Fatalf("import prints %s", p.out)
	}
	newStdio(t, env, entry.Args...).tour()
	n.stop()
}

// Where UDP does not get through everything works all the same, over HTTP/2.
func TestConnectAndCallWithoutUDP(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	n := newNode(t)
	n.start()
	r := newRelay(t, n.url)
	env := []string{"SALLYPORT_CACERT=" + filepath.Join(n.dir, "ca.pem"), "SALLYPORT_TOKEN=" + n.serve(s), "SALLYPORT_ADDR=" + r.url}
	newStdio(t, env, "connect", r.url+"/mcp/u").tour()

	cmd := sallyport(t, "call", "u/echo", "n=10", "text=x y")
	cmd.Env = append(cmd.Env, env...)
	if p := launch(t, cmd); p.exits() != 0 || strings.TrimSpace(p.out.String()) != "done" {
		t.Errorf("call: %s:\n%s%s", p.cmd.ProcessState, p.out, p.errOut)
	}
	if s.counts()[`{"n":10,"text":"x y"}`] != 1 {
		t.Errorf("the upstream saw %v", s.counts())
	}
	if r.taken.Load() == 0 || r.lost.Load() == 0 {
		t.Errorf("%d connections over TCP, %d datagrams lost: one of the ways was not tried", r.taken.Load(), r.lost.Load())
	}
	n.stop()
}

// A client that is connected outlives the node.
func TestConnectOutlivesTheNode(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	n := newNode(t, "--listen", freeAddr(t))
	n.start()
	env := []string{"SALLYPORT_CACERT=" + filepath.Join(n.dir, "ca.pem"), "SALLYPORT_TOKEN=" + n.serve(s)}
	c := newStdio(t, env, "connect", n.url+"/mcp/u")
	call := func() string { return c.ask("tools/call", `"name":"echo","arguments":{},`) }
	if got := call(); !strings.Contains(got, `"done"`) {
		t.Errorf("a call is answered with %s", got)
	}
	n.kill()
	n.start()
	// It may have been on its way into the connection that is gone: then nobody knows what became of it, and it is not repeated.
	if got := call(); !strings.Contains(got, `"done"`) && !strings.Contains(got, `"error"`) {
		t.Errorf("the first call after the restart is answered with %s", got)
	}
	if got := call(); !strings.Contains(got, `"done"`) {
		t.Errorf("a call after the restart is answered with %s", got)
	}
	if err := c.in.Close(); err != nil {
		t.Fatal(err)
	}
	if status := c.exits(); status != 0 {
		t.Errorf("connect: exit status %d:\n%s", status, c.errOut)
	}
	n.stop()
}
