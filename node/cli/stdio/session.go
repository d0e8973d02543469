package stdio

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"sallyport/node/mcp"
)

// deleteTime is for the end of the session on the node.
const deleteTime = 5 * time.Second

// session is the legacy session with the node, on behalf of the one legacy client.
type session struct {
	relay *relay
	ctx   context.Context // of the whole relay, for the GET stream, which no request owns

	// reopening is held while a lost session is replaced, so that the requests that all find it
	// lost replace it once.
	reopening sync.Mutex

	mu          sync.Mutex // protects the following
	state       sessionState
	hello       message // initialize, as the client sent it
	initialized message // notifications/initialized; without kind until it was sent
	stopListen  context.CancelFunc
}

// sessionState is what a request needs to know of the session.
type sessionState struct {
	epoch   int // counts the sessions; 0 before the first
	id      string
	version string // negotiated
}

func (s *session) current() sessionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// stamp adds the headers of the session.
func (s sessionState) stamp(header http.Header) http.Header {
	if s.version != "" {
		header.Set(mcp.HeaderVersion, s.version)
	}
	if s.id != "" {
		header.Set(mcp.HeaderSession, s.id)
	}
	return header
}

// lostBy reports whether resp says that the session is over.
func (s sessionState) lostBy(resp *http.Response) bool {
	return s.id != "" && resp.StatusCode == http.StatusNotFound
}

// legacyCall carries out a request in the session, or opens the session.
func (r *relay) legacyCall(c *call) ([]byte, error) {
	if c.method == "initialize" {
		return r.session.open(c)
	}
	state := r.session.current()
	resp, err := r.nodes.send(c.ctx, http.MethodPost, state.stamp(postHeader()), c.raw)
	if err == nil && state.lostBy(resp) {
		drain(resp)
		// The node refused the request without looking at it, so that it can be repeated.
		if state, err = r.session.reopen(c.ctx, state); err == nil {
			resp, err = r.nodes.send(c.ctx, http.MethodPost, state.stamp(postHeader()), c.raw)
		}
	}
	if err != nil {
		return nil, err
	}
	answer, err := r.follow(c.ctx, state, resp, c.id)
	if err != nil {
		return nil, err
	}
	return answer.withID(c.id), nil
}

// follow passes the messages of an answer on and returns the response to id. A stream that breaks
// is resumed if the server gave a place to resume it from.
func (r *relay) follow(ctx context.Context, state sessionState, resp *http.Response, id []byte) (message, error) {
	var at cursor
	var answer message
	for failures := 1; ; failures++ {
		err := readAnswer(resp, &at, func(m message) bool {
			if m.answers(id) {
				answer = m
				return true
			}
			r.pass(m)
			return false
		})
		url := resp.Request.URL
		go drain(resp)
		if !errors.Is(err, errUnanswered) {
			return answer, err
		}
		if at.moved {
			failures = 1
		}
		if at.lastID == "" || failures > maxResumes || ctx.Err() != nil {
			return message{}, cutShort(url, err)
		}
		if resp, err = r.resume(ctx, state, &at, failures); err != nil {
			return message{}, cutShort(url, err)
		}
	}
}

// cutShort is the failure of a request whose stream ended before the answer, for good.
func cutShort(url fmt.Stringer, err error) *failure {
	return failed(codeBroken, "the stream of %s broke (%v); what was asked may have been done: look before you repeat it", url, err)
}

// pass gives a message to the client that is no answer to it. A response among them belongs to no
// request of the stream it came on.
func (r *relay) pass(m message) {
	if m.kind == response {
		r.log.Warn("dropped: a response to a request that was not asked here")
		return
	}
	r.out.line(m.raw)
}

// open starts the session with the client's initialize request.
func (s *session) open(c *call) ([]byte, error) {
	state, answer, err := s.handshake(c.ctx, c.message)
	if err != nil {
		return nil, err
	}
	if answer.failed == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		state.epoch = s.state.epoch + 1
		s.state, s.hello, s.initialized = state, c.message, message{}
		s.restartListen(nil)
	}
	return answer.withID(c.id), nil
}

// handshake sends hello and reads what the answer says of the session.
func (s *session) handshake(ctx context.Context, hello message) (sessionState, message, error) {
	resp, err := s.relay.nodes.send(ctx, http.MethodPost, postHeader(), hello.raw)
	if err != nil {
		return sessionState{}, message{}, err
	}
	id, url := resp.Header.Get(mcp.HeaderSession), resp.Request.URL
	answer, err := s.relay.follow(ctx, sessionState{id: id}, resp, hello.id)
	if err != nil || answer.failed != nil {
		return sessionState{}, answer, err
	}
	state := sessionState{id: id, version: text(member(answer.result, "protocolVersion"))}
	if !usableHeader(state.version) || id != "" && !usableHeader(id) {
		return sessionState{}, answer, failed(codeBroken, "%s answered initialize with an unusable protocol version or session id", url)
	}
	return state, answer, nil
}

// reopen replaces the lost session by a new one, with the words the client once used, and returns
// it. If that happened meanwhile there is nothing left to do.
func (s *session) reopen(ctx context.Context, lost sessionState) (sessionState, error) {
	s.reopening.Lock()
	defer s.reopening.Unlock()

	s.mu.Lock()
	state, hello, initialized := s.state, s.hello, s.initialized
	s.mu.Unlock()
	if state.epoch != lost.epoch {
		return state, nil
	}
	ctx, cancel := context.WithTimeout(ctx, notifyTime)
	defer cancel()
	state, answer, err := s.handshake(ctx, hello)
	switch {
	case err != nil:
		return sessionState{}, err
	case answer.failed != nil:
		return sessionState{}, failed(codeBroken, "the session is over and the node refused a new one (%s); start the client again", text(member(answer.failed, "message")))
	case state.version != lost.version:
		// The client was told another version and goes on speaking it.
		return sessionState{}, failed(codeBroken, "the session is over and a new one would speak MCP %s instead of %s; start the client again", state.version, lost.version)
	}
	state.epoch = lost.epoch + 1
	if initialized.kind != 0 {
		if err := s.send(ctx, state, initialized); err != nil {
			return sessionState{}, err
		}
	}
	s.relay.log.Warn("the session was over and was replaced; subscriptions to resources and the log level are not carried over")

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.epoch != lost.epoch {
		return s.state, nil // the client itself has begun another session meanwhile
	}
	s.state = state
	if initialized.kind != 0 {
		s.restartListen(s.relay.listen)
	}
	return state, nil
}

// post sends a notification or response of the client.
func (s *session) post(ctx context.Context, m message) error {
	state := s.current()
	err := s.send(ctx, state, m)
	if errors.Is(err, errLost) && m.kind == notification {
		if state, err = s.reopen(ctx, state); err == nil {
			err = s.send(ctx, state, m)
		}
	}
	if err == nil && state.epoch > 0 && m.method == "notifications/initialized" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.initialized = m
		s.restartListen(s.relay.listen)
	}
	return err
}

// errLost is the error of a message to a session that is over.
var errLost = errors.New("the session is over")

func (s *session) send(ctx context.Context, state sessionState, m message) error {
	resp, err := s.relay.nodes.send(ctx, http.MethodPost, state.stamp(postHeader()), m.raw)
	if err != nil {
		return err
	}
	defer drain(resp)
	if state.lostBy(resp) {
		return errLost
	}
	return acceptance(resp)
}

// restartListen ends the GET stream and, with listen, starts it for the current session. s.mu is
// held.
func (s *session) restartListen(listen func(context.Context, sessionState)) {
	if s.stopListen != nil {
		s.stopListen()
	}
	s.stopListen = nil
	if listen != nil {
		var ctx context.Context
		ctx, s.stopListen = context.WithCancel(s.ctx)
		go listen(ctx, s.state)
	}
}

// end tells the node that the session is not needed any more.
func (s *session) end(ctx context.Context) {
	s.mu.Lock()
	state := s.state
	s.restartListen(nil)
	s.mu.Unlock()
	if state.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, deleteTime)
	defer cancel()
	resp, err := s.relay.nodes.send(ctx, http.MethodDelete, state.stamp(http.Header{}), nil)
	if err != nil {
		s.relay.log.Warn("the session could not be ended on the node", "error", err)
		return
	}
	drain(resp)
}
