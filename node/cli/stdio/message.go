package stdio

import (
	"bytes"
	"encoding/json"
	"errors"

	"sallyport/node/mcp"
)

// maxMessage bounds one JSON-RPC message in either direction, in bytes.
const maxMessage = 16 << 20

var (
	errBatch      = errors.New("a batch: MCP has none since 2025-06-18, send one message per line")
	errNotMessage = errors.New("neither a request, nor a notification, nor a response")
	errBadID      = errors.New("the id of a request is a string or a number")
)

type messageKind int

const (
	request messageKind = iota + 1
	notification
	response
)

// message is a JSON-RPC message of which only the envelope was looked at: raw goes on as it came,
// because a decoded and encoded id, number or unknown member is not what it was.
type message struct {
	kind   messageKind
	raw    []byte // one JSON text on one line
	id     json.RawMessage
	method string
	params map[string]json.RawMessage // names as they are written: a struct would match other cases too
	result json.RawMessage
	failed json.RawMessage // the error member
}

// parseMessage reads exactly one message.
func parseMessage(data []byte) (message, error) {
	raw, err := singleLine(data)
	if err != nil {
		return message{}, err
	}
	if bytes.HasPrefix(raw, []byte("[")) {
		return message{}, errBatch
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		if wrongType := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrongType) {
			return message{}, errNotMessage
		}
		return message{}, err
	}
	m := message{
		raw:    raw,
		id:     members["id"],
		result: members["result"],
		failed: members["error"],
	}
	method, hasMethod := members["method"]
	switch {
	case hasMethod && json.Unmarshal(method, &m.method) != nil:
		return message{}, errNotMessage
	case hasMethod && m.id == nil:
		m.kind = notification
	case hasMethod:
		m.kind = request
		if !isID(m.id) {
			return message{}, errBadID
		}
	case m.result != nil || m.failed != nil:
		m.kind = response
	default:
		return message{}, errNotMessage
	}
	// Params that are no object are for the server to refuse.
	_ = json.Unmarshal(members["params"], &m.params)
	return m, nil
}

// singleLine removes what would break the line framing of stdio, and nothing else: inside a JSON
// text a newline can only be insignificant white space.
func singleLine(data []byte) ([]byte, error) {
	data = bytes.TrimSpace(data)
	if !bytes.ContainsAny(data, "\r\n") {
		return data, nil
	}
	var line bytes.Buffer
	if err := json.Compact(&line, data); err != nil {
		return nil, err
	}
	return line.Bytes(), nil
}

func isID(raw json.RawMessage) bool {
	return len(raw) > 0 && (raw[0] == '"' || raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9')
}

// idKey makes ids comparable: strings by what they say, numbers by how they are written, so that
// 2^53+1 stays apart from 2^53 and 1 apart from "1".
func idKey(raw json.RawMessage) string {
	var value string
	if json.Unmarshal(raw, &value) == nil {
		return "s" + value
	}
	return "n" + string(raw)
}

// answers reports whether m is the response to the request with that id. A peer that could not
// read the id of a request answers with null or without one; on a stream that belongs to one
// request it can mean no other.
func (m message) answers(id json.RawMessage) bool {
	return m.kind == response && (idKey(m.id) == idKey(id) || m.failed != nil && !isID(m.id))
}

// withID is m as the response to id.
func (m message) withID(id json.RawMessage) []byte {
	if isID(m.id) {
		return m.raw
	}
	return errorResponse(id, m.failed)
}

func errorResponse(id, failed json.RawMessage) []byte {
	if id == nil {
		id = json.RawMessage("null")
	}
	line := append([]byte(`{"jsonrpc":"2.0","id":`), id...)
	line = append(line, `,"error":`...)
	line = append(line, failed...)
	return append(line, '}')
}

// meta is params._meta; nil where there is none.
func (m message) meta() map[string]json.RawMessage {
	var meta map[string]json.RawMessage
	_ = json.Unmarshal(m.params["_meta"], &meta)
	return meta
}

// modernVersion is the protocol version that a modern message names; empty for a legacy one.
func (m message) modernVersion() string {
	return text(m.meta()[mcp.MetaProtocolVersion])
}

// label is the method as far as it is fit for a log.
func (m message) label() string { return short(m.method) }

func short(name string) string {
	if len(name) > 100 {
		return name[:100] + "..."
	}
	return name
}

// member is a member of an object as it was written; nil where there is none.
func member(object json.RawMessage, name string) json.RawMessage {
	var members map[string]json.RawMessage
	_ = json.Unmarshal(object, &members)
	return members[name]
}

// text is a JSON string's value; empty for anything else.
func text(raw json.RawMessage) string {
	var value string
	_ = json.Unmarshal(raw, &value)
	return value
}
