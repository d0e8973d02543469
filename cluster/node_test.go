package cluster

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/raftfsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func openDir(t *testing.T, path string) *DataDir {
	t.Helper()
	d, err := OpenDataDir(path, "", "n1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // again, if the test has closed it
	return d
}

func closeDir(t *testing.T, d *DataDir) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, d *DataDir, duties ...Duty) *Node {
	t.Helper()
	n, err := Open(Config{DataDir: d, Bootstrap: true, MaxStaleness: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	n.Start(duties...)
	return n
}

// leads waits until the node leads and has caught up.
func leads(ctx context.Context, t *testing.T, n *Node) {
	t.Helper()
	if err := n.WaitEstablished(ctx); err != nil {
		t.Fatal(err)
	}
}

func shut(t *testing.T, n *Node) {
	t.Helper()
	if err := n.Shutdown(); err != nil {
		t.Fatal(err)
	}
}

func TestAcknowledgedWritesSurviveARestart(t *testing.T) {
	ctx := testContext(t)
	d := openDir(t, t.TempDir())
	n := open(t, d)
	leads(ctx, t, n)
	if _, err := n.Apply(ctx, &raftfsm.PutAgent{Agent: raftfsm.Agent{Name: "A"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Apply(ctx, &raftfsm.DeletePolicy{Name: "none"}); !errors.Is(err, raftfsm.ErrNotFound) {
		t.Fatalf("delete what is not there: %v", err)
	}
	shut(t, n)
	closeDir(t, d)

	n = open(t, openDir(t, d.Path))
	defer shut(t, n)
	leads(ctx, t, n)
	if _, ok := n.Read().Agent("A"); !ok {
		t.Fatal("an acknowledged write is gone")
	}
}

func TestStateComesBackFromASnapshot(t *testing.T) {
	ctx := testContext(t)
	d := openDir(t, t.TempDir())
	n := open(t, d)
	leads(ctx, t, n)
	if _, err := n.Apply(ctx, &raftfsm.PutAgent{Agent: raftfsm.Agent{Name: "A"}}); err != nil {
		t.Fatal(err)
	}
	if err := n.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	shut(t, n)
	if err := os.Mkdir(d.File("raft/snapshots/half.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	n = open(t, d)
	defer shut(t, n)
	if _, ok := n.Read().Agent("A"); !ok {
		t.Fatal("the snapshot was not restored at the start")
	}
	if _, err := os.Stat(d.File("raft/snapshots/half.tmp")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a half-written snapshot stays: %v", err)
	}
}

func TestOneNodePerDataDir(t *testing.T) {
	d := openDir(t, t.TempDir())
	n := open(t, d)
	defer shut(t, n)
	_, err := Open(Config{DataDir: d, MaxStaleness: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "another sallyport process") {
		t.Fatalf("second node on one directory: %v", err)
	}
}

func TestOpenRefusesWhatIsNoNode(t *testing.T) {
	_, err := Open(Config{DataDir: openDir(t, t.TempDir()), MaxStaleness: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, ErrNoNode) {
		t.Fatalf("open without bootstrap: %v", err)
	}
	d := openDir(t, t.TempDir())
	if err := d.WriteFile("raft/raft.db", bytes.Repeat([]byte("not a database "), 1000)); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Config{DataDir: d, Bootstrap: true, MaxStaleness: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "raft.db") || !strings.Contains(err.Error(), "backup") {
		t.Fatalf("open a damaged log: %v", err)
	}
}

func TestOpenRefusesAStalenessThatCannotHold(t *testing.T) {
	_, err := Open(Config{DataDir: openDir(t, t.TempDir()), Bootstrap: true, MaxStaleness: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "max-staleness") {
		t.Fatalf("open with a bound below an election: %v", err)
	}
}

func TestDataDir(t *testing.T) {
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "holiday.jpg"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := t.TempDir()
	later := t.TempDir()
	for path, text := range map[string]string{damaged: "{", later: `{"format":9,"node":"n1"}`} {
		if err := os.WriteFile(filepath.Join(path, markerFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mine := t.TempDir()
	d := openDir(t, mine)
	if d.Node != "n1" {
		t.Fatalf("claimed for %q", d.Node)
	}
	closeDir(t, d)
	for _, c := range []struct{ path, id, want string }{
		{foreign, "", "holiday.jpg"},
		{damaged, "", "is not what sallyport wrote"},
		{later, "", "format 9"},
		{mine, "n2", `belongs to node "n1"`},
		{mine, "n1", ""},
	} {
		d, err := OpenDataDir(c.path, c.id, "x")
		if err == nil {
			closeDir(t, d)
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("open %s as %q: %v, want %q", c.path, c.id, err, c.want)
		}
	}
}

func TestUnknownCommandStopsTheNode(t *testing.T) {
	ctx := testContext(t)
	n := open(t, openDir(t, t.TempDir()))
	defer shut(t, n)
	leads(ctx, t, n)
	before := n.state.Applied()
	n.raft.Apply([]byte{1, 0x7f, 0xff, 0xa0}, time.Second)
	select {
	case err := <-n.Failed():
		if !errors.Is(err, raftfsm.ErrUnknownCommand) || !strings.Contains(err.Error(), "upgrade") {
			t.Fatalf("stopped with: %v", err)
		}
	case <-ctx.Done():
		t.Fatal("the node goes on behind a command that it does not know")
	}
	if n.state.Applied() != before {
		t.Fatal("the state moved past the unknown command")
	}
}

func TestDutiesRunWhileLeading(t *testing.T) {
	ctx := testContext(t)
	began, ended := make(chan struct{}), make(chan struct{})
	n := open(t, openDir(t, t.TempDir()), Duty{Name: "test", Run: func(ctx context.Context) {
		close(began)
		<-ctx.Done()
		close(ended)
	}})
	select {
	case <-began:
	case <-ctx.Done():
		t.Fatal("the duty did not begin")
	}
	shut(t, n)
	<-ended
}

func TestFreshness(t *testing.T) {
	ctx := testContext(t)
	n := open(t, openDir(t, t.TempDir()))
	defer shut(t, n)
	for n.fresh.Check() != nil {
		select {
		case <-ctx.Done():
			t.Fatal("the leader of a group of one never proves its freshness")
		case <-time.After(10 * time.Millisecond):
		}
	}
	boot, wall := time.Hour, time.Unix(1000, 0)
	f := &Freshness{bound: 10 * time.Second, boot: func() time.Duration { return boot }, wall: func() time.Time { return wall }}
	f.last.Store(&proof{boot: boot, wall: wall})
	for _, c := range []struct {
		name       string
		boot, wall time.Duration
		fresh      bool
	}{
		{"at once", 0, 0, true},
		{"within the bound", 9 * time.Second, 9 * time.Second, true},
		{"past the bound", 11 * time.Second, 11 * time.Second, false},
		{"after a suspend", time.Hour, time.Hour, false},
		{"wall clock set forward", time.Second, time.Minute, false},
		{"wall clock set back", time.Second, -time.Minute, false},
	} {
		boot, wall = time.Hour+c.boot, time.Unix(1000, 0).Add(c.wall)
		if err := f.Check(); (err == nil) != c.fresh || err != nil && !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestFullDiskTakesOnlyRevocations(t *testing.T) {
	ctx := testContext(t)
	n := open(t, openDir(t, t.TempDir()))
	defer shut(t, n)
	leads(ctx, t, n)
	if _, err := n.Apply(ctx, &raftfsm.PutAgent{Agent: raftfsm.Agent{Name: "A"}}); err != nil {
		t.Fatal(err)
	}
	free := uint64(1 << 20)
	n.disk = &Disk{stat: func(string) (uint64, uint64, error) { return free, 1 << 40, nil }}
	put := &raftfsm.PutAgent{Agent: raftfsm.Agent{Name: "B"}}
	if _, err := n.Apply(ctx, put); !errors.Is(err, ErrDiskFull) {
		t.Fatalf("write on a full disk: %v", err)
	}
	revoke := &raftfsm.Revoke{Revocation: raftfsm.Revocation{ID: "r", Kind: raftfsm.RevokeAgent, Subject: "A"}}
	if _, err := n.Apply(ctx, revoke); err != nil {
		t.Fatalf("revoke on a full disk: %v", err)
	}
	free = 1 << 39
	if _, err := n.Apply(ctx, put); err != nil {
		t.Fatalf("write after room was made: %v", err)
	}
}

func TestFullDiskIsWaitedOut(t *testing.T) {
	room := &reserve{path: filepath.Join(t.TempDir(), "reserve")}
	if err := room.fill(); err != nil {
		t.Fatal(err)
	}
	r := &retrier{log: slog.New(slog.DiscardHandler), stop: make(chan struct{}), release: room.release}
	calls := 0
	err := r.do("test", func() error {
		if calls++; calls < 3 {
			return &os.PathError{Op: "write", Err: syscall.ENOSPC}
		}
		return nil
	})
	if err != nil || calls != 3 {
		t.Fatalf("%d calls, %v", calls, err)
	}
	if again, err := room.release(); again || err != nil {
		t.Fatalf("the reserved room was not given up: %v, %v", again, err)
	}
	other := errors.New("other")
	if err := r.do("test", func() error { return other }); !errors.Is(err, other) {
		t.Fatalf("another error: %v", err)
	}
}
