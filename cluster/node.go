// Package cluster is what nodes do together. It keeps one replica of the state by Raft, proves how fresh it is, and runs the duties
// of the leader. This version forms a group of one on disk.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"sallyport/raftfsm"
)

// ErrNotLeader means that the write was not started; it can be repeated at the leader.
var ErrNotLeader = errors.New("this node is not the leader")

// ErrUnknownOutcome means that the write may or may not have been committed.
var ErrUnknownOutcome = errors.New("leadership or time was lost while the write was under way: it may still take effect")

// Duty is work that the leader alone does, until its context ends.
type Duty struct {
	Name string
	Run  func(context.Context)
}

// Config is what a node needs.
type Config struct {
	DataDir *DataDir
	// Bootstrap forms a new group of one if the directory holds none yet.
	Bootstrap    bool
	MaxStaleness time.Duration
	Logger       *slog.Logger
}

// Node is this node's part in the Raft group.
type Node struct {
	id    string
	state *raftfsm.State
	fresh *Freshness
	disk  *Disk
	room  *reserve
	log   *slog.Logger

	raft   *raft.Raft
	store  *store
	notify chan bool

	ctx    context.Context // ends with the node
	cancel context.CancelFunc
	work   sync.WaitGroup
	failed chan error

	duties []Duty

	mu          sync.Mutex    // protects the following
	established chan struct{} // closed while this node leads and has applied all that was committed before
}

// ErrNoNode means that a data directory holds no member of a Raft group.
var ErrNoNode = errors.New("this data directory holds no node of a cluster yet")

// Open starts the replica of a data directory. It takes part in elections at once; Start must follow.
func Open(cfg Config) (*Node, error) {
	if least := leastStaleness(timing()); cfg.MaxStaleness < least {
		return nil, fmt.Errorf("a max-staleness of %s is less than the %s that a change of leaders may take: allow more", cfg.MaxStaleness, least)
	}
	state, err := raftfsm.New()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &Node{
		id: cfg.DataDir.Node, state: state, fresh: newFreshness(cfg.MaxStaleness), disk: NewDisk(cfg.DataDir.Path), room: &reserve{path: cfg.DataDir.File("reserve")}, log: cfg.Logger,
		notify: make(chan bool, 10), ctx: ctx, cancel: cancel, failed: make(chan error, 1), established: make(chan struct{}),
	}
	if err := n.open(cfg); err != nil {
		cancel()
		if n.store != nil {
			err = errors.Join(err, n.store.Close())
		}
		return nil, err
	}
	return n, nil
}

// Start begins to follow leadership, with the duties that come with it, and to prove freshness. It is called once.
func (n *Node) Start(duties ...Duty) {
	n.duties = duties
	n.work.Go(n.monitor)
	n.work.Go(func() { n.fresh.poll(n.ctx, n.prove, n.log) })
	n.work.Go(n.keepRoom)
}

// keepRoom keeps room reserved as long as there is plenty.
func (n *Node) keepRoom() {
	const every = 10 * time.Second
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if n.disk.hasRoomFor(logReserveBytes) {
			if err := n.room.fill(); err != nil {
				n.log.Warn("no room is reserved for revocations on a full disk", "error", err)
			}
		}
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// LogPath is where the Raft log of a data directory is.
func LogPath(dataDir string) string { return filepath.Join(dataDir, "raft", "raft.db") }

func (n *Node) open(cfg Config) error {
	path := LogPath(cfg.DataDir.Path)
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the Raft directory: %w", err)
	}
	var err error
	if n.store, err = openStore(path, &retrier{log: n.log, stop: n.ctx.Done(), release: n.room.release}); err != nil {
		return err
	}
	logger := newRaftLogger(n.log)
	snaps, err := openSnapshots(dir, logger)
	if err != nil {
		return err
	}
	const cached = 512
	logs, err := raft.NewLogCache(cached, n.store)
	if err != nil {
		return fmt.Errorf("cache the Raft log: %w", err)
	}
	addr, transport := raft.NewInmemTransport(raft.ServerAddress(n.id))
	conf := n.raftConfig(logger)
	exists, err := raft.HasExistingState(logs, n.store, snaps)
	if err != nil {
		return fmt.Errorf("read the Raft log in %s: %w", dir, err)
	}
	if exists && cfg.Bootstrap && cfg.DataDir.Cluster == "" {
		if exists, err = n.resumeBootstrap(logs, snaps); err != nil {
			return err
		}
	}
	if !exists {
		if cfg.DataDir.Cluster != "" {
			return n.store.damaged("it is empty", fmt.Errorf("node %s belongs to cluster %s and must have one", n.id, cfg.DataDir.Cluster))
		}
		if !cfg.Bootstrap {
			return ErrNoNode
		}
		members := raft.Configuration{Servers: []raft.Server{{ID: conf.LocalID, Address: addr}}}
		if err := raft.BootstrapCluster(conf, logs, n.store, snaps, transport, members); err != nil {
			return fmt.Errorf("bootstrap the Raft group: %w", err)
		}
	}
	f := &fsm{state: n.state, fatal: n.fail, stop: n.ctx.Done()}
	if n.raft, err = newRaft(conf, f, logs, n.store, snaps, transport); err != nil {
		return fmt.Errorf("start Raft in %s: %w", dir, err)
	}
	return nil
}

// resumeBootstrap prepares the repetition of a bootstrap that was cut off between the two things that it writes, the term and the first
// entry. It tells whether there is more than that.
func (n *Node) resumeBootstrap(logs raft.LogStore, snaps raft.SnapshotStore) (exists bool, err error) {
	last, err := logs.LastIndex()
	if err != nil {
		return false, fmt.Errorf("read the Raft log: %w", err)
	}
	taken, err := snaps.List()
	if err != nil {
		return false, fmt.Errorf("list the snapshots: %w", err)
	}
	if last > 0 || len(taken) > 0 {
		return true, nil
	}
	if err := n.store.SetUint64([]byte("CurrentTerm"), 0); err != nil {
		return false, fmt.Errorf("repeat the bootstrap: %w", err)
	}
	return false, nil
}

// newRaft turns the panics of a damaged log into an error, and says what to do about damage of any kind.
func newRaft(c *raft.Config, f raft.FSM, l raft.LogStore, s raft.StableStore, sn raft.SnapshotStore, t raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, fmt.Errorf("the Raft log is damaged (%v): %s", p, repair)
			if found, ok := p.(error); ok && !errors.Is(found, raft.ErrLogNotFound) {
				err = found
			}
		}
	}()
	r, err = raft.NewRaft(c, f, l, s, sn, t)
	if err != nil && !strings.Contains(err.Error(), repair) { // raft drops what an error of the store wraps
		return nil, fmt.Errorf("%w: %s", err, repair)
	}
	return r, err
}

// timing is that of a group of one: nobody else can stand for election, so it need not wait long to see whether somebody leads.
func timing() *raft.Config {
	const soon = 250 * time.Millisecond
	conf := raft.DefaultConfig()
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = soon, soon, soon
	return conf
}

func (n *Node) raftConfig(logger raftLogger) *raft.Config {
	conf := timing()
	conf.LocalID = raft.ServerID(n.id)
	conf.NotifyCh = n.notify
	conf.BatchApplyCh = true
	conf.NoLegacyTelemetry = true
	conf.Logger = logger
	return conf
}

// leastStaleness is how long a node may go without proof while all is well: three missed heartbeats and an election.
func leastStaleness(c *raft.Config) time.Duration { return 3*c.HeartbeatTimeout + c.ElectionTimeout }

func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default:
	}
}

// Failed delivers the reason why this node must stop.
func (n *Node) Failed() <-chan error { return n.failed }

// ID is the node's id.
func (n *Node) ID() string { return n.id }

// State is this node's replica.
func (n *Node) State() *raftfsm.State { return n.state }

// Read gives a consistent view of this node's replica.
func (n *Node) Read() raftfsm.View { return n.state.Read() }

// Freshness is what this node can prove of its replica's age.
func (n *Node) Freshness() *Freshness { return n.fresh }

// Disk watches the room where the node keeps its data.
func (n *Node) Disk() *Disk { return n.disk }

// Status is where the node stands in its group.
type Status struct {
	ID, State, Leader            string
	Term, LastIndex, CommitIndex uint64
	AppliedIndex                 uint64
}

// Status reports where the node stands.
func (n *Node) Status() Status {
	_, leader := n.raft.LeaderWithID()
	return Status{
		ID: n.id, State: n.raft.State().String(), Leader: string(leader), Term: n.raft.CurrentTerm(),
		LastIndex: n.raft.LastIndex(), CommitIndex: n.raft.CommitIndex(), AppliedIndex: n.state.Applied(),
	}
}

// applyTimeout bounds how long a write may wait to enter the log.
const applyTimeout = 10 * time.Second

// Apply commits a command and returns when it is durable on a quorum and applied here. An error that is neither ErrNotLeader nor
// ErrUnknownOutcome nor ErrDiskFull is what the command itself came to (raftfsm.ErrConflict and its like).
func (n *Node) Apply(ctx context.Context, c raftfsm.Command) (raftfsm.Result, error) {
	if !endsOrFrees(c) && n.disk.Low() {
		return raftfsm.Result{}, ErrDiskFull
	}
	data, err := raftfsm.Encode(c)
	if err != nil {
		return raftfsm.Result{}, err
	}
	future := n.raft.Apply(data, applyTimeout)
	committed := make(chan error, 1)
	go func() { committed <- future.Error() }()
	select {
	case err = <-committed:
	case <-ctx.Done():
		return raftfsm.Result{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, context.Cause(ctx))
	case <-n.ctx.Done():
		return raftfsm.Result{}, fmt.Errorf("%w: the node is stopping", ErrUnknownOutcome)
	}
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return raftfsm.Result{}, fmt.Errorf("%w: %w", ErrNotLeader, err)
	case err != nil:
		return raftfsm.Result{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	res, ok := future.Response().(raftfsm.Result)
	if !ok {
		return raftfsm.Result{}, fmt.Errorf("apply %T: the state machine answered with a %T", c, future.Response())
	}
	return res, res.Err
}

// endsOrFrees tells the commands that a full disk must not hold up.
func endsOrFrees(c raftfsm.Command) bool {
	switch c.(type) {
	case *raftfsm.Revoke, *raftfsm.Purge, *raftfsm.DeleteAgent, *raftfsm.Establish:
		return true
	default:
		return false
	}
}

// prove returns when the replica reflects everything that was committed before the call. In a group of one the leader's own word is
// that of the quorum of voters.
func (n *Node) prove(ctx context.Context) error {
	if err := n.WaitEstablished(ctx); err != nil {
		return err
	}
	index := n.raft.CommitIndex()
	if err := n.raft.VerifyLeader().Error(); err != nil {
		return fmt.Errorf("confirm leadership: %w", err)
	}
	return n.state.WaitApplied(ctx, index)
}

// WaitEstablished returns when this node leads and its replica reflects all that was committed before its term.
func (n *Node) WaitEstablished(ctx context.Context) error {
	n.mu.Lock()
	established := n.established
	n.mu.Unlock()
	select {
	case <-established:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for leadership: %w", context.Cause(ctx))
	}
}

// Shutdown leaves the group's work and closes the files. The data stays.
func (n *Node) Shutdown() error {
	n.cancel()
	n.work.Wait() // before raft, which leaves a leadership check that is under way unanswered when it stops
	err := n.raft.Shutdown().Error()
	return errors.Join(err, n.store.Close())
}
