package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"sallyport/cluster"
	"sallyport/node/identity"
	"sallyport/node/mcp"
	"sallyport/node/upstream"
)

// findCredential finds what to present to the upstream, obtaining it if need be.
func (c *call) findCredential() bool {
	cred, err := c.Credentials.Credential(c.ctx, c.upstream)
	if err != nil {
		c.Logger.Warn("no credential for a call", "upstream", c.upstream.Name, "error", err)
		c.failUpstream(withoutEndpoint(err))
		return false
	}
	c.credential = cred
	return true
}

// withoutEndpoint is what a caller may know of a credential that could not be obtained. Where it is obtained is for the log.
func withoutEndpoint(err error) error {
	var refused *upstream.RefusedError
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("the server that issues its tokens refused: %w", refused)
	case errors.Is(err, upstream.ErrNoCredential), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, identity.ErrRevoked), errors.Is(err, identity.ErrExpired), errors.Is(err, cluster.ErrStale):
		return err // this node's own reasons, which failUpstream answers each in its way
	}
	return errors.New("the server that issues its tokens cannot be used")
}

// outgoing is one HTTP request to the upstream, without the credential.
type outgoing struct {
	method string
	header http.Header
	body   []byte
}

var (
	errRefusesCredential = errors.New("it refuses the credential that this gateway has for it")
	errRedirects         = errors.New("it answers with a redirect, which is not followed with a credential")
)

// send takes one request to the upstream and returns its answer, whatever its status. A credential that the upstream refuses (401: it has not
// processed the request) is replaced and the request repeated, once.
func (c *call) send(ctx context.Context, out outgoing) (*http.Response, error) {
	resp, err := c.sendOnce(ctx, out, c.credential)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	discard(resp)
	next, err := c.Credentials.Rejected(ctx, c.upstream, c.credential)
	if err != nil {
		c.Logger.Warn("an upstream refuses its credential", "upstream", c.upstream.Name, "credential", c.credential.ID, "error", err)
		return nil, errRefusesCredential
	}
	c.credential = next
	// The second use is recorded like the first.
	if !c.recordUseAgain() {
		return nil, errors.New("the call cannot be recorded")
	}
	if resp, err = c.sendOnce(ctx, out, c.credential); err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		discard(resp)
		return nil, errRefusesCredential
	}
	return resp, nil
}

func (c *call) recordUseAgain() bool {
	r := c.record
	r.Time, r.Generation = time.Now(), c.credential.Generation
	return c.Audit.Append(c.ctx, r) == nil
}

// sendOnce is safe to use beside the call, whose credential may be replaced meanwhile.
func (c *call) sendOnce(ctx context.Context, out outgoing, cred upstream.Credential) (*http.Response, error) {
	rt, err := c.Transports.For(c.upstream)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, out.method, c.upstream.URL, bytes.NewReader(out.body))
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("make the request: %w", err)
	}
	if out.body == nil {
		req.Body, req.GetBody, req.ContentLength = nil, nil, 0
	}
	req.Header = out.header.Clone()
	req.Header.Set("User-Agent", "sallyport/"+c.Version)
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := rt.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, c.injector(req.Header, cred, cancel))))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return nil, withoutURL(err)
	}
	// The context must outlive this function, as long as the body is read.
	resp.Body = &cancelOnClose{ReadCloser: resp.Body, cancel: cancel}
	return resp, nil
}

// injector puts the credential into the header of a request when its connection stands, which is right before its first byte, and only if the
// caller's access and this node's state still hold then. If they do not, nothing of the request is sent: HTTP/2 looks at the context before it
// writes, HTTP/1.1 does not, so its connection is closed.
func (c *call) injector(h http.Header, cred upstream.Credential, cancel context.CancelCauseFunc) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		if err := c.mayServe(); err != nil {
			cancel(err)
			if !sharedByCalls(got.Conn) {
				_ = got.Conn.Close()
			}
			return
		}
		if cred.Header != "" {
			h.Set(cred.Header, cred.Value.ExposeString())
		}
	}}
}

// sharedByCalls tells connections that carry other calls at the same time.
func sharedByCalls(conn net.Conn) bool {
	secured, ok := conn.(*tls.Conn)
	return ok && secured.ConnectionState().NegotiatedProtocol == "h2"
}

// mayServe is the last check before the first byte leaves.
func (c *call) mayServe() error {
	err := c.Freshness.Check()
	if stale := time.Duration(c.upstream.StaleMillis) * time.Millisecond; err != nil && stale > 0 && !c.upstream.UserData {
		err = c.Freshness.CheckWithin(stale)
	}
	if err != nil {
		return err
	}
	age, _ := c.Freshness.Staleness()
	c.staleness.Store(age.Milliseconds())
	return c.Authenticator.Recheck(c.caller)
}

// cause is why a call really ended: what cancelled it, rather than what the cancellation looked like.
func (c *call) cause(err error) error {
	if cause := context.Cause(c.ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause
	}
	return err
}

type cancelOnClose struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b *cancelOnClose) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// discard ends an answer that nobody reads further, keeping the connection if the rest of it is short and comes at once.
func discard(resp *http.Response) {
	const short, atOnce = 64 << 10, 200 * time.Millisecond
	timer := time.AfterFunc(atOnce, func() { _ = resp.Body.Close() })
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, short)
	_ = resp.Body.Close()
}

// withoutURL drops what net/http repeats of the request, which may hold what nobody should see.
func withoutURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// requestHeader is what passes from the client to the upstream.
func (c *call) requestHeader() http.Header {
	out := http.Header{}
	for name, values := range c.r.Header {
		switch {
		case name == "Accept", name == "Content-Type", name == mcp.HeaderVersion, name == mcp.HeaderLastEvent && !c.modern,
			name == "Traceparent", name == "Tracestate", name == "Baggage":
			out[name] = values
		case c.modern && (name == mcp.HeaderMethod || name == mcp.HeaderName || strings.HasPrefix(name, mcp.HeaderParamPrefix)):
			out[name] = values
		}
	}
	if c.session != nil && c.session.Upstream != "" {
		out.Set(mcp.HeaderSession, c.session.Upstream)
	}
	return out
}

// checkAnswer refuses what is no answer of an MCP server. The statuses that MCP gives a meaning pass.
func checkAnswer(resp *http.Response) error {
	switch s := resp.StatusCode; {
	case s >= 300 && s < 400:
		return errRedirects
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		return errRefusesCredential
	case s == http.StatusOK, s == http.StatusAccepted, s == http.StatusNoContent, s == http.StatusBadRequest, s == http.StatusNotFound, s == http.StatusMethodNotAllowed:
	default:
		return fmt.Errorf("it answered with status %d", s)
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return errors.New("it answered compressed, which nobody asked for")
	}
	return nil
}
