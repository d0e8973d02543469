package gateway

import (
	"errors"
	"mime"
	"net/http"

	"sallyport/node/mcp"
)

// passThrough forwards a call to an upstream that speaks the client's era.
func (c *call) passThrough() {
	body, ok := c.outgoingBody()
	if !ok {
		return
	}
	resp, err := c.send(c.ctx, outgoing{method: c.r.Method, header: c.requestHeader(), body: body})
	if err != nil {
		c.failUpstream(err)
		return
	}
	defer discard(resp)
	if err := checkAnswer(resp); err != nil {
		c.failUpstream(err)
		return
	}
	if !c.passSession(resp.Header) {
		return
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case c.msg == nil || c.msg.Kind != mcp.Request:
		c.answerWithoutID(resp, media)
	case media == "text/event-stream" && resp.StatusCode == http.StatusOK:
		c.streamEvents(resp.Body)
	case media == "application/json":
		c.answerJSON(resp)
	case resp.StatusCode == http.StatusNotFound && c.session != nil:
		c.refuse(http.StatusNotFound, "no_such_session", "the upstream has ended the session: initialize a new one")
	case resp.StatusCode != http.StatusOK:
		c.failUpstream(statusError(resp.StatusCode))
	default:
		c.failUpstream(errors.New("it answered with neither JSON nor an event stream"))
	}
}

// outgoingBody is the body as it came, with what was sealed opened again.
func (c *call) outgoingBody() ([]byte, bool) {
	m := c.msg
	if m == nil || m.Cursor == "" && !m.HasState {
		return c.body, true
	}
	params, err := mcp.ParseObject(m.Params)
	if err != nil {
		return nil, c.reject(http.StatusOK, mcp.CodeInvalidParams, err.Error())
	}
	if m.Cursor != "" {
		cursor, err := c.openState("cursor", m.Method, m.Cursor)
		if err != nil {
			return nil, c.reject(http.StatusOK, mcp.CodeInvalidParams, "the cursor is not valid: "+err.Error()+": list from the start")
		}
		params = params.Set("cursor", mcp.Quote(cursor))
	}
	if m.HasState {
		state, err := c.openState("state", c.stateDetail(), m.RequestState)
		if err != nil {
			return nil, c.reject(http.StatusOK, mcp.CodeInvalidParams, "requestState is not valid: "+err.Error()+": call anew without it")
		}
		params = params.Set("requestState", mcp.Quote(state))
	}
	return mcp.RequestBody(m.ID, m.Method, params.JSON()), true
}

// passSession hands out the upstream's new session, sealed.
func (c *call) passSession(h http.Header) bool {
	id := h.Get(mcp.HeaderSession)
	if c.modern || id == "" || c.msg == nil || c.msg.Method != "initialize" {
		return true
	}
	sealed, err := c.sealSession(session{Upstream: id, Version: c.msg.Version})
	if err != nil {
		c.note("upstream_error", "", err.Error())
		c.refuse(http.StatusBadGateway, "upstream", "upstream "+c.upstream.Name+": "+err.Error())
		return false
	}
	c.w.Header().Set(mcp.HeaderSession, sealed)
	return true
}

// answerWithoutID answers notifications, responses, GET and DELETE.
func (c *call) answerWithoutID(resp *http.Response, media string) {
	switch {
	case c.r.Method == http.MethodGet && resp.StatusCode == http.StatusOK && media == "text/event-stream":
		c.streamEvents(resp.Body)
	case resp.StatusCode == http.StatusMethodNotAllowed:
		c.w.Header().Set("Allow", "POST")
		c.refuse(http.StatusMethodNotAllowed, "method_not_allowed", "the upstream has no such stream or session")
	case resp.StatusCode == http.StatusNotFound:
		c.refuse(http.StatusNotFound, "no_such_session", "the upstream has ended the session: initialize a new one")
	case resp.StatusCode == http.StatusBadRequest:
		c.refuse(http.StatusBadRequest, "upstream_refused", "the upstream refused the message")
	case resp.StatusCode < 300 && c.r.Method != http.MethodGet:
		status := http.StatusAccepted
		if c.r.Method == http.MethodDelete {
			status = http.StatusNoContent
		}
		c.w.WriteHeader(status)
	default:
		c.failUpstream(statusError(resp.StatusCode))
	}
}
