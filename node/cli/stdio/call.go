package stdio

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"sallyport/node/mcp"
)

// cancelGrace is for the end of a legacy stream after its cancellation.
const cancelGrace = 10 * time.Second

// call is a request of the client without an answer yet.
type call struct {
	message
	ctx       context.Context
	cancel    context.CancelFunc
	version   string // of a modern request
	cancelled atomic.Bool
}

// start carries a request out in the background.
func (r *relay) start(ctx context.Context, m message) {
	c, refused := r.register(ctx, m)
	if refused != nil {
		r.out.line(refused.response(m.id))
		return
	}
	after, done := r.barrier, make(chan struct{})
	if m.method == "initialize" && c.version == "" {
		r.barrier = done
	}
	r.running.Go(func() {
		defer close(done)
		select {
		case <-after:
			r.carryOut(c)
		case <-c.ctx.Done():
		}
		r.release(c)
	})
}

func (r *relay) register(ctx context.Context, m message) (*call, *failure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.inFlight) >= maxInFlight {
		return nil, failed(mcp.CodeLimited, "more than %d requests at once; wait for an answer first", maxInFlight)
	}
	key := idKey(m.id)
	if r.inFlight[key] != nil {
		return nil, failed(mcp.CodeInvalidRequest, "the id is in use by a request without an answer")
	}
	c := &call{message: m, version: m.modernVersion()}
	c.ctx, c.cancel = context.WithCancel(ctx)
	r.inFlight[key] = c
	return c, nil
}

func (r *relay) release(c *call) {
	c.cancel()
	r.forget(c)
}

// forget frees the id of c, which the client may use again once it has the answer or has cancelled.
// It reports whether that had not happened yet.
func (r *relay) forget(c *call) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := idKey(c.id)
	if r.inFlight[key] != c {
		return false
	}
	delete(r.inFlight, key)
	return true
}

// carryOut asks the node and writes its answer.
func (r *relay) carryOut(c *call) {
	exchange := r.legacyCall
	if c.version != "" {
		exchange = r.modernCall
	}
	line, err := exchange(c)
	if err == nil {
		r.deliver(c, line)
		return
	}
	if c.cancelled.Load() || c.ctx.Err() != nil {
		return
	}
	r.log.Error("request failed", "method", c.label(), "error", err)
	var f *failure
	if !errors.As(err, &f) {
		f = failed(codeBroken, "%v", err)
	}
	r.deliver(c, f.response(c.id))
}

// deliver writes the response to c, unless it was cancelled.
func (r *relay) deliver(c *call, line []byte) {
	if r.forget(c) {
		r.out.line(line)
	}
}

// cancel ends a request of the client. Modern HTTP has no message for it: closing the response
// stream says the same. Legacy HTTP has, and there a closed stream says nothing.
func (r *relay) cancel(m message) {
	r.mu.Lock()
	c := r.inFlight[idKey(m.params["requestId"])]
	r.mu.Unlock()
	switch {
	case c == nil:
		// It was answered meanwhile.
	case c.version != "":
		r.release(c)
	default:
		// The server need not answer any more, nor end the stream.
		c.cancelled.Store(true)
		time.AfterFunc(cancelGrace, c.cancel)
		r.post(m)
	}
}
