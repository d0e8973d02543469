// Package mcp is the wire format of the Model Context Protocol as a gateway needs it: JSON-RPC envelopes read without decoding what is
// only passed on, the header rules of both eras, and server-sent events.
package mcp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth bounds how deeply a message may nest.
const MaxDepth = 64

const maxMethod = 128

// Kind tells the three JSON-RPC messages apart.
type Kind int

// The kinds of messages.
const (
	Request Kind = iota + 1
	Notification
	Response
)

// Message is a JSON-RPC message whose payload stays as it came. All values are slices of the body it was parsed from.
type Message struct {
	Kind   Kind
	ID     jsontext.Value // exactly as sent; nil for a notification
	Method string
	// Params is the whole params object, nil if absent.
	Params jsontext.Value
	// Result and Error are those of a response.
	Result jsontext.Value
	Error  jsontext.Value

	// What the gateway reads of params.
	Name         string // tools/call, prompts/get
	URI          string // resources/*
	TaskID       string
	Cursor       string
	Level        string // logging/setLevel
	Version      string // initialize: protocolVersion
	RequestState string
	HasState     bool // requestState is there, maybe empty
	HasTask      bool // `task` asks for task augmentation (2025-11-25)
	Arguments    jsontext.Value
	Ref          Ref // completion/complete
	CancelID     jsontext.Value
	Meta         Meta
	HasInput     bool           // inputResponses is there
	Filter       jsontext.Value // subscriptions/listen: notifications
	// Subscriptions are the resources that the filter names.
	Subscriptions []string
}

// Meta is what the gateway reads of params._meta.
type Meta struct {
	Raw             jsontext.Value
	ProtocolVersion string
	LogLevel        string
	ProgressToken   jsontext.Value
	TraceParent     string
	// ClientCapabilities is nil if the request does not tell them.
	ClientCapabilities jsontext.Value
}

// Ref names the item that a completion is for.
type Ref struct{ Type, Name, URI string }

// SyntaxError is a body that is no message; Code is the JSON-RPC error code that says so.
type SyntaxError struct {
	Code int
	Text string
}

func (e *SyntaxError) Error() string { return e.Text }

func invalid(format string, args ...any) error {
	return &SyntaxError{CodeInvalidRequest, fmt.Sprintf(format, args...)}
}

func unparsable(err error) error {
	var own *SyntaxError
	if errors.As(err, &own) {
		return own
	}
	text := strings.TrimPrefix(err.Error(), "jsontext: ")
	return &SyntaxError{CodeParse, "the body is not valid JSON: " + text}
}

// Parse reads one JSON-RPC message. It refuses what two readers could understand differently: duplicate members, members that
// differ only in case from those that matter, invalid UTF-8, batches, and anything behind the message.
func Parse(body []byte) (*Message, error) {
	if err := checkDepth(body); err != nil {
		return nil, err
	}
	p := parser{body: body, dec: jsontext.NewDecoder(bytes.NewBuffer(body)), m: new(Message)}
	switch p.dec.PeekKind() {
	case '{':
	case '[':
		return nil, invalid("batches are not part of MCP since 2025-06-18: send one message per request")
	case jsontext.KindInvalid:
		if len(bytes.TrimSpace(body)) == 0 {
			return nil, &SyntaxError{CodeParse, "the body is empty: send one JSON-RPC message"}
		}
		_, err := p.dec.ReadValue()
		return nil, unparsable(err)
	default:
		return nil, invalid("the body is not a JSON object: send one JSON-RPC message")
	}
	if err := p.object(p.envelope); err != nil {
		return nil, unparsable(err)
	}
	if len(bytes.TrimSpace(body[p.dec.InputOffset():])) != 0 {
		return nil, &SyntaxError{CodeParse, "there is something behind the message: send one JSON-RPC message per request"}
	}
	return p.m, p.check()
}

// checkDepth bounds nesting before any parser recurses.
func checkDepth(body []byte) error {
	depth, inString := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return invalid("the message nests deeper than %d levels", MaxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

type parser struct {
	body    []byte
	dec     *jsontext.Decoder
	m       *Message
	version bool
	hasID   bool
}

// object walks the members of the object that comes next; member must consume the value.
func (p *parser) object(member func(name string) error) error {
	if k := p.dec.PeekKind(); k != '{' {
		if _, err := p.dec.ReadValue(); err != nil {
			return err
		}
		return invalid("an object was expected, not %s", k)
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	for p.dec.PeekKind() != '}' {
		name, err := p.dec.ReadToken()
		if err != nil {
			return err
		}
		if err := member(name.String()); err != nil {
			return err
		}
	}
	_, err := p.dec.ReadToken()
	return err
}

// value reads the value that comes next as it stands in the body.
func (p *parser) value() (jsontext.Value, error) {
	v, err := p.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	end := p.dec.InputOffset()
	return jsontext.Value(p.body[end-int64(len(v)) : end : end]), nil
}

func (p *parser) skip(string) error { return p.dec.SkipValue() }

func (p *parser) text(name string, into *string) error {
	v, err := p.value()
	if err != nil {
		return err
	}
	if v.Kind() != '"' {
		return &SyntaxError{CodeInvalidParams, fmt.Sprintf("%q must be a string", name)}
	}
	b, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return err
	}
	*into = string(b)
	return nil
}

func (p *parser) raw(into *jsontext.Value) (err error) {
	*into, err = p.value()
	return err
}

func (p *parser) envelope(name string) error {
	switch name {
	case "jsonrpc":
		var v string
		if err := p.text(name, &v); err != nil || v != "2.0" {
			return errors.Join(err, invalid(`"jsonrpc" must be "2.0"`))
		}
		p.version = true
		return nil
	case "id":
		p.hasID = true
		return p.raw(&p.m.ID)
	case "method":
		return p.text(name, &p.m.Method)
	case "params":
		start := p.dec.InputOffset()
		if err := p.object(p.params); err != nil {
			return err
		}
		p.m.Params = jsontext.Value(trimValue(p.body[start:p.dec.InputOffset()]))
		return nil
	case "result":
		return p.raw(&p.m.Result)
	case "error":
		return p.raw(&p.m.Error)
	}
	return p.other(name, "jsonrpc", "id", "method", "params", "result", "error")
}

// trimValue cuts what stands between a name and its value.
func trimValue(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n:") }

// other skips a member that the gateway does not read, unless a reader that ignores case would take it for one that it does.
func (p *parser) other(name string, known ...string) error {
	for _, k := range known {
		if strings.EqualFold(name, k) {
			return invalid("member %q differs only in case from %q: the name must be exact", name, k)
		}
	}
	return p.skip(name)
}

func (p *parser) params(name string) error {
	m := p.m
	switch name {
	case "name":
		return p.text(name, &m.Name)
	case "uri":
		return p.text(name, &m.URI)
	case "arguments":
		return p.raw(&m.Arguments)
	case "_meta":
		start := p.dec.InputOffset()
		if err := p.object(p.meta); err != nil {
			return err
		}
		m.Meta.Raw = jsontext.Value(trimValue(p.body[start:p.dec.InputOffset()]))
		return nil
	case "taskId":
		return p.text(name, &m.TaskID)
	case "task":
		m.HasTask = true
		return p.skip(name)
	case "cursor":
		return p.text(name, &m.Cursor)
	case "level":
		return p.text(name, &m.Level)
	case "protocolVersion":
		return p.text(name, &m.Version)
	case "requestState":
		m.HasState = true
		return p.text(name, &m.RequestState)
	case "inputResponses":
		m.HasInput = true
		return p.skip(name)
	case "ref":
		return p.object(p.ref)
	case "requestId":
		return p.raw(&m.CancelID)
	case "notifications":
		start := p.dec.InputOffset()
		if err := p.object(p.filter); err != nil {
			return err
		}
		m.Filter = jsontext.Value(trimValue(p.body[start:p.dec.InputOffset()]))
		return nil
	}
	return p.other(name, "name", "uri", "arguments", "_meta", "taskId", "task", "cursor", "level", "protocolVersion", "requestState", "inputResponses",
		"ref", "requestId", "notifications")
}

func (p *parser) filter(name string) error {
	const uris = "resourceSubscriptions"
	if name != uris {
		return p.other(name, uris)
	}
	list, err := p.value()
	if err != nil {
		return err
	}
	items, err := ParseArray(list)
	if err != nil {
		return &SyntaxError{CodeInvalidParams, fmt.Sprintf("%q must be a list of strings", uris)}
	}
	for _, item := range items {
		uri, ok := Object{{Name: uris, Value: item}}.Text(uris)
		if !ok {
			return &SyntaxError{CodeInvalidParams, fmt.Sprintf("%q must be a list of strings", uris)}
		}
		p.m.Subscriptions = append(p.m.Subscriptions, uri)
	}
	return nil
}

func (p *parser) meta(name string) error {
	m := &p.m.Meta
	switch name {
	case MetaProtocolVersion:
		return p.text(name, &m.ProtocolVersion)
	case MetaLogLevel:
		return p.text(name, &m.LogLevel)
	case MetaClientCaps:
		return p.raw(&m.ClientCapabilities)
	case "progressToken":
		return p.raw(&m.ProgressToken)
	case "traceparent":
		return p.text(name, &m.TraceParent)
	}
	return p.skip(name)
}

func (p *parser) ref(name string) error {
	r := &p.m.Ref
	switch name {
	case "type":
		return p.text(name, &r.Type)
	case "name":
		return p.text(name, &r.Name)
	case "uri":
		return p.text(name, &r.URI)
	}
	return p.other(name, "type", "name", "uri")
}

func (p *parser) check() error {
	m := p.m
	if !p.version {
		return invalid(`"jsonrpc": "2.0" is missing`)
	}
	if p.hasID && !validID(m.ID) && (m.Method != "" || string(m.ID) != "null") {
		return invalid(`"id" must be a string or an integer`)
	}
	switch {
	case m.Method != "":
		if m.Result != nil || m.Error != nil {
			return invalid("a message has either a method or a result")
		}
		if len(m.Method) > maxMethod {
			return invalid("the method's name has more than %d bytes", maxMethod)
		}
		if m.Method == "completion/complete" && m.Ref.Type != "ref/prompt" && m.Ref.Type != "ref/resource" {
			return &SyntaxError{CodeInvalidParams, `"ref" must be of the type "ref/prompt" or "ref/resource"`}
		}
		m.Kind = Request
		if !p.hasID {
			m.Kind = Notification
		}
		return nil
	case (m.Result != nil) != (m.Error != nil) && p.hasID:
		m.Kind = Response
		return nil
	}
	return invalid("the message has no method, and is no response either")
}

// validID takes strings and integers, whatever their size; MCP has no null ids, and a fraction does not survive many readers.
func validID(id jsontext.Value) bool {
	const longest = 256
	if len(id) == 0 || len(id) > longest {
		return false
	}
	return id.Kind() == '"' || id.Kind() == '0' && !bytes.ContainsAny(id, ".eE")
}

// SameID compares two ids by value. Ids that were sent and come back differently written (escapes) are still the same.
func SameID(a, b jsontext.Value) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if len(a) == 0 || len(b) == 0 || a.Kind() != '"' || b.Kind() != '"' {
		return false
	}
	x, errX := jsontext.AppendUnquote(nil, a)
	y, errY := jsontext.AppendUnquote(nil, b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// Item is what a request touches, as policies name it: the tool, the prompt or the URI.
func (m *Message) Item() string {
	switch m.Method {
	case "tools/call", "prompts/get":
		return m.Name
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		return m.URI
	case "completion/complete":
		if m.Ref.Type == "ref/resource" {
			return m.Ref.URI
		}
		return m.Ref.Name
	}
	return ""
}
