// Package raftfsm is the state that the nodes of a cluster share: records, the commands that change them, and how they are
// applied, snapshotted and watched.
//
// It is pure. It does no I/O, reads no clock and draws no randomness, so that replicas which apply the same log are equal;
// whatever varies comes in a command. Secrets arrive sealed and stay sealed here.
package raftfsm

import (
	"context"
	"sync"

	"github.com/hashicorp/go-memdb"
)

// State is one replica. Reads are lock-free snapshots and may run beside the single writer.
type State struct {
	codec codec

	mu      sync.RWMutex // guards what follows; held for pointer swaps only
	db      *memdb.MemDB
	applied uint64
	// moved is closed and replaced whenever applied grows.
	moved chan struct{}
	// replaced is closed when Restore puts another database in place, since watches of the old one never fire.
	replaced chan struct{}
}

// New makes an empty replica.
func New() (*State, error) {
	m, err := newCodec()
	if err != nil {
		return nil, err
	}
	db, err := newDB()
	if err != nil {
		return nil, err
	}
	return &State{codec: m, db: db, moved: make(chan struct{}), replaced: make(chan struct{})}, nil
}

// Applied is the index of the last log entry that this replica reflects.
func (s *State) Applied() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.applied
}

// WaitApplied returns when the replica reflects index, or with the context's error.
func (s *State) WaitApplied(ctx context.Context, index uint64) error {
	for {
		s.mu.RLock()
		applied, moved := s.applied, s.moved
		s.mu.RUnlock()
		if applied >= index {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Advance notes a log entry that carries no command, so that Applied keeps up with the log.
func (s *State) Advance(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(index)
}

func (s *State) advance(index uint64) {
	if index <= s.applied {
		return
	}
	s.applied = index
	close(s.moved)
	s.moved = make(chan struct{})
}

// Read gives a consistent view of the state as it stands.
func (s *State) Read() View {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return View{txn: s.db.Txn(false), index: s.applied, replaced: s.replaced}
}

// Watch fires when what it was made for may have changed.
type Watch struct{ changed, replaced <-chan struct{} }

// Wait returns nil after a change, or the context's error.
func (w Watch) Wait(ctx context.Context) error {
	select {
	case <-w.changed:
	case <-w.replaced:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// Fired tells without waiting whether the watch has fired.
func (w Watch) Fired() bool {
	select {
	case <-w.changed:
		return true
	case <-w.replaced:
		return true
	default:
		return false
	}
}
