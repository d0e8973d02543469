package mcp

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// ReplyCopier copies the response to one request while it streams, in constant memory and byte for byte. It checks the id, notes what
// the response came to, and replaces result.requestState, which must not leave in clear.
type ReplyCopier struct {
	dst  io.Writer
	id   jsontext.Value
	seal func(state string) (string, error)

	depth     int
	object    [3]bool   // whether the container at this depth is an object
	name      [3]string // the member that is being read at this depth
	inString  bool
	escaped   bool
	expectKey bool
	inKey     bool
	key       []byte
	capture   func(value []byte) ([]byte, error) // takes the scalar that is being read; nil when nothing is captured
	value     []byte
	began     bool
	ended     bool
	sawID     bool
	Reply     Reply
}

// Reply is what a response came to.
type Reply struct {
	IsError    bool // a JSON-RPC error
	Code       string
	ToolError  bool // result.isError
	ResultType string
	HasResult  bool
}

// ErrReply means that an upstream's answer is no answer to the request.
var ErrReply = errors.New("the upstream's answer is not a JSON-RPC response to this request")

const (
	maxReplyKey    = 1 << 10
	maxReplyScalar = 256 << 10
)

// NewReplyCopier copies to dst the response to the request of that id. seal, if not nil, replaces requestState.
func NewReplyCopier(dst io.Writer, id jsontext.Value, seal func(string) (string, error)) *ReplyCopier {
	return &ReplyCopier{dst: dst, id: id, seal: seal}
}

// Write implements io.Writer. An error that wraps ErrReply ends the copy.
func (c *ReplyCopier) Write(p []byte) (int, error) {
	from := 0 // what stands before it has been passed on, captured or replaced
	for i, b := range p {
		captured := c.capture != nil
		if captured && !c.inString && (b == ',' || b == '}') {
			if err := c.endCapture(&from, i); err != nil {
				return 0, err
			}
			captured = false
		}
		if err := c.step(b); err != nil {
			return 0, err
		}
		switch {
		case captured && c.capture != nil:
			c.value = append(c.value, b)
			from = i + 1
			if len(c.value) > maxReplyScalar {
				return 0, fmt.Errorf("%w: a member has more than %d bytes", ErrReply, maxReplyScalar)
			}
		case !captured && c.capture != nil:
			// The colon before a captured value has just been read.
			if _, err := c.dst.Write(p[from : i+1]); err != nil {
				return 0, err
			}
			from = i + 1
		}
	}
	if from < len(p) {
		if _, err := c.dst.Write(p[from:]); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (c *ReplyCopier) endCapture(from *int, at int) error {
	core := bytes.TrimSpace(c.value)
	out, err := c.capture(core)
	if err != nil {
		return err
	}
	start := bytes.Index(c.value, core)
	for _, b := range [][]byte{c.value[:start], out, c.value[start+len(core):]} {
		if _, err := c.dst.Write(b); err != nil {
			return err
		}
	}
	c.capture, c.value = nil, c.value[:0]
	*from = at
	return nil
}

func (c *ReplyCopier) step(b byte) error {
	if c.inString {
		return c.stringByte(b)
	}
	switch b {
	case ' ', '\t', '\r', '\n':
		return nil
	case '"':
		c.inString = true
		c.inKey = c.expectKey && c.depth <= 2
		c.key = c.key[:0]
	case '{', '[':
		return c.open(b == '{')
	case '}', ']':
		c.depth--
		c.expectKey = false
		if c.depth < 0 {
			return fmt.Errorf("%w: unbalanced brackets", ErrReply)
		}
		c.ended = c.depth == 0
		return nil
	case ',':
		c.expectKey = c.depth <= 2 && c.depth > 0 && c.object[c.depth]
	case ':':
		if c.depth > 0 && c.depth <= 2 && c.object[c.depth] {
			c.begin()
		}
	}
	if c.depth == 0 || c.ended {
		return fmt.Errorf("%w: it is not one JSON object", ErrReply)
	}
	return nil
}

func (c *ReplyCopier) stringByte(b byte) error {
	if c.inKey && (b != '"' || c.escaped) {
		if c.key = append(c.key, b); len(c.key) > maxReplyKey {
			return fmt.Errorf("%w: a member's name has more than %d bytes", ErrReply, maxReplyKey)
		}
	}
	switch {
	case c.escaped:
		c.escaped = false
	case b == '\\':
		c.escaped = true
	case b == '"':
		c.inString = false
		if c.inKey {
			c.inKey, c.expectKey = false, false
			return c.endKey()
		}
	}
	return nil
}

func (c *ReplyCopier) endKey() error {
	name := c.key
	if bytes.IndexByte(name, '\\') >= 0 {
		quoted := append(append([]byte{'"'}, name...), '"')
		var err error
		if name, err = jsontext.AppendUnquote(nil, quoted); err != nil {
			return fmt.Errorf("%w: %w", ErrReply, err)
		}
	}
	c.name[c.depth] = string(name)
	return nil
}

func (c *ReplyCopier) open(object bool) error {
	if c.ended || c.depth == 0 && !object {
		return fmt.Errorf("%w: it is not one JSON object", ErrReply)
	}
	if c.capture != nil {
		return fmt.Errorf("%w: member %q has the wrong type", ErrReply, c.name[c.depth])
	}
	if c.depth++; c.depth > 10*MaxDepth {
		return fmt.Errorf("%w: it nests too deeply", ErrReply)
	}
	c.began = true
	if c.depth <= 2 {
		c.object[c.depth] = object
		c.expectKey = object
	}
	return nil
}

// begin looks at the member whose value comes next.
func (c *ReplyCopier) begin() {
	switch {
	case c.depth == 1 && c.name[1] == "id":
		c.capture = c.takeID
	case c.depth == 1 && c.name[1] == "result":
		c.Reply.HasResult = true
	case c.depth == 1 && c.name[1] == "error":
		c.Reply.IsError = true
	case c.depth == 2 && c.name[1] == "error" && c.name[2] == "code":
		c.capture = c.note(func(v string) { c.Reply.Code = v })
	case c.depth == 2 && c.name[1] == "result" && c.name[2] == "isError":
		c.capture = c.note(func(v string) { c.Reply.ToolError = v == "true" })
	case c.depth == 2 && c.name[1] == "result" && c.name[2] == "resultType":
		c.capture = c.takeResultType
	case c.depth == 2 && c.name[1] == "result" && c.name[2] == "requestState" && c.seal != nil:
		c.capture = c.takeState
	}
}

func (c *ReplyCopier) note(take func(string)) func([]byte) ([]byte, error) {
	return func(v []byte) ([]byte, error) {
		take(string(v))
		return v, nil
	}
}

func (c *ReplyCopier) takeID(v []byte) ([]byte, error) {
	if string(v) == "null" {
		return c.id, nil // an error of a server that did not get as far as the id; Close refuses a result
	}
	if !SameID(c.id, v) {
		return nil, fmt.Errorf("%w: it carries another id", ErrReply)
	}
	c.sawID = true
	return v, nil
}

func (c *ReplyCopier) takeResultType(v []byte) ([]byte, error) {
	if bytes.Equal(v, []byte(`"task"`)) {
		return nil, fmt.Errorf("%w: it made a task that nobody asked for", ErrReply)
	}
	c.Reply.ResultType = string(bytes.Trim(v, `"`))
	return v, nil
}

func (c *ReplyCopier) takeState(v []byte) ([]byte, error) {
	text, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return nil, fmt.Errorf("%w: requestState is no string", ErrReply)
	}
	sealed, err := c.seal(string(text))
	if err != nil {
		return nil, err
	}
	return Quote(sealed), nil
}

// Close checks that the response is complete and was one to this request.
func (c *ReplyCopier) Close() error {
	switch {
	case !c.began:
		return fmt.Errorf("%w: it is empty", ErrReply)
	case !c.ended:
		return fmt.Errorf("%w: it is cut short", ErrReply)
	case !c.sawID && !c.Reply.IsError:
		return fmt.Errorf("%w: it carries no id", ErrReply)
	case c.Reply.IsError == c.Reply.HasResult:
		return fmt.Errorf("%w: it has neither a result nor an error, or both", ErrReply)
	}
	return nil
}
