package gateway

import (
	"net/http"
	"strings"

	"sallyport/node/mcp"
)

// checkEra tells which era the client speaks and holds it to the rules of that era.
func (c *call) checkEra() bool {
	// Several values make none that anybody knows: the upstream might read another one than this gateway.
	version := strings.TrimSpace(strings.Join(c.r.Header[mcp.HeaderVersion], ", "))
	c.modern = mcp.LooksModern(version) || c.msg != nil && c.msg.Meta.ProtocolVersion != ""
	if !c.modern {
		return c.checkLegacy(version)
	}
	if c.r.Method != http.MethodPost {
		c.w.Header().Set("Allow", "POST")
		return c.refuse(http.StatusMethodNotAllowed, "method_not_allowed", "since 2026-07-28 MCP uses POST only")
	}
	if c.msg.Kind == mcp.Response {
		return c.reject(http.StatusBadRequest, mcp.CodeInvalidRequest, "since 2026-07-28 clients send no responses")
	}
	if err := mcp.CheckHeaders(c.r.Header, c.msg); err != nil {
		return c.reject(http.StatusBadRequest, headerCode(c.msg), err.Error())
	}
	if !mcp.IsModern(version) {
		return c.unsupportedVersion(version)
	}
	if err := c.catalog.checkParams(c.upstream, c.r.Header, c.msg); err != nil {
		return c.reject(http.StatusBadRequest, mcp.CodeHeaderMismatch, err.Error())
	}
	return true
}

// headerCode tells a body that lacks its version, which is a matter of params, from headers that do not match.
func headerCode(m *mcp.Message) int {
	if m.Kind == mcp.Request && m.Meta.ProtocolVersion == "" {
		return mcp.CodeInvalidParams
	}
	return mcp.CodeHeaderMismatch
}

func (c *call) unsupportedVersion(version string) bool {
	data := mcp.Object{
		{Name: "supported", Value: quoteAll(mcp.Versions())},
		{Name: "requested", Value: mcp.Quote(version)},
	}
	c.note("refused", "", "unsupported protocol version")
	c.writeJSON(http.StatusBadRequest, mcp.ErrorBody(c.msg.ID, mcp.CodeUnsupportedVersion, "unsupported protocol version", data.JSON()))
	return false
}

func (c *call) checkLegacy(version string) bool {
	if version != "" && !mcp.IsLegacy(version) {
		if c.msg != nil && c.msg.Kind == mcp.Request {
			return c.unsupportedVersion(version)
		}
		return c.refuse(http.StatusBadRequest, "unsupported_version", "MCP-Protocol-Version names no version that this gateway knows")
	}
	return true
}
