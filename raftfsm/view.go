package raftfsm

import (
	"iter"

	"github.com/hashicorp/go-memdb"
)

// View is a consistent, immutable reading of the state. Records that it returns are shared: never change them.
type View struct {
	txn      *memdb.Txn
	index    uint64
	replaced chan struct{}
}

// Index is the log index that the view reflects.
func (v View) Index() uint64 { return v.index }

// The schema is fixed and every lookup passes an argument of the right type, so memdb's errors, which speak of unknown tables and
// arguments of the wrong type, can only be mistakes in this package; its tests reach every lookup.
func get[T any](txn *memdb.Txn, table, index string, key any) (*T, bool) {
	raw, err := txn.First(table, index, key)
	if err != nil || raw == nil {
		return nil, false
	}
	r, ok := raw.(*T)
	return r, ok
}

// all reads a whole table in key order.
func all[T any](txn *memdb.Txn, table string) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		it, err := txn.Get(table, "id")
		if err != nil {
			return
		}
		each(it, yield)
	}
}

func each[T any](it memdb.ResultIterator, yield func(*T) bool) {
	for raw := it.Next(); raw != nil; raw = it.Next() {
		if r, ok := raw.(*T); !ok || !yield(r) {
			return
		}
	}
}

func (v View) watch(table, index string, key any) Watch {
	ch, _, err := v.txn.FirstWatch(table, index, key)
	if err != nil {
		ch = nil
	}
	return Watch{changed: ch, replaced: v.replaced}
}

func (v View) watchTable(table string) Watch {
	it, err := v.txn.Get(table, "id")
	if err != nil {
		return Watch{replaced: v.replaced}
	}
	return Watch{changed: it.WatchCh(), replaced: v.replaced}
}

// Cluster returns the cluster record, absent before the bootstrap.
func (v View) Cluster() (*Cluster, bool) {
	for c := range all[Cluster](v.txn, tableCluster) {
		return c, true
	}
	return nil, false
}

// Agent finds an agent by name.
func (v View) Agent(name string) (*Agent, bool) { return get[Agent](v.txn, tableAgents, "id", name) }

// Agents lists all agents by name.
func (v View) Agents() iter.Seq[*Agent] { return all[Agent](v.txn, tableAgents) }

// GatewayToken finds a gateway token by id.
func (v View) GatewayToken(id string) (*GatewayToken, bool) {
	return get[GatewayToken](v.txn, tableGatewayTokens, "id", id)
}

// GatewayTokenByHash finds a gateway token by the SHA-256 of its text.
func (v View) GatewayTokenByHash(hash [32]byte) (*GatewayToken, bool) {
	return get[GatewayToken](v.txn, tableGatewayTokens, "hash", hash[:])
}

// GatewayTokens lists all gateway tokens by id.
func (v View) GatewayTokens() iter.Seq[*GatewayToken] {
	return all[GatewayToken](v.txn, tableGatewayTokens)
}

// AdminToken finds an admin token by id.
func (v View) AdminToken(id string) (*AdminToken, bool) {
	return get[AdminToken](v.txn, tableAdminTokens, "id", id)
}

// AdminTokenByHash finds an admin token by the SHA-256 of its text.
func (v View) AdminTokenByHash(hash [32]byte) (*AdminToken, bool) {
	return get[AdminToken](v.txn, tableAdminTokens, "hash", hash[:])
}

// AdminTokens lists all admin tokens by id.
func (v View) AdminTokens() iter.Seq[*AdminToken] { return all[AdminToken](v.txn, tableAdminTokens) }

// Upstream finds an upstream by name.
func (v View) Upstream(name string) (*Upstream, bool) {
	return get[Upstream](v.txn, tableUpstreams, "id", name)
}

// Upstreams lists all upstreams by name.
func (v View) Upstreams() iter.Seq[*Upstream] { return all[Upstream](v.txn, tableUpstreams) }

// Credential finds a credential by id.
func (v View) Credential(id string) (*Credential, bool) {
	return get[Credential](v.txn, tableCredentials, "id", id)
}

// Credentials lists all credentials by id.
func (v View) Credentials() iter.Seq[*Credential] { return all[Credential](v.txn, tableCredentials) }

// WatchCredential fires when the credential of that id appears, changes or goes.
func (v View) WatchCredential(id string) Watch { return v.watch(tableCredentials, "id", id) }

// Policy finds a policy by name.
func (v View) Policy(name string) (*Policy, bool) {
	return get[Policy](v.txn, tablePolicies, "id", name)
}

// Policies lists all policies by name.
func (v View) Policies() iter.Seq[*Policy] { return all[Policy](v.txn, tablePolicies) }

// WatchPolicies fires when any policy changes.
func (v View) WatchPolicies() Watch { return v.watchTable(tablePolicies) }

// RevocationsAfter lists the revocations that were committed after index, oldest first.
func (v View) RevocationsAfter(index uint64) iter.Seq[*Revocation] {
	return func(yield func(*Revocation) bool) {
		it, err := v.txn.LowerBound(tableRevocations, "index", indexKey(index+1))
		if err != nil {
			return
		}
		each(it, yield)
	}
}

// WatchRevocations fires when a revocation is recorded.
func (v View) WatchRevocations() Watch { return v.watchTable(tableRevocations) }
