package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/node/identity"
	"sallyport/node/mcp"
)

const (
	maxEvent = 16 << 20
	// heldBack is how much of a JSON answer is read before the first byte goes out: what is wrong within it becomes a proper error.
	heldBack = 64 << 10
	// maxRewritten bounds answers that have to be read whole: lists, initialize, discover.
	maxRewritten = 16 << 20
	// clientWriteTimeout is how long a client may take to read what is sent to it.
	clientWriteTimeout = 30 * time.Second
	keepAlive          = 25 * time.Second
	stallTimeout       = 2 * time.Minute
	copyBuffer         = 32 << 10
)

func statusError(status int) error { return fmt.Errorf("it answered with status %d", status) }

// answerJSON copies a JSON answer to the client while it comes.
func (c *call) answerJSON(resp *http.Response) {
	if c.rewritten() {
		c.answerRewritten(resp)
		return
	}
	out := &held{call: c, status: resp.StatusCode}
	reply := mcp.NewReplyCopier(out, c.msg.ID, c.stateSealer())
	buf := c.buffers.Get().(*[copyBuffer]byte)
	_, err := io.CopyBuffer(onlyWriter{reply}, &unstalled{body: resp.Body}, buf[:])
	c.buffers.Put(buf)
	if err == nil {
		err = reply.Close()
	}
	if err == nil && resp.StatusCode != http.StatusOK && !reply.Reply.IsError {
		err = statusError(resp.StatusCode)
	}
	c.noteReply(reply.Reply)
	if err != nil && !out.committed {
		c.status = ""
		c.failUpstream(err)
		return
	}
	out.commit()
	if err != nil {
		c.status, c.problem = "upstream_error", err.Error()
		if out.clientGone || c.r.Context().Err() != nil {
			c.status, c.problem = "cancelled", "the client went away"
		}
		// The client has part of an answer; only a broken connection tells it that the rest is missing.
		panic(http.ErrAbortHandler)
	}
}

type onlyWriter struct{ io.Writer }

// unstalled reads an answer that may take its time to begin, but not stop half way.
type unstalled struct{ body io.ReadCloser }

var errStalled = errors.New("it stopped half way through its answer")

func (u *unstalled) Read(p []byte) (int, error) {
	var stalled atomic.Bool
	timer := time.AfterFunc(stallTimeout, func() {
		stalled.Store(true)
		_ = u.body.Close()
	})
	n, err := u.body.Read(p)
	timer.Stop()
	if err != nil && stalled.Load() {
		err = errStalled
	}
	return n, err
}

// stateSealer seals requestState where the method may answer with one.
func (c *call) stateSealer() func(string) (string, error) {
	if !c.modern || !mcp.MayAskForInput(c.msg.Method) {
		return nil
	}
	return func(state string) (string, error) { return c.sealState("state", c.stateDetail(), state) }
}

func (c *call) noteReply(r mcp.Reply) {
	switch {
	case r.IsError:
		c.note("error", r.Code, "")
	case r.ToolError:
		c.note("tool_error", "", "")
	case r.ResultType == "input_required":
		c.note("input_required", "", "")
	}
}

// held keeps the beginning of an answer back until it is known to be good, or too long to wait for.
type held struct {
	call      *call
	status    int
	buf       []byte
	committed bool
	// clientGone tells a client that does not take the answer from an upstream that does not give it.
	clientGone bool
}

func (h *held) Write(p []byte) (int, error) {
	if !h.committed {
		h.buf = append(h.buf, p...)
		if len(h.buf) > heldBack {
			h.commit()
		}
		return len(p), nil
	}
	err := h.call.pass(p, true)
	h.clientGone = err != nil
	return len(p), err
}

func (h *held) commit() {
	if h.committed {
		return
	}
	h.committed = true
	h.call.writeJSON(h.status, h.buf)
	h.buf = nil
}

// pass writes to the client, who must read within a while. Connections without deadlines are bounded by their own idle timeout. A deadline that
// stood longer than the write would end an idle HTTP/2 stream.
func (c *call) pass(p []byte, flush bool) error {
	rc := http.NewResponseController(c.w)
	_ = rc.SetWriteDeadline(time.Now().Add(clientWriteTimeout))
	n, err := c.w.Write(p)
	c.sent += int64(n)
	if err == nil && flush {
		err = rc.Flush()
	}
	_ = rc.SetWriteDeadline(time.Time{})
	return err
}

// answerRewritten reads an answer whole, since what the client may see of it depends on all of it.
func (c *call) answerRewritten(resp *http.Response) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRewritten+1))
	if err == nil && len(body) > maxRewritten {
		err = fmt.Errorf("its answer has more than %d bytes", maxRewritten)
	}
	if err != nil {
		c.failUpstream(err)
		return
	}
	out, err := c.rewrite(body)
	if err != nil {
		c.failUpstream(err)
		return
	}
	c.writeJSON(resp.StatusCode, out)
}

// eventStream writes server-sent events to the client. Comments keep an idle stream alive.
type eventStream struct {
	call  *call
	mu    sync.Mutex // one writer at a time
	timer *time.Timer
	ended bool
}

func (c *call) openEventStream() *eventStream {
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-store")
	h.Set("X-Accel-Buffering", "no")
	c.w.WriteHeader(http.StatusOK)
	s := &eventStream{call: c}
	_ = http.NewResponseController(c.w).Flush()
	s.timer = time.AfterFunc(keepAlive, s.comment)
	return s
}

func (s *eventStream) comment() {
	if s.write([]byte(": keep-alive\n\n")) == nil {
		s.timer.Reset(keepAlive)
	}
}

func (s *eventStream) event(e mcp.Event) error {
	s.timer.Reset(keepAlive)
	return s.write(mcp.AppendEvent(nil, e))
}

func (s *eventStream) message(body []byte) error {
	return s.event(mcp.Event{Type: "message", Data: body})
}

var errStreamEnded = errors.New("the stream has ended")

func (s *eventStream) write(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errStreamEnded
	}
	return s.call.pass(b, true)
}

// close waits for a keep-alive that is being written: nothing may be written once the handler has returned.
func (s *eventStream) close() {
	s.timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

// streamEvents passes an event stream on, event by event. A stream that answers a request ends with the answer; whatever prevents that becomes
// the answer.
func (c *call) streamEvents(body io.ReadCloser) {
	longLived := c.msg == nil || c.msg.Method == "subscriptions/listen"
	if longLived {
		stop := context.AfterFunc(c.drained(), func() { _ = body.Close() })
		defer stop()
	}
	s := c.openEventStream()
	defer s.close()
	in := mcp.NewEventReader(body, maxEvent)
	for {
		e, err := in.Next()
		if err != nil {
			c.endStream(s, err)
			return
		}
		out, final, err := c.filterEvent(e)
		if err != nil {
			c.endStream(s, err)
			return
		}
		if out != nil && s.event(*out) != nil {
			c.note("cancelled", "", "the client went away")
			return
		}
		if final {
			return
		}
	}
}

// drained is a context that ends with the call or when the node is about to stop.
func (c *call) drained() context.Context {
	ctx, cancel := context.WithCancelCause(c.ctx)
	go func() {
		select {
		case <-c.draining:
			cancel(ErrDraining)
		case <-ctx.Done():
		}
	}()
	return ctx
}

// endStream tells the client why a stream ends before its request was answered.
func (c *call) endStream(s *eventStream, err error) {
	err = c.cause(err)
	select {
	case <-c.draining:
		err = ErrDraining
	default:
	}
	if c.r.Context().Err() != nil && !errors.Is(err, ErrDraining) {
		c.note("cancelled", "", "the client went away")
		return
	}
	if errors.Is(err, errCancelledByClient) {
		c.note("cancelled", "", err.Error())
		return
	}
	if c.msg == nil {
		return
	}
	if c.msg.Method == "subscriptions/listen" && errors.Is(err, ErrDraining) {
		meta := mcp.Object{{Name: mcp.MetaSubscription, Value: c.msg.ID}}
		result := mcp.Object{{Name: "resultType", Value: mcp.Quote("complete")}, {Name: "_meta", Value: meta.JSON()}}
		_ = s.message(mcp.ResultBody(c.msg.ID, result.JSON()))
		return
	}
	code, text := mcp.CodeUpstream, "upstream "+c.upstream.Name+": the stream broke off before the answer: "+withoutAddress(err).Error()
	status := "upstream_error"
	if errors.Is(err, identity.ErrRevoked) || errors.Is(err, identity.ErrExpired) {
		code, text, status = mcp.CodeDenied, err.Error(), "revoked"
	}
	c.note(status, codeText(code), text)
	_ = s.message(c.errorBody(code, text, "call again"))
}

// filterEvent decides what of an event the client sees; nil is nothing. final tells the answer to the call's request.
func (c *call) filterEvent(e mcp.Event) (_ *mcp.Event, final bool, err error) {
	if len(e.Data) == 0 {
		return &e, false, nil // a priming event (2025-11-25, resumability)
	}
	m, err := mcp.Parse(e.Data)
	if err != nil {
		return nil, false, fmt.Errorf("it sent an event that is no message: %w", err)
	}
	switch {
	case m.Kind == mcp.Request && c.modern:
		return nil, false, errors.New("it sent a request, which servers do not do since 2026-07-28")
	case m.Kind != mcp.Response || c.msg == nil:
		return &e, false, nil
	}
	out, err := c.filterReply(e.Data)
	if err != nil {
		return nil, false, err
	}
	e.Data = out
	return &e, true, nil
}

// filterReply is what the client sees of the response to its request.
func (c *call) filterReply(body []byte) ([]byte, error) {
	if c.rewritten() {
		return c.rewrite(body)
	}
	var out sliceWriter
	reply := mcp.NewReplyCopier(&out, c.msg.ID, c.stateSealer())
	if _, err := reply.Write(body); err != nil {
		return nil, err
	}
	if err := reply.Close(); err != nil {
		return nil, err
	}
	c.noteReply(reply.Reply)
	return out, nil
}

type sliceWriter []byte

func (w *sliceWriter) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}
