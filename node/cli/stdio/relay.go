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
	"net/url"
	"sync"
	"time"

	"sallyport/node/mcp"
)

// maxInFlight bounds the requests without an answer, and apart from them the notifications and
// responses that wait for the node.
const maxInFlight = 256

const finishTime = 10 * time.Second // for calls in flight after the end of stdin

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
	for _, node := range config.Nodes {
		if u, err := url.Parse(node.URL); err != nil || u.Host == "" {
			return fmt.Errorf("%q is not the address of an MCP endpoint; it looks like https://127.0.0.1:8443/mcp/accounting", node.URL)
		}
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

	err := r.readAll(ctx, &lineReader{in: bufio.NewReaderSize(config.In, 64<<10), limit: maxLine})
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
	case len(m.raw) > maxMessage && m.kind == request:
		r.out.line(failed(mcp.CodeInvalidRequest, "%v", errTooLong).response(m.id))
	case len(m.raw) > maxMessage:
		r.log.Error("dropped", "method", m.label(), "error", errTooLong)
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
