// Package api is the admin API of a node, /v1: resources, tokens, revocations, status and the audit log, for those who run the
// gateway. Its OpenAPI description is made from the types here. Agents have no business on it: their tokens are refused.
package api

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	strict "github.com/go-json-experiment/json"

	"sallyport/crypto"
	"sallyport/node/api/kind"
	"sallyport/raftfsm"
)

// Store is the replicated state.
type Store interface {
	Read() raftfsm.View
	// Apply commits a command and returns when this node's replica reflects it.
	Apply(ctx context.Context, c raftfsm.Command) (raftfsm.Result, error)
}

// Sealer seals secrets before they enter a command, and opens them to seal them again.
type Sealer interface {
	Seal(secret crypto.Secret, b crypto.Binding) ([]byte, error)
	Open(sealed []byte, b crypto.Binding) (crypto.Secret, error)
}

// Cluster tells about this node and the others.
type Cluster interface {
	Status(ctx context.Context) Status
	Nodes(ctx context.Context) []Node
	// Fresh returns nil if the replica is provably as fresh as the node has to be to serve.
	Fresh() error
}

// Config is what the API stands on. All fields but Clock are needed.
type Config struct {
	Store    Store
	Control  Sealer // client secrets and private keys
	Data     Sealer // static values
	Policies Policies
	Audit    Audit
	Cluster  Cluster
	Log      *slog.Logger
	Version  string
	Clock    func() time.Time // time.Now when nil
}

// api is the handler's state: what it stands on and nothing else.
type api struct{ Config }

// maxBody bounds what a request may carry.
const maxBody = kind.MaxBytes

// New makes the handler of everything under /v1/.
func New(cfg Config) http.Handler {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	a := &api{cfg}
	mux := http.NewServeMux()
	routes := humago.New(mux, a.describe())
	routes.UseMiddleware(a.authenticate(routes))

	a.registerResources(routes)
	a.registerTokens(routes)
	a.registerAdminTokens(routes)
	a.registerRevocations(routes)
	a.registerCredentials(routes)
	a.registerStatus(routes)
	a.registerPolicyCheck(routes)
	a.registerAudit(routes)

	mux.HandleFunc("GET /v1/openapi.json", a.description(routes))
	mux.HandleFunc("/v1/", a.unknownPath(mux))
	return noStore(mux)
}

// description answers with what the operations say of themselves. It is no secret.
func (a *api) description(routes huma.API) http.HandlerFunc {
	text, err := json.Marshal(routes.OpenAPI())
	return func(w http.ResponseWriter, r *http.Request) {
		if err != nil {
			a.Log.ErrorContext(r.Context(), "the API cannot describe itself", "error", err)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/openapi+json")
		if _, err := w.Write(text); err != nil {
			a.Log.DebugContext(r.Context(), "answer not written", "error", err)
		}
	}
}

// describe is the API's own description and how bodies are read and written.
func (a *api) describe() huma.Config {
	cfg := huma.DefaultConfig("Sallyport admin API", a.Version)
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", "" // see description
	cfg.CreateHooks = nil                                       // would put a $schema into every body
	format := huma.Format{Marshal: writeJSON, Unmarshal: readJSON}
	cfg.Formats = map[string]huma.Format{"application/json": format, "json": format} // the second for types that end in +json
	cfg.RejectUnknownQueryParameters = true
	cfg.Transformers = []huma.Transformer{withoutValues}
	cfg.Info.Description = "Resources, tokens, revocations, status and audit of a Sallyport gateway. Errors are problem documents (RFC 9457)."
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"admin": {Type: "http", Scheme: "bearer", BearerFormat: "spa_...", Description: "An admin token; its role decides what it may do."},
	}
	cfg.Security = []map[string][]string{{"admin": {}}}
	schemas := cfg.Components.Schemas
	schemas.RegisterTypeAlias(reflect.TypeFor[kind.Secret](), reflect.TypeFor[secretSchema]())
	schemas.RegisterTypeAlias(reflect.TypeFor[kind.Text](), reflect.TypeFor[string]())
	schemas.RegisterTypeAlias(reflect.TypeFor[kind.OnStale](), reflect.TypeFor[onStaleSchema]())
	return cfg
}

// secretSchema describes kind.Secret.
type secretSchema struct{}

// Schema implements huma.SchemaProvider.
func (secretSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Description: "The secret itself on the way in, never on the way out. {set: true} keeps, or tells of, the one that is stored.",
		OneOf: []*huma.Schema{
			{Type: huma.TypeString, WriteOnly: true},
			{Type: huma.TypeObject, Properties: map[string]*huma.Schema{"set": {Type: huma.TypeBoolean}}},
		},
	}
}

// onStaleSchema describes kind.OnStale.
type onStaleSchema struct{}

// Schema implements huma.SchemaProvider.
func (onStaleSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		OneOf: []*huma.Schema{
			{Type: huma.TypeString, Enum: []any{"refuse"}},
			{Type: huma.TypeObject, Properties: map[string]*huma.Schema{"serve": {Type: huma.TypeString, Description: "duration, such as 10m"}}},
		},
	}
}

// readJSON refuses repeated names, which two readers could read differently.
func readJSON(data []byte, v any) error { return strict.Unmarshal(data, v) }

func writeJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// noStore keeps what the API says out of caches: tokens are in it.
func noStore(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
