package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sallyport/node/api"
	"sallyport/node/api/kind"
	"sallyport/raftfsm"
)

func (n *Node) routePublic(mux *http.ServeMux) {
	mux.Handle("/mcp/{upstream}", n.gateway)
	n.routeHealth(mux)
	mux.HandleFunc("/", notFound)
}

func (n *Node) routeHealth(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", n.readyz)
}

func (n *Node) routeAdmin(mux *http.ServeMux) {
	mux.Handle("/v1/", api.New(api.Config{
		Store: n.cluster, Control: n.keys.control, Data: n.keys.data, Policies: n.rules, Audit: n.audit, Cluster: n, Log: n.log, Version: n.version,
	}))
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A client that is gone does not need the answer.
	_, _ = fmt.Fprintln(w, text)
}

// readyz tells load balancers whether to send calls here.
func (n *Node) readyz(w http.ResponseWriter, _ *http.Request) {
	if problems := n.problems(); len(problems) > 0 {
		writeText(w, http.StatusServiceUnavailable, "not ready: "+problems[0])
		return
	}
	writeText(w, http.StatusOK, "ready")
}

// problems are why this node serves no calls.
func (n *Node) problems() (out []string) {
	n.mu.Lock()
	draining := n.draining
	n.mu.Unlock()
	if draining {
		out = append(out, "the node is about to stop")
	}
	if err := n.cluster.Freshness().Check(); err != nil {
		out = append(out, err.Error())
	}
	if n.cluster.Disk().Low() {
		out = append(out, "the disk is nearly full: calls cannot be recorded")
	}
	return out
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	body, err := json.Marshal(map[string]any{
		"type": "urn:sallyport:problem:not_found", "title": "Not Found", "status": http.StatusNotFound,
		"detail": "there is nothing here: MCP is at /mcp/UPSTREAM, the admin API at /v1/",
	})
	if err != nil {
		body = []byte("{}")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write(body)
}

// listenOps serves metrics, profiles and health, without authentication, where the operator wants them.
func (n *Node) listenOps() error {
	if n.cfg.OpsListen == "" {
		return nil
	}
	ln, err := net.Listen("tcp", n.cfg.OpsListen)
	if err != nil {
		return fmt.Errorf("listen for metrics: %w: give another --ops-listen, or an empty one for none", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	n.routeHealth(mux)
	n.ops = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	n.opsAt = ln.Addr()
	n.log.Info("metrics, profiles and health are served", "address", n.opsAt.String())
	n.work.Go(func() {
		if err := n.ops.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			n.end(err)
		}
	})
	return nil
}

// Status implements api.Cluster.
func (n *Node) Status(context.Context) api.Status {
	s := n.cluster.Status()
	out := api.Status{
		ID: s.ID, Version: n.version, Region: n.cfg.Region, URL: n.url, State: raftState(s.State), Leader: s.Leader, Problems: n.problems(),
		Term: s.Term, CommitIndex: s.CommitIndex, AppliedIndex: s.AppliedIndex, MaxStaleness: kind.Duration(n.cfg.MaxStaleness), Started: n.started.UTC(),
	}
	out.Ready = len(out.Problems) == 0
	if c, ok := n.cluster.Read().Cluster(); ok {
		out.ClusterID = c.ID
	}
	if age, ok := n.cluster.Freshness().Staleness(); ok {
		out.Staleness = kind.Duration(age)
	}
	return out
}

func raftState(s string) string {
	switch s {
	case "Leader":
		return "leader"
	case "Candidate":
		return "candidate"
	}
	return "follower"
}

// Nodes implements api.Cluster.
func (n *Node) Nodes(context.Context) []api.Node {
	leads := n.cluster.Status().State == "Leader"
	return []api.Node{{ID: n.dir.Node, URL: n.url, Region: n.cfg.Region, Role: "voter", Leader: leads}}
}

// Fresh implements api.Cluster.
func (n *Node) Fresh() error { return n.cluster.Freshness().Check() }

// purge is the leader's duty to drop what can no longer matter: tokens a day after they expired, revocation events after a month.
func (n *Node) purge(ctx context.Context) {
	const every, keepExpired, keepEvents = 10 * time.Minute, 24 * time.Hour, 31 * 24 * time.Hour
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			command := &raftfsm.Purge{ExpiredBefore: now.Add(-keepExpired).UnixMilli(), RecordedBefore: now.Add(-keepEvents).UnixMilli()}
			if _, err := n.cluster.Apply(ctx, command); err != nil && ctx.Err() == nil {
				n.log.Warn("cannot drop expired tokens", "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}
