package mcp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Event is one server-sent event (WHATWG HTML, section 9.2).
type Event struct {
	Type  string // empty means "message"
	ID    string
	HasID bool
	Retry string
	Data  []byte
}

// ErrEventSize means an event larger than the reader takes.
var ErrEventSize = errors.New("server-sent event is too large")

// ErrEventCut means a stream that ended within an event.
var ErrEventCut = errors.New("stream of server-sent events ended within an event")

// EventReader reads server-sent events one at a time.
type EventReader struct {
	r   *bufio.Reader
	max int
}

// NewEventReader reads events of at most maxBytes each from r.
func NewEventReader(r io.Reader, maxBytes int) *EventReader {
	return &EventReader{r: bufio.NewReaderSize(r, 8<<10), max: maxBytes}
}

// Next returns the next event that carries data, an id or a retry time; comments are skipped. It returns io.EOF at a clean end.
func (r *EventReader) Next() (Event, error) {
	var e Event
	var size int
	var seen, data bool
	for {
		line, err := r.line(r.max - size)
		if err != nil {
			if errors.Is(err, io.EOF) && (seen || len(line) > 0) {
				return Event{}, ErrEventCut
			}
			return Event{}, err
		}
		if bytes.HasPrefix(line, []byte(":")) {
			continue // a comment, often sent only to keep the connection
		}
		size += len(line)
		if len(line) == 0 {
			if seen {
				return e, nil
			}
			size = 0
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "data":
			if data {
				e.Data = append(e.Data, '\n')
			}
			e.Data, data, seen = append(e.Data, value...), true, true
		case "event":
			e.Type, seen = string(value), true
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				e.ID, e.HasID, seen = string(value), true, true
			}
		case "retry":
			e.Retry, seen = string(value), true
		}
	}
}

// line reads up to CR, LF or CRLF, without it.
func (r *EventReader) line(most int) ([]byte, error) {
	var line []byte
	for {
		chunk, err := r.r.ReadSlice('\n')
		if len(line)+len(chunk) > most+2 {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrEventSize, r.max)
		}
		line = append(line, chunk...)
		switch {
		case err == nil:
			line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
			return r.splitCR(line)
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err
		}
	}
}

// splitCR refuses bare carriage returns, which the format allows as line ends and no MCP server writes: they would let two readers see
// different events.
func (r *EventReader) splitCR(line []byte) ([]byte, error) {
	if bytes.IndexByte(line, '\r') >= 0 {
		return nil, errors.New("server-sent event holds a bare carriage return")
	}
	return line, nil
}

// AppendEvent writes an event to dst.
func AppendEvent(dst []byte, e Event) []byte {
	if e.Type != "" {
		dst = append(append(append(dst, "event: "...), e.Type...), '\n')
	}
	if e.HasID {
		dst = append(append(append(dst, "id: "...), e.ID...), '\n')
	}
	if e.Retry != "" {
		dst = append(append(append(dst, "retry: "...), e.Retry...), '\n')
	}
	for line := range bytes.SplitSeq(e.Data, []byte("\n")) {
		dst = append(append(append(dst, "data: "...), line...), '\n')
	}
	return append(dst, '\n')
}
