package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/crypto"
	"sallyport/raftfsm"
)

// Role is what an admin token may do.
type Role string

// The roles. Each may do what a viewer may, the owner all.
const (
	RoleViewer   Role = "viewer"   // reads resources and status
	RoleOperator Role = "operator" // agents, upstreams, gateway tokens, revocations
	RoleSecurity Role = "security" // policies, revocations, audit
	RoleOwner    Role = "owner"    // all, admin tokens included
)

// access is who may use an operation besides the owner, and whether it needs a fresh replica.
type access struct {
	roles []Role
	stale bool // served by a node that cannot prove its freshness: the way to see that, and to the repair
}

func (c access) permits(r Role) bool { return r == RoleOwner || slices.Contains(c.roles, r) }

var (
	everyone  = []Role{RoleViewer, RoleOperator, RoleSecurity}
	operators = []Role{RoleOperator}
	security  = []Role{RoleSecurity}
	enders    = []Role{RoleOperator, RoleSecurity}
	ownerOnly = []Role{}
)

const accessKey = "access" // in huma.Operation.Metadata

// operation describes an operation that c may use.
func operation(c access, method, path, id, summary string) huma.Operation {
	names := []string{string(RoleOwner)}
	for _, r := range c.roles {
		names = append(names, string(r))
	}
	return huma.Operation{
		OperationID:   id,
		Method:        method,
		Path:          path,
		Summary:       summary,
		Description:   "Roles: " + strings.Join(names, ", ") + ".",
		MaxBodyBytes:  maxBody,
		Metadata:      map[string]any{accessKey: c},
		DefaultStatus: http.StatusOK,
	}
}

// principal is who makes a request.
type principal struct {
	tokenID string
	role    Role
}

func (p principal) String() string { return fmt.Sprintf("admin token %s (%s)", p.tokenID, p.role) }

type principalKey struct{}

// caller is who makes the request of a context that passed authenticate.
func caller(ctx context.Context) principal {
	p, _ := ctx.Value(principalKey{}).(principal)
	return p
}

// authenticate lets a request through that has a valid admin token whose role may use the operation.
func (a *api) authenticate(routes huma.API) func(huma.Context, func(huma.Context)) {
	refuse := func(ctx huma.Context, status int, detail string) {
		if status == http.StatusUnauthorized {
			ctx.SetHeader("WWW-Authenticate", "Bearer")
		}
		if err := huma.WriteErr(routes, ctx, status, detail); err != nil {
			a.Log.DebugContext(ctx.Context(), "answer not written", "error", err)
		}
	}
	return func(ctx huma.Context, next func(huma.Context)) {
		needs, ok := ctx.Operation().Metadata[accessKey].(access)
		if !ok {
			refuse(ctx, http.StatusForbidden, "nobody may use this operation")
			return
		}
		token, problem := a.adminToken(ctx.Header("Authorization"))
		if problem != "" {
			refuse(ctx, http.StatusUnauthorized, problem)
			return
		}
		who := principal{tokenID: token.ID, role: Role(token.Role)}
		if !needs.permits(who.role) {
			a.Log.WarnContext(ctx.Context(), "admin request denied", "by", who.tokenID, "role", who.role, "operation", ctx.Operation().OperationID)
			refuse(ctx, http.StatusForbidden, fmt.Sprintf("the role %s may not do this: use a token of the role %s", who.role, roleList(needs)))
			return
		}
		if err := a.Cluster.Fresh(); err != nil && !needs.stale {
			refuse(ctx, http.StatusServiceUnavailable, "the node cannot prove that its state is fresh, so it refuses to act on it: look at /v1/status")
			return
		}
		next(huma.WithValue(ctx, principalKey{}, who))
	}
}

func roleList(c access) string {
	text := string(RoleOwner)
	for _, r := range c.roles {
		text += " or " + string(r)
	}
	return text
}

// adminToken finds the token of a request. The problem is for the caller to read and tells nothing about other tokens.
func (a *api) adminToken(authorization string) (token *raftfsm.AdminToken, problem string) {
	scheme, text, _ := strings.Cut(authorization, " ")
	text = strings.TrimSpace(text)
	if !strings.EqualFold(scheme, "Bearer") || text == "" {
		return nil, "send an admin token: Authorization: Bearer spa_..."
	}
	kind, hash, err := crypto.ParseToken(text)
	switch {
	case err != nil:
		return nil, "this is no admin token: one begins with spa_ and may have been cut or mistyped"
	case kind == crypto.GatewayToken:
		return nil, "this is a gateway token, which opens /mcp only: the admin API needs an admin token (spa_...)"
	}
	found, ok := a.Store.Read().AdminTokenByHash(hash)
	if !ok || !adminTokenValid(found, a.Clock()) {
		return nil, "this admin token does not exist, is expired or is revoked: get a new one from an owner"
	}
	return found, ""
}

func adminTokenValid(t *raftfsm.AdminToken, now time.Time) bool {
	return t.RevokedIndex == 0 && (t.ExpireTime == 0 || now.UnixMilli() < t.ExpireTime)
}
