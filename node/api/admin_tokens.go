package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/crypto"
	"sallyport/node/api/kind"
	"sallyport/raftfsm"
)

// AdminToken is what is known of an admin token; the token itself is not.
type AdminToken struct {
	ID      string     `json:"id"`
	Role    Role       `json:"role" enum:"viewer,operator,security,owner"`
	Name    string     `json:"name,omitempty"`
	State   TokenState `json:"state" enum:"active,expired,revoked"`
	Created time.Time  `json:"created"`
	Expires time.Time  `json:"expires,omitzero"`
}

// AdminTokenRequest asks for an admin token.
type AdminTokenRequest struct {
	Role Role          `json:"role" enum:"viewer,operator,security,owner"`
	Name string        `json:"name,omitempty" maxLength:"63" pattern:"^[A-Za-z0-9@._ -]*$" doc:"Who or what it is for."`
	TTL  kind.Duration `json:"ttl,omitzero" doc:"Lifetime, such as 8h; 24h when left out, 8760h at the most."`
}

// IssuedAdminToken holds the text of an admin token, this once.
type IssuedAdminToken struct {
	AdminToken
	Text string `json:"token" doc:"The token itself. It is not stored and cannot be shown again."`
}

func (a *api) registerAdminTokens(routes huma.API) {
	type listAdminTokens struct{ Body List[AdminToken] }
	huma.Register(routes, operation(access{roles: ownerOnly}, http.MethodGet, "/v1/admin-tokens", "listAdminTokens", "List admin tokens"),
		func(context.Context, *struct{}) (*listAdminTokens, error) {
			out := &listAdminTokens{Body: List[AdminToken]{Items: []*AdminToken{}}}
			for t := range a.Store.Read().AdminTokens() {
				out.Body.Items = append(out.Body.Items, &AdminToken{
					ID: t.ID, Role: Role(t.Role), Name: t.Name, State: tokenState(t.RevokedIndex != 0, t.ExpireTime, a.Clock()),
					Created: at(t.CreateTime), Expires: at(t.ExpireTime),
				})
			}
			return out, nil
		})

	type issueInput struct{ Body AdminTokenRequest }
	type issueOutput struct{ Body IssuedAdminToken }
	issue := operation(access{roles: ownerOnly}, http.MethodPost, "/v1/admin-tokens", "issueAdminToken", "Issue an admin token")
	issue.DefaultStatus = http.StatusCreated
	huma.Register(routes, issue, func(ctx context.Context, in *issueInput) (*issueOutput, error) {
		issued, err := a.issueAdminToken(ctx, in.Body)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &issueOutput{Body: *issued}, nil
	})
}

func (a *api) issueAdminToken(ctx context.Context, in AdminTokenRequest) (*IssuedAdminToken, error) {
	ttl, err := lifetime(in.TTL, defaultAdminTTL, maxAdminTTL)
	if err != nil {
		return nil, err
	}
	text, hash, err := crypto.NewToken(crypto.AdminToken)
	if err != nil {
		return nil, err
	}
	record := raftfsm.AdminToken{ID: newID("at"), Hash: hash, Role: string(in.Role), Name: in.Name, ExpireTime: a.Clock().Add(ttl).UnixMilli()}
	command := &raftfsm.PutAdminToken{Time: a.now(), Token: record}
	if _, err := a.commit(ctx, change{method: "issue", kind: "admin token", name: record.ID + " (" + record.Role + ")"}, command); err != nil {
		return nil, err
	}
	return &IssuedAdminToken{
		AdminToken: AdminToken{
			ID: record.ID, Role: in.Role, Name: in.Name, State: TokenActive, Created: at(command.Time), Expires: at(record.ExpireTime),
		},
		Text: text.ExposeString(),
	}, nil
}
