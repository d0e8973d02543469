package cluster

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"sallyport/raftfsm"
)

const sampleEntries = 120

// writeLog makes a Raft log with a vote and entries that fill several pages, some of them more than one each.
func writeLog(t testing.TB, path string) []raft.Log {
	t.Helper()
	s, err := openStore(path, quiet())
	if err != nil {
		t.Fatal(err)
	}
	var logs []raft.Log
	for i := range uint64(sampleEntries) {
		size := 50 + int(i)*3
		if i%40 == 7 {
			size = 20_000
		}
		logs = append(logs, raft.Log{Index: i + 1, Term: 1 + i/10, Type: raft.LogCommand, Data: bytes.Repeat([]byte{byte(i)}, size)})
	}
	var batch []*raft.Log
	for i := range logs {
		if batch = append(batch, &logs[i]); len(batch) == 10 {
			if err := s.StoreLogs(batch); err != nil {
				t.Fatal(err)
			}
			batch = nil
		}
	}
	if err := s.SetUint64([]byte("CurrentTerm"), 12); err != nil {
		t.Fatal(err)
	}
	if err := s.Set([]byte("LastVoteCand"), []byte("n1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return logs
}

// readLog tells how a log differs from what was written, nil if it does not.
func readLog(t testing.TB, path string, want []raft.Log) error {
	t.Helper()
	s, err := openStore(path, quiet())
	if err != nil {
		return err
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, w := range want {
		var got raft.Log
		if err := s.GetLog(w.Index, &got); err != nil {
			return err
		}
		if got.Term != w.Term || got.Type != w.Type || !bytes.Equal(got.Data, w.Data) {
			t.Errorf("entry %d is not what it was, and nobody noticed", w.Index)
		}
	}
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	if last != uint64(len(want)) {
		t.Errorf("the log ends with entry %d, not %d, and nobody noticed", last, len(want))
	}
	term, err := s.GetUint64([]byte("CurrentTerm"))
	if err != nil {
		return err
	}
	vote, err := s.Get([]byte("LastVoteCand"))
	if err != nil {
		return err
	}
	if term != 12 || string(vote) != "n1" {
		t.Errorf("the term is %d, the vote for %q, and nobody noticed", term, vote)
	}
	return nil
}

// Whatever happens to the bytes of a log, what it says is either what was written to it or nothing.
func TestDamageOfTheLogIsNoticed(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "raft.db")
	want := writeLog(t, whole)
	if err := readLog(t, whole, want); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "raft.db")
	noticed := 0
	for seed := range uint64(120) {
		random := rand.New(rand.NewPCG(seed, 7))
		damaged, how := damage(bytes.Clone(content), random)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := readLog(t, path, want); err != nil {
			noticed++
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "backup") {
				t.Errorf("seed %d (%s): the error does not say what to do: %v", seed, how, err)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d: %s", seed, how)
		}
	}
	if noticed == 0 {
		t.Error("no damage was noticed")
	}
}

func damage(content []byte, random *rand.Rand) (damaged []byte, how string) {
	const page = 4096
	at := random.IntN(len(content))
	switch random.IntN(6) {
	case 0:
		return content[:at], fmt.Sprintf("truncated to %d", at)
	case 1:
		at = at / page * page
		clear(content[at:min(at+page, len(content))])
		return content, fmt.Sprintf("page at %d zeroed", at)
	case 2:
		other := random.IntN(len(content)) / page * page
		at = at / page * page
		copy(content[at:], bytes.Clone(content[other:min(other+page, len(content))]))
		return content, fmt.Sprintf("page at %d overwritten with the one at %d", at, other)
	case 3:
		at = at/page*page + random.IntN(pageHeader+4*pageElement)
	}
	content[at] ^= byte(1 + random.IntN(255))
	return content, fmt.Sprintf("byte %d flipped", at)
}

// FuzzPages looks for files that pass the check and yet are not safe to open.
func FuzzPages(f *testing.F) {
	path := filepath.Join(f.TempDir(), "raft.db")
	writeLog(f, path)
	content, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint(100), []byte("x"))
	f.Add(uint(4096), []byte{1})
	f.Fuzz(func(t *testing.T, at uint, with []byte) {
		damaged := bytes.Clone(content)
		copy(damaged[at%uint(len(damaged)):], with)
		path := filepath.Join(t.TempDir(), "raft.db")
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openStore(path, quiet())
		if err != nil {
			return
		}
		for i := range uint64(sampleEntries) {
			var l raft.Log
			_ = s.GetLog(i+1, &l) // an error is fine, the end of the process is not
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestDamageOfTheSnapshotIsNoticed(t *testing.T) {
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
	states, err := filepath.Glob(d.File("raft/snapshots/*/state.bin"))
	if err != nil || len(states) != 1 {
		t.Fatalf("%d snapshots, %v", len(states), err)
	}
	content, err := os.ReadFile(states[0])
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(states[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Config{DataDir: d, Bootstrap: true, MaxStaleness: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), d.Path) || !strings.Contains(err.Error(), "backup") {
		t.Fatalf("open with a damaged snapshot: %v", err)
	}
}

// quiet waits for no room.
func quiet() *retrier {
	return &retrier{log: slog.New(slog.DiscardHandler), release: func() (bool, error) { return false, nil }}
}
