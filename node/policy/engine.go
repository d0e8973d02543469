// Package policy decides, by Cedar policies, what an agent may do: deny by default, forbid wins, and what cannot be evaluated is denied.
package policy

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"
	"github.com/go-json-experiment/json/jsontext"

	"sallyport/raftfsm"
)

// Source is where the policies come from.
type Source interface{ Read() raftfsm.View }

// Engine decides by the policies as they stand in the replicated state.
type Engine struct {
	source  Source
	mu      sync.Mutex // serialises compilation
	current atomic.Pointer[compiled]
}

// New makes an engine over source.
func New(source Source) *Engine { return &Engine{source: source} }

// Request is one question: may this agent do this to that item?
type Request struct {
	Agent    string
	Roles    []string
	Action   string // an MCP method that touches one item
	Upstream string
	Item     string
	// Arguments is the object of a call's arguments, nil if it has none.
	Arguments jsontext.Value
}

// Decision is the answer and why.
type Decision struct {
	Allowed bool
	// Policies are the ones that decided, by name.
	Policies []string
	// Errors are policies that could not be evaluated.
	Errors []string
	// Missing is a policy that would permit a request that none permits.
	Missing string
}

// Reason says why a request was denied, for the caller's eyes.
func (d Decision) Reason() string {
	switch {
	case len(d.Errors) > 0:
		return "a policy that forbids could not be evaluated: " + strings.Join(d.Errors, "; ")
	case len(d.Policies) > 0:
		return "forbidden by policy " + strings.Join(d.Policies, ", ")
	default:
		return "no policy permits it"
	}
}

// load returns the compiled policies, compiling them anew if they changed since.
func (e *Engine) load() *compiled {
	if c := e.current.Load(); c != nil && !c.watch.Fired() {
		return c
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.current.Load(); c != nil && !c.watch.Fired() {
		return c
	}
	c := compile(e.source.Read())
	e.current.Store(c)
	return c
}

// Check decides one request.
func (e *Engine) Check(r Request) Decision {
	c := e.load()
	if c.broken != nil {
		return Decision{Errors: []string{c.broken.Error()}}
	}
	arguments, err := c.arguments(r.Arguments)
	if err != nil {
		return Decision{Errors: []string{err.Error()}}
	}
	request := cedar.Request{
		Principal: types.NewEntityUID(typeAgent, types.String(r.Agent)),
		Action:    types.NewEntityUID(typeAction, types.String(r.Action)),
		Resource:  resourceUID(r),
		Context:   types.NewRecord(types.RecordMap{attrArguments: arguments}),
	}
	verdict, diagnostic := cedar.Authorize(c.set, entities{r}, request)
	d := Decision{Allowed: verdict == cedar.Allow}
	for _, reason := range diagnostic.Reasons {
		d.Policies = append(d.Policies, string(reason.PolicyID))
	}
	// Cedar skips a policy that fails: a forbid that fails would forbid nothing.
	for _, failed := range diagnostic.Errors {
		if p := c.set.Get(failed.PolicyID); p == nil || p.Effect() == cedar.Forbid {
			d.Allowed = false
			d.Errors = append(d.Errors, fmt.Sprintf("%s: %s", failed.PolicyID, failed.Message))
		}
	}
	if !d.Allowed && len(d.Errors) == 0 && len(d.Policies) == 0 {
		d.Missing = suggest(r)
	}
	return d
}

// MayList tells whether an item is shown: with its arguments unknown, a permit remains that is no error, and no forbid is certain to
// hold or to fail.
func (e *Engine) MayList(r Request) bool {
	c := e.load()
	if c.broken != nil {
		return false
	}
	env := eval.Env{
		Entities:  entities{r},
		Principal: types.NewEntityUID(typeAgent, types.String(r.Agent)),
		Action:    types.NewEntityUID(typeAction, types.String(r.Action)),
		Resource:  resourceUID(r),
		Context:   types.NewRecord(types.RecordMap{attrArguments: eval.Variable(attrArguments)}),
	}
	permitted := false
	for _, p := range c.asts {
		rest, keep := eval.PartialPolicy(env, p)
		if !keep {
			continue
		}
		failed := false
		for _, cond := range rest.Conditions {
			if _, is := eval.ToPartialError(cond.Body); is {
				failed = true
			}
		}
		if types.Effect(p.Effect) == types.Permit {
			permitted = permitted || !failed
		} else if failed || len(rest.Conditions) == 0 {
			return false
		}
	}
	return permitted
}

// suggest writes the narrowest policy that would permit a request.
func suggest(r Request) string {
	principal := "== " + cedarUID(typeAgent, r.Agent)
	if len(r.Roles) > 0 {
		principal = "in " + cedarUID(typeRole, r.Roles[0])
	}
	return fmt.Sprintf("permit (principal %s, action == %s, resource == %s);",
		principal, cedarUID(typeAction, r.Action), resourceUID(r).MarshalCedar())
}

func cedarUID(t types.EntityType, id string) string {
	return string(types.NewEntityUID(t, types.String(id)).MarshalCedar())
}

// Validate checks Cedar text before it is stored. Errors carry line and column.
func Validate(name, text string) error {
	_, err := parse(name, text)
	return err
}

var errEmpty = errors.New("it holds no policy: write at least one permit or forbid")

// MayUse tells whether any permit could apply to something of an upstream. Agents for whom none can do not reach it at all.
func (e *Engine) MayUse(r Request) bool {
	c := e.load()
	if c.broken != nil {
		return false
	}
	for _, action := range actions() {
		env := eval.Env{
			Entities:  entities{r},
			Principal: types.NewEntityUID(typeAgent, types.String(r.Agent)),
			Action:    types.NewEntityUID(typeAction, types.String(action)),
			Resource:  eval.Variable("resource"),
			Context:   types.NewRecord(types.RecordMap{attrArguments: eval.Variable(attrArguments)}),
		}
		for _, p := range c.asts {
			if types.Effect(p.Effect) != types.Permit {
				continue
			}
			if _, keep := eval.PartialPolicy(env, p); keep && reaches(p.Resource, r.Upstream) {
				return true
			}
		}
	}
	return false
}

// reaches tells whether the resource scope of a policy can hold something of an upstream.
func reaches(scope ast.IsResourceScopeNode, upstream string) bool {
	of := func(uid types.EntityUID) bool {
		return uid.Type == typeUpstream && string(uid.ID) == upstream || strings.HasPrefix(string(uid.ID), upstream+"/")
	}
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		return of(s.Entity)
	case ast.ScopeTypeIn:
		return of(s.Entity)
	case ast.ScopeTypeIsIn:
		return of(s.Entity)
	}
	return true
}
