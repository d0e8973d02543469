package stdio

import (
	"encoding/base64"
	"strings"
)

// EncodeHeaderValue writes a value that a header cannot carry as it is, or that could be taken for
// an encoded one, as =?base64?...?= (MCP 2026-07-28, streamable HTTP, "Value Encoding").
func EncodeHeaderValue(value string) string {
	encoded := strings.HasPrefix(value, "=?base64?") && strings.HasSuffix(value, "?=")
	if value == "" || usableHeader(value) && !encoded {
		return value
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(value)) + "?="
}
