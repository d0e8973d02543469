package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sallyport/node/identity"
	"sallyport/node/mcp"
)

// sessionPool keeps sessions at upstreams of the legacy era, one for each agent, upstream and credential.
type sessionPool struct {
	g  *Gateway
	mu sync.Mutex // protects the following
	m  map[sessionKey]*poolEntry
}

type sessionKey struct {
	upstream   upstreamKey
	credential string
	agent      string
}

// poolEntry is a session, or one that is being opened: calls that come meanwhile wait for it.
type poolEntry struct {
	ready chan struct{}
	s     *upstreamSession
	err   error
}

const (
	sessionIdle = 10 * time.Minute
	maxSessions = 10_000
)

var errTooManySessions = errors.New("this node has too many sessions open at upstreams")

func newSessionPool(g *Gateway) *sessionPool {
	return &sessionPool{g: g, m: map[sessionKey]*poolEntry{}}
}

// get returns the session for a call, opening it if need be.
func (p *sessionPool) get(c *call) (*upstreamSession, error) {
	key := sessionKey{keyOf(c.upstream), c.credential.ID, c.caller.Agent.Name}
	for {
		p.mu.Lock()
		e, ok := p.m[key]
		if !ok {
			if len(p.m) >= maxSessions {
				p.mu.Unlock()
				return nil, errTooManySessions
			}
			e = &poolEntry{ready: make(chan struct{})}
			p.m[key] = e
			p.mu.Unlock()
			return p.open(c, key, e)
		}
		p.mu.Unlock()
		select {
		case <-e.ready:
		case <-c.ctx.Done():
			return nil, context.Cause(c.ctx)
		}
		if e.err == nil {
			e.s.used.Store(time.Now().UnixNano())
			return e.s, nil
		}
		if !endedByCaller(e.err) {
			return nil, e.err
		}
	}
}

// endedByCaller tells failures that say nothing about the upstream: another caller can try in its own name.
func endedByCaller(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, identity.ErrRevoked) || errors.Is(err, identity.ErrExpired)
}

func (p *sessionPool) open(c *call, key sessionKey, e *poolEntry) (*upstreamSession, error) {
	s, err := c.openUpstreamSession(key)
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.s, e.err = s, err; err != nil {
		delete(p.m, key)
	}
	close(e.ready)
	return s, err
}

// drop forgets a session that the upstream has ended.
func (p *sessionPool) drop(s *upstreamSession) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.m[s.key]; ok && e.s == s {
		delete(p.m, s.key)
	}
}

// sweep forgets sessions that nobody has used for a while. Upstreams end them by their own idle time: to end them here would need a
// credential in nobody's name.
func (p *sessionPool) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, e := range p.m {
		select {
		case <-e.ready:
			if e.s != nil && !e.s.listening() && now.Sub(time.Unix(0, e.s.used.Load())) > sessionIdle {
				delete(p.m, key)
			}
		default:
		}
	}
}

func (p *sessionPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.m)
}

// upstreamSession is one session at an upstream.
type upstreamSession struct {
	key     sessionKey
	id      string // Mcp-Session-Id, empty if the upstream has none
	version string
	init    mcp.Object // InitializeResult
	nextID  atomic.Int64
	used    atomic.Int64 // Unix nanoseconds

	mu        sync.Mutex // protects the following
	level     string
	reading   bool // the GET stream is being read
	listeners map[*listener]struct{}
	watched   map[string]int // resource URIs, with how many listeners want them
}

func (c *call) openUpstreamSession(key sessionKey) (*upstreamSession, error) {
	s := &upstreamSession{key: key, listeners: map[*listener]struct{}{}, watched: map[string]int{}}
	s.used.Store(time.Now().UnixNano())
	id := s.newID()
	params := mcp.Object{
		{Name: "protocolVersion", Value: mcp.Quote(mcp.LatestLegacy)},
		{Name: "capabilities", Value: jsontext.Value("{}")},
		{Name: "clientInfo", Value: c.clientInfo()},
	}
	resp, err := c.send(c.ctx, outgoing{http.MethodPost, jsonHeader(), mcp.RequestBody(id, "initialize", params.JSON())})
	if err != nil {
		return nil, err
	}
	defer discard(resp)
	if err := checkAnswer(resp); err != nil {
		return nil, err
	}
	m, err := c.readReply(resp, id)
	if err != nil {
		return nil, err
	}
	if m.Error != nil {
		return nil, fmt.Errorf("it refuses to initialize a session (code %s)", errorCode(m.Error))
	}
	if s.init, err = mcp.ParseObject(m.Result); err != nil {
		return nil, fmt.Errorf("%w: %w", mcp.ErrReply, err)
	}
	if s.version, _ = s.init.Text("protocolVersion"); !mcp.IsLegacy(s.version) {
		c.eras.forget(c.upstream)
		return nil, errors.New("it speaks no protocol version that this gateway knows")
	}
	if s.id = resp.Header.Get(mcp.HeaderSession); len(s.id) > maxUpstreamSession {
		return nil, errLongSession
	}
	return s, s.initialized(c)
}

func (s *upstreamSession) initialized(c *call) error {
	resp, err := c.send(c.ctx, s.request(mcp.RequestBody(nil, "notifications/initialized", nil)))
	if err != nil {
		return err
	}
	defer discard(resp)
	return checkAnswer(resp)
}

func (s *upstreamSession) newID() jsontext.Value {
	return jsontext.Value(strconv.FormatInt(s.nextID.Add(1), 10))
}

// request makes a POST in the session.
func (s *upstreamSession) request(body []byte) outgoing {
	return outgoing{http.MethodPost, s.header(jsonHeader()), body}
}

func (s *upstreamSession) header(h http.Header) http.Header {
	if s.id != "" {
		h.Set(mcp.HeaderSession, s.id)
	}
	h.Set(mcp.HeaderVersion, s.version)
	return h
}

func (s *upstreamSession) capability(name string) mcp.Object {
	caps, err := mcp.ParseObject(s.init.Get("capabilities"))
	if err != nil || caps.Get(name) == nil {
		return nil
	}
	o, err := mcp.ParseObject(caps.Get(name))
	if err != nil {
		return nil
	}
	if o == nil {
		o = mcp.Object{}
	}
	return o
}

// setLevel asks the upstream for log messages down to a level. The session is shared by the agent's calls, so the level only ever falls; each
// call is shown what it asked for.
func (s *upstreamSession) setLevel(c *call, level string) error {
	if level == "" || s.capability("logging") == nil {
		return nil
	}
	s.mu.Lock()
	enough := s.level != "" && atLeast(level, s.level)
	s.mu.Unlock()
	if enough {
		return nil
	}
	id := s.newID()
	params := mcp.Object{{Name: "level", Value: mcp.Quote(level)}}
	resp, err := c.send(c.ctx, s.request(mcp.RequestBody(id, "logging/setLevel", params.JSON())))
	if err != nil {
		return err
	}
	defer discard(resp)
	if m, err := c.readReply(resp, id); err == nil && m.Error == nil {
		s.mu.Lock()
		s.level = level
		s.mu.Unlock()
	}
	return nil
}

// discover makes the result of server/discover of what initialize told.
func (s *upstreamSession) discover() jsontext.Value {
	caps := jsontext.Value("{}")
	if raw := s.init.Get("capabilities"); raw != nil {
		if o, err := mcp.ParseObject(raw); err == nil {
			caps = o.Set("tasks", nil).JSON()
		}
	}
	out := mcp.Object{
		{Name: "resultType", Value: jsontext.Value(`"complete"`)},
		{Name: "supportedVersions", Value: quoteAll(mcp.Versions())},
		{Name: "capabilities", Value: caps},
	}
	if v := s.init.Get("instructions"); v != nil {
		out = append(out, mcp.Member{Name: "instructions", Value: v})
	}
	out = append(out, mcp.Member{Name: "ttlMs", Value: jsontext.Value("0")}, mcp.Member{Name: "cacheScope", Value: jsontext.Value(`"private"`)})
	if v := s.init.Get("serverInfo"); v != nil {
		out = append(out, mcp.Member{Name: "_meta", Value: mcp.Object{{Name: mcp.MetaServerInfo, Value: v}}.JSON()})
	}
	return out.JSON()
}
