package cli_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/crypto"
	"sallyport/node/api/kind"
)

// copyDir copies a data directory with the modes of its files.
func copyDir(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// change rewrites a file of a data directory.
func change(t testing.TB, path string, how func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, how(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func truncated(content []byte) []byte { return content[:len(content)/2] }

func emptied([]byte) []byte { return nil }

func garbage(content []byte) []byte {
	noise := rand.NewChaCha8([32]byte{1})
	_, _ = noise.Read(content) // never fails
	return content
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// refused runs a command that has to end with a status and one line on stderr that has all the texts, besides the log.
func refused(t testing.TB, status int, args []string, texts ...string) {
	t.Helper()
	p := launch(t, sallyport(t, args...))
	if got := p.exits(); got != status {
		t.Errorf("exit status %d, want %d:\n%s", got, status, p.errOut)
	}
	for line := range strings.Lines(p.errOut.String()) {
		if line[0] != '{' && !strings.HasPrefix(line, "sallyport: ") {
			t.Errorf("more than one line that is no log: %q of\n%s", line, p.errOut)
		}
	}
	for _, text := range texts {
		if !strings.Contains(p.lastLine(), text) {
			t.Errorf("it does not say %q:\n%s", text, p.errOut)
		}
	}
}

// sample makes a data directory with some state, and returns the names of its agents.
func sample(t testing.TB) (dir string, agents []string) {
	t.Helper()
	n := newNode(t)
	n.start()
	for i := range 20 {
		agents = append(agents, fmt.Sprintf("agent-%d", i))
		n.put(agent(agents[i], "role-"+strings.Repeat("x", 20)))
	}
	n.stop()
	return n.dir, agents
}

func TestNodeRefusesWhatIsWrongWithItsFiles(t *testing.T) {
	t.Parallel()
	whole, _ := sample(t)
	file := func(name string) func(string) string {
		return func(dir string) string { return filepath.Join(dir, name) }
	}
	marker, log, kek, control := file("node.json"), file("raft/raft.db"), file("node.key"), file("keyrings/control")
	for name, test := range map[string]struct {
		harm func(t *testing.T, dir string)
		says []string
	}{
		"foreign directory": {func(t *testing.T, dir string) {
			remove(t, dir)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"thesis.txt", "empty or new directory"}},
		"marker gone":      {func(t *testing.T, dir string) { remove(t, marker(dir)) }, []string{"was not made by sallyport"}},
		"marker truncated": {func(t *testing.T, dir string) { change(t, marker(dir), truncated) }, []string{"node.json", "backup"}},
		"marker empty":     {func(t *testing.T, dir string) { change(t, marker(dir), emptied) }, []string{"node.json", "backup"}},
		"marker garbage":   {func(t *testing.T, dir string) { change(t, marker(dir), garbage) }, []string{"node.json", "backup"}},
		"marker of a newer": {func(t *testing.T, dir string) {
			change(t, marker(dir), func([]byte) []byte { return []byte(`{"format":2,"node":"n"}`) })
		}, []string{"format 2", "version"}},
		"log gone": {func(t *testing.T, dir string) { remove(t, log(dir)) }, []string{"raft.db", "backup"}},

		"log empty":   {func(t *testing.T, dir string) { change(t, log(dir), emptied) }, []string{"raft.db", "backup"}},
		"log garbage": {func(t *testing.T, dir string) { change(t, log(dir), garbage) }, []string{"raft.db", "backup"}},
		"log is a directory": {func(t *testing.T, dir string) {
			remove(t, log(dir))
			if err := os.Mkdir(log(dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{"raft.db"}},
		"keyring gone":      {func(t *testing.T, dir string) { remove(t, control(dir)) }, []string{"keyrings/control", "backup"}},
		"keyring truncated": {func(t *testing.T, dir string) { change(t, control(dir), truncated) }, []string{"keyrings/control"}},
		"keyring empty":     {func(t *testing.T, dir string) { change(t, control(dir), emptied) }, []string{"keyrings/control"}},
		"keyring garbage":   {func(t *testing.T, dir string) { change(t, control(dir), garbage) }, []string{"keyrings/control"}},
		"keyrings swapped": {func(t *testing.T, dir string) {
			if err := os.Rename(filepath.Join(dir, "keyrings", "data"), control(dir)); err != nil {
				t.Fatal(err)
			}
		}, []string{"keyrings/control"}},
		"key readable by others": {func(t *testing.T, dir string) {
			if err := os.Chmod(kek(dir), 0o644); err != nil {
				t.Fatal(err)
			}
		}, []string{"node.key", "0644", "chmod 600"}},
		"key of another node": {func(t *testing.T, dir string) {
			remove(t, kek(dir))
			if err := crypto.CreateKEKFile(kek(dir)); err != nil {
				t.Fatal(err)
			}
		}, []string{"keyrings/control", "key"}},
		"key gone":    {func(t *testing.T, dir string) { remove(t, kek(dir)) }, []string{"node.key", "copy"}},
		"key garbage": {func(t *testing.T, dir string) { change(t, kek(dir), garbage) }, []string{"node.key"}},
		"key empty":   {func(t *testing.T, dir string) { change(t, kek(dir), emptied) }, []string{"node.key"}},
		"audit is a file": {func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, "audit"))
			if err := os.WriteFile(filepath.Join(dir, "audit"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"audit"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			copyDir(t, whole, dir)
			test.harm(t, dir)
			before := tree(t, dir)
			refused(t, 1, startArgs(dir), append(test.says, dir)...)
			if after := tree(t, dir); name == "foreign directory" && after != before {
				t.Errorf("it changed a directory that is not its own: %s, was %s", after, before)
			}
		})
	}
}

// tree lists a directory.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// What a node makes anew at each start may be lost.
func TestNodeRestoresWhatItCanMakeAnew(t *testing.T) {
	t.Parallel()
	whole, _ := sample(t)
	for _, name := range []string{"ca.pem", "node.addr", "quic-reset.key", "audit"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			copyDir(t, whole, n.dir)
			remove(t, filepath.Join(n.dir, name))
			n.start()
			n.put(agent("B", "r"))
			n.stop()
		})
	}
}

// A damaged log ends in a clear error, or the damage hit nothing that counts.
func TestFlippedBytesAreNoticed(t *testing.T) {
	t.Parallel()
	whole, agents := sample(t)
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			copyDir(t, whole, n.dir)
			random := rand.New(rand.NewPCG(seed, 1))
			change(t, filepath.Join(n.dir, "raft", "raft.db"), func(content []byte) []byte {
				if seed%8 == 7 {
					return truncated(content)
				}
				// Empty space is not worth the damage.
				for range 4 {
					at := random.IntN(len(content))
					for content[at] == 0 {
						at = random.IntN(len(content))
					}
					content[at] ^= byte(1 + random.IntN(255))
				}
				return content
			})
			n.launch()
			select {
			case <-n.ended:
				if status := n.exits(); status != 1 || !strings.Contains(n.lastLine(), n.dir) || !strings.Contains(n.lastLine(), "backup") {
					t.Errorf("exit status %d:\n%s", status, n.errOut)
				}
			case <-n.announces("serving at"):
				n.serves()
				list, err := n.admin().List(within(t), kind.KindAgent)
				if err != nil {
					t.Fatal(err)
				}
				found := map[string]bool{}
				for _, a := range list {
					found[a.Head().Metadata.Name+" "+spec(a)] = true
				}
				for _, name := range agents {
					if !found[name+" role-"+strings.Repeat("x", 20)] {
						t.Errorf("agent %s is not what it was, and nobody noticed", name)
					}
				}
				n.stop()
			}
		})
	}
}

func TestTwoProcessesOnOneDirectory(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	refused(t, 1, startArgs(n.dir), n.dir, "another sallyport process")
	n.put(agent("A", "r"))
	n.stop()
}

// Of many that bootstrap one directory at the same time one wins, and what it made is what the directory holds.
func TestBootstrapsOfOneDirectoryAtOnce(t *testing.T) {
	t.Parallel()
	for range 3 {
		dir := filepath.Join(t.TempDir(), "data")
		var all []*node
		for range 5 {
			n := &node{t: t, dir: dir}
			n.launch()
			all = append(all, n)
		}
		var winner *node
		for _, n := range all {
			select {
			case <-n.ended:
				if status := n.exits(); status != 1 || !strings.Contains(n.lastLine(), dir) {
					t.Errorf("exit status %d:\n%s", status, n.errOut)
				}
			case <-n.announces("serving at"):
				if winner != nil {
					t.Fatal("two nodes serve from one directory")
				}
				winner = n
			}
		}
		if winner == nil {
			t.Fatal("no node serves")
		}
		winner.serves()
		winner.put(agent("A", "r"))
		winner.stop()
		winner.start()
		winner.stop()
	}
}

func TestNodeSaysWhatIsWrongWithItsConfiguration(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = busy.Close() })
	taken := busy.Addr().String()
	quic, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = quic.Close() })
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 10), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		config string
		args   []string
		status int
		says   []string
	}{
		"unknown key":          {"region: eu\nlistn: x\n", nil, 1, []string{"node.yaml:2:1", `"listn"`, "data-dir"}},
		"wrong type":           {"region: eu\nbootstrap: [1]\n", nil, 1, []string{"node.yaml:2:12"}},
		"no YAML":              {"region: \"eu\n", nil, 1, []string{"node.yaml:1:"}},
		"duration":             {"region: eu\n\nmax-staleness: soon\n", nil, 1, []string{"node.yaml", "soon"}},
		"file missing":         {"", []string{"--config", "/nonexistent.yaml"}, 1, []string{"/nonexistent.yaml"}},
		"flag unknown":         {"", []string{"--listn", "x"}, 2, []string{"--listn", "--help"}},
		"argument":             {"", []string{"now"}, 2, []string{"now", "--help"}},
		"address":              {"", []string{"--listen", "8443"}, 1, []string{"listen", "host:port"}},
		"public address taken": {"", []string{"--listen", taken}, 1, []string{taken, "--listen"}},
		"UDP port taken":       {"", []string{"--listen", quic.LocalAddr().String()}, 1, []string{quic.LocalAddr().String(), "--listen"}},
		"ops address taken":    {"", []string{"--ops-listen", taken}, 1, []string{taken, "--ops-listen"}},
		"admin address taken":  {"", []string{"--admin-listen", taken}, 1, []string{taken, "--admin-listen"}},
		"foreign address":      {"", []string{"--listen", "192.0.2.1:0"}, 1, []string{"192.0.2.1", "--listen"}},
		"certificate missing":  {"", []string{"--tls-cert", "/nonexistent.pem", "--tls-key", "/nonexistent.key"}, 1, []string{"/nonexistent."}},
		"certificate no PEM":   {"", []string{"--tls-cert", file, "--tls-key", file}, 1, []string{file}},
		"key of a KMS":         {"", []string{"--key", "awskms://x"}, 1, []string{"awskms", "not supported"}},
		"below a file":         {"", []string{"--data-dir", filepath.Join(file, "data")}, 1, []string{file}},
		"is a file":            {"", []string{"--data-dir", file}, 1, []string{file}},
		"another id":           {"", []string{"--id", "a b"}, 1, []string{`id "a b"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := startArgs(filepath.Join(t.TempDir(), "data"))
			if test.config != "" {
				path := filepath.Join(t.TempDir(), "node.yaml")
				if err := os.WriteFile(path, []byte(test.config), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, "--config", path)
			}
			refused(t, test.status, append(args, test.args...), test.says...)
		})
	}
}

// The directory belongs to another user, or to nobody but root.
func TestDirectoryThatIsNotWritable(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	if os.Geteuid() == 0 {
		// Root may write everywhere but where the system itself takes no files.
		parent = "/proc"
	} else if err := os.Chmod(parent, 0o500); err != nil {
		t.Fatal(err)
	}
	refused(t, 1, startArgs(filepath.Join(parent, "data")), filepath.Join(parent, "data"))
}
