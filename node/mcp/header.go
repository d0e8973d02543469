package mcp

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"
)

const (
	base64Prefix = "=?base64?"
	base64Suffix = "?="
)

// EncodeHeaderValue writes a value so that it survives an HTTP header (2026-07-28, streamable HTTP, "Value Encoding").
func EncodeHeaderValue(v string) string {
	if plainHeaderValue(v) {
		return v
	}
	return base64Prefix + base64.StdEncoding.EncodeToString([]byte(v)) + base64Suffix
}

func plainHeaderValue(v string) bool {
	if strings.HasPrefix(v, base64Prefix) && strings.HasSuffix(v, base64Suffix) {
		return false
	}
	for i := range len(v) {
		if c := v[i]; c < 0x20 && c != '\t' || c > 0x7e {
			return false
		}
	}
	return v == strings.Trim(v, " \t")
}

// ErrHeaderValue means a header value that no sender may write.
var ErrHeaderValue = errors.New("header value is not encoded as 2026-07-28 asks for")

// DecodeHeaderValue reads a value that EncodeHeaderValue may have written.
func DecodeHeaderValue(v string) (string, error) {
	if !strings.HasPrefix(v, base64Prefix) || !strings.HasSuffix(v, base64Suffix) || len(v) < len(base64Prefix)+len(base64Suffix) {
		for i := range len(v) {
			if c := v[i]; c < 0x20 && c != '\t' || c > 0x7e {
				return "", fmt.Errorf("%w: it holds byte 0x%02x", ErrHeaderValue, c)
			}
		}
		return v, nil
	}
	b, err := base64.StdEncoding.Strict().DecodeString(v[len(base64Prefix) : len(v)-len(base64Suffix)])
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrHeaderValue, err)
	}
	if !utf8.Valid(b) {
		return "", fmt.Errorf("%w: it is not UTF-8", ErrHeaderValue)
	}
	return string(b), nil
}

// NamedBy is the member of params that Mcp-Name repeats for a method, empty if there is none.
func (m *Message) NamedBy() (value string, named bool) {
	switch m.Method {
	case "tools/call", "prompts/get":
		return m.Name, true
	case "resources/read":
		return m.URI, true
	case "tasks/get", "tasks/update", "tasks/cancel":
		return m.TaskID, true
	}
	return "", false
}

// CheckHeaders compares the headers of a modern request with its body (2026-07-28, streamable HTTP, "Server Validation"). The error says
// which header is missing or differs.
func CheckHeaders(h http.Header, m *Message) error {
	version, err := single(h, HeaderVersion)
	if err != nil {
		return err
	}
	if m.Kind == Request && version != m.Meta.ProtocolVersion {
		return fmt.Errorf("header MCP-Protocol-Version says %q, the body's _meta says %q", version, m.Meta.ProtocolVersion)
	}
	method, err := single(h, HeaderMethod)
	if err != nil {
		return err
	}
	if method != m.Method {
		return fmt.Errorf("header Mcp-Method says %q, the body says %q", method, m.Method)
	}
	want, named := m.NamedBy()
	if !named {
		return nil
	}
	encoded, err := single(h, HeaderName)
	if err != nil {
		return err
	}
	name, err := DecodeHeaderValue(encoded)
	if err != nil {
		return fmt.Errorf("header Mcp-Name: %w", err)
	}
	if name != want {
		return fmt.Errorf("header Mcp-Name says %q, the body says %q", name, want)
	}
	return nil
}

func single(h http.Header, name string) (string, error) {
	switch v := h[name]; len(v) {
	case 0:
		return "", fmt.Errorf("header %s is missing", name)
	case 1:
		return strings.Trim(v[0], " \t"), nil
	default:
		return "", fmt.Errorf("header %s is there %d times", name, len(v))
	}
}
