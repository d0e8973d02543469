package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/node/audit"
	"sallyport/raftfsm"
)

// change is what a write does, for the record.
type change struct {
	method string // put, delete, issue, revoke
	kind   string // of what is changed
	name   string // of what is changed
	agent  string // whom it concerns, if it is an agent
	reason string
}

// event is the record of a change, before it is made or after it failed.
func (a *api) event(ctx context.Context, c change, failed error) audit.Record {
	r := audit.Record{
		ID: newID("ad"), Kind: audit.KindAdmin, Token: caller(ctx).tokenID, Agent: c.agent, Change: c.method, Subject: c.kind + "/" + c.name, Decision: audit.Allowed, Reason: c.reason,
	}
	if failed != nil {
		r.Status, r.Error = "error", failed.Error()
	}
	return r
}

// commit records a change and then makes it. A change that cannot be recorded is not made; one that was recorded and failed is
// recorded again with its error. The error is that of the command or of the cluster.
func (a *api) commit(ctx context.Context, c change, command raftfsm.Command) (index uint64, err error) {
	if err := a.Audit.Append(ctx, a.event(ctx, c, nil)); err != nil {
		a.Log.ErrorContext(ctx, "admin change refused: it cannot be recorded", "method", c.method, "kind", c.kind, "name", c.name, "error", err)
		return 0, huma.Error503ServiceUnavailable("the change cannot be recorded in the audit log, so it is not made: look at the node's disk and log, then repeat the request")
	}
	return a.apply(ctx, c, command)
}

// commitAnyway is commit for revocations: what they end may be stealing at this moment, so a full disk does not hold them up.
func (a *api) commitAnyway(ctx context.Context, c change, command raftfsm.Command) (index uint64, recorded bool, err error) {
	recorded = true
	if err := a.Audit.Append(ctx, a.event(ctx, c, nil)); err != nil {
		recorded = false
		a.Log.WarnContext(ctx, "revocation goes through without an audit record", "kind", c.kind, "name", c.name, "by", caller(ctx), "error", err)
	}
	index, err = a.apply(ctx, c, command)
	return index, recorded, err
}

func (a *api) apply(ctx context.Context, c change, command raftfsm.Command) (uint64, error) {
	result, err := a.Store.Apply(ctx, command)
	if err == nil {
		a.Log.InfoContext(ctx, "admin change", "method", c.method, "kind", c.kind, "name", c.name, "by", caller(ctx).tokenID, "index", result.Index)
		return result.Index, nil
	}
	if appendErr := a.Audit.Append(context.WithoutCancel(ctx), a.event(ctx, c, err)); appendErr != nil {
		a.Log.WarnContext(ctx, "the failure of a change is not recorded", "method", c.method, "kind", c.kind, "name", c.name, "error", appendErr)
	}
	return 0, fmt.Errorf("%s %s %s: %w", c.method, c.kind, c.name, err)
}

// now is the time of a command in Unix milliseconds.
func (a *api) now() int64 { return a.Clock().UnixMilli() }

// newID makes an identifier with 80 random bits.
func newID(prefix string) string {
	return prefix + "-" + strings.ToLower(rand.Text()[:16])
}
