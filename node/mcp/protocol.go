package mcp

import "slices"

// The protocol revisions of both eras, oldest first.
const (
	Version20241105 = "2024-11-05"
	Version20250326 = "2025-03-26"
	Version20250618 = "2025-06-18"
	Version20251125 = "2025-11-25"
	Version20260728 = "2026-07-28"
)

// LatestLegacy is the newest revision with `initialize` and sessions.
const LatestLegacy = Version20251125

// LatestModern is the newest stateless revision.
const LatestModern = Version20260728

// Header names of the streamable HTTP transport.
const (
	HeaderVersion     = "Mcp-Protocol-Version"
	HeaderSession     = "Mcp-Session-Id"
	HeaderMethod      = "Mcp-Method"
	HeaderName        = "Mcp-Name"
	HeaderParamPrefix = "Mcp-Param-"
	HeaderLastEvent   = "Last-Event-Id"
)

// Members of _meta that the specification reserves.
const (
	MetaProtocolVersion = "io.modelcontextprotocol/protocolVersion"
	MetaClientInfo      = "io.modelcontextprotocol/clientInfo"
	MetaClientCaps      = "io.modelcontextprotocol/clientCapabilities"
	MetaLogLevel        = "io.modelcontextprotocol/logLevel"
	MetaServerInfo      = "io.modelcontextprotocol/serverInfo"
	MetaSubscription    = "io.modelcontextprotocol/subscriptionId"
)

// JSON-RPC and MCP error codes, then Sallyport's own (outside the range that JSON-RPC reserves).
const (
	CodeParse              = -32700
	CodeInvalidRequest     = -32600
	CodeMethodNotFound     = -32601
	CodeInvalidParams      = -32602
	CodeInternal           = -32603
	CodeHeaderMismatch     = -32020
	CodeMissingCapability  = -32021
	CodeUnsupportedVersion = -32022
	CodeLegacyNotFound     = -32002 // resource not found, before 2026-07-28

	CodeDenied        = 1001
	CodeStale         = 1002
	CodeUpstream      = 1003
	CodeConnectNeeded = 1004
	CodeLimited       = 1005
	CodeRedaction     = 1006
)

// Versions lists all revisions of both eras, newest first.
func Versions() []string {
	return []string{Version20260728, Version20251125, Version20250618, Version20250326, Version20241105}
}

// IsLegacy tells a known revision of the legacy era.
func IsLegacy(version string) bool {
	return version != Version20260728 && slices.Contains(Versions(), version)
}

// IsModern tells a known revision of the modern era.
func IsModern(version string) bool { return version == Version20260728 }

// LooksModern tells a version string of the modern era, known or not: dates compare as text.
func LooksModern(version string) bool {
	return len(version) == len(Version20260728) && version >= Version20260728
}

// IsList tells the methods whose result lists items that policies decide on, and the member that holds them.
func IsList(method string) (member string, ok bool) {
	switch method {
	case "tools/list":
		return "tools", true
	case "prompts/list":
		return "prompts", true
	case "resources/list":
		return "resources", true
	case "resources/templates/list":
		return "resourceTemplates", true
	}
	return "", false
}

// MayAskForInput tells the methods whose result may be an InputRequiredResult (2026-07-28, multi round-trip requests).
func MayAskForInput(method string) bool {
	return method == "tools/call" || method == "prompts/get" || method == "resources/read"
}
