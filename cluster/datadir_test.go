package cluster

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/raftfsm"
)

func TestOneProcessPerDataDir(t *testing.T) {
	d := openDir(t, t.TempDir())
	if _, err := OpenDataDir(d.Path, "", "n2"); err == nil || !strings.Contains(err.Error(), "another sallyport process") || !strings.Contains(err.Error(), d.Path) {
		t.Fatalf("open a directory that is in use: %v", err)
	}
	closeDir(t, d)
	closeDir(t, openDir(t, d.Path))
}

// A new file system, and a claim that was cut off, leave something in a directory that nobody owns.
func TestClaimOfADirectoryWithLeftovers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, markerFile+".new"), []byte(`{"for`), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := openDir(t, dir); d.Node != "n1" {
		t.Fatalf("claimed for %q", d.Node)
	}
}

func TestBootstrapCutOffIsRepeated(t *testing.T) {
	d := openDir(t, t.TempDir())
	if err := os.MkdirAll(d.File("raft"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := openStore(LogPath(d.Path), quiet())
	if err != nil {
		t.Fatal(err)
	}
	// raft writes the term first, then the first entry.
	if err := s.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n := open(t, d)
	defer shut(t, n)
	if err := n.WaitEstablished(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

// A service whose start always says --bootstrap must not begin anew over a log that was lost.
func TestLostLogIsNotBootstrappedOver(t *testing.T) {
	d := openDir(t, t.TempDir())
	n := open(t, d)
	ctx := testContext(t)
	if err := n.WaitEstablished(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Apply(ctx, &raftfsm.SetCluster{Cluster: raftfsm.Cluster{ID: "c1", CACert: []byte("x"), CAKey: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	if err := d.Joined("c1"); err != nil {
		t.Fatal(err)
	}
	shut(t, n)
	closeDir(t, d)
	if err := os.Remove(LogPath(d.Path)); err != nil {
		t.Fatal(err)
	}
	d = openDir(t, d.Path)
	if d.Cluster != "c1" {
		t.Fatalf("the directory says that it is of cluster %q", d.Cluster)
	}
	_, err := Open(Config{DataDir: d, Bootstrap: true, MaxStaleness: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), LogPath(d.Path)) || !strings.Contains(err.Error(), "backup") {
		t.Fatalf("bootstrap over a lost log: %v", err)
	}
	if err := d.Joined("c2"); err == nil || !strings.Contains(err.Error(), "c1") {
		t.Fatalf("join another cluster: %v", err)
	}
}
