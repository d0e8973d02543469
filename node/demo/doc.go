// Package demo is `sallyport demo`: a node, an identity provider and two MCP
// servers in one process on loopback, and a tour on the screen of what the
// node does between them. The tour believes nobody: what it claims it checks,
// with the servers behind the node as witnesses.
package demo
