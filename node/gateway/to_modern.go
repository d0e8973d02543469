package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"sallyport/node/mcp"
)

// toModern serves a legacy client from a stateless upstream. The session is this gateway's own: what the client sets in it is repeated with
// each request.
func (c *call) toModern() {
	if c.msg != nil && c.msg.Method == "initialize" {
		c.initializeModern()
		return
	}
	if !c.session.bridged() {
		if c.session != nil {
			c.refuse(http.StatusNotFound, "no_such_session", "the upstream has no sessions any more: initialize a new one")
			return
		}
		c.reject(http.StatusBadRequest, mcp.CodeInvalidRequest, "this upstream needs a session: send initialize first, then its Mcp-Session-Id")
		return
	}
	s, ok := c.clients.get(c.session.Bridge)
	if !ok {
		c.refuse(http.StatusNotFound, "no_such_session", "the session has ended: initialize a new one")
		return
	}
	switch {
	case c.r.Method == http.MethodDelete:
		c.clients.end(c.session.Bridge)
		c.w.WriteHeader(http.StatusNoContent)
	case c.r.Method == http.MethodGet:
		c.listenModern(s)
	case c.msg.Kind == mcp.Notification:
		if c.msg.Method == "notifications/cancelled" {
			s.cancel(c.msg.CancelID)
		}
		c.w.WriteHeader(http.StatusAccepted)
	case c.msg.Kind == mcp.Response:
		c.w.WriteHeader(http.StatusAccepted) // to a request that nobody made
	default:
		c.requestModern(s)
	}
}

// requestModern serves the requests of a session.
func (c *call) requestModern(s *clientSession) {
	empty := jsontext.Value("{}")
	switch c.msg.Method {
	case "ping":
		c.writeJSON(http.StatusOK, mcp.ResultBody(c.msg.ID, empty))
	case "logging/setLevel":
		s.setLevel(c.msg.Level)
		c.writeJSON(http.StatusOK, mcp.ResultBody(c.msg.ID, empty))
	case "resources/subscribe":
		if !s.watch(c.msg.URI, true) {
			c.reject(http.StatusOK, mcp.CodeInvalidParams, "too many resources are subscribed to in this session")
			return
		}
		c.writeJSON(http.StatusOK, mcp.ResultBody(c.msg.ID, empty))
	case "resources/unsubscribe":
		s.watch(c.msg.URI, false)
		c.writeJSON(http.StatusOK, mcp.ResultBody(c.msg.ID, empty))
	default:
		c.callModern(s)
	}
}

// callModern makes one request of the modern era.
func (c *call) callModern(s *clientSession) {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	c.ctx = ctx
	if !s.begin(c.msg.ID, cancel) {
		c.reject(http.StatusOK, mcp.CodeInvalidRequest, "a request with this id is under way in the session")
		return
	}
	defer s.done(c.msg.ID)
	params, err := mcp.ParseObject(c.msg.Params)
	if err != nil && c.msg.Params != nil {
		c.reject(http.StatusOK, mcp.CodeInvalidParams, err.Error())
		return
	}
	if c.msg.Cursor != "" {
		cursor, err := c.openState("cursor", c.msg.Method, c.msg.Cursor)
		if err != nil {
			c.reject(http.StatusOK, mcp.CodeInvalidParams, "the cursor is not valid: "+err.Error()+": list from the start")
			return
		}
		params = params.Set("cursor", mcp.Quote(cursor))
	}
	out := c.modernRequest(c.msg.ID, c.msg.Method, params, s.logLevel())
	if c.msg.Method == "tools/call" {
		c.learnTool()
		c.catalog.setParams(c.upstream, out.header, c.msg)
	}
	resp, err := c.send(c.ctx, out)
	if err != nil {
		c.failUpstream(err)
		return
	}
	c.relay(resp, relay{id: c.msg.ID, reply: c.legacyReply, other: c.legacyNotification})
}

// learnTool lists the upstream's tools if it is not known which headers this one wants. If that fails, the call shows why.
func (c *call) learnTool() {
	if _, known := c.catalog.headers(c.upstream, c.msg.Name); known {
		return
	}
	id := jsontext.Value(`"tools"`)
	cursor := ""
	const mostPages = 100
	for range mostPages {
		params := mcp.Object{}
		if cursor != "" {
			params = params.Set("cursor", mcp.Quote(cursor))
		}
		resp, err := c.send(c.ctx, c.modernRequest(id, "tools/list", params, ""))
		if err != nil {
			return
		}
		m, err := c.readReply(resp, id)
		discard(resp)
		if err != nil || m.Error != nil {
			return
		}
		o, err := mcp.ParseObject(m.Result)
		if err != nil {
			return
		}
		items, err := mcp.ParseArray(o.Get("tools"))
		if err != nil {
			return
		}
		for _, item := range items {
			if tool, err := mcp.ParseObject(item); err == nil {
				c.catalog.learn(c.upstream, tool)
			}
		}
		if cursor, _ = o.Text("nextCursor"); cursor == "" {
			return
		}
	}
}

var errNeedsInput = errors.New("it asks for input that clients of this protocol version cannot give through this gateway yet")

// legacyReply makes a response of the legacy era of one of the modern era.
func (c *call) legacyReply(m *mcp.Message) (int, []byte, error) {
	if m.Error != nil {
		c.note("error", errorCode(m.Error), "")
		return http.StatusOK, c.withError(m.Error), nil
	}
	result, err := mcp.ParseObject(m.Result)
	if err != nil {
		return 0, nil, err
	}
	if kind, ok := result.Text("resultType"); ok && kind != "complete" {
		return 0, nil, errNeedsInput
	}
	if member, list := mcp.IsList(c.msg.Method); list {
		if result, err = c.filterList(result, member); err != nil {
			return 0, nil, err
		}
	}
	if string(result.Get("isError")) == "true" {
		c.note("tool_error", "", "")
	}
	result = result.Set("resultType", nil).Set("ttlMs", nil).Set("cacheScope", nil)
	return http.StatusOK, mcp.ResultBody(c.msg.ID, result.JSON()), nil
}

// legacyNotification is what a legacy client sees of a notification that came with its request.
func (c *call) legacyNotification(m *mcp.Message, body []byte) []byte {
	if m.Kind == mcp.Notification && (m.Method == "notifications/progress" || m.Method == "notifications/message") {
		return body
	}
	return nil
}

// initializeModern begins a session by what server/discover tells.
func (c *call) initializeModern() {
	id := jsontext.Value(`"discover"`)
	resp, err := c.send(c.ctx, c.modernRequest(id, "server/discover", nil, ""))
	if err != nil {
		c.failUpstream(err)
		return
	}
	defer discard(resp)
	if err := checkAnswer(resp); err != nil {
		c.failUpstream(err)
		return
	}
	m, err := c.readReply(resp, id)
	if err == nil && m.Error != nil {
		err = errors.New("it refuses to be discovered (code " + errorCode(m.Error) + ")")
	}
	if err != nil {
		c.failUpstream(err)
		return
	}
	found, err := mcp.ParseObject(m.Result)
	if err != nil {
		c.failUpstream(err)
		return
	}
	version := c.msg.Version
	if !mcp.IsLegacy(version) {
		version = mcp.LatestLegacy
	}
	sealed, err := c.sealSession(session{Bridge: rand.Text(), Version: version})
	if err != nil {
		c.failUpstream(err)
		return
	}
	c.w.Header().Set(mcp.HeaderSession, sealed)
	c.writeJSON(http.StatusOK, mcp.ResultBody(c.msg.ID, c.initializeResult(version, found)))
}

func (c *call) initializeResult(version string, found mcp.Object) jsontext.Value {
	caps := mcp.Object{}
	if raw := found.Get("capabilities"); raw != nil {
		if o, err := mcp.ParseObject(raw); err == nil {
			caps = o.Set("extensions", nil).Set("tasks", nil)
		}
	}
	info := mcp.Object{{Name: "name", Value: mcp.Quote(c.upstream.Name)}, {Name: "version", Value: mcp.Quote("")}}.JSON()
	if meta, err := mcp.ParseObject(found.Get("_meta")); err == nil && meta.Get(mcp.MetaServerInfo) != nil {
		info = meta.Get(mcp.MetaServerInfo)
	}
	out := mcp.Object{
		{Name: "protocolVersion", Value: mcp.Quote(version)},
		{Name: "capabilities", Value: caps.JSON()},
		{Name: "serverInfo", Value: info},
	}
	if v := found.Get("instructions"); v != nil {
		out = append(out, mcp.Member{Name: "instructions", Value: v})
	}
	return out.JSON()
}

// listenModern serves a legacy client's GET stream by subscriptions/listen, anew whenever the session's subscriptions change.
func (c *call) listenModern(s *clientSession) {
	out := c.openEventStream()
	defer out.close()
	ctx := c.drained()
	for ctx.Err() == nil {
		changed := s.changes()
		err := c.listenOnce(ctx, s, out, changed)
		if err != nil {
			c.endStream(out, err)
			return
		}
	}
}

// listenOnce returns nil when the subscriptions have changed.
func (c *call) listenOnce(ctx context.Context, s *clientSession, out *eventStream, changed <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	filter := mcp.Object{}
	for _, member := range []string{"toolsListChanged", "promptsListChanged", "resourcesListChanged"} {
		filter = filter.Set(member, jsontext.Value("true"))
	}
	if uris := s.watchedURIs(); len(uris) > 0 {
		filter = filter.Set("resourceSubscriptions", quoteAll(uris))
	}
	id := jsontext.Value(`"` + rand.Text() + `"`)
	resp, err := c.send(ctx, c.modernRequest(id, "subscriptions/listen", mcp.Object{{Name: "notifications", Value: filter.JSON()}}, ""))
	if err == nil {
		err = c.passNotifications(resp, out)
	}
	select {
	case <-changed:
		return nil
	default:
		return err
	}
}

var errNoStream = errors.New("the upstream ended the stream of notifications")

func (c *call) passNotifications(resp *http.Response, out *eventStream) error {
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return statusError(resp.StatusCode)
	}
	in := mcp.NewEventReader(resp.Body, maxEvent)
	for {
		e, err := in.Next()
		if err != nil {
			return err
		}
		m, err := mcp.Parse(e.Data)
		switch {
		case err != nil:
			return err
		case m.Kind == mcp.Response:
			return errNoStream
		case m.Kind != mcp.Notification || m.Method == "notifications/subscriptions/acknowledged":
		default:
			if err := out.message(withoutSubscription(m)); err != nil {
				return err
			}
		}
	}
}

func withoutSubscription(m *mcp.Message) []byte {
	params, err := mcp.ParseObject(m.Params)
	if err != nil {
		return mcp.RequestBody(nil, m.Method, nil)
	}
	if meta, err := mcp.ParseObject(m.Meta.Raw); err == nil {
		if meta = meta.Set(mcp.MetaSubscription, nil); len(meta) == 0 {
			params = params.Set("_meta", nil)
		} else {
			params = params.Set("_meta", meta.JSON())
		}
	}
	return mcp.RequestBody(nil, m.Method, params.JSON())
}
