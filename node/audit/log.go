// Package audit keeps the record of every use of a credential: append-only segments of JSON lines, one log per node.
//
// A record counts as written when write(2) has returned: it then survives the death of the process. What is in the segments when the
// node starts was cut by a crash at most in its last line, which is then completed by a line break.
package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	segmentBytes  = 64 << 20
	segmentSuffix = ".jsonl"
	maxLine       = 64 << 10
)

// ErrUnwritable means that a record could not be written, so that what it was to tell of must not happen.
var ErrUnwritable = errors.New("the audit cannot be written")

// Log is the audit of one node.
type Log struct {
	dir  string
	node string
	now  func() time.Time
	// low tells that the disk has reached the reserve that other duties need.
	low func() bool

	mu    sync.Mutex // protects the following
	file  *os.File
	size  int64
	torn  bool // the segment may end within a line
	grown chan struct{}
}

// Open opens the audit in dir, which it makes if needed. low may be nil.
func Open(dir, node string, low func() bool) (*Log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the audit directory: %w", err)
	}
	l := &Log{dir: dir, node: node, now: time.Now, low: low, grown: make(chan struct{})}
	names, err := l.segments()
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return l, l.begin()
	}
	return l, l.resume(names[len(names)-1])
}

func (l *Log) segments() ([]string, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, fmt.Errorf("read the audit directory: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), segmentSuffix) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// begin starts a new segment; its name orders it behind all others.
func (l *Log) begin() error {
	name := l.now().UTC().Format("20060102T150405.000000000") + segmentSuffix
	f, err := os.OpenFile(filepath.Join(l.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("begin an audit segment: %w", err)
	}
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			return errors.Join(fmt.Errorf("end an audit segment: %w", err), f.Close())
		}
	}
	l.file, l.size, l.torn = f, 0, false
	return nil
}

func (l *Log) resume(name string) error {
	f, err := os.OpenFile(filepath.Join(l.dir, name), os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the audit segment: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open the audit segment: %w", err), f.Close())
	}
	l.file, l.size = f, st.Size()
	if l.size > 0 {
		var last [1]byte
		if _, err := f.ReadAt(last[:], l.size-1); err != nil {
			return errors.Join(fmt.Errorf("open the audit segment: %w", err), f.Close())
		}
		l.torn = last[0] != '\n'
	}
	return nil
}

// Close ends the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// Append writes one record and returns when write(2) has. An error wraps ErrUnwritable, and nothing of the record counts.
func (l *Log) Append(_ context.Context, r Record) error {
	if r.Time.IsZero() {
		r.Time = l.now()
	}
	r.Time = r.Time.UTC()
	r.Node = l.node
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnwritable, err)
	}
	if len(line) >= maxLine {
		return fmt.Errorf("%w: the record has %d bytes", ErrUnwritable, len(line))
	}
	if l.low != nil && l.low() && r.Kind == KindUse {
		return fmt.Errorf("%w: the disk is nearly full: free space or enlarge it", ErrUnwritable)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size >= segmentBytes {
		if err := l.begin(); err != nil {
			return fmt.Errorf("%w: %w", ErrUnwritable, err)
		}
	}
	return l.write(append(line, '\n'))
}

func (l *Log) write(line []byte) error {
	if l.torn {
		if err := l.mend(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	if err != nil {
		l.torn = l.torn || n > 0
		return fmt.Errorf("%w: %w", ErrUnwritable, err)
	}
	close(l.grown)
	l.grown = make(chan struct{})
	return nil
}

// mend ends the line that a crash or a full disk cut off, so that it spoils no other.
func (l *Log) mend() error {
	n, err := l.file.Write([]byte("\n"))
	l.size += int64(n)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnwritable, err)
	}
	l.torn = false
	return nil
}

// Search yields the records that the filter chooses, oldest first.
func (l *Log) Search(ctx context.Context, f Filter, yield func(Record) bool) error {
	if f.Limit <= 0 {
		return l.scan(ctx, f, yield)
	}
	newest := make([]Record, 0, min(f.Limit, 1024))
	next := 0
	err := l.scan(ctx, f, func(r Record) bool {
		if len(newest) < f.Limit {
			newest = append(newest, r)
		} else {
			newest[next] = r
			next = (next + 1) % f.Limit
		}
		return true
	})
	if err != nil {
		return err
	}
	for i := range newest {
		if !yield(newest[(next+i)%len(newest)]) {
			return nil
		}
	}
	return nil
}

func (l *Log) scan(ctx context.Context, f Filter, yield func(Record) bool) error {
	names, err := l.segments()
	if err != nil {
		return err
	}
	for _, name := range names {
		file, err := os.Open(filepath.Join(l.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the audit: %w", err)
		}
		more, _, err := scanLines(ctx, file, f, yield)
		if err := errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("read audit segment %s: %w", name, err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

// scanLines yields the whole lines of r that are records and returns how many bytes they had.
func scanLines(ctx context.Context, r io.Reader, f Filter, yield func(Record) bool) (more bool, read int64, err error) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		if err := ctx.Err(); err != nil {
			return false, read, err
		}
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return true, read, nil
		}
		read += int64(len(line))
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return false, read, err
		}
		var rec Record
		if json.Unmarshal(bytes.TrimSpace(line), &rec) != nil {
			continue // cut off by a crash
		}
		if f.Match(rec) && !yield(rec) {
			return false, read, nil
		}
	}
}

// Follow calls begun and yields the records that are written from then on and that the filter chooses, until ctx ends or yield returns
// false.
func (l *Log) Follow(ctx context.Context, f Filter, begun func(), yield func(Record) bool) error {
	l.mu.Lock()
	name, at, grown := l.file.Name(), l.size, l.grown
	l.mu.Unlock()
	begun()
	for {
		more, read, err := l.readFrom(ctx, name, at, f, yield)
		if err != nil || !more {
			return err
		}
		at += read
		l.mu.Lock()
		current := l.file.Name()
		l.mu.Unlock()
		if current != name {
			// What was written to the old segment before the new one began has to be read first.
			if more, _, err := l.readFrom(ctx, name, at, f, yield); err != nil || !more {
				return err
			}
			name, at = current, 0
			continue
		}
		select {
		case <-grown:
			// The next channel is taken before the file is read again, so that no growth goes unnoticed.
			l.mu.Lock()
			grown = l.grown
			l.mu.Unlock()
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *Log) readFrom(ctx context.Context, name string, at int64, f Filter, yield func(Record) bool) (bool, int64, error) {
	file, err := os.Open(name)
	if err != nil {
		return false, 0, fmt.Errorf("follow the audit: %w", err)
	}
	defer file.Close()
	more, read, err := scanLines(ctx, io.NewSectionReader(file, at, 1<<62), f, yield)
	if ctx.Err() != nil {
		return false, read, nil
	}
	return more, read, err
}
