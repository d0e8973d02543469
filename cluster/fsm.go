package cluster

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"sallyport/raftfsm"
)

// fsm lets raft drive the replicated state.
type fsm struct {
	state *raftfsm.State
	// fatal is told why this replica cannot go on; it stops the node.
	fatal func(error)
	stop  <-chan struct{}
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any { return f.apply(l) }

// ApplyBatch implements raft.BatchingFSM.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	for i, l := range logs {
		results[i] = f.apply(l)
	}
	return results
}

func (f *fsm) apply(l *raft.Log) any {
	if l.Type != raft.LogCommand {
		f.state.Advance(l.Index)
		return nil
	}
	res, err := f.state.Apply(l.Index, l.Data)
	if err != nil {
		// Nothing after this entry may be applied: wait for the end of the process instead of returning.
		f.fatal(fmt.Errorf("this node stops, since going on would let its state differ from the others': %w: upgrade sallyport on this node", err))
		<-f.stop
		return raftfsm.Result{Index: l.Index, Err: err}
	}
	return res
}

// StoreConfiguration implements raft.ConfigurationStore; only the index matters here.
func (f *fsm) StoreConfiguration(index uint64, _ raft.Configuration) { f.state.Advance(index) }

// Snapshot implements raft.FSM.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return snapshot{f.state.Snapshot()}, nil }

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	return f.state.Restore(r)
}

type snapshot struct{ *raftfsm.Snapshot }

// Persist implements raft.FSMSnapshot.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.Write(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (snapshot) Release() {}
