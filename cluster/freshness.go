package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// ErrStale means that this node cannot prove that its state is fresher than the bound, and so must not serve from it.
var ErrStale = errors.New("the state of this node may be older than allowed")

// maxClockStep is how far the wall clock may move against the time since boot between two polls. NTP slews far less; a step may
// come from a machine that was restored from an image, whose other clocks cannot be trusted either.
const maxClockStep = 2 * time.Second

// proof says that the state was current at a moment.
type proof struct {
	boot time.Duration // when the poll that proved it began
	wall time.Time
}

// Freshness knows how old this node's state may be at the most. One poll runs at a time and serves all readers.
type Freshness struct {
	bound time.Duration
	boot  func() time.Duration
	wall  func() time.Time
	last  atomic.Pointer[proof]
}

func newFreshness(bound time.Duration) *Freshness {
	return &Freshness{bound: bound, boot: bootTime, wall: func() time.Time { return time.Now().Round(0) }}
}

// Bound is the greatest staleness that Check accepts.
func (f *Freshness) Bound() time.Duration { return f.bound }

// Staleness is the age of the last proof; ok is false if there is none that still counts.
func (f *Freshness) Staleness() (age time.Duration, ok bool) {
	p := f.last.Load()
	if p == nil {
		return 0, false
	}
	age = f.boot() - p.boot
	drift := f.wall().Sub(p.wall) - age
	if age < 0 || drift > maxClockStep || drift < -maxClockStep {
		return age, false
	}
	return age, true
}

// Check returns nil if the state is at most as old as the bound, else an error that wraps ErrStale.
func (f *Freshness) Check() error { return f.CheckWithin(f.bound) }

// CheckWithin is Check with another bound.
func (f *Freshness) CheckWithin(bound time.Duration) error {
	age, ok := f.Staleness()
	if !ok {
		return fmt.Errorf("%w: no proof since the node started, lost its leader or its clock was set", ErrStale)
	}
	if age > bound {
		return fmt.Errorf("%w: last proved current %s ago, allowed are %s", ErrStale, age.Round(time.Millisecond), bound)
	}
	return nil
}

// poll proves freshness over and over until ctx ends. prove must have waited for an index that was committed after the call began.
func (f *Freshness) poll(ctx context.Context, prove func(context.Context) error, log *slog.Logger) {
	interval := f.bound / 5
	tick := time.NewTicker(interval)
	defer tick.Stop()
	failing := false
	for {
		began := proof{boot: f.boot(), wall: f.wall()}
		bounded, cancel := context.WithTimeout(ctx, f.bound)
		err := prove(bounded)
		cancel()
		switch {
		case err == nil:
			f.last.Store(&began)
			if failing {
				log.Info("state is proved fresh again")
			}
			failing = false
		case !failing && ctx.Err() == nil && f.last.Load() != nil:
			log.Warn("cannot prove that the state is fresh", "error", err)
			failing = true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
