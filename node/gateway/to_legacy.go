package gateway

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sallyport/node/mcp"
	"sallyport/node/upstream"
)

// toLegacy serves a modern client from an upstream that knows only sessions. Sessions are pooled, so that a call costs one request. They
// declare no client capabilities: what the server asks of a client is answered with "method not found".
func (c *call) toLegacy() {
	if c.msg.Kind == mcp.Notification {
		c.w.WriteHeader(http.StatusAccepted) // nothing that a modern client notifies has a meaning for the upstream
		return
	}
	if c.msg.Meta.ClientCapabilities == nil {
		c.reject(http.StatusBadRequest, mcp.CodeInvalidParams, "_meta lacks "+mcp.MetaClientCaps)
		return
	}
	if c.msg.HasState || c.msg.HasInput {
		c.reject(http.StatusOK, mcp.CodeInvalidParams, "this upstream never asks for input: call without requestState and inputResponses")
		return
	}
	s, err := c.sessions.get(c)
	if err != nil {
		c.failUpstream(err)
		return
	}
	switch c.msg.Method {
	case "server/discover":
		c.writeJSON(http.StatusOK, mcp.ResultBody(c.msg.ID, s.discover()))
	case "subscriptions/listen":
		s.listen(c)
	default:
		c.callLegacy(s, true)
	}
}

// callLegacy makes one request in a pooled session. A session that the upstream has forgotten (404: nothing was processed) is replaced once.
func (c *call) callLegacy(s *upstreamSession, again bool) {
	id := s.newID()
	params, err := c.legacyParams(id)
	if err != nil {
		c.reject(http.StatusOK, mcp.CodeInvalidParams, err.Error())
		return
	}
	if err := s.setLevel(c, c.msg.Meta.LogLevel); err != nil {
		c.failUpstream(err)
		return
	}
	cred := c.credential
	stop := context.AfterFunc(c.ctx, func() { s.cancel(c, cred, id) })
	defer stop()
	resp, err := c.send(c.ctx, s.request(mcp.RequestBody(id, c.msg.Method, params)))
	if err != nil {
		c.failUpstream(err)
		return
	}
	if resp.StatusCode == http.StatusNotFound && again {
		discard(resp)
		c.sessions.drop(s)
		next, err := c.sessions.get(c)
		if err != nil {
			c.failUpstream(err)
			return
		}
		c.callLegacy(next, false)
		return
	}
	c.relay(resp, relay{id: id, reply: c.modernReply, other: func(m *mcp.Message, body []byte) []byte {
		if m.Kind == mcp.Request {
			s.answer(c, c.credential, m)
			return nil
		}
		return c.modernNotification(m, body)
	}})
}

// legacyParams takes out of params what belongs to the modern envelope and replaces the progress token by one that is unique in the session.
func (c *call) legacyParams(id jsontext.Value) (jsontext.Value, error) {
	params, err := mcp.ParseObject(c.msg.Params)
	if err != nil {
		return nil, err
	}
	meta, err := mcp.ParseObject(c.msg.Meta.Raw)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{mcp.MetaProtocolVersion, mcp.MetaClientInfo, mcp.MetaClientCaps, mcp.MetaLogLevel} {
		meta = meta.Set(name, nil)
	}
	if c.msg.Meta.ProgressToken != nil {
		meta = meta.Set("progressToken", id)
	}
	if len(meta) == 0 {
		params = params.Set("_meta", nil)
	} else {
		params = params.Set("_meta", meta.JSON())
	}
	if c.msg.Cursor != "" {
		cursor, err := c.openState("cursor", c.msg.Method, c.msg.Cursor)
		if err != nil {
			return nil, err
		}
		params = params.Set("cursor", mcp.Quote(cursor))
	}
	if len(params) == 0 {
		return nil, nil
	}
	return params.JSON(), nil
}

// modernReply makes a response of the modern era of one of the legacy era.
func (c *call) modernReply(m *mcp.Message) (int, []byte, error) {
	if m.Error != nil {
		return c.modernError(m.Error)
	}
	result, err := mcp.ParseObject(m.Result)
	if err != nil {
		return 0, nil, err
	}
	if member, list := mcp.IsList(c.msg.Method); list {
		if result, err = c.filterList(result, member); err != nil {
			return 0, nil, err
		}
		result = result.Set("ttlMs", jsontext.Value("0"))
	}
	if c.msg.Method == "resources/read" {
		result = result.Set("ttlMs", jsontext.Value("0")).Set("cacheScope", jsontext.Value(`"private"`))
	}
	if string(result.Get("isError")) == "true" {
		c.note("tool_error", "", "")
	}
	result = result.Set("resultType", jsontext.Value(`"complete"`))
	return http.StatusOK, mcp.ResultBody(c.msg.ID, result.JSON()), nil
}

func (c *call) modernError(raw jsontext.Value) (int, []byte, error) {
	e, err := mcp.ParseObject(raw)
	if err != nil {
		return 0, nil, err
	}
	code, err := strconv.Atoi(string(e.Get("code")))
	if err != nil {
		return 0, nil, mcp.ErrReply
	}
	status := http.StatusOK
	switch code {
	case mcp.CodeLegacyNotFound: // retired in 2026-07-28
		code = mcp.CodeInvalidParams
	case mcp.CodeMethodNotFound:
		status = http.StatusNotFound
	case mcp.CodeHeaderMismatch, mcp.CodeMissingCapability, mcp.CodeUnsupportedVersion:
		status = http.StatusBadRequest
	}
	c.note("error", codeText(code), "")
	text, _ := e.Text("message")
	return status, mcp.ErrorBody(c.msg.ID, code, text, e.Get("data")), nil
}

// modernNotification is what a modern client sees of a notification that came with its request.
func (c *call) modernNotification(m *mcp.Message, body []byte) []byte {
	switch m.Method {
	case "notifications/progress":
		if c.msg.Meta.ProgressToken == nil {
			return nil
		}
		params, err := mcp.ParseObject(m.Params)
		if err != nil {
			return nil
		}
		return mcp.RequestBody(nil, m.Method, params.Set("progressToken", c.msg.Meta.ProgressToken).JSON())
	case "notifications/message":
		if !atLeast(m.Level, c.msg.Meta.LogLevel) {
			return nil
		}
		return body
	}
	return nil
}

// atLeast compares log levels (RFC 5424); a client that named none wants no messages.
func atLeast(level, least string) bool {
	const order = "debug info notice warning error critical alert emergency"
	return least != "" && strings.Index(order, level) >= strings.Index(order, least)
}

// cancel tells the upstream that nobody waits any longer; in this era a closed connection does not.
func (s *upstreamSession) cancel(c *call, cred upstream.Credential, id jsontext.Value) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(c.ctx), 5*time.Second)
	defer stop()
	params := mcp.Object{{Name: "requestId", Value: id}, {Name: "reason", Value: mcp.Quote("the caller went away")}}
	if resp, err := c.sendOnce(ctx, s.request(mcp.RequestBody(nil, "notifications/cancelled", params.JSON())), cred); err == nil {
		discard(resp)
	}
}

// answer replies to what the server asks of its client.
func (s *upstreamSession) answer(c *call, cred upstream.Credential, m *mcp.Message) {
	body := mcp.ErrorBody(m.ID, mcp.CodeMethodNotFound, "this client has declared no such capability", nil)
	if m.Method == "ping" {
		body = mcp.ResultBody(m.ID, jsontext.Value("{}"))
	}
	if resp, err := c.sendOnce(c.ctx, s.request(body), cred); err == nil {
		discard(resp)
	}
}
