package stdio

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"sallyport/node/mcp"
)

const (
	maxProblem = 64 << 10 // bytes read of an error body that is no response
	maxDetail  = 500      // runes shown of it

	drainTime   = 2 * time.Second
	problemTime = 10 * time.Second // for an error body to arrive
)

// cursor is where an event stream stands, for its resumption.
type cursor struct {
	lastID string
	retry  time.Duration // asked for by the server; zero if it was not
	moved  bool          // an event came since the stream was opened
}

var errUnanswered = errors.New("the stream ended before the response")

// readAnswer hands the messages of an HTTP answer to each until that returns true, for the
// response. An event stream that ends before gives errUnanswered; everything else that is not an
// answer gives a *failure.
func readAnswer(resp *http.Response, at *cursor, each func(message) bool) error {
	if resp.StatusCode/100 == 2 && mediaType(resp) == "text/event-stream" {
		return readStream(resp, at, each)
	}
	limit := maxMessage
	if mediaType(resp) != "application/json" {
		limit = maxProblem
	}
	good := resp.StatusCode/100 == 2
	if !good {
		// What is missing of an error after that is not worth the wait.
		deadline := time.AfterFunc(problemTime, func() { _ = resp.Body.Close() })
		defer deadline.Stop()
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if err != nil && good {
		return failed(codeBroken, "the answer of %s broke off (%v); what was asked may have been done: look before you repeat it", resp.Request.URL, err)
	}
	if len(body) > limit && good {
		return failed(codeBroken, "the answer of %s is longer than %d bytes", resp.Request.URL, limit)
	}
	if m, err := parseMessage(body); err == nil && m.kind == response && each(m) {
		return nil
	}
	return httpFailure(resp, body)
}

// readStream does the same for an event stream. The end of the stream is no failure, whatever
// ended it: the caller knows whether it can be resumed.
func readStream(resp *http.Response, at *cursor, each func(message) bool) error {
	events := mcp.NewEventReader(resp.Body, maxMessage)
	for {
		event, err := events.Next()
		if errors.Is(err, mcp.ErrEventSize) {
			return failed(codeBroken, "%s sent an event longer than %d bytes", resp.Request.URL, maxMessage)
		}
		if err != nil {
			return errUnanswered
		}
		at.moved = true
		if event.HasID && usableHeader(event.ID) {
			at.lastID = event.ID
		}
		if ms, err := strconv.ParseUint(event.Retry, 10, 31); err == nil {
			at.retry = min(max(time.Duration(ms)*time.Millisecond, minRetry), maxRetry)
		}
		// The first event of a resumable stream only carries an id.
		if len(event.Data) == 0 || event.Type != "" && event.Type != "message" {
			continue
		}
		m, err := parseMessage(event.Data)
		if err != nil {
			return failed(codeBroken, "%s sent an event that is not an MCP message: %v", resp.Request.URL, err)
		}
		if each(m) {
			return nil
		}
	}
}

// drain reads what follows the response, for a moment, even if the context of the request ends
// now: a stream left before its end looks like a cancellation to the server, and its connection
// could not be used again. After a real cancellation it only closes.
func drain(resp *http.Response) {
	if b, ok := resp.Body.(*answerBody); ok && !b.keep() {
		_ = b.Close()
		return
	}
	deadline := time.AfterFunc(drainTime, func() { _ = resp.Body.Close() })
	defer deadline.Stop()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxProblem))
	_ = resp.Body.Close()
}

// httpFailure explains an answer that is no JSON-RPC response.
func httpFailure(resp *http.Response, body []byte) *failure {
	url := resp.Request.URL.String()
	token, hasToken := strings.CutPrefix(resp.Request.Header.Get("Authorization"), "Bearer ")
	if hasToken {
		body = bytes.ReplaceAll(body, []byte(token), []byte("[token]"))
	}
	detail := problemDetail(mediaType(resp), body)
	status := strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode)
	if detail != "" {
		status += ": " + detail
	}

	var f *failure
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized && hasToken:
		f = failed(codeToken, "%s refused the token (%s); issue another with `sallyport token issue`, set SALLYPORT_TOKEN to it or keep it with `sallyport connect --save`, and start the client again", url, status)
	case code == http.StatusUnauthorized:
		f = failed(codeToken, "%s wants a token and none is known (%s); issue one with `sallyport token issue`, set SALLYPORT_TOKEN to it or keep it with `sallyport connect --save`, and start the client again", url, status)
	case code/100 == 2:
		f = failed(codeBroken, "%s gave no MCP response (%s, content type %q); is this the address of an MCP endpoint?", url, status, mediaType(resp))
	case code/100 == 3:
		f = failed(codeHTTP, "%s answered with a redirect (%s), which is not followed because the token would go along; use the final address", url, status)
	case code == http.StatusNotFound:
		f = failed(codeHTTP, "%s has no such endpoint (%s); check the name of the upstream in the address", url, status)
	default:
		f = failed(codeHTTP, "%s answered %s", url, status)
	}
	f.data = map[string]any{"status": resp.StatusCode, "url": url}
	if detail != "" {
		f.data["detail"] = detail
	}
	if after := resp.Header.Get("Retry-After"); usableHeader(after) && len(after) < 64 {
		f.data["retryAfter"] = after
	}
	return f
}

// problemDetail is the part of an error body meant for people: of a problem document (RFC 9457),
// of a JSON-RPC error whose id is not ours, or of a plain text.
func problemDetail(mediaType string, body []byte) string {
	var detail string
	switch {
	case strings.HasSuffix(mediaType, "json"):
		for _, candidate := range []json.RawMessage{
			member(body, "detail"), member(member(body, "error"), "message"), member(body, "title"),
		} {
			if detail = text(candidate); detail != "" {
				break
			}
		}
	case mediaType == "text/plain":
		detail = string(bytes.TrimSpace(body))
	}
	printable := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, detail))
	if len(printable) > maxDetail {
		return string(printable[:maxDetail]) + "..."
	}
	return string(printable)
}

func mediaType(resp *http.Response) string {
	mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return mediaType
}

// usableHeader reports whether value can be sent back as a header value as it is: visible ASCII
// and spaces inside.
func usableHeader(value string) bool {
	if value == "" || len(value) > 8<<10 || strings.TrimSpace(value) != value {
		return false
	}
	for i := range len(value) {
		if value[i] < 0x20 || value[i] > 0x7e {
			return false
		}
	}
	return true
}
