package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"sallyport/cluster"
	"sallyport/node/identity"
	"sallyport/node/mcp"
)

// refuse answers with a problem document (RFC 9457), for what ends before there is a message to answer.
func (c *call) refuse(status int, code, detail string) bool {
	c.note("refused", "", detail)
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"urn:sallyport:problem:" + code, http.StatusText(status), status, detail})
	if err != nil {
		body = []byte("{}")
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	c.w.WriteHeader(status)
	c.write(body)
	return false
}

// reject answers a message with a JSON-RPC error under the HTTP status that MCP asks for. Notifications get the status alone.
func (c *call) reject(status, code int, text string) bool {
	if c.msg == nil || c.msg.Kind != mcp.Request {
		return c.refuse(status, "refused", text)
	}
	c.note("refused", codeText(code), text)
	c.writeJSON(status, mcp.ErrorBody(c.msg.ID, code, text, nil))
	return false
}

// fail answers a parsed request with an error of Sallyport's own. The status is 200, since clients throw away the body of others.
func (c *call) fail(status string, code int, text, advice string) bool {
	c.note(status, codeText(code), text)
	if c.msg == nil || c.msg.Kind != mcp.Request {
		return c.refuseNoted(code, text)
	}
	c.writeJSON(http.StatusOK, c.errorBody(code, text, advice))
	return false
}

func (c *call) errorBody(code int, text, advice string) []byte {
	data := mcp.Object{{Name: "advice", Value: mcp.Quote(advice)}, {Name: "requestId", Value: mcp.Quote(c.record.ID)}}
	if c.record.ID == "" {
		data = data.Set("requestId", nil)
	}
	return mcp.ErrorBody(c.msg.ID, code, text, data.JSON())
}

// refuseNoted answers what has no id, GET and DELETE.
func (c *call) refuseNoted(code int, text string) bool {
	status, what, problem := http.StatusBadGateway, "upstream", c.problem
	switch code {
	case mcp.CodeDenied:
		status, what = http.StatusForbidden, "denied"
	case mcp.CodeStale, mcp.CodeInternal:
		status, what = http.StatusServiceUnavailable, "unavailable"
	case mcp.CodeMethodNotFound:
		status, what = http.StatusBadRequest, "unknown_method"
	}
	was, wasCode := c.status, c.code
	c.refuse(status, what, text)
	c.status, c.code, c.problem = was, wasCode, problem
	return false
}

// failUpstream answers when the upstream or the way to it failed. Causes that are Sallyport's own come first: the caller's access ended,
// the node is stale, the client is gone.
func (c *call) failUpstream(err error) {
	switch cause := c.cause(err); {
	case errors.Is(cause, identity.ErrRevoked), errors.Is(cause, identity.ErrExpired):
		c.unauthorized(cause)
	case errors.Is(cause, cluster.ErrStale):
		c.fail("stale", mcp.CodeStale, cause.Error(), "try again, or call another node")
	case c.r.Context().Err() != nil:
		c.note("cancelled", "", "the client went away")
	case errors.Is(cause, errCancelledByClient):
		c.note("cancelled", "", cause.Error())
		c.w.WriteHeader(http.StatusAccepted) // who has cancelled expects no answer
	default:
		c.note("upstream_error", codeText(mcp.CodeUpstream), cause.Error())
		c.fail("upstream_error", mcp.CodeUpstream, "upstream "+c.upstream.Name+": "+withoutAddress(cause).Error(), "try again later; if it stays so, the operator of the upstream can help")
	}
}

// withoutAddress is what a caller may know of a failure. Where upstreams and name servers are is for the audit.
func withoutAddress(err error) error {
	var name *net.DNSError
	var conn *net.OpError
	switch {
	case errors.As(err, &name):
		return errors.New("its name cannot be resolved")
	case errors.As(err, &conn):
		return fmt.Errorf("the connection failed: %w", conn.Err)
	}
	return err
}

// note keeps the first thing that is said of how a call ended.
func (c *call) note(status, code, problem string) {
	if c.status == "" {
		c.status, c.code, c.problem = status, code, problem
	}
}

func (c *call) writeJSON(status int, body []byte) {
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	c.w.WriteHeader(status)
	c.write(body)
}

// write sends to the caller. A caller that is gone shows in the context, so the error is not needed.
func (c *call) write(b []byte) {
	n, _ := c.w.Write(b)
	c.sent += int64(n)
}

func quoteAll(texts []string) jsontext.Value {
	items := make([]jsontext.Value, len(texts))
	for i, s := range texts {
		items[i] = mcp.Quote(s)
	}
	return mcp.Array(items)
}
