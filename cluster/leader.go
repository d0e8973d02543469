package cluster

import (
	"context"
	"sync"

	"sallyport/raftfsm"
)

// monitor follows leadership: one term's duties have ended before the next term's begin.
func (n *Node) monitor() {
	var term sync.WaitGroup
	stop := func() {}
	for {
		select {
		case leads := <-n.notify:
			stop()
			term.Wait()
			stop = func() {}
			if leads {
				ctx, cancel := context.WithCancel(n.ctx)
				stop = cancel
				term.Go(func() { n.lead(ctx) })
			}
		case <-n.ctx.Done():
			stop()
			term.Wait()
			return
		}
	}
}

// lead serves one term: first catch up with what earlier leaders committed, then do the duties.
func (n *Node) lead(ctx context.Context) {
	if _, err := n.Apply(ctx, &raftfsm.Establish{Node: n.id}); err != nil {
		if ctx.Err() == nil {
			n.log.Warn("cannot establish leadership", "error", err)
		}
		return
	}
	n.mu.Lock()
	close(n.established)
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.established = make(chan struct{})
		n.mu.Unlock()
	}()
	n.log.Info("this node leads", "node", n.id)
	var running sync.WaitGroup
	for _, d := range n.duties {
		running.Go(func() { d.Run(ctx) })
	}
	running.Wait()
	<-ctx.Done()
}
