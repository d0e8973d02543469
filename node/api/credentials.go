package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/raftfsm"
)

// Credential is what is known of a credential, not what it holds.
type Credential struct {
	ID         string                  `json:"id"`
	Upstream   string                  `json:"upstream"`
	Subject    string                  `json:"subject" doc:"gateway: all callers share it."`
	Grant      raftfsm.Grant           `json:"grant"`
	State      raftfsm.CredentialState `json:"state" enum:"active,revoked"`
	Generation uint64                  `json:"generation"`
	Header     string                  `json:"header,omitempty"`
	Scope      string                  `json:"scope,omitempty"`
	Obtained   time.Time               `json:"obtained"`
	Expires    time.Time               `json:"expires,omitzero"`
	RefreshAt  time.Time               `json:"refreshAt,omitzero"`
}

func (a *api) registerCredentials(routes huma.API) {
	type listInput struct {
		Upstream string `query:"upstream" maxLength:"63"`
	}
	type listCredentials struct{ Body List[Credential] }
	huma.Register(routes, operation(access{roles: everyone}, http.MethodGet, "/v1/credentials", "listCredentials", "List credentials, without what they hold"),
		func(_ context.Context, in *listInput) (*listCredentials, error) {
			out := &listCredentials{Body: List[Credential]{Items: []*Credential{}}}
			for c := range a.Store.Read().Credentials() {
				if in.Upstream != "" && in.Upstream != c.Upstream {
					continue
				}
				out.Body.Items = append(out.Body.Items, &Credential{
					ID: c.ID, Upstream: c.Upstream, Subject: c.Subject, Grant: c.Grant, State: c.State, Generation: c.Generation,
					Header: c.Header, Scope: c.Scope, Obtained: at(c.ModifyTime), Expires: at(c.ExpireTime), RefreshAt: at(c.RefreshTime),
				})
			}
			return out, nil
		})
}
