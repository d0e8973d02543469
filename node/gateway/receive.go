package gateway

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"sallyport/node/identity"
	"sallyport/node/mcp"
)

const (
	maxBody         = 4 << 20
	bodyReadTimeout = 30 * time.Second
)

// receive checks what can be checked without knowing the caller.
func (c *call) receive() bool {
	if !c.AllowedHost(c.r.Host) {
		return c.refuse(http.StatusMisdirectedRequest, "unknown_host", "this gateway is not known by the host name in the request: use its address or advertised name")
	}
	if origin := c.r.Header.Get("Origin"); origin != "" && !c.allowedOrigin(origin) {
		return c.refuse(http.StatusForbidden, "forbidden_origin", "pages of this origin may not call the gateway")
	}
	switch c.r.Method {
	case http.MethodPost:
		return c.checkContent()
	case http.MethodGet:
		if !accepts(c.r.Header, "text/event-stream") {
			return c.refuse(http.StatusNotAcceptable, "not_acceptable", "a GET opens a stream: send `Accept: text/event-stream`")
		}
		return true
	case http.MethodDelete:
		return true
	}
	c.w.Header().Set("Allow", "POST, GET, DELETE")
	return c.refuse(http.StatusMethodNotAllowed, "method_not_allowed", "MCP uses POST, and GET and DELETE for sessions")
}

func (c *call) checkContent() bool {
	media, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return c.refuse(http.StatusUnsupportedMediaType, "unsupported_media_type", "send the message as `Content-Type: application/json`")
	}
	if c.r.Header.Get("Content-Encoding") != "" {
		return c.refuse(http.StatusUnsupportedMediaType, "unsupported_encoding", "send the message without Content-Encoding")
	}
	if !accepts(c.r.Header, "application/json") || !accepts(c.r.Header, "text/event-stream") {
		return c.refuse(http.StatusNotAcceptable, "not_acceptable", "send `Accept: application/json, text/event-stream`")
	}
	return true
}

// readBody reads the message of a caller who is known: strangers get no memory. The whole body is read before anything is sent on, since the
// envelope needs it, and since a proxy that streams it loses answers (golang/go issue 40747).
func (c *call) readBody() bool {
	if c.r.Method != http.MethodPost {
		return true
	}
	// Not every connection has deadlines; those that have none are bounded by the idle timeout of the listener.
	rc := http.NewResponseController(c.w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyReadTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	_ = rc.SetReadDeadline(time.Time{})
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return c.refuse(http.StatusRequestEntityTooLarge, "too_large", "the message has more than 4 MiB")
	case err != nil:
		return c.refuse(http.StatusBadRequest, "unreadable", "the body ended before it was complete")
	}
	c.body = body
	return true
}

// accepts reads Accept as far as MCP needs it: is the type named, or covered by a wildcard?
func accepts(h http.Header, want string) bool {
	kind, _, _ := strings.Cut(want, "/")
	for _, line := range h["Accept"] {
		for item := range strings.SplitSeq(line, ",") {
			media, _, _ := strings.Cut(item, ";")
			switch strings.ToLower(strings.TrimSpace(media)) {
			case want, "*/*", kind + "/*":
				return true
			}
		}
	}
	return false
}

// authenticate finds the caller.
func (c *call) authenticate() bool {
	caller, err := c.Authenticator.Authenticate(c.r.Header)
	if err != nil {
		return c.unauthorized(err)
	}
	c.caller = caller
	return true
}

func (c *call) unauthorized(err error) bool {
	challenge := `Bearer error="invalid_token"`
	if errors.Is(err, identity.ErrNoToken) {
		challenge = "Bearer"
	}
	c.w.Header().Set("WWW-Authenticate", challenge)
	return c.refuse(http.StatusUnauthorized, "unauthorized", err.Error())
}

// findUpstream looks up what the path names.
func (c *call) findUpstream() bool {
	u, ok := c.State.Read().Upstream(c.r.PathValue("upstream"))
	if !ok {
		return c.refuse(http.StatusNotFound, "no_such_upstream", "no upstream of that name is configured: see `sallyport get upstreams`")
	}
	c.upstream = u
	return true
}

// parse reads the envelope of the body.
func (c *call) parse() bool {
	if c.r.Method != http.MethodPost {
		return true
	}
	m, err := mcp.Parse(c.body)
	if err != nil {
		var se *mcp.SyntaxError
		if !errors.As(err, &se) {
			se = &mcp.SyntaxError{Code: mcp.CodeParse, Text: err.Error()}
		}
		c.note("refused", "", se.Text)
		c.writeJSON(http.StatusBadRequest, mcp.ErrorBody(nil, se.Code, se.Text, nil))
		return false
	}
	c.msg = m
	return true
}
