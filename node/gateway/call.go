package gateway

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"sallyport/node/audit"
	"sallyport/node/identity"
	"sallyport/node/mcp"
	"sallyport/node/policy"
	"sallyport/node/upstream"
	"sallyport/raftfsm"
)

// call is one HTTP request on its way.
type call struct {
	*Gateway
	w     http.ResponseWriter
	r     *http.Request
	ctx   context.Context // ends with the client, the caller's access or the node
	began time.Time

	caller   identity.Caller
	upstream *raftfsm.Upstream
	body     []byte
	msg      *mcp.Message // nil for GET and DELETE
	modern   bool         // the client's era
	session  *session     // a legacy client's session, nil before initialize

	decision   policy.Decision
	credential upstream.Credential

	record   audit.Record // the use record, once it was written
	recorded bool
	status   string // how it ended, for the outcome record
	code     string
	problem  string
	sent     int64
	// staleness is the proved age of the state, in milliseconds, at the last check before a first byte.
	staleness atomic.Int64
}

// serve is the whole way. Each step answers by itself when it ends the call, and returns false.
func (c *call) serve() {
	if !c.receive() || !c.authenticate() || !c.findUpstream() {
		return
	}
	if !c.readBody() || !c.parse() || !c.checkEra() || !c.openSession() {
		return
	}
	ctx, stop := c.Authenticator.Track(c.ctx, c.caller)
	defer stop()
	c.ctx = ctx
	if !c.authorize() || !c.findCredential() || !c.recordUse() {
		return
	}
	c.forward()
}

// forward takes the call to the upstream, in the era that both sides speak or across the bridge.
func (c *call) forward() {
	speaks, err := c.eras.of(c)
	if err != nil {
		c.failUpstream(err)
		return
	}
	switch {
	case c.modern && speaks.modern, !c.modern && speaks.legacy && !c.session.bridged():
		c.passThrough()
	case c.modern:
		c.toLegacy()
	default:
		c.toModern()
	}
}

// method is the MCP method, or the HTTP method where there is no message.
func (c *call) method() string {
	switch {
	case c.msg == nil:
		return c.r.Method
	case c.msg.Kind == mcp.Response:
		return "response"
	}
	return c.msg.Method
}

// era names the client's era for the audit.
func (c *call) era() string {
	if c.modern {
		return "modern"
	}
	return "legacy"
}
