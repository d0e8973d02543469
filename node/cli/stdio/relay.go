// Package stdio makes a Sallyport node usable from any MCP client that starts its servers as
// commands: it is an MCP server on stdin and stdout which forwards every message to the streamable
// HTTP endpoint of a node, and knows neither tools nor results.
//
// Messages go through as the bytes they are; only their envelope is read. What differs between the
// two transports is translated: sessions, resumption and the GET stream for legacy clients (up to
// 2025-11-25), request headers and cancellation for modern ones (2026-07-28). One process can
// serve both eras at once, since a client may try the one before it uses the other.
package stdio

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/node/mcp"
)

const (
	maxInFlight = 256

	finishTime  = 10 * time.Second // for calls in flight after the end of stdin
	deleteTime  = 5 * time.Second  // for the end of the session on the node
	notifyTime  = 30 * time.Second // for the POST of a notification or a response
	cancelGrace = 10 * time.Second // for the end of a legacy stream after its cancellation
)

// Config says what to connect.
type Config struct {
	Nodes  []Node // in order of preference; at least one
	In     io.Reader
	Out    io.Writer
	Logger *slog.Logger // must write to stderr, never to Out
}

// Run serves until the end of In, which is how an MCP client says goodbye, and then returns nil.
// It returns the cause when ctx ends, and an error when Out can no longer be written. A Read of In
// that is under way when ctx ends is left behind.
func Run(ctx context.Context, config Config) error {
	if len(config.Nodes) == 0 {
		return errors.New("no node to connect to")
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	r := &relay{
		log:      config.Logger,
		nodes:    &nodes{list: config.Nodes, log: config.Logger},
		out:      &lineWriter{out: config.Out, broken: stop},
		inFlight: map[string]*call{},
		outbox:   make(chan posting, maxInFlight),
		barrier:  closed(),
	}
	r.session.relay, r.session.ctx = r, ctx
	outboxDone := make(chan struct{})
	go func() {
		defer close(outboxDone)
		r.sendOutbox(ctx)
	}()

	err := r.readAll(ctx, &lineReader{in: bufio.NewReaderSize(config.In, 64<<10), limit: maxMessage})
	close(r.outbox)
	if err == nil {
		r.finish(ctx, outboxDone)
	}
	stop(nil)
	r.session.end(context.WithoutCancel(ctx))
	return err
}

// relay forwards the messages of one client. The fields without a lock are set once, or belong to
// the goroutine that reads stdin.
type relay struct {
	log     *slog.Logger
	nodes   *nodes
	out     *lineWriter
	session session
	tools   toolHeaders

	outbox  chan posting
	running sync.WaitGroup // calls

	// barrier is closed when the messages read so far let later ones pass: those after initialize
	// need the session that its answer opens.
	barrier <-chan struct{}

	mu       sync.Mutex // protects the following
	inFlight map[string]*call
}

// call is a request of the client without an answer yet.
type call struct {
	message
	ctx       context.Context
	cancel    context.CancelFunc
	version   string // of a modern request
	cancelled atomic.Bool
}

// posting is a notification or response on its way to the node.
type posting struct {
	message
	after <-chan struct{}
	done  chan struct{}
}

// readAll takes messages in until the end of stdin (nil) or of ctx.
func (r *relay) readAll(ctx context.Context, in *lineReader) error {
	type input struct {
		line []byte
		err  error
	}
	inputs := make(chan input)
	go func() {
		for {
			line, err := in.next()
			select {
			case inputs <- input{line, err}:
			case <-ctx.Done():
				return
			}
			if err != nil && !errors.Is(err, errTooLong) {
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case next := <-inputs:
			switch {
			case errors.Is(next.err, io.EOF):
				return nil
			case errors.Is(next.err, errTooLong):
				r.refuse(mcp.CodeInvalidRequest, next.err)
			case next.err != nil:
				return fmt.Errorf("reading messages from stdin: %w", next.err)
			default:
				r.accept(ctx, next.line)
			}
		}
	}
}

// accept starts what one line asks for. It does not wait for the network.
func (r *relay) accept(ctx context.Context, line []byte) {
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	m, err := parseMessage(line)
	switch {
	case errors.Is(err, errBatch), errors.Is(err, errNotMessage), errors.Is(err, errBadID):
		r.refuse(mcp.CodeInvalidRequest, err)
	case err != nil:
		r.refuse(mcp.CodeParse, err)
	case m.kind == request:
		r.start(ctx, m)
	case m.method == "notifications/cancelled":
		r.cancel(m)
	default:
		r.post(m)
	}
}

// refuse answers a line that is no message, and so has no id.
func (r *relay) refuse(code int, err error) {
	r.log.Error("a line on stdin is not an MCP message", "error", err)
	r.out.line(failed(code, "not an MCP message: %v", err).response(nil))
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
	r.mu.Lock()
	defer r.mu.Unlock()
	if key := idKey(c.id); r.inFlight[key] == c {
		delete(r.inFlight, key)
	}
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
	r.log.Error("request failed", "method", c.method, "error", err)
	var f *failure
	if !errors.As(err, &f) {
		f = failed(codeBroken, "%v", err)
	}
	r.deliver(c, f.response(c.id))
}

// deliver writes the response to c and frees its id before the client can use it again.
func (r *relay) deliver(c *call, line []byte) {
	if c.ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	delete(r.inFlight, idKey(c.id))
	r.mu.Unlock()
	r.out.line(line)
}

// cancel ends a request of the client. Modern HTTP has no message for it: closing the response
// stream says the same. Legacy HTTP has, and there a closed stream says nothing.
func (r *relay) cancel(m message) {
	key := idKey(m.param("requestId"))
	r.mu.Lock()
	c := r.inFlight[key]
	r.mu.Unlock()
	switch {
	case c == nil && m.modernVersion() != "":
		return
	case c != nil && c.version != "":
		c.cancel()
		r.mu.Lock()
		delete(r.inFlight, key)
		r.mu.Unlock()
		return
	case c != nil:
		// The server need not answer any more, nor end the stream.
		c.cancelled.Store(true)
		time.AfterFunc(cancelGrace, c.cancel)
	}
	r.post(m)
}

// post queues a notification or a response. They keep their order.
func (r *relay) post(m message) {
	p := posting{message: m, after: r.barrier, done: make(chan struct{})}
	select {
	case r.outbox <- p:
	default:
		r.log.Error("dropped: too many notifications and responses wait for the node", "method", m.method)
		return
	}
	if m.method == "notifications/initialized" {
		r.barrier = p.done
	}
}

func (r *relay) sendOutbox(ctx context.Context) {
	for p := range r.outbox {
		select {
		case <-p.after:
			r.sendPosting(ctx, p)
		case <-ctx.Done():
		}
		close(p.done)
	}
}

func (r *relay) sendPosting(ctx context.Context, p posting) {
	ctx, cancel := context.WithTimeout(ctx, notifyTime)
	defer cancel()
	send := r.session.post
	if p.modernVersion() != "" {
		send = r.modernPost
	}
	if err := send(ctx, p.message); err != nil && !errors.Is(err, context.Canceled) {
		r.log.Error("notification or response not delivered", "method", p.method, "error", err)
	}
}

// finish gives what is under way at the end of stdin a little time: a client that pipes requests
// in wants to read the answers.
func (r *relay) finish(ctx context.Context, outboxDone <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, finishTime)
	defer cancel()
	r.mu.Lock()
	for _, c := range r.inFlight {
		if c.method == "subscriptions/listen" {
			c.cancel()
		}
	}
	r.mu.Unlock()

	callsDone := make(chan struct{})
	go func() {
		r.running.Wait()
		close(callsDone)
	}()
	for _, done := range []<-chan struct{}{outboxDone, callsDone} {
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
	}
}

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// postHeader is what every POST has.
func postHeader() http.Header {
	return http.Header{
		"Content-Type": {"application/json"},
		"Accept":       {"application/json, text/event-stream"},
	}
}
