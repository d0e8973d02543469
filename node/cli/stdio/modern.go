package stdio

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"sallyport/node/mcp"
)

// maxPages bounds how much of tools/list is read for one call.
const maxPages = 50

// modernCall carries out a request of MCP 2026-07-28: stateless, one HTTP answer, never resumed.
func (r *relay) modernCall(c *call) ([]byte, error) {
	answer, err := r.modernExchange(c.ctx, c.message, c.version)
	if err != nil {
		return nil, err
	}
	if c.method == "tools/call" && isHeaderMismatch(answer) && r.relearn(c) {
		// The server refused the call for a header that it wants of a parameter; nothing was done.
		if answer, err = r.modernExchange(c.ctx, c.message, c.version); err != nil {
			return nil, err
		}
	}
	if c.method == "tools/list" && answer.result != nil {
		return r.learn(answer).withID(c.id), nil
	}
	return answer.withID(c.id), nil
}

func (r *relay) modernExchange(ctx context.Context, m message, version string) (message, error) {
	resp, err := r.nodes.send(ctx, http.MethodPost, r.modernHeader(m, version), m.raw)
	if err != nil {
		return message{}, err
	}
	defer func() { go drain(resp) }()
	var answer message
	err = readAnswer(resp, &cursor{}, func(got message) bool {
		switch {
		case got.answers(m.id):
			answer = got
			return true
		case got.kind == request:
			r.log.Warn("dropped: a request of the server, which MCP 2026-07-28 does not have", "method", got.label())
		case ctx.Err() == nil:
			r.pass(got)
		}
		return false
	})
	if errors.Is(err, errUnanswered) {
		return message{}, cutShort(resp.Request.URL, err)
	}
	return answer, err
}

// modernPost sends a notification. The core protocol defines none for modern clients; extensions may.
func (r *relay) modernPost(ctx context.Context, m message) error {
	resp, err := r.nodes.send(ctx, http.MethodPost, r.modernHeader(m, m.modernVersion()), m.raw)
	if err != nil {
		return err
	}
	defer drain(resp)
	return acceptance(resp)
}

// modernHeader repeats in headers what intermediaries want to know without reading the body.
func (r *relay) modernHeader(m message, version string) http.Header {
	header := postHeader()
	header.Set(mcp.HeaderVersion, mcp.EncodeHeaderValue(version))
	header.Set(mcp.HeaderMethod, mcp.EncodeHeaderValue(m.method))
	if name := mirroredName(m); name != "" {
		header.Set(mcp.HeaderName, mcp.EncodeHeaderValue(name))
	}
	if m.method == "tools/call" {
		r.tools.mirror(header, m)
	}
	return header
}

// mirroredName is what Mcp-Name repeats.
func mirroredName(m message) string {
	switch m.method {
	case "tools/call", "prompts/get":
		return text(m.params["name"])
	case "resources/read":
		return text(m.params["uri"])
	case "tasks/get", "tasks/update", "tasks/cancel":
		return text(m.params["taskId"])
	}
	return ""
}

func isHeaderMismatch(m message) bool {
	code, err := strconv.Atoi(string(member(m.failed, "code")))
	return err == nil && code == mcp.CodeHeaderMismatch
}

// acceptance is nil if the node took a notification or a response.
func acceptance(resp *http.Response) error {
	if resp.StatusCode/100 == 2 {
		return nil
	}
	return readAnswer(resp, &cursor{}, func(message) bool { return false })
}

// relearn asks for the tools again, in the name of the client, because the headers of a call did
// not fit the tool as it is now. It reports whether there is anything new to send.
func (r *relay) relearn(c *call) bool {
	before := r.tools.of(text(c.params["name"]))
	meta := map[string]json.RawMessage{}
	for _, key := range []string{mcp.MetaProtocolVersion, mcp.MetaClientInfo, mcp.MetaClientCaps} {
		if value := c.meta()[key]; value != nil {
			meta[key] = value
		}
	}
	var cursor json.RawMessage
	for range maxPages {
		list, err := listRequest(meta, cursor)
		if err != nil {
			break
		}
		answer, err := r.modernExchange(c.ctx, list, c.version)
		if err != nil || answer.result == nil {
			break
		}
		r.learn(answer)
		if cursor = member(answer.result, "nextCursor"); cursor == nil || string(cursor) == "null" {
			break
		}
	}
	return !before.equal(r.tools.of(text(c.params["name"])))
}

// listRequest is a tools/list request of our own. Its id cannot meet one of the client's, because
// the answer goes to nobody but us.
func listRequest(meta map[string]json.RawMessage, cursor json.RawMessage) (message, error) {
	members := map[string]any{"_meta": meta}
	if cursor != nil {
		members["cursor"] = cursor
	}
	params, err := json.Marshal(members)
	if err != nil {
		return message{}, err
	}
	return parseMessage(mcp.RequestBody([]byte(`"sallyport-tools"`), "tools/list", params))
}
