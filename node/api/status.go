package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/node/api/kind"
)

// Status is how this node does.
type Status struct {
	ID        string `json:"id"`
	Version   string `json:"version"`
	ClusterID string `json:"clusterID,omitempty"`
	Region    string `json:"region"`
	URL       string `json:"url"`
	// State in the Raft group: leader, follower or candidate.
	State  string `json:"state"`
	Leader string `json:"leader,omitempty" doc:"The id of the node that writes go to."`
	// Ready is what /readyz says; Problems say why not.
	Ready        bool          `json:"ready"`
	Problems     []string      `json:"problems,omitempty" nullable:"false"`
	Term         uint64        `json:"term"`
	CommitIndex  uint64        `json:"commitIndex"`
	AppliedIndex uint64        `json:"appliedIndex"`
	Staleness    kind.Duration `json:"staleness,omitzero" doc:"How old the node's state may be; not there if it has no proof."`
	MaxStaleness kind.Duration `json:"maxStaleness"`
	Started      time.Time     `json:"started"`
}

// Node is a node of the cluster.
type Node struct {
	ID     string `json:"id"`
	URL    string `json:"url"`
	Region string `json:"region"`
	Role   string `json:"role" enum:"voter,edge"`
	Leader bool   `json:"leader"`
}

func (a *api) registerStatus(routes huma.API) {
	type statusOutput struct{ Body Status }
	huma.Register(routes, operation(access{roles: everyone, stale: true}, http.MethodGet, "/v1/status", "status", "How this node does"),
		func(ctx context.Context, _ *struct{}) (*statusOutput, error) {
			return &statusOutput{Body: a.Cluster.Status(ctx)}, nil
		})

	type nodesOutput struct{ Body List[Node] }
	huma.Register(routes, operation(access{roles: everyone, stale: true}, http.MethodGet, "/v1/nodes", "listNodes", "List the nodes of the cluster"),
		func(ctx context.Context, _ *struct{}) (*nodesOutput, error) {
			out := &nodesOutput{Body: List[Node]{Items: []*Node{}}}
			for _, n := range a.Cluster.Nodes(ctx) {
				out.Body.Items = append(out.Body.Items, &n)
			}
			return out, nil
		})
}
