package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/crypto"
	"sallyport/raftfsm"
)

// Revocation is an event that ended what existed of its subject.
type Revocation struct {
	ID     string    `json:"id"`
	Kind   string    `json:"kind" enum:"token,agent,credential"`
	Of     string    `json:"subject" doc:"The id of what was ended."`
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"`
	Index  uint64    `json:"index" doc:"Where in the log it stands: what existed then is ended."`
	Time   time.Time `json:"time"`
}

// RevocationRequest asks to end something.
type RevocationRequest struct {
	Kind   string `json:"kind" enum:"token,agent,credential,user"`
	ID     string `json:"id" minLength:"1" maxLength:"256" doc:"The name of the agent, the id of the token or credential, or the token itself."`
	Reason string `json:"reason,omitempty" maxLength:"256"`
}

// RevocationAnswer says how far a revocation has come, and what it ended.
type RevocationAnswer struct {
	ID    string `json:"id"`
	State string `json:"state" enum:"committed" doc:"committed: every node that can prove its state fresh refuses from now on."`
	Index uint64 `json:"index"`
	// Ended names it in words.
	Ended string `json:"ended"`
	// Recorded is false if the audit log could not be written, which does not hold up a revocation.
	Recorded bool `json:"recorded"`
}

func (a *api) registerRevocations(routes huma.API) {
	type listInput struct {
		After uint64 `query:"after" doc:"Only those after this index."`
		Limit int    `query:"limit" minimum:"1" maximum:"10000" default:"1000"`
	}
	type listRevocations struct{ Body List[Revocation] }
	huma.Register(routes, operation(access{roles: everyone}, http.MethodGet, "/v1/revocations", "listRevocations", "List revocations, oldest first"),
		func(_ context.Context, in *listInput) (*listRevocations, error) {
			out := &listRevocations{Body: List[Revocation]{Items: []*Revocation{}}}
			for r := range a.Store.Read().RevocationsAfter(in.After) {
				if len(out.Body.Items) == in.Limit {
					break
				}
				out.Body.Items = append(out.Body.Items, &Revocation{
					ID: r.ID, Kind: string(r.Kind), Of: r.Subject, Reason: r.Reason, By: r.By, Index: r.CreateIndex, Time: at(r.CreateTime),
				})
			}
			return out, nil
		})

	type revokeInput struct{ Body RevocationRequest }
	type revokeOutput struct{ Body RevocationAnswer }
	revoke := operation(access{roles: enders, stale: true}, http.MethodPost, "/v1/revocations", "revoke", "End a token, an agent or a credential")
	revoke.DefaultStatus = http.StatusCreated
	huma.Register(routes, revoke, func(ctx context.Context, in *revokeInput) (*revokeOutput, error) {
		answer, err := a.revoke(ctx, in.Body)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &revokeOutput{Body: *answer}, nil
	})
}

func (a *api) revoke(ctx context.Context, in RevocationRequest) (*RevocationAnswer, error) {
	subject, agent, ended, err := a.subject(ctx, in)
	if err != nil {
		return nil, err
	}
	r := raftfsm.Revocation{ID: newID("rv"), Kind: raftfsm.SubjectKind(in.Kind), Subject: subject, Reason: in.Reason, By: caller(ctx).String()}
	c := change{method: "revoke", kind: in.Kind, name: subject, agent: agent, reason: in.Reason}
	index, recorded, err := a.commitAnyway(ctx, c, &raftfsm.Revoke{Time: a.now(), Revocation: r})
	if errors.Is(err, raftfsm.ErrNotFound) {
		return nil, nothingToRevoke(in.Kind)
	}
	if err != nil {
		return nil, err
	}
	return &RevocationAnswer{ID: r.ID, State: "committed", Index: index, Ended: ended, Recorded: recorded}, nil
}

// subject finds what is to be ended, the agent whom it concerns, and says in words what it is. The replica may lag behind: what it does not know yet is left
// to the command to find.
func (a *api) subject(ctx context.Context, in RevocationRequest) (id, agent, ended string, err error) {
	v := a.Store.Read()
	switch in.Kind {
	case "user":
		return "", "", "", huma.Error422UnprocessableEntity("this version knows no users: revoke the agent, the token or the credential")
	case string(raftfsm.RevokeAgent):
		active := 0
		for t := range v.GatewayTokens() {
			if t.Agent == in.ID && tokenState(gatewayTokenRevoked(v, t), t.ExpireTime, a.Clock()) == TokenActive {
				active++
			}
		}
		return in.ID, in.ID, fmt.Sprintf("agent %s with %s", in.ID, count(active, "active token")), nil
	case string(raftfsm.RevokeCredential):
		return in.ID, "", "credential " + in.ID, nil
	}

	id = in.ID
	if _, hash, err := crypto.ParseToken(in.ID); err == nil {
		if t, ok := v.GatewayTokenByHash(hash); ok {
			id = t.ID
		} else if t, ok := v.AdminTokenByHash(hash); ok {
			id = t.ID
		} else {
			return "", "", "", nothingToRevoke(in.Kind)
		}
	}
	if t, ok := v.GatewayToken(id); ok {
		return id, t.Agent, fmt.Sprintf("token %s of agent %s", id, t.Agent), nil
	}
	if t, ok := v.AdminToken(id); ok {
		if who := caller(ctx); who.role == RoleOperator && who.tokenID != id {
			return "", "", "", huma.Error403Forbidden("the role operator may revoke gateway tokens and its own admin token: use a token of the role owner or security")
		}
		return id, "", fmt.Sprintf("admin token %s (%s)", id, t.Role), nil
	}
	return "", "", "", nothingToRevoke(in.Kind)
}

func nothingToRevoke(kind string) error {
	return huma.Error404NotFound("there is no such " + kind + ": look at what exists with a list")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
