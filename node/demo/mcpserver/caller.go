package mcpserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// callerKey is where a verified token's Caller travels in the SDK's TokenInfo.
const callerKey = "caller"

// newVerifier checks access tokens against the keys that the issuer publishes
// and accepts those whose audience is this resource.
func newVerifier(ctx context.Context, issuer, resource string) (auth.TokenVerifier, error) {
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, fmt.Errorf("discover issuer %s: %w", issuer, err)
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: resource})
	return func(ctx context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		verified, err := verifier.Verify(ctx, token)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", auth.ErrInvalidToken, err)
		}
		var claims struct {
			ClientID string `json:"client_id"`
			Scope    string `json:"scope"`
		}
		if err := verified.Claims(&claims); err != nil {
			return nil, fmt.Errorf("%w: read claims: %w", auth.ErrInvalidToken, err)
		}
		digest := sha256.Sum256([]byte(token))
		return &auth.TokenInfo{
			Scopes:     strings.Fields(claims.Scope),
			Expiration: verified.Expiry,
			UserID:     verified.Subject, // the SDK keeps sessions to this subject
			Extra: map[string]any{callerKey: Caller{
				ClientID:         claims.ClientID,
				Subject:          verified.Subject,
				TokenFingerprint: hex.EncodeToString(digest[:4]),
			}},
		}, nil
	}, nil
}

// callerOf says on whose token a request came.
func callerOf(r mcp.Request) Caller {
	extra := r.GetExtra()
	if extra == nil || extra.TokenInfo == nil {
		return Caller{}
	}
	caller, _ := extra.TokenInfo.Extra[callerKey].(Caller)
	return caller
}

// rememberCaller notes the caller of every tool call.
func (s *Server) rememberCaller(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
		if params, ok := r.GetParams().(*mcp.CallToolParamsRaw); ok {
			caller := callerOf(r)
			caller.Tool, caller.Time = params.Name, time.Now()
			s.mu.Lock()
			s.last = caller
			s.calls++
			s.mu.Unlock()
		}
		return next(ctx, method, r)
	}
}
