package api

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/node/audit"
)

// Audit is the node's record of what was done.
type Audit interface {
	Append(ctx context.Context, r audit.Record) error
	Search(ctx context.Context, f audit.Filter, yield func(audit.Record) bool) error
	Follow(ctx context.Context, f audit.Filter, begun func(), yield func(audit.Record) bool) error
}

// AuditRecord is one line of the audit.
type AuditRecord = audit.Record

// AuditList is what a search found, the newest last.
type AuditList struct {
	Records []AuditRecord `json:"records" nullable:"false"`
}

type auditInput struct {
	Agent    string    `query:"agent" maxLength:"63"`
	Upstream string    `query:"upstream" maxLength:"63"`
	Item     string    `query:"item" maxLength:"2048"`
	Kind     string    `query:"kind" enum:"use,outcome,admin"`
	Decision string    `query:"decision" enum:"allowed,denied"`
	ID       string    `query:"id" maxLength:"64"`
	Since    time.Time `query:"since"`
	Until    time.Time `query:"until"`
	Limit    int       `query:"limit" minimum:"1" maximum:"5000" default:"100" doc:"The newest so many."`
	Follow   bool      `query:"follow" doc:"Stream the records that are written from now on, one JSON object on each line."`
}

func (in *auditInput) filter() audit.Filter {
	return audit.Filter{
		Agent: in.Agent, Upstream: in.Upstream, Item: in.Item, Kind: in.Kind, Decision: in.Decision, ID: in.ID,
		Since: in.Since, Until: in.Until, Limit: in.Limit,
	}
}

func (a *api) registerAudit(routes huma.API) {
	search := operation(access{roles: security}, http.MethodGet, "/v1/audit", "searchAudit", "Search the audit log, or follow it")
	search.Responses = map[string]*huma.Response{
		"200": {
			Description: "The newest records that match, oldest first; with follow=true a stream of new ones.",
			Content: map[string]*huma.MediaType{
				"application/json":     {Schema: schemaOf[AuditList](routes)},
				"application/x-ndjson": {Schema: schemaOf[audit.Record](routes)},
			},
		},
	}
	huma.Register(routes, search, func(ctx context.Context, in *auditInput) (*huma.StreamResponse, error) {
		if in.Follow {
			return &huma.StreamResponse{Body: func(stream huma.Context) { a.follow(stream, in.filter()) }}, nil
		}
		list := AuditList{Records: []audit.Record{}}
		err := a.Audit.Search(ctx, in.filter(), func(r audit.Record) bool {
			list.Records = append(list.Records, r)
			return true
		})
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &huma.StreamResponse{Body: func(out huma.Context) {
			out.SetHeader("Content-Type", "application/json")
			if err := writeJSON(out.BodyWriter(), list); err != nil {
				a.Log.DebugContext(ctx, "answer not written", "error", err)
			}
		}}, nil
	})
}

// follow streams until the client goes, or its token ends.
func (a *api) follow(stream huma.Context, f audit.Filter) {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go a.endWithToken(ctx, cancel, caller(ctx).tokenID)

	stream.SetHeader("Content-Type", "application/x-ndjson")
	stream.SetHeader("X-Accel-Buffering", "no")
	out := stream.BodyWriter()
	flush := func() {
		if f, ok := out.(http.Flusher); ok {
			f.Flush()
		}
	}
	encoder := json.NewEncoder(out)
	// The status tells the client that from now on nothing is missed.
	begun := func() {
		stream.SetStatus(http.StatusOK)
		flush()
	}
	err := a.Audit.Follow(ctx, f, begun, func(r audit.Record) bool {
		if encoder.Encode(r) != nil {
			return false
		}
		flush()
		return true
	})
	if err != nil && ctx.Err() == nil {
		a.Log.WarnContext(ctx, "a stream of the audit log broke off", "error", err)
	}
}

// endWithToken calls end when the token is no longer valid. It returns when ctx ends.
func (a *api) endWithToken(ctx context.Context, end func(), tokenID string) {
	for {
		v := a.Store.Read()
		token, ok := v.AdminToken(tokenID)
		if !ok || !adminTokenValid(token, a.Clock()) {
			end()
			return
		}
		until, stop := ctx, context.CancelFunc(func() {})
		if token.ExpireTime != 0 {
			until, stop = context.WithTimeout(ctx, at(token.ExpireTime).Sub(a.Clock()))
		}
		err := v.WatchRevocations().Wait(until)
		stop()
		if err != nil && ctx.Err() != nil {
			return
		}
	}
}

func schemaOf[T any](routes huma.API) *huma.Schema {
	return routes.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
}
