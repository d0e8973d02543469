package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// store is the Raft log and the vote on disk.
type store struct {
	*raftboltdb.BoltStore
	path string
	full *retrier
}

// initialMmapBytes keeps bbolt from remapping, which blocks readers, until the file outgrows it. Only address space is used.
const initialMmapBytes = 1 << 30

func openStore(path string, full *retrier) (s *store, err error) {
	// bbolt trusts its pages and panics on some kinds of damage.
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, damaged(path, "it", fmt.Errorf("%v", p))
		}
	}()
	if err := checkPages(path); err != nil {
		return nil, damaged(path, "the file", err)
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path:                    path,
		MsgpackUseNewTimeFormat: true,
		BoltOptions: &bbolt.Options{
			Timeout:         time.Second,
			FreelistType:    bbolt.FreelistMapType,
			NoFreelistSync:  true,
			InitialMmapSize: initialMmapBytes,
		},
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("open the Raft log %s: another sallyport process uses this data directory", path)
	case err != nil:
		return nil, fmt.Errorf("open the Raft log %s: %w: if the file is damaged, restore this node from a backup or join it anew", path, err)
	}
	return &store{BoltStore: bolt, path: path, full: full}, nil
}

// repair is what an operator can do about damage.
const repair = "restore this node from a backup or join it anew"

// damaged says what to do about a log that cannot be trusted.
func damaged(path, what string, err error) error {
	return fmt.Errorf("the Raft log %s is damaged (%s: %w): %s", path, what, err, repair)
}

func (s *store) damaged(what string, err error) error { return damaged(s.path, what, err) }

// IsMonotonic tells raft to clear the log before it continues behind a snapshot, rather than leave entries of another history
// in place (hashicorp/raft issue 697).
func (s *store) IsMonotonic() bool { return true }

// retrier repeats a write while the disk is full. raft panics when the term or the vote cannot be stored, and gives up leadership, hence
// wants to store a term, when the log cannot; a full disk must not take the process down.
type retrier struct {
	log  *slog.Logger
	stop <-chan struct{}
	// release gives up reserved room and tells whether there was any.
	release func() (bool, error)
}

func (r *retrier) do(what string, write func() error) error {
	const pause = 500 * time.Millisecond
	warned := false
	for {
		err := write()
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
			if warned {
				r.log.Info("there is room on the disk again", "for", what)
			}
			return err
		}
		if !warned {
			r.log.Error("the disk is full: this node takes no writes until there is room", "for", what)
			warned = true
		}
		released, failed := r.release()
		if failed != nil {
			r.log.Error("the reserved room cannot be used", "error", failed)
		}
		if released {
			continue
		}
		select {
		case <-time.After(pause):
		case <-r.stop:
			return err
		}
	}
}

// openSnapshots opens the snapshot directory. The library leaves half-written snapshots behind after a crash.
func openSnapshots(dir string, logger raftLogger) (raft.SnapshotStore, error) {
	inner := filepath.Join(dir, "snapshots")
	if err := os.MkdirAll(inner, 0o700); err != nil {
		return nil, fmt.Errorf("make the snapshot directory: %w", err)
	}
	entries, err := os.ReadDir(inner)
	if err != nil {
		return nil, fmt.Errorf("read the snapshot directory: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			if err := os.RemoveAll(filepath.Join(inner, e.Name())); err != nil {
				return nil, fmt.Errorf("remove a half-written snapshot: %w", err)
			}
		}
	}
	const retain = 2
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, retain, logger)
	if err != nil {
		return nil, fmt.Errorf("open the snapshot directory %s: %w", dir, err)
	}
	return snaps, nil
}
