package gateway

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"sallyport/node/mcp"
)

// rewritten tells the methods whose answer is not passed on as it is: lists show what the caller may use, and capabilities what this gateway
// supports.
func (c *call) rewritten() bool {
	if _, list := mcp.IsList(c.msg.Method); list {
		return true
	}
	return c.msg.Method == "initialize" || c.msg.Method == "server/discover"
}

// rewrite makes the answer that the client gets of the one that the upstream gave.
func (c *call) rewrite(body []byte) ([]byte, error) {
	m, err := mcp.Parse(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mcp.ErrReply, err)
	}
	if m.Kind == mcp.Response && m.Error != nil && (mcp.SameID(c.msg.ID, m.ID) || string(m.ID) == "null") {
		c.note("error", errorCode(m.Error), "")
		return c.withError(m.Error), nil
	}
	if m.Kind != mcp.Response || !mcp.SameID(c.msg.ID, m.ID) {
		return nil, fmt.Errorf("%w: it carries another id", mcp.ErrReply)
	}
	result, changed, err := c.rewriteResult(m.Result)
	if err != nil {
		return nil, err
	}
	if !changed {
		return body, nil
	}
	return mcp.ResultBody(m.ID, result), nil
}

// withError is the response that carries an upstream's error as it is.
func (c *call) withError(e jsontext.Value) []byte {
	return mcp.Object{{Name: "jsonrpc", Value: jsontext.Value(`"2.0"`)}, {Name: "id", Value: c.msg.ID}, {Name: "error", Value: e}}.JSON()
}

func errorCode(v jsontext.Value) string {
	o, err := mcp.ParseObject(v)
	if err != nil {
		return ""
	}
	return string(o.Get("code"))
}

func (c *call) rewriteResult(result jsontext.Value) (_ jsontext.Value, changed bool, err error) {
	o, err := mcp.ParseObject(result)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", mcp.ErrReply, err)
	}
	if member, list := mcp.IsList(c.msg.Method); list {
		o, err = c.filterList(o, member)
		if err != nil {
			return nil, false, err
		}
		return o.JSON(), true, nil
	}
	shown, changed, err := hideTasks(o)
	if err == nil && c.msg.Method == "server/discover" {
		// This gateway bridges, so the endpoint serves every version, whatever the upstream speaks.
		return shown.Set("supportedVersions", quoteAll(mcp.Versions())).JSON(), true, nil
	}
	return shown.JSON(), changed, err
}

// filterList keeps the items that the caller may use and marks the list as his own.
func (c *call) filterList(o mcp.Object, member string) (mcp.Object, error) {
	items, err := mcp.ParseArray(o.Get(member))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", mcp.ErrReply, member, err)
	}
	kept := items[:0:0]
	for _, item := range items {
		io, err := mcp.ParseObject(item)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", mcp.ErrReply, member, err)
		}
		if member == "tools" {
			c.catalog.learn(c.upstream, io)
		}
		if c.mayList(member, io) {
			kept = append(kept, item)
		}
	}
	o = o.Set(member, mcp.Array(kept))
	if cursor, ok := o.Text("nextCursor"); ok {
		sealed, err := c.sealState("cursor", c.msg.Method, cursor)
		if err != nil {
			return nil, err
		}
		o = o.Set("nextCursor", mcp.Quote(sealed))
	}
	if c.modern || o.Get("cacheScope") != nil {
		o = o.Set("cacheScope", jsontext.Value(`"private"`))
	}
	return o, nil
}

func (c *call) mayList(member string, item mcp.Object) bool {
	action, key := "tools/call", "name"
	switch member {
	case "prompts":
		action = "prompts/get"
	case "resources":
		action, key = "resources/read", "uri"
	case "resourceTemplates":
		action, key = "resources/read", "uriTemplate"
	}
	name, ok := item.Text(key)
	return ok && c.Policies.MayList(c.question(action, name))
}

// hideTasks takes the capability for tasks out of what a server announces, since this gateway does not pass them on.
func hideTasks(o mcp.Object) (_ mcp.Object, changed bool, err error) {
	const extension = "io.modelcontextprotocol/tasks"
	caps, err := mcp.ParseObject(o.Get("capabilities"))
	if err != nil {
		return nil, false, fmt.Errorf("%w: capabilities: %w", mcp.ErrReply, err)
	}
	changed = caps.Get("tasks") != nil
	caps = caps.Set("tasks", nil)
	if raw := caps.Get("extensions"); raw != nil {
		extensions, err := mcp.ParseObject(raw)
		if err != nil {
			return nil, false, fmt.Errorf("%w: capabilities: %w", mcp.ErrReply, err)
		}
		if extensions.Get(extension) != nil {
			changed = true
			caps = caps.Set("extensions", extensions.Set(extension, nil).JSON())
		}
	}
	if !changed {
		return o, false, nil
	}
	return o.Set("capabilities", caps.JSON()), true, nil
}
