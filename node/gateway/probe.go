package gateway

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sallyport/node/mcp"
	"sallyport/raftfsm"
)

// eras remembers which eras the upstreams speak.
type eras struct {
	mu    sync.Mutex // protects the following
	known map[upstreamKey]speaks
}

// upstreamKey names one configuration of an upstream.
type upstreamKey struct {
	name  string
	index uint64
}

func keyOf(u *raftfsm.Upstream) upstreamKey { return upstreamKey{u.Name, u.ModifyIndex} }

type speaks struct {
	modern, legacy bool
	until          time.Time
}

const (
	eraTTL       = 10 * time.Minute
	maxUpstreams = 4096
)

func newEras() *eras { return &eras{known: map[upstreamKey]speaks{}} }

// of tells which eras the upstream of a call speaks, asking it if that is not known.
func (e *eras) of(c *call) (speaks, error) {
	key := keyOf(c.upstream)
	e.mu.Lock()
	s, ok := e.known[key]
	e.mu.Unlock()
	if ok && time.Now().Before(s.until) {
		return s, nil
	}
	s, err := c.probe()
	if err != nil {
		return speaks{}, err
	}
	s.until = time.Now().Add(eraTTL)
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.known) >= maxUpstreams {
		clear(e.known)
	}
	e.known[key] = s
	return s, nil
}

// forget makes the next call ask again, for upstreams that were replaced by another version.
func (e *eras) forget(u *raftfsm.Upstream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.known, keyOf(u))
}

// probe asks by server/discover (2026-07-28, "Fallback detection"): an answer tells the versions, anything but an error of the modern era is
// taken for a server that knows only sessions.
func (c *call) probe() (speaks, error) {
	id := jsontext.Value(`"probe"`)
	resp, err := c.send(c.ctx, c.modernRequest(id, "server/discover", nil, ""))
	if err != nil {
		return speaks{}, err
	}
	defer discard(resp)
	switch s := resp.StatusCode; s {
	case http.StatusOK, http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusUnprocessableEntity:
	default:
		if err := checkAnswer(resp); err != nil {
			return speaks{}, err
		}
		return speaks{}, errNoEra
	}
	m, err := c.readReply(resp, id)
	if err != nil {
		return speaks{legacy: true}, nil
	}
	if m.Error != nil {
		return erasByError(m.Error), nil
	}
	o, err := mcp.ParseObject(m.Result)
	if err != nil {
		return speaks{legacy: true}, nil
	}
	return erasByVersions(o.Get("supportedVersions")), nil
}

var errNoEra = errors.New("it does not tell which protocol version it speaks")

func erasByError(raw jsontext.Value) speaks {
	o, err := mcp.ParseObject(raw)
	if err != nil || string(o.Get("code")) != fmt.Sprint(mcp.CodeUnsupportedVersion) {
		return speaks{legacy: true}
	}
	data, err := mcp.ParseObject(o.Get("data"))
	if err != nil {
		return speaks{legacy: true}
	}
	return erasByVersions(data.Get("supported"))
}

func erasByVersions(raw jsontext.Value) (s speaks) {
	items, err := mcp.ParseArray(raw)
	if err != nil {
		return speaks{legacy: true}
	}
	for _, item := range items {
		v, _ := mcp.Object{{Name: "v", Value: item}}.Text("v")
		s.modern = s.modern || mcp.IsModern(v)
		s.legacy = s.legacy || mcp.IsLegacy(v)
	}
	if !s.modern && !s.legacy {
		s.legacy = true
	}
	return s
}

// readReply reads the whole answer to a request of the gateway's own, JSON or an event stream.
func (c *call) readReply(resp *http.Response, id jsontext.Value) (*mcp.Message, error) {
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch media {
	case "application/json":
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxRewritten+1))
		if err != nil || len(body) > maxRewritten {
			return nil, fmt.Errorf("%w: it is too large or broke off", mcp.ErrReply)
		}
		return parseReply(body, id)
	case "text/event-stream":
		in := mcp.NewEventReader(resp.Body, maxEvent)
		for {
			e, err := in.Next()
			if err != nil {
				return nil, fmt.Errorf("%w: the stream ended without it: %w", mcp.ErrReply, err)
			}
			if m, err := mcp.Parse(e.Data); err == nil && m.Kind == mcp.Response {
				return parseReply(e.Data, id)
			}
		}
	}
	return nil, fmt.Errorf("%w: it is neither JSON nor an event stream", mcp.ErrReply)
}

func parseReply(body []byte, id jsontext.Value) (*mcp.Message, error) {
	m, err := mcp.Parse(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mcp.ErrReply, err)
	}
	if m.Kind != mcp.Response || !mcp.SameID(m.ID, id) && (m.Error == nil || string(m.ID) != "null") {
		return nil, fmt.Errorf("%w: it carries another id", mcp.ErrReply)
	}
	return m, nil
}

// modernRequest makes a request of the modern era. Params may be nil.
func (c *call) modernRequest(id jsontext.Value, method string, params mcp.Object, logLevel string) outgoing {
	meta := mcp.Object{}
	if raw := params.Get("_meta"); raw != nil {
		if o, err := mcp.ParseObject(raw); err == nil {
			meta = o
		}
	}
	meta = meta.Set(mcp.MetaProtocolVersion, mcp.Quote(mcp.LatestModern)).
		Set(mcp.MetaClientInfo, c.clientInfo()).
		Set(mcp.MetaClientCaps, jsontext.Value("{}"))
	if logLevel != "" {
		meta = meta.Set(mcp.MetaLogLevel, mcp.Quote(logLevel))
	}
	params = params.Set("_meta", meta.JSON())
	body := mcp.RequestBody(id, method, params.JSON())
	h := jsonHeader()
	h.Set(mcp.HeaderVersion, mcp.LatestModern)
	h.Set(mcp.HeaderMethod, method)
	if m, err := mcp.Parse(body); err == nil {
		if name, named := m.NamedBy(); named {
			h.Set(mcp.HeaderName, mcp.EncodeHeaderValue(name))
		}
	}
	return outgoing{method: http.MethodPost, header: h, body: body}
}

func (c *call) clientInfo() jsontext.Value {
	return mcp.Object{{Name: "name", Value: mcp.Quote("sallyport")}, {Name: "version", Value: mcp.Quote(c.Version)}}.JSON()
}

func jsonHeader() http.Header {
	return http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
}
