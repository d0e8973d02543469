package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"

	"sallyport/node/api/kind"
	"sallyport/raftfsm"
)

// Outcome is what a write came to, or would come to.
type Outcome string

// The outcomes of a write.
const (
	Created   Outcome = "created"
	Changed   Outcome = "changed"
	Unchanged Outcome = "unchanged"
)

// List is all resources of a kind.
type List[D any] struct {
	Items []*D `json:"items" nullable:"false"`
}

// Applied is the answer to a write: the resource as it stands now, or would stand.
type Applied[D any] struct {
	Outcome Outcome `json:"outcome" enum:"created,changed,unchanged"`
	// SecretChanged tells of a change that the resource does not show.
	SecretChanged bool `json:"secretChanged,omitempty"`
	Resource      *D   `json:"resource"`
}

// plan is how a document becomes the state's.
type plan[D any] struct {
	command       raftfsm.Command // nil if nothing is to be changed
	current       uint64          // ModifyIndex of the record as it is, 0 if there is none
	secretChanged bool
	result        *D
}

func (p plan[D]) outcome() Outcome {
	switch {
	case p.command == nil:
		return Unchanged
	case p.current == 0:
		return Created
	default:
		return Changed
	}
}

// resource is what the operations on a kind need to know of it. D is its document.
type resource[D any] struct {
	kind    kind.Kind
	writers []Role
	all     func(v raftfsm.View) iter.Seq[*D]
	find    func(v raftfsm.View, name string) (document *D, index uint64, ok bool)
	// plan makes a command that is conditional on the view.
	plan   func(ctx context.Context, v raftfsm.View, document *D) (plan[D], error)
	delete func(name, by string) raftfsm.Command
}

func (a *api) registerResources(routes huma.API) {
	register(a, routes, a.agents())
	register(a, routes, a.policies())
	register(a, routes, a.upstreams())
}

type nameInput struct {
	Name string `path:"name" maxLength:"63"`
}

type putInput struct {
	Name        string `path:"name" maxLength:"63"`
	DryRun      bool   `query:"dryRun" doc:"Only say what would be done."`
	IfMatch     string `header:"If-Match" maxLength:"32" doc:"The ETag that the resource must have, or *."`
	IfNoneMatch string `header:"If-None-Match" maxLength:"1" enum:"*" doc:"* refuses to replace a resource."`
	RawBody     []byte `contentType:"application/json"`
}

type listOutput[D any] struct{ Body List[D] }

type getOutput[D any] struct {
	ETag string `header:"ETag"`
	Body *D
}

type putOutput[D any] struct {
	Status int
	ETag   string `header:"ETag"`
	Body   Applied[D]
}

// register adds the operations on one kind.
func register[D any](a *api, routes huma.API, r resource[D]) {
	path, name := "/v1/"+r.kind.Plural(), string(r.kind)
	readers, writers := access{roles: everyone}, access{roles: r.writers}

	huma.Register(routes, operation(readers, http.MethodGet, path, "list"+name, "List the "+r.kind.Plural()),
		func(context.Context, *struct{}) (*listOutput[D], error) {
			out := &listOutput[D]{Body: List[D]{Items: []*D{}}}
			for d := range r.all(a.Store.Read()) {
				out.Body.Items = append(out.Body.Items, d)
			}
			return out, nil
		})

	huma.Register(routes, operation(readers, http.MethodGet, path+"/{name}", "get"+name, "Get one"),
		func(_ context.Context, in *nameInput) (*getOutput[D], error) {
			d, index, ok := r.find(a.Store.Read(), in.Name)
			if !ok {
				return nil, absent(r.kind, in.Name)
			}
			return &getOutput[D]{ETag: etag(index), Body: d}, nil
		})

	put := operation(writers, http.MethodPut, path+"/{name}", "put"+name, "Create one or replace it")
	put.SkipValidateBody = true // kind.Decode says more, and never quotes a value
	put.RequestBody = &huma.RequestBody{}
	huma.Register(routes, put, func(ctx context.Context, in *putInput) (*putOutput[D], error) {
		out, err := r.put(ctx, a, in)
		return out, a.problem(ctx, err)
	})
	schema := routes.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[D](), true, name)
	put.RequestBody.Content["application/json"].Schema = schema

	remove := operation(writers, http.MethodDelete, path+"/{name}", "delete"+name, "Delete one")
	remove.DefaultStatus = http.StatusNoContent
	huma.Register(routes, remove, func(ctx context.Context, in *nameInput) (*struct{}, error) {
		return nil, a.problem(ctx, r.remove(ctx, a, in.Name))
	})
}

// maxAttempts bounds how often a write starts again because others changed the record.
const maxAttempts = 8

func (r resource[D]) put(ctx context.Context, a *api, in *putInput) (*putOutput[D], error) {
	document, err := r.decode(in)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		p, err := r.plan(ctx, a.Store.Read(), document)
		if err != nil {
			return nil, err
		}
		if err := precondition(in, p.current); err != nil {
			return nil, err
		}
		out := &putOutput[D]{Status: http.StatusOK, Body: Applied[D]{Outcome: p.outcome(), SecretChanged: p.secretChanged, Resource: p.result}}
		if p.command == nil {
			out.ETag = etag(p.current)
			return out, nil
		}
		if in.DryRun {
			return out, nil
		}
		index, err := a.commit(ctx, change{method: "put", kind: strings.ToLower(string(r.kind)), name: in.Name}, p.command)
		switch {
		case errors.Is(err, raftfsm.ErrConflict) && conditional(in):
			return nil, huma.Error412PreconditionFailed("the resource was changed meanwhile: read it again")
		case errors.Is(err, raftfsm.ErrConflict) && attempt < maxAttempts:
			continue
		case err != nil:
			return nil, err
		}
		if p.current == 0 {
			out.Status = http.StatusCreated
		}
		out.ETag = etag(index)
		if now, _, ok := r.find(a.Store.Read(), in.Name); ok {
			out.Body.Resource = now
		}
		return out, nil
	}
}

// decode reads and checks the document of a PUT.
func (r resource[D]) decode(in *putInput) (*D, error) {
	read, err := kind.Decode(in.RawBody)
	if err != nil {
		return nil, err
	}
	document, ok := read.(any).(*D)
	if !ok {
		return nil, kind.Problems{{Pointer: "/kind", Message: fmt.Sprintf("is %s, but the path is that of %s", read.Head().Kind, r.kind.Plural())}}
	}
	problems := append(read.Validate(), kind.Unresolved(read)...)
	if name := read.Head().Metadata.Name; name != in.Name {
		problems = append(problems, kind.Problem{Pointer: "/metadata/name", Message: fmt.Sprintf("is %q, but the path says %q", name, in.Name)})
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return document, nil
}

func (r resource[D]) remove(ctx context.Context, a *api, name string) error {
	if _, _, ok := r.find(a.Store.Read(), name); !ok {
		return absent(r.kind, name)
	}
	_, err := a.commit(ctx, change{method: "delete", kind: strings.ToLower(string(r.kind)), name: name}, r.delete(name, caller(ctx).String()))
	if errors.Is(err, raftfsm.ErrNotFound) {
		return absent(r.kind, name)
	}
	return err
}

func absent(k kind.Kind, name string) error {
	return huma.Error404NotFound(fmt.Sprintf("there is no %s %q", strings.ToLower(string(k)), name))
}

func etag(index uint64) string { return strconv.Quote(strconv.FormatUint(index, 10)) }

func conditional(in *putInput) bool { return in.IfMatch != "" || in.IfNoneMatch != "" }

// precondition checks what the writer expects to replace (RFC 9110, section 13.1).
func precondition(in *putInput, current uint64) error {
	switch {
	case in.IfNoneMatch != "" && current != 0:
		return huma.Error412PreconditionFailed("the resource exists already")
	case in.IfMatch != "" && current == 0:
		return huma.Error412PreconditionFailed("the resource does not exist")
	case in.IfMatch != "" && in.IfMatch != "*" && in.IfMatch != etag(current):
		return huma.Error412PreconditionFailed("the resource was changed meanwhile, its ETag is " + etag(current) + ": read it again")
	}
	return nil
}

// same tells whether two documents say the same, leaving aside when they were written.
func same(x, y kind.Resource) (bool, error) {
	one, err := plain(x)
	if err != nil {
		return false, err
	}
	other, err := plain(y)
	return bytes.Equal(one, other), err
}

func plain(r kind.Resource) ([]byte, error) {
	text, err := json.Marshal(r, json.Deterministic(true), json.OmitZeroStructFields(true))
	if err != nil {
		return nil, fmt.Errorf("compare %s %s: %w", r.Head().Kind, r.Head().Metadata.Name, err)
	}
	return text, nil
}
