// Package mcpserver runs the two MCP servers that stand behind the gateway in
// `sallyport demo`: an accounting system, and a customer database whose
// records are full of personal data. Everything in them is made up.
//
// They guard themselves as a real MCP server should: each accepts only bearer
// tokens that its identity provider issued for it alone (RFC 8707), and says
// where to get one (RFC 9728). Both revisions of MCP are served on the one
// endpoint. Each server remembers who called last, so that the demo can ask
// the upstream instead of taking the gateway's word.
package mcpserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

const (
	endpointPath = "/mcp"
	metadataPath = "/.well-known/oauth-protected-resource"

	// firstModern is the first revision without sessions.
	firstModern = "2026-07-28"

	idleSession = time.Hour
)

// Server is one running MCP server.
type Server struct {
	url    string
	mcp    *mcp.Server
	http   *http.Server
	served chan struct{}

	mu    sync.Mutex // protects the following
	last  Caller
	calls int
}

// Caller is what a server knows about the tool call it answered last.
type Caller struct {
	ClientID         string // claim client_id of the token
	Subject          string // claim sub of the token
	TokenFingerprint string // first 8 hex digits of the token's SHA-256
	Tool             string
	Time             time.Time // when the call reached the server
}

// start serves what register adds to an MCP server called name, for callers
// whose token the issuer issued for this server with the given scope.
func start(ctx context.Context, name, issuer, scope string, register func(*mcp.Server)) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start MCP server %s: listen on loopback: %w", name, err)
	}
	base := "http://" + listener.Addr().String()
	s := &Server{
		url:    base + endpointPath,
		mcp:    mcp.NewServer(&mcp.Implementation{Name: name, Version: "1.0.0"}, nil),
		served: make(chan struct{}),
	}
	verify, err := newVerifier(ctx, issuer, s.url)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start MCP server %s: %w", name, err), listener.Close())
	}
	register(s.mcp)
	s.mcp.AddReceivingMiddleware(s.rememberCaller)

	guard := auth.RequireBearerToken(verify, &auth.RequireBearerTokenOptions{
		ResourceMetadataURL: base + metadataPath + endpointPath,
		Scopes:              []string{scope},
	})
	metadata := auth.ProtectedResourceMetadataHandler(&oauthex.ProtectedResourceMetadata{
		Resource:               s.url,
		AuthorizationServers:   []string{issuer},
		ScopesSupported:        []string{scope},
		BearerMethodsSupported: []string{"header"},
		ResourceName:           name,
	})
	mux := http.NewServeMux()
	mux.Handle(endpointPath, guard(s.bothEras()))
	mux.Handle(metadataPath, metadata)
	mux.Handle(metadataPath+endpointPath, metadata)
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}

	go func() {
		defer close(s.served)
		_ = s.http.Serve(listener) // ends with Close, and says nothing else
	}()
	context.AfterFunc(ctx, s.Close)
	return s, nil
}

// bothEras routes by the version header, because one handler of the SDK
// speaks either the stateless revision or the sessions of its predecessors.
func (s *Server) bothEras() http.Handler {
	server := func(*http.Request) *mcp.Server { return s.mcp }
	modern := mcp.NewStreamableHTTPHandler(server, &mcp.StreamableHTTPOptions{
		Stateless: true, PropagateRequestCancellation: true,
	})
	legacy := mcp.NewStreamableHTTPHandler(server, &mcp.StreamableHTTPOptions{SessionTimeout: idleSession})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Protocol-Version") >= firstModern {
			modern.ServeHTTP(w, r)
			return
		}
		legacy.ServeHTTP(w, r)
	})
}

// URL is the MCP endpoint, which is also the audience that tokens must have.
func (s *Server) URL() string { return s.url }

// LastCaller tells who made the last tool call; it is empty before the first.
func (s *Server) LastCaller() Caller {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Calls counts the tool calls that reached the server.
func (s *Server) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Close ends every session and connection and returns when that is done.
func (s *Server) Close() {
	_ = s.http.Close() // its error is that of closing the listener a second time
	<-s.served
	for session := range s.mcp.Sessions() {
		_ = session.Close() // the connections under it are gone already
	}
}
