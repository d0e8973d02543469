package gateway

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"sallyport/node/mcp"
)

// relay passes the answer to a bridged request on, translated. reply makes the client's response of the upstream's; other makes what the client
// sees of any other message, nil for nothing.
type relay struct {
	id    jsontext.Value // of the request as the upstream saw it
	reply func(*mcp.Message) (status int, body []byte, err error)
	other func(*mcp.Message, []byte) []byte
}

func (c *call) relay(resp *http.Response, r relay) {
	defer discard(resp)
	if err := checkAnswer(resp); err != nil {
		c.failUpstream(err)
		return
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch media {
	case "application/json":
		c.relayJSON(resp, r)
	case "text/event-stream":
		c.relayEvents(resp, r)
	default:
		c.failUpstream(fmt.Errorf("it answered with status %d and neither JSON nor an event stream", resp.StatusCode))
	}
}

func (c *call) relayJSON(resp *http.Response, r relay) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRewritten+1))
	if err == nil && len(body) > maxRewritten {
		err = fmt.Errorf("its answer has more than %d bytes", maxRewritten)
	}
	var m *mcp.Message
	if err == nil {
		m, err = parseReply(body, r.id)
	}
	if err != nil {
		c.failUpstream(err)
		return
	}
	status, out, err := r.reply(m)
	if err != nil {
		c.failUpstream(err)
		return
	}
	c.writeJSON(status, out)
}

// relayEvents opens the client's stream with the first message before the answer. An answer that comes first is sent as JSON, under the status
// that the era asks for.
func (c *call) relayEvents(resp *http.Response, r relay) {
	in := mcp.NewEventReader(resp.Body, maxEvent)
	var s *eventStream
	defer func() {
		if s != nil {
			s.close()
		}
	}()
	fail := func(err error) {
		if s == nil {
			c.failUpstream(err)
			return
		}
		c.endStream(s, err)
	}
	for {
		e, err := in.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the stream ended without an answer")
			}
			fail(err)
			return
		}
		if len(e.Data) == 0 {
			continue
		}
		m, err := mcp.Parse(e.Data)
		if err != nil {
			fail(fmt.Errorf("it sent an event that is no message: %w", err))
			return
		}
		if m.Kind != mcp.Response {
			if out := r.other(m, e.Data); out != nil {
				if s == nil {
					s = c.openEventStream()
				}
				if s.message(out) != nil {
					return
				}
			}
			continue
		}
		if m, err = parseReply(e.Data, r.id); err != nil {
			fail(err)
			return
		}
		status, out, err := r.reply(m)
		switch {
		case err != nil:
			fail(err)
		case s == nil:
			c.writeJSON(status, out)
		default:
			_ = s.message(out)
		}
		return
	}
}
