package gateway

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"sallyport/crypto"
	"sallyport/node/mcp"
)

// What upstreams hand out to callers (session ids, request states, cursors) goes out sealed to the caller and the upstream, so that
// nobody else can use it and any node can read it.

const (
	maxUpstreamSession = 1 << 10
	maxSealedText      = 512 << 10
	sessionLifetime    = 24 * time.Hour
	stateLifetime      = time.Hour
)

var (
	errSealed      = errors.New("it was not handed out by this gateway to this agent for this upstream, or too long ago")
	errLongSession = fmt.Errorf("the upstream's session id has more than %d bytes", maxUpstreamSession)
)

// session is a legacy client's session, as it travels sealed in Mcp-Session-Id.
type session struct {
	// Upstream is the upstream's own session id, empty if it has none.
	Upstream string `json:"u,omitempty"`
	// Bridge names the session that this gateway keeps for a client of an upstream without sessions.
	Bridge  string `json:"b,omitempty"`
	Version string `json:"v"`
	// Index is the log index when the session began: a later revocation of the agent ends it.
	Index   uint64 `json:"i"`
	Expires int64  `json:"e"` // Unix seconds
}

func (s *session) bridged() bool { return s != nil && s.Bridge != "" }

// binding ties what is sealed to its kind, the caller and the upstream, by name and address: another server under the same name gets nothing of
// the old one's. Names hold no space.
func (c *call) binding(kind, detail string) crypto.Binding {
	return crypto.Binding{Kind: kind, ID: strings.Join([]string{c.caller.Agent.Name, c.upstream.Name, c.upstream.URL, detail}, " ")}
}

func (c *call) seal(kind, detail string, plain []byte) (string, error) {
	sealed, err := c.Sealer.Seal(crypto.NewSecret(plain), c.binding(kind, detail))
	if err != nil {
		return "", fmt.Errorf("seal a %s: %w", kind, err)
	}
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

func (c *call) unseal(kind, detail, text string) ([]byte, error) {
	if len(text) > maxSealedText {
		return nil, errSealed
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errSealed
	}
	plain, err := c.Sealer.Open(sealed, c.binding(kind, detail))
	if err != nil {
		return nil, errSealed
	}
	return plain.Expose(), nil
}

// sealSession makes the session id that the client gets.
func (c *call) sealSession(s session) (string, error) {
	if len(s.Upstream) > maxUpstreamSession {
		return "", errLongSession
	}
	s.Index, s.Expires = c.State.Read().Index(), time.Now().Add(sessionLifetime).Unix()
	plain, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("seal a session: %w", err)
	}
	return c.seal("session", "", plain)
}

// openSession reads the session id of a legacy client. Whatever is wrong with it, the answer is 404, upon which clients begin a new
// session.
func (c *call) openSession() bool {
	if c.modern {
		return true
	}
	values := c.r.Header[mcp.HeaderSession]
	if len(values) == 0 {
		return true // upstreams without sessions hand out none; the others say so themselves
	}
	if c.msg != nil && c.msg.Method == "initialize" {
		return c.reject(http.StatusBadRequest, mcp.CodeInvalidRequest, "initialize begins a session: send it without Mcp-Session-Id")
	}
	s, err := c.readSession(values)
	if err != nil {
		return c.refuse(http.StatusNotFound, "no_such_session", "the session id is not valid: "+err.Error()+": initialize a new session")
	}
	c.session = s
	return true
}

func (c *call) readSession(values []string) (*session, error) {
	if len(values) != 1 {
		return nil, errSealed
	}
	plain, err := c.unseal("session", "", values[0])
	if err != nil {
		return nil, err
	}
	var s session
	if err := json.Unmarshal(plain, &s); err != nil {
		return nil, errSealed
	}
	// An agent that was deleted and made again is another one.
	if agent := c.caller.Agent; time.Now().Unix() >= s.Expires || s.Index < max(agent.RevokedIndex, agent.CreateIndex) {
		return nil, errSealed
	}
	return &s, nil
}

// expiring is a text with the time until which it may come back.
type expiring struct {
	Text    string `json:"t"`
	Expires int64  `json:"e"` // Unix seconds
}

func (c *call) sealState(kind, detail, text string) (string, error) {
	plain, err := json.Marshal(expiring{text, time.Now().Add(stateLifetime).Unix()})
	if err != nil {
		return "", fmt.Errorf("seal a %s: %w", kind, err)
	}
	return c.seal(kind, detail, plain)
}

func (c *call) openState(kind, detail, text string) (string, error) {
	plain, err := c.unseal(kind, detail, text)
	if err != nil {
		return "", err
	}
	var e expiring
	if err := json.Unmarshal(plain, &e); err != nil || time.Now().Unix() >= e.Expires {
		return "", errSealed
	}
	return e.Text, nil
}

// stateDetail binds a request state to the request that it continues.
func (c *call) stateDetail() string { return c.msg.Method + "/" + c.msg.Item() }
