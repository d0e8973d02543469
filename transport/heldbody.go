package transport

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// heldBody keeps http3.Transport from closing the body of a request that it could not send, so that it can be sent another way.
type heldBody struct {
	body io.ReadCloser // nil if the request has none

	mu       sync.Mutex // protects the following
	read     bool
	closed   bool
	released bool
	taken    bool
}

// errBodyTaken stops an earlier attempt that is still about to send the body.
var errBodyTaken = errors.New("the request is being sent another way")

func holdBody(r *http.Request) *heldBody {
	if r.Body == nil || r.Body == http.NoBody {
		return &heldBody{}
	}
	return &heldBody{body: r.Body}
}

// attach returns r with the held body in place of its own.
func (h *heldBody) attach(r *http.Request) *http.Request {
	if h.body == nil {
		return r
	}
	held := *r
	held.Body = h
	return &held
}

// Read implements io.Reader.
func (h *heldBody) Read(p []byte) (int, error) {
	h.mu.Lock()
	h.read = true
	taken := h.taken
	h.mu.Unlock()
	if taken {
		return 0, errBodyTaken
	}
	return h.body.Read(p)
}

// Close closes the body, once it is released.
func (h *heldBody) Close() error {
	h.mu.Lock()
	h.closed = true
	released := h.released
	h.mu.Unlock()
	if !released {
		return nil
	}
	return h.body.Close()
}

// release lets Close have its effect, also if it was called already.
func (h *heldBody) release() {
	if h.body == nil {
		return
	}
	h.mu.Lock()
	h.released = true
	closed := h.closed
	h.mu.Unlock()
	if closed {
		_ = h.body.Close()
	}
}

// takeBack returns r fit to be sent, provided that it has not been sent: a server may have taken part of the body before it
// said that it will not handle the request.
func (h *heldBody) takeBack(r *http.Request) (*http.Request, error) {
	h.mu.Lock()
	read := h.read
	h.taken = true
	h.mu.Unlock()
	if h.body == nil || !read {
		return r, nil
	}
	_ = h.body.Close()
	if r.GetBody == nil {
		return nil, errors.New("the request was not handled, but its body cannot be sent again")
	}
	fresh, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	again := *r
	again.Body = fresh
	return &again, nil
}
