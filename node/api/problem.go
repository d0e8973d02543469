package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/cluster"
	"sallyport/node/api/kind"
	"sallyport/raftfsm"
)

// withoutValues takes the values out of a problem document that huma quotes in it: they can be secrets.
func withoutValues(_ huma.Context, _ string, v any) (any, error) {
	problem, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	for _, detail := range problem.Errors {
		if detail != nil {
			detail.Value = nil
		}
	}
	return problem, nil
}

// invalid answers a document or request that is wrong by itself, with everything that is.
func invalid(problems kind.Problems) error {
	details := make([]error, len(problems))
	for i, p := range problems {
		location := "body"
		if field := p.Field(); field != "" {
			location += "." + field
		}
		details[i] = &huma.ErrorDetail{Message: p.Message, Location: location}
	}
	return huma.Error422UnprocessableEntity("the document is not valid", details...)
}

// problem turns what went wrong behind the API into an answer. Errors of huma pass as they are.
func (a *api) problem(ctx context.Context, err error) error {
	var answer huma.StatusError
	var problems kind.Problems
	switch {
	case err == nil || errors.As(err, &answer):
		return err
	case errors.As(err, &problems):
		return invalid(problems)
	case errors.Is(err, raftfsm.ErrNotFound):
		return huma.Error404NotFound("it does not exist, or no longer")
	case errors.Is(err, raftfsm.ErrExists):
		return huma.Error409Conflict("it exists already")
	case errors.Is(err, raftfsm.ErrConflict):
		return huma.Error409Conflict("it was changed by others again and again meanwhile: read it and repeat")
	case errors.Is(err, cluster.ErrUnknownOutcome):
		return huma.Error503ServiceUnavailable("the change was not confirmed: it may come into force or not; read the state before repeating it")
	case errors.Is(err, cluster.ErrNotLeader):
		return huma.Error503ServiceUnavailable("the node cannot write, because it has no leader at this moment: repeat the request")
	case errors.Is(err, cluster.ErrDiskFull):
		return huma.Error507InsufficientStorage("the node's disk is nearly full, the rest is kept for revocations: make room, then repeat the request")
	case errors.Is(err, cluster.ErrStale):
		return huma.Error503ServiceUnavailable("the node cannot prove that its state is fresh, so it refuses to act on it: look at /v1/status")
	}
	a.Log.ErrorContext(ctx, "admin request failed", "error", err)
	return huma.Error500InternalServerError("the node failed to carry this out; its log says why")
}

// unknownPath answers what no operation does.
func (a *api) unknownPath(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete} {
			probe := r.Clone(r.Context())
			probe.Method = method
			if _, pattern := mux.Handler(probe); pattern != "/v1/" {
				allowed = append(allowed, method)
			}
		}
		answer := &huma.ErrorModel{Status: http.StatusNotFound, Detail: "no such path: /v1/openapi.json describes those that exist"}
		if len(allowed) > 0 {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			answer.Status, answer.Detail = http.StatusMethodNotAllowed, "this path takes "+strings.Join(allowed, ", ")
		}
		answer.Title = http.StatusText(answer.Status)
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(answer.Status)
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			a.Log.DebugContext(r.Context(), "answer not written", "error", err)
		}
	}
}
