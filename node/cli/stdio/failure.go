package stdio

import (
	"encoding/json"
	"fmt"
)

// Codes of the errors that only the connector answers with. Like those of the node (1001 to 1006) they
// are outside of the range that JSON-RPC and MCP keep for themselves.
const (
	codeUnreachable = 1101 // no node could be asked: the request was not carried out
	codeToken       = 1102 // the node refused the token
	codeHTTP        = 1103 // the node answered with an HTTP error
	codeBroken      = 1104 // the answer is missing or unusable: the request may have been carried out
)

// failure is why a request has no answer of the node. It becomes a JSON-RPC error for a request
// and a line on stderr for anything else.
type failure struct {
	code    int
	message string
	data    map[string]any
}

func failed(code int, format string, args ...any) *failure {
	return &failure{code: code, message: fmt.Sprintf(format, args...)}
}

func (f *failure) Error() string { return f.message }

// response is the JSON-RPC error response to id; without an id it has null.
func (f *failure) response(id json.RawMessage) []byte {
	body := struct {
		Code    int            `json:"code"`
		Message string         `json:"message"`
		Data    map[string]any `json:"data,omitempty"`
	}{f.code, f.message, f.data}
	encoded, err := json.Marshal(body)
	if err != nil {
		// Only a NaN or a channel in data could do this, and data holds strings and integers.
		encoded = fmt.Appendf(nil, `{"code":%d,"message":"the error could not be encoded"}`, f.code)
	}
	return errorResponse(id, encoded)
}
