// Package transport is how bytes arrive at a node and leave it: the public listener that speaks
// HTTP/3, HTTP/2 and HTTP/1.1 on one port, the connection pool towards upstreams, and the client
// that Sallyport's own programs reach a node with.
//
// It knows nothing of MCP, tokens or clusters. What it guarantees to the packages above is that the
// three protocols behave alike: the same limits, the same draining, and one http.Handler.
package transport
