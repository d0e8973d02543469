// Package interop holds the tests that run MCP programs written by others
// through a real node: the conformance suite, the go-sdk client over HTTP/3,
// the inspector and mcp-remote. They need npm and the build tag interop; run
// them with make test-interop.
package interop
