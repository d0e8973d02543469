package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T, dir string) *Log {
	t.Helper()
	l, err := Open(dir, "n1", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func (l *Log) must(t *testing.T, r Record) {
	t.Helper()
	if err := l.Append(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func ids(t *testing.T, l *Log, f Filter) (out []string) {
	t.Helper()
	if err := l.Search(t.Context(), f, func(r Record) bool {
		out = append(out, r.ID)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSearch(t *testing.T) {
	l := open(t, t.TempDir())
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for i, agent := range []string{"A", "B", "A", "B", "A"} {
		l.must(t, Record{ID: fmt.Sprint(i), Kind: KindUse, Agent: agent, Decision: Allowed, Time: at.Add(time.Duration(i) * time.Hour)})
	}
	l.must(t, Record{ID: "admin", Kind: KindAdmin, Time: at.Add(9 * time.Hour)})
	for _, c := range []struct {
		f    Filter
		want string
	}{
		{Filter{}, "[0 1 2 3 4 admin]"},
		{Filter{Agent: "A"}, "[0 2 4]"},
		{Filter{Agent: "A", Limit: 2}, "[2 4]"},
		{Filter{Limit: 100, Kind: "admin"}, "[admin]"},
		{Filter{Since: at.Add(2 * time.Hour), Until: at.Add(4 * time.Hour)}, "[2 3]"},
		{Filter{ID: "3", Decision: Denied}, "[]"},
	} {
		if got := fmt.Sprint(ids(t, l, c.f)); got != c.want {
			t.Errorf("%+v: %s, want %s", c.f, got, c.want)
		}
	}
}

func TestTornLineIsMended(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	l.must(t, Record{ID: "1"})
	path := l.file.Name()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"id":"2","ki`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	l.must(t, Record{ID: "3"})
	if got := fmt.Sprint(ids(t, l, Filter{})); got != "[1 3]" {
		t.Fatalf("after a crash within a line: %s", got)
	}
}

func TestUnwritable(t *testing.T) {
	low := true
	l, err := Open(t.TempDir(), "n1", func() bool { return low })
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Append(t.Context(), Record{ID: "1", Kind: KindUse}); !errors.Is(err, ErrUnwritable) {
		t.Fatalf("use on a full disk: %v", err)
	}
	if err := l.Append(t.Context(), Record{ID: "2", Kind: KindAdmin}); err != nil {
		t.Fatalf("the reserve is not there for other records: %v", err)
	}
	low = false
	if err := l.Append(t.Context(), Record{ID: "3", Kind: KindUse}); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(t.Context(), Record{ID: "4", Reason: string(make([]byte, maxLine))}); !errors.Is(err, ErrUnwritable) {
		t.Fatalf("oversized record: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(t.Context(), Record{ID: "5"}); !errors.Is(err, ErrUnwritable) {
		t.Fatalf("closed log: %v", err)
	}
	if got := fmt.Sprint(ids(t, l, Filter{})); got != "[2 3]" {
		t.Fatalf("written: %s", got)
	}
}

func TestFollowAcrossSegments(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l := open(t, t.TempDir())
	l.must(t, Record{ID: "before", Agent: "A"})
	const each = 50
	got := make(chan string, 4*each)
	begun := make(chan struct{})
	var following sync.WaitGroup
	following.Go(func() {
		n := 0
		if err := l.Follow(ctx, Filter{Agent: "A"}, func() { close(begun) }, func(r Record) bool {
			got <- r.ID
			n++
			return n < 2*each
		}); err != nil {
			t.Error(err)
		}
		close(got)
	})
	<-begun
	var writers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			for i := range each {
				l.must(t, Record{ID: fmt.Sprintf("%d-%d", w, i), Agent: "A"})
				l.must(t, Record{ID: "other", Agent: "B"})
				if i == each/2 && w == 0 {
					l.mu.Lock()
					l.size = segmentBytes
					l.mu.Unlock()
				}
			}
		})
	}
	writers.Wait()
	seen := map[string]int{}
	for id := range got {
		seen[id]++
	}
	if ctx.Err() != nil {
		t.Fatalf("followed only %d of %d", len(seen), 2*each)
	}
	for id, n := range seen {
		if n != 1 || id == "before" || id == "other" {
			t.Errorf("followed %q %d times", id, n)
		}
	}
	following.Wait()
	files, err := filepath.Glob(filepath.Join(l.dir, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("segments: %v, %v", files, err)
	}
}
