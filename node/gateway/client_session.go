package gateway

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// clientSessions keeps what legacy clients of stateless upstreams have set in their sessions. The sealed session id is what makes a session
// valid; what is kept here is lost with the node, and a session that comes back begins with nothing set.
type clientSessions struct {
	mu    sync.Mutex // protects the following
	open  map[string]*clientSession
	ended map[string]time.Time // until when an ended session's id could come back
}

const maxClientSessions = 100_000

func newClientSessions() *clientSessions {
	return &clientSessions{open: map[string]*clientSession{}, ended: map[string]time.Time{}}
}

// get finds a session, or begins it. ok is false if the client has ended it.
func (k *clientSessions) get(id string) (_ *clientSession, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, gone := k.ended[id]; gone {
		return nil, false
	}
	s, ok := k.open[id]
	if !ok {
		if len(k.open) >= maxClientSessions {
			return nil, false
		}
		s = &clientSession{running: map[string]context.CancelCauseFunc{}, changed: make(chan struct{})}
		k.open[id] = s
	}
	s.used = time.Now()
	return s, true
}

func (k *clientSessions) end(id string) {
	k.mu.Lock()
	s := k.open[id]
	delete(k.open, id)
	k.ended[id] = time.Now().Add(sessionLifetime)
	k.mu.Unlock()
	if s != nil {
		s.cancelAll()
	}
}

// sweep forgets what cannot matter any more.
func (k *clientSessions) sweep(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, until := range k.ended {
		if now.After(until) {
			delete(k.ended, id)
		}
	}
	for id, s := range k.open {
		if now.Sub(s.used) > sessionLifetime {
			delete(k.open, id)
		}
	}
}

// clientSession is what one client has set, and what it has under way.
type clientSession struct {
	used time.Time // guarded by clientSessions.mu

	mu      sync.Mutex // protects the following
	level   string
	uris    []string
	running map[string]context.CancelCauseFunc
	changed chan struct{} // closed and replaced when uris change
}

const (
	maxWatchedURIs = 1024
	maxRunning     = 1024
)

var errCancelledByClient = errors.New("cancelled by the client")

func (s *clientSession) setLevel(level string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.level = level
}

func (s *clientSession) logLevel() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.level
}

// watch adds or removes a resource; it returns false if there are too many.
func (s *clientSession) watch(uri string, on bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.uris, uri)
	switch {
	case on == (i >= 0):
		return true
	case on && len(s.uris) >= maxWatchedURIs:
		return false
	case on:
		s.uris = append(s.uris, uri)
	default:
		s.uris = slices.Delete(s.uris, i, i+1)
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return true
}

func (s *clientSession) watchedURIs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.uris)
}

func (s *clientSession) changes() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// begin notes a request that can be cancelled by its id; it returns false if the id is taken or there are too many.
func (s *clientSession) begin(id jsontext.Value, cancel context.CancelCauseFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.running[string(id)]; taken || len(s.running) >= maxRunning {
		return false
	}
	s.running[string(id)] = cancel
	return true
}

func (s *clientSession) done(id jsontext.Value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, string(id))
}

func (s *clientSession) cancel(id jsontext.Value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel, ok := s.running[string(id)]; ok {
		cancel(errCancelledByClient)
	}
}

func (s *clientSession) cancelAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cancel := range s.running {
		cancel(errCancelledByClient)
	}
}
