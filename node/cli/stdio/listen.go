package stdio

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"sallyport/node/mcp"
)

const (
	minBackoff = time.Second
	maxBackoff = 30 * time.Second
	maxResumes = 5 // in a row, of the stream of one request

	// Bounds for what a server asks for.
	minRetry = 100 * time.Millisecond
	maxRetry = 10 * time.Minute
)

// listen keeps the GET stream of a legacy session open, on which the server speaks when it was not
// asked. It is a comfort: when it cannot be had, the session goes on without.
func (r *relay) listen(ctx context.Context, state sessionState) {
	var at cursor
	opened := false
	for failures := 0; ctx.Err() == nil; failures++ {
		if failures > 0 && !pause(ctx, backoff(failures, at.retry)) {
			return
		}
		resp, err := r.get(ctx, state, at.lastID)
		if err != nil {
			r.log.Warn("the stream for messages of the server is down and will be tried again", "error", err)
			continue
		}
		if state.lostBy(resp) && opened {
			drain(resp)
			if _, err := r.session.reopen(ctx, state); err != nil && ctx.Err() == nil {
				r.log.Warn("the session is over", "error", err)
			}
			return // a new session has a stream of its own
		}
		opened = opened || resp.StatusCode == http.StatusOK
		at.moved = false
		err = readAnswer(resp, &at, func(m message) bool {
			r.pass(m)
			return false
		})
		_ = resp.Body.Close()
		switch {
		case resp.StatusCode == http.StatusMethodNotAllowed:
			return // this server has nothing to say
		case errors.Is(err, errUnanswered), transient(resp):
			r.log.Debug("the stream for messages of the server ended and will be opened again", "error", err)
		default:
			r.log.Warn("there is no stream for messages of the server", "error", err)
			return
		}
		if at.moved {
			failures = 0
		}
	}
}

// resume opens the stream of a request again after so many failures in a row.
func (r *relay) resume(ctx context.Context, state sessionState, at *cursor, failures int) (*http.Response, error) {
	for ; ; failures++ {
		if !pause(ctx, backoff(failures, at.retry)) {
			return nil, context.Cause(ctx)
		}
		at.moved = false
		resp, err := r.get(ctx, state, at.lastID)
		if err == nil && resp.StatusCode == http.StatusOK {
			return resp, nil
		}
		again := failures < maxResumes
		if err == nil {
			again = again && transient(resp)
			err = fmt.Errorf("resuming it was answered %s", resp.Status)
			drain(resp)
		}
		if !again {
			return nil, err
		}
		r.log.Warn("a stream broke and cannot be resumed yet", "error", err)
	}
}

// transient reports whether the same request may find a better answer later.
func transient(resp *http.Response) bool {
	return resp.StatusCode/100 == 5 || resp.StatusCode == http.StatusTooManyRequests
}

func (r *relay) get(ctx context.Context, state sessionState, lastID string) (*http.Response, error) {
	header := state.stamp(http.Header{"Accept": {"text/event-stream"}})
	if lastID != "" {
		header.Set(mcp.HeaderLastEvent, lastID)
	}
	return r.nodes.send(ctx, http.MethodGet, header, nil)
}

// backoff is how long to wait after so many failures in a row: first what the server asked for,
// and then double each time, within bounds and never the same for all clients of a node that
// restarts.
func backoff(failures int, asked time.Duration) time.Duration {
	if failures <= 1 && asked > 0 {
		return asked
	}
	wait := min(minBackoff<<min(failures-1, 10), maxBackoff)
	return max(asked, wait/2+rand.N(wait/2+1))
}

// pause reports whether the whole time went by before ctx ended.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
