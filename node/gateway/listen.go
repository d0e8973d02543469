package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sallyport/node/mcp"
	"sallyport/node/upstream"
)

// listener is one subscriptions/listen of a modern client on a session that all calls of its agent share.
type listener struct {
	call   *call
	cred   upstream.Credential
	wants  map[string]bool // notification methods
	uris   map[string]bool
	queue  chan []byte
	ctx    context.Context
	cancel context.CancelCauseFunc
}

const listenerQueue = 64

var (
	errCredentialReplaced = errors.New("its credential was replaced")
	errTooSlow            = errors.New("the notifications come faster than they are read")
)

func (s *upstreamSession) listening() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.listeners) > 0
}

// listen serves subscriptions/listen from the session's GET stream.
func (s *upstreamSession) listen(c *call) {
	l := &listener{call: c, cred: c.credential, wants: map[string]bool{}, uris: map[string]bool{}, queue: make(chan []byte, listenerQueue)}
	l.ctx, l.cancel = context.WithCancelCause(c.drained())
	defer l.cancel(nil)
	honored := l.choose(s, c.msg)
	if err := s.join(l); err != nil {
		c.failUpstream(err)
		return
	}
	defer s.leave(l)
	out := c.openEventStream()
	defer out.close()
	ack := mcp.Object{{Name: "notifications", Value: honored.JSON()}}
	if out.message(c.subscribed("notifications/subscriptions/acknowledged", ack)) != nil {
		return
	}
	for {
		select {
		case body := <-l.queue:
			if out.message(body) != nil {
				return
			}
		case <-l.ctx.Done():
			c.endStream(out, context.Cause(l.ctx))
			return
		}
	}
}

// choose takes of the client's filter what the upstream can deliver, and returns it for the acknowledgement.
func (l *listener) choose(s *upstreamSession, m *mcp.Message) mcp.Object {
	asked, err := mcp.ParseObject(m.Filter)
	if err != nil {
		return mcp.Object{}
	}
	honored := mcp.Object{}
	for _, kind := range []struct{ member, capability, method string }{
		{"toolsListChanged", "tools", "notifications/tools/list_changed"},
		{"promptsListChanged", "prompts", "notifications/prompts/list_changed"},
		{"resourcesListChanged", "resources", "notifications/resources/list_changed"},
	} {
		if string(asked.Get(kind.member)) == "true" && string(s.capability(kind.capability).Get("listChanged")) == "true" {
			l.wants[kind.method] = true
			honored = honored.Set(kind.member, jsontext.Value("true"))
		}
	}
	if string(s.capability("resources").Get("subscribe")) == "true" {
		uris := m.Subscriptions
		for _, uri := range uris {
			l.uris[uri] = true
		}
		if len(uris) > 0 {
			honored = honored.Set("resourceSubscriptions", quoteAll(uris))
		}
	}
	return honored
}

// subscribed makes a notification that carries the id of the client's subscription.
func (c *call) subscribed(method string, params mcp.Object) []byte {
	meta := mcp.Object{}
	if raw := params.Get("_meta"); raw != nil {
		if o, err := mcp.ParseObject(raw); err == nil {
			meta = o
		}
	}
	meta = meta.Set(mcp.MetaSubscription, c.msg.ID)
	return mcp.RequestBody(nil, method, params.Set("_meta", meta.JSON()).JSON())
}

// join adds a listener and starts the reading of the session's stream, if nobody does.
func (s *upstreamSession) join(l *listener) error {
	s.mu.Lock()
	start := !s.reading
	s.reading = true
	s.listeners[l] = struct{}{}
	var fresh []string
	for uri := range l.uris {
		if s.watched[uri]++; s.watched[uri] == 1 {
			fresh = append(fresh, uri)
		}
	}
	s.mu.Unlock()
	if start {
		go s.read()
	}
	for _, uri := range fresh {
		if err := s.subscribe(l.call, l.ctx, "resources/subscribe", uri); err != nil {
			s.leave(l)
			return err
		}
	}
	return nil
}

func (s *upstreamSession) leave(l *listener) {
	s.mu.Lock()
	_, joined := s.listeners[l]
	delete(s.listeners, l)
	var unused []string
	for uri := range l.uris {
		if joined {
			if s.watched[uri]--; s.watched[uri] == 0 {
				delete(s.watched, uri)
				unused = append(unused, uri)
			}
		}
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.call.ctx), 5*time.Second)
	defer cancel()
	for _, uri := range unused {
		if err := s.subscribe(l.call, ctx, "resources/unsubscribe", uri); err != nil {
			return
		}
	}
}

func (s *upstreamSession) subscribe(c *call, ctx context.Context, method, uri string) error {
	id := s.newID()
	params := mcp.Object{{Name: "uri", Value: mcp.Quote(uri)}}
	resp, err := c.sendOnce(ctx, s.request(mcp.RequestBody(id, method, params.JSON())), c.credential)
	if err != nil {
		return err
	}
	defer discard(resp)
	return checkAnswer(resp)
}

// read keeps the session's GET stream open, in the name of one listener after the other, while there are any.
func (s *upstreamSession) read() {
	const pause = time.Second
	for {
		l := s.nextReader()
		if l == nil {
			return
		}
		again := s.readOnce(l)
		select {
		case <-time.After(pause):
		case <-l.ctx.Done():
		}
		if !again {
			<-l.ctx.Done()
		}
	}
}

// nextReader chooses in whose name the stream is read; without anybody the reading ends.
func (s *upstreamSession) nextReader() *listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		if l.ctx.Err() == nil {
			return l
		}
	}
	s.reading = false
	return nil
}

// readOnce reads the stream until it breaks; it returns false if the upstream has none.
func (s *upstreamSession) readOnce(l *listener) (again bool) {
	h := s.header(http.Header{"Accept": {"text/event-stream"}})
	resp, err := l.call.sendOnce(l.ctx, outgoing{http.MethodGet, h, nil}, l.cred)
	if err != nil {
		return true
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusMethodNotAllowed:
		return false
	case http.StatusUnauthorized:
		// The credential that the listener began with has been replaced: its client listens again, with the new one.
		l.cancel(errCredentialReplaced)
		return true
	default:
		return true
	}
	in := mcp.NewEventReader(resp.Body, maxEvent)
	for {
		e, err := in.Next()
		if err != nil {
			return true
		}
		m, err := mcp.Parse(e.Data)
		switch {
		case err != nil:
		case m.Kind == mcp.Request:
			s.answer(l.call, l.cred, m)
		case m.Kind == mcp.Notification:
			s.dispatch(m)
		}
	}
}

// dispatch hands a notification to those who want it. One who does not keep up is ended, rather than left with gaps.
func (s *upstreamSession) dispatch(m *mcp.Message) {
	params, err := mcp.ParseObject(m.Params)
	if err != nil {
		params = mcp.Object{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		if !l.wants[m.Method] && (m.Method != "notifications/resources/updated" || !l.uris[m.URI]) {
			continue
		}
		own := append(mcp.Object{}, params...)
		select {
		case l.queue <- l.call.subscribed(m.Method, own):
		default:
			l.cancel(errTooSlow)
		}
	}
}
