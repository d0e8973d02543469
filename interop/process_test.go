//go:build interop

package interop

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// deadline bounds everything that a test waits for: long enough that a busy
// machine is not an error, short enough that a hang is seen.
const deadline = 2 * time.Minute

// output collects what a program prints while the test reads it.
type output struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes.String()
}

// process is a program that runs until the test ends.
type process struct {
	name   string
	exited chan struct{} // closed when it ended
	err    error         // how it ended, once exited is closed
}

// background starts a program, and shows the end of what it printed if the
// test fails.
func background(t *testing.T, program string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := command(ctx, t, program, args...)
	var printed output
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	p := &process{name: filepath.Base(program), exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		p.err = cmd.Wait()
	}()
	t.Cleanup(func() {
		select {
		case <-p.exited:
			t.Errorf("%s ended before the test did: %v", p.name, p.err)
		default:
		}
		cancel()
		<-p.exited
		if t.Failed() {
			t.Logf("%s printed:\n%s", p.name, tail(printed.String(), 60))
		}
	})
	return p
}

// await asks until the answer is yes.
func (p *process) await(t *testing.T, what string, ready func() error) {
	t.Helper()
	give := time.After(deadline)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-p.exited:
			t.Fatalf("%s ended while the test waited for %s: %v", p.name, what, p.err)
		case <-give:
			t.Fatalf("waited %v for %s: %v", deadline, what, err)
		case <-again.C:
		}
	}
}

// run runs a program to its end and gives its standard output.
func run(t *testing.T, env []string, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	cmd := command(ctx, t, program, args...)
	cmd.Env = append(cmd.Env, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		t.Logf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, tail(stderr.String(), 40))
	}
	return stdout.String(), err
}

// command prepares a program that is asked to stop before it is killed, finds
// the Node of package.json first, and keeps its files in a folder of the test.
func command(ctx context.Context, t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	home := t.TempDir()
	cmd.Env = append(os.Environ(),
		"PATH="+nodeModules(t, ".bin")+string(os.PathListSeparator)+os.Getenv("PATH"),
		"HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, ".config"), "MCP_REMOTE_CONFIG_DIR="+home,
	)
	return cmd
}

// nodeModules is the path of something that make test-interop installed.
func nodeModules(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("node_modules", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: install it with npm ci, or run make test-interop", err)
	}
	return path
}

// freeAddr is a loopback address whose port was free on TCP and on UDP.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 20 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := tcp.Addr().String()
		udp, err := net.ListenPacket("udp", addr)
		tcp.Close()
		if err == nil {
			udp.Close()
			return addr
		}
	}
	t.Fatal("found no port that is free on TCP and UDP")
	return ""
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
