package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/crypto"
	"sallyport/node/api/kind"
	"sallyport/raftfsm"
)

// TokenState is where a token stands.
type TokenState string

// The states of a token.
const (
	TokenActive  TokenState = "active"
	TokenExpired TokenState = "expired"
	TokenRevoked TokenState = "revoked"
)

func tokenState(revoked bool, expire int64, now time.Time) TokenState {
	switch {
	case revoked:
		return TokenRevoked
	case expire != 0 && expire <= now.UnixMilli():
		return TokenExpired
	default:
		return TokenActive
	}
}

// Token is what is known of a gateway token; the token itself is not.
type Token struct {
	ID        string     `json:"id"`
	Agent     string     `json:"agent"`
	Upstreams []string   `json:"upstreams,omitempty" nullable:"false" doc:"The token works for these only; all if empty."`
	State     TokenState `json:"state" enum:"active,expired,revoked"`
	Created   time.Time  `json:"created"`
	Expires   time.Time  `json:"expires,omitzero"`
}

// TokenRequest asks for a gateway token.
type TokenRequest struct {
	Agent     string        `json:"agent" maxLength:"63"`
	TTL       kind.Duration `json:"ttl,omitzero" doc:"Lifetime, such as 720h; 2160h when left out."`
	Upstreams []string      `json:"upstreams,omitempty" maxItems:"64" nullable:"false" doc:"Limit the token to these."`
}

// IssuedToken holds the text of a gateway token, this once.
type IssuedToken struct {
	Token
	Text string `json:"token" doc:"The token itself. It is not stored and cannot be shown again."`
}

const (
	defaultTTL      = 90 * 24 * time.Hour
	maxTTL          = 10 * 365 * 24 * time.Hour
	defaultAdminTTL = 24 * time.Hour
	maxAdminTTL     = 365 * 24 * time.Hour
)

func (a *api) registerTokens(routes huma.API) {
	type listInput struct {
		Agent string `query:"agent" maxLength:"63"`
	}
	type listTokens struct{ Body List[Token] }
	huma.Register(routes, operation(access{roles: everyone}, http.MethodGet, "/v1/tokens", "listTokens", "List gateway tokens"),
		func(_ context.Context, in *listInput) (*listTokens, error) {
			v, out := a.Store.Read(), &listTokens{Body: List[Token]{Items: []*Token{}}}
			for t := range v.GatewayTokens() {
				if in.Agent == "" || in.Agent == t.Agent {
					out.Body.Items = append(out.Body.Items, a.token(v, t))
				}
			}
			return out, nil
		})

	type issueInput struct{ Body TokenRequest }
	type issueOutput struct{ Body IssuedToken }
	issue := operation(access{roles: operators}, http.MethodPost, "/v1/tokens", "issueToken", "Issue a gateway token")
	issue.DefaultStatus = http.StatusCreated
	huma.Register(routes, issue, func(ctx context.Context, in *issueInput) (*issueOutput, error) {
		issued, err := a.issueToken(ctx, in.Body)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &issueOutput{Body: *issued}, nil
	})
}

func (a *api) token(v raftfsm.View, t *raftfsm.GatewayToken) *Token {
	return &Token{
		ID: t.ID, Agent: t.Agent, Upstreams: t.Upstreams, State: tokenState(gatewayTokenRevoked(v, t), t.ExpireTime, a.Clock()),
		Created: at(t.CreateTime), Expires: at(t.ExpireTime),
	}
}

// gatewayTokenRevoked tells whether the token itself was revoked or, after it was made, its agent.
func gatewayTokenRevoked(v raftfsm.View, t *raftfsm.GatewayToken) bool {
	agent, ok := v.Agent(t.Agent)
	return !ok || t.RevokedIndex != 0 || agent.RevokedIndex >= t.CreateIndex
}

func (a *api) issueToken(ctx context.Context, in TokenRequest) (*IssuedToken, error) {
	v := a.Store.Read()
	if _, ok := v.Agent(in.Agent); !ok {
		return nil, huma.Error404NotFound(fmt.Sprintf("there is no agent %q: apply one first", in.Agent))
	}
	ttl, err := lifetime(in.TTL, defaultTTL, maxTTL)
	if err != nil {
		return nil, err
	}
	upstreams := slices.Compact(slices.Sorted(slices.Values(in.Upstreams)))
	for _, name := range upstreams {
		if _, ok := v.Upstream(name); !ok {
			return nil, huma.Error404NotFound(fmt.Sprintf("there is no upstream %q to limit the token to", name))
		}
	}
	text, hash, err := crypto.NewToken(crypto.GatewayToken)
	if err != nil {
		return nil, err
	}
	record := raftfsm.GatewayToken{ID: newID("gt"), Hash: hash, Agent: in.Agent, Upstreams: upstreams, ExpireTime: a.Clock().Add(ttl).UnixMilli()}
	command := &raftfsm.PutGatewayToken{Time: a.now(), Token: record}
	if _, err := a.commit(ctx, change{method: "issue", kind: "token", name: record.ID, agent: in.Agent}, command); err != nil {
		if errors.Is(err, raftfsm.ErrNotFound) {
			return nil, huma.Error409Conflict(fmt.Sprintf("agent %q was deleted meanwhile", in.Agent))
		}
		return nil, err
	}
	record.CreateTime = command.Time
	return &IssuedToken{
		Token: Token{
			ID: record.ID, Agent: in.Agent, Upstreams: upstreams, State: TokenActive,
			Created: at(record.CreateTime), Expires: at(record.ExpireTime),
		},
		Text: text.ExposeString(),
	}, nil
}

func lifetime(asked kind.Duration, usual, most time.Duration) (time.Duration, error) {
	ttl := time.Duration(asked)
	if ttl == 0 {
		return usual, nil
	}
	if ttl < time.Second || ttl > most {
		return 0, invalid(kind.Problems{{Pointer: "/ttl", Message: fmt.Sprintf("%s is not between 1s and %s", ttl, most)}})
	}
	return ttl, nil
}

// at is a time of the state, the zero Time for never.
func at(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis).UTC()
}
