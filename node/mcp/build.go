package mcp

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Quote writes s as a JSON string. Invalid UTF-8 becomes the replacement character.
func Quote(s string) jsontext.Value {
	b, err := jsontext.AppendQuote(nil, s)
	if err != nil {
		b, err = jsontext.AppendQuote(nil, string([]rune(s)))
		if err != nil {
			return jsontext.Value(`""`)
		}
	}
	return b
}

// ErrorBody is the JSON-RPC response that carries an error. A nil id becomes null; data may be nil.
func ErrorBody(id jsontext.Value, code int, message string, data jsontext.Value) []byte {
	b := append([]byte(`{"jsonrpc":"2.0","id":`), orNull(id)...)
	b = append(b, `,"error":{"code":`...)
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(append(b, `,"message":`...), Quote(message)...)
	if data != nil {
		b = append(append(b, `,"data":`...), data...)
	}
	return append(b, "}}"...)
}

// ResultBody is the JSON-RPC response that carries a result.
func ResultBody(id, result jsontext.Value) []byte {
	b := append([]byte(`{"jsonrpc":"2.0","id":`), orNull(id)...)
	b = append(append(b, `,"result":`...), result...)
	return append(b, '}')
}

// RequestBody is a JSON-RPC request, or a notification if id is nil.
func RequestBody(id jsontext.Value, method string, params jsontext.Value) []byte {
	b := []byte(`{"jsonrpc":"2.0"`)
	if id != nil {
		b = append(append(b, `,"id":`...), id...)
	}
	b = append(append(b, `,"method":`...), Quote(method)...)
	if params != nil {
		b = append(append(b, `,"params":`...), params...)
	}
	return append(b, '}')
}

func orNull(id jsontext.Value) jsontext.Value {
	if id == nil {
		return jsontext.Value("null")
	}
	return id
}
