package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"

	"sallyport/node/api/kind"
	"sallyport/node/policy"
)

// Policies decides what agents may do.
type Policies interface {
	Check(r policy.Request) policy.Decision
}

// PolicyRequest is a question to the policies.
type PolicyRequest struct {
	Agent string `json:"agent" minLength:"1" maxLength:"63"`
	// Roles to suppose for the agent; those it has when left out.
	Roles     []string        `json:"roles,omitempty" maxItems:"64" nullable:"false"`
	Action    string          `json:"action,omitempty" enum:"tools/call,prompts/get,resources/read" default:"tools/call"`
	Upstream  string          `json:"upstream" minLength:"1" maxLength:"31"`
	Item      string          `json:"item" minLength:"1" maxLength:"2048" doc:"Name of the tool or prompt, or URI of the resource."`
	Arguments json.RawMessage `json:"arguments,omitempty" doc:"Arguments of the call, an object."`
}

// PolicyDecision is the answer, and why.
type PolicyDecision struct {
	Allowed bool `json:"allowed"`
	// Policies that decided.
	Policies []string `json:"policies,omitempty" nullable:"false"`
	// Errors of policies that could not be evaluated.
	Errors []string `json:"errors,omitempty" nullable:"false"`
	// Missing is a policy that would permit it.
	Missing string `json:"missing,omitempty"`
}

func (a *api) registerPolicyCheck(routes huma.API) {
	type checkInput struct{ Body PolicyRequest }
	type checkOutput struct{ Body PolicyDecision }
	huma.Register(routes, operation(access{roles: security}, http.MethodPost, "/v1/policy/check", "checkPolicy", "Which policies decide, and why"),
		func(ctx context.Context, in *checkInput) (*checkOutput, error) {
			question, err := a.question(in.Body)
			if err != nil {
				return nil, a.problem(ctx, err)
			}
			d := a.Policies.Check(question)
			return &checkOutput{Body: PolicyDecision{Allowed: d.Allowed, Policies: d.Policies, Errors: d.Errors, Missing: d.Missing}}, nil
		})
}

func (a *api) question(in PolicyRequest) (policy.Request, error) {
	roles := in.Roles
	if roles == nil {
		agent, ok := a.Store.Read().Agent(in.Agent)
		if !ok {
			return policy.Request{}, huma.Error404NotFound(fmt.Sprintf("there is no agent %q: apply it, or give the roles to suppose", in.Agent))
		}
		roles = agent.Roles
	}
	arguments := jsontext.Value(in.Arguments)
	if len(arguments) > 0 && arguments.Kind() != '{' {
		return policy.Request{}, invalid(kind.Problems{{Pointer: "/arguments", Message: "has to be an object"}})
	}
	return policy.Request{Agent: in.Agent, Roles: roles, Action: in.Action, Upstream: in.Upstream, Item: in.Item, Arguments: arguments}, nil
}
