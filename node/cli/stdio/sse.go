package stdio

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"
)

// ErrEventTooLong is the error of an event above the bound; the stream is of no use after it.
var ErrEventTooLong = errors.New("stdio: server-sent event too long")

// Event is a server-sent event.
type Event struct {
	Type  string
	ID    string
	HasID bool // an empty ID resets the last one
	Data  []byte
	Retry time.Duration // zero where the event has none
}

// EventReader reads server-sent events as the WHATWG HTML standard defines them.
type EventReader struct {
	in      *bufio.Reader
	max     int
	started bool
	// A line that ends with CR may go on with the LF that belongs to it.
	skipLF bool
}

// NewEventReader reads events of at most maxEvent bytes.
func NewEventReader(r io.Reader, maxEvent int) *EventReader {
	return &EventReader{in: bufio.NewReader(r), max: maxEvent}
}

// Next returns the next event, io.EOF at the end, and ErrEventTooLong. An event that the end of
// the stream cuts short is dropped, since its data may be incomplete.
func (r *EventReader) Next() (Event, error) {
	if !r.started {
		r.started = true
		if head, _ := r.in.Peek(3); bytes.Equal(head, []byte("\xef\xbb\xbf")) {
			_, _ = r.in.Discard(3)
		}
	}
	var event Event
	var some, hasData bool
	size := 0
	for {
		line, err := r.line()
		if err != nil {
			return Event{}, err
		}
		if len(line) == 0 {
			if some {
				return event, nil
			}
			continue
		}
		if line[0] == ':' {
			continue
		}
		if size += len(line); size > r.max {
			return Event{}, ErrEventTooLong
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "data":
			if hasData {
				event.Data = append(event.Data, '\n')
			}
			event.Data = append(event.Data, value...)
			some, hasData = true, true
		case "event":
			event.Type = string(value)
			some = true
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				event.ID, event.HasID = string(value), true
				some = true
			}
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				event.Retry = time.Duration(ms) * time.Millisecond
				some = true
			}
		}
	}
}

// line returns a line without its end, which is CR, LF or both.
func (r *EventReader) line() ([]byte, error) {
	var line []byte
	for {
		b, err := r.in.ReadByte()
		if err != nil {
			return nil, err
		}
		if b == '\n' && r.skipLF {
			r.skipLF = false
			continue
		}
		r.skipLF = b == '\r'
		if b == '\n' || b == '\r' {
			return line, nil
		}
		if len(line) >= r.max {
			return nil, ErrEventTooLong
		}
		line = append(line, b)
	}
}
