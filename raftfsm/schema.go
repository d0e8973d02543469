package raftfsm

import (
	"encoding/binary"
	"fmt"

	"github.com/hashicorp/go-memdb"
)

const (
	tableCluster       = "cluster"
	tableAgents        = "agents"
	tableGatewayTokens = "gateway_tokens"
	tableAdminTokens   = "admin_tokens"
	tableUpstreams     = "upstreams"
	tableCredentials   = "credentials"
	tablePolicies      = "policies"
	tableRevocations   = "revocations"
)

// index is a memdb indexer without reflection: key gives the indexed bytes of a record.
type index[T any] struct{ key func(*T) []byte }

// FromObject implements memdb.SingleIndexer.
func (i index[T]) FromObject(raw any) (bool, []byte, error) {
	r, ok := raw.(*T)
	if !ok {
		return false, nil, fmt.Errorf("index of %T met a %T", (*T)(nil), raw)
	}
	return true, terminate(i.key(r)), nil
}

// FromArgs implements memdb.Indexer.
func (i index[T]) FromArgs(args ...any) ([]byte, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("index wants one argument, got %d", len(args))
	}
	switch a := args[0].(type) {
	case string:
		return terminate([]byte(a)), nil
	case []byte:
		return terminate(a), nil
	default:
		return nil, fmt.Errorf("index wants a string or bytes, got %T", a)
	}
}

// terminate ends a key so that no key is a prefix of another.
func terminate(key []byte) []byte {
	out := make([]byte, len(key)+1)
	copy(out, key)
	return out
}

func indexKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func unique[T any](name string, key func(*T) []byte) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, Unique: true, Indexer: index[T]{key}}
}

func shared[T any](name string, key func(*T) []byte) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, Indexer: index[T]{key}}
}

func table(name string, indexes ...*memdb.IndexSchema) *memdb.TableSchema {
	t := &memdb.TableSchema{Name: name, Indexes: map[string]*memdb.IndexSchema{}}
	for _, i := range indexes {
		t.Indexes[i.Name] = i
	}
	return t
}

func newDB() (*memdb.MemDB, error) {
	schema := &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{}}
	for _, t := range []*memdb.TableSchema{
		table(tableCluster, unique("id", func(c *Cluster) []byte { return []byte(c.ID) })),
		table(tableAgents, unique("id", func(a *Agent) []byte { return []byte(a.Name) })),
		table(tableGatewayTokens,
			unique("id", func(t *GatewayToken) []byte { return []byte(t.ID) }),
			unique("hash", func(t *GatewayToken) []byte { return t.Hash[:] }),
			shared("agent", func(t *GatewayToken) []byte { return []byte(t.Agent) })),
		table(tableAdminTokens,
			unique("id", func(t *AdminToken) []byte { return []byte(t.ID) }),
			unique("hash", func(t *AdminToken) []byte { return t.Hash[:] })),
		table(tableUpstreams, unique("id", func(u *Upstream) []byte { return []byte(u.Name) })),
		table(tableCredentials,
			unique("id", func(c *Credential) []byte { return []byte(c.ID) }),
			shared("upstream", func(c *Credential) []byte { return []byte(c.Upstream) })),
		table(tablePolicies, unique("id", func(p *Policy) []byte { return []byte(p.Name) })),
		table(tableRevocations,
			unique("id", func(r *Revocation) []byte { return []byte(r.ID) }),
			unique("index", func(r *Revocation) []byte { return indexKey(r.CreateIndex) })),
	} {
		schema.Tables[t.Name] = t
	}
	db, err := memdb.NewMemDB(schema)
	if err != nil {
		return nil, fmt.Errorf("make the in-memory state: %w", err)
	}
	return db, nil
}
