package transport

import (
	"context"
	"net/http"
	"sync/atomic"
)

// serveQUIC handles a request that came over HTTP/3.
func (s *Server) serveQUIC(w http.ResponseWriter, r *http.Request) {
	s.quicCalls.begin()
	defer s.quicCalls.end()

	filtered := &quicResponseWriter{ResponseWriter: w}
	s.handler.ServeHTTP(filtered, r)
	// A handler that wrote nothing leaves it to quic-go to send the header.
	filtered.dropHopByHop()
}

// serveTCP handles a request that came over HTTP/2 or HTTP/1.1.
func (s *Server) serveTCP(w http.ResponseWriter, r *http.Request) {
	s.tcpCalls.begin()
	defer s.tcpCalls.end()
	w.Header().Set("Alt-Svc", s.altSvc)
	s.handler.ServeHTTP(w, r)
}

// quicResponseWriter removes the fields that have a meaning on an HTTP/1.1 connection alone. RFC 9114 section 4.2 forbids
// them, net/http drops them on HTTP/2, but quic-go sends them and clients then refuse the whole answer.
type quicResponseWriter struct {
	http.ResponseWriter
	sent bool // the final header
}

func (w *quicResponseWriter) WriteHeader(status int) {
	w.dropHopByHop()
	w.sent = w.sent || status >= http.StatusOK
	w.ResponseWriter.WriteHeader(status)
}

func (w *quicResponseWriter) Write(p []byte) (int, error) {
	w.dropHopByHop()
	w.sent = true
	return w.ResponseWriter.Write(p)
}

// FlushError is what http.ResponseController looks for.
func (w *quicResponseWriter) FlushError() error {
	w.dropHopByHop()
	w.sent = true
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *quicResponseWriter) Flush() { _ = w.FlushError() }

// Unwrap lets http.ResponseController reach deadlines.
func (w *quicResponseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *quicResponseWriter) dropHopByHop() {
	if w.sent {
		return
	}
	header := w.Header()
	for _, name := range [...]string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"} {
		delete(header, name)
	}
}

// callCounter counts the calls in flight, and can be waited on once no new ones are accepted.
type callCounter struct {
	inFlight atomic.Int64
	waiting  atomic.Bool
	emptied  chan struct{} // capacity 1
}

func newCallCounter() *callCounter { return &callCounter{emptied: make(chan struct{}, 1)} }

func (c *callCounter) begin() { c.inFlight.Add(1) }

func (c *callCounter) end() {
	// A waiter sets waiting before it reads inFlight, so one of the two sees the other.
	if c.inFlight.Add(-1) == 0 && c.waiting.Load() {
		c.wake()
	}
}

func (c *callCounter) wake() {
	select {
	case c.emptied <- struct{}{}:
	default:
	}
}

// wait returns when no call is in flight, or with the error of ctx.
func (c *callCounter) wait(ctx context.Context) error {
	c.waiting.Store(true)
	for c.inFlight.Load() > 0 {
		select {
		case <-c.emptied:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.wake() // another waiter, if there is one
	return nil
}
