package raftfsm

import (
	"errors"
	"fmt"

	"github.com/hashicorp/go-memdb"
)

// Outcomes of a command that was applied and changed nothing. They are answers, the same on every replica, not failures of one.
var (
	ErrConflict = errors.New("the record has changed meanwhile: read it again and repeat")
	ErrNotFound = errors.New("no such record")
	ErrExists   = errors.New("a record of that name exists")
	ErrInvalid  = errors.New("the command contradicts itself")
)

// Result is what a command came to.
type Result struct {
	// Index is the log index of the command.
	Index uint64
	// Value is what the command answers, often nil.
	Value any
	// Err is one of this package's errors, or nil.
	Err error
}

// txn is one command being applied at one index.
type txn struct {
	*memdb.Txn
	index uint64
}

// Apply applies one log entry. An error means that this replica cannot go on (see ErrUnknownCommand); what the command itself came
// to is in the Result.
func (s *State) Apply(index uint64, data []byte) (Result, error) {
	c, err := s.codec.decode(data)
	if err != nil {
		return Result{}, fmt.Errorf("apply log entry %d: %w", index, err)
	}
	s.mu.RLock()
	tx := &txn{Txn: s.db.Txn(true), index: index}
	s.mu.RUnlock()
	value, err := c.apply(tx)
	if err != nil {
		tx.Abort()
	} else {
		tx.Commit()
	}
	s.mu.Lock()
	s.advance(index)
	s.mu.Unlock()
	return Result{Index: index, Value: value, Err: err}, nil
}

// put inserts a record; memdb refuses only what does not fit the fixed schema.
func put[T any](tx *txn, table string, r *T) error {
	if err := tx.Insert(table, r); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// stamp fills the history of a record from its predecessor and checks what the writer expected to find.
func stamp(tx *txn, now int64, m, old *Meta, expect Expect) error {
	var found uint64
	if old != nil {
		found = old.ModifyIndex
	}
	if expect != nil && *expect != found {
		return ErrConflict
	}
	*m = Meta{CreateIndex: tx.index, CreateTime: now, ModifyIndex: tx.index, ModifyTime: now}
	if old != nil {
		m.CreateIndex, m.CreateTime = old.CreateIndex, old.CreateTime
	}
	return nil
}

func (c *SetCluster) apply(tx *txn) (any, error) {
	for range all[Cluster](tx.Txn, tableCluster) {
		return nil, ErrExists
	}
	if c.Cluster.ID == "" {
		return nil, ErrInvalid
	}
	if err := stamp(tx, c.Time, &c.Cluster.Meta, nil, nil); err != nil {
		return nil, err
	}
	return nil, put(tx, tableCluster, &c.Cluster)
}

func (c *PutAgent) apply(tx *txn) (any, error) {
	if c.Agent.Name == "" {
		return nil, ErrInvalid
	}
	var before *Meta
	old, ok := get[Agent](tx.Txn, tableAgents, "id", c.Agent.Name)
	c.Agent.RevokedIndex = 0
	if ok {
		before, c.Agent.RevokedIndex = &old.Meta, old.RevokedIndex
	}
	if err := stamp(tx, c.Time, &c.Agent.Meta, before, c.Expect); err != nil {
		return nil, err
	}
	return nil, put(tx, tableAgents, &c.Agent)
}

func (c *DeleteAgent) apply(tx *txn) (any, error) {
	a, ok := get[Agent](tx.Txn, tableAgents, "id", c.Name)
	if !ok {
		return nil, ErrNotFound
	}
	if _, err := tx.DeleteAll(tableGatewayTokens, "agent", c.Name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := tx.Delete(tableAgents, a); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	r := Revocation{ID: c.RevocationID, Kind: RevokeAgent, Subject: c.Name, Reason: "agent deleted", By: c.By}
	return nil, record(tx, c.Time, r)
}

func (c *PutUpstream) apply(tx *txn) (any, error) {
	if c.Upstream.Name == "" {
		return nil, ErrInvalid
	}
	var before *Meta
	old, ok := get[Upstream](tx.Txn, tableUpstreams, "id", c.Upstream.Name)
	if ok {
		before = &old.Meta
	}
	if err := stamp(tx, c.Time, &c.Upstream.Meta, before, c.Expect); err != nil {
		return nil, err
	}
	if err := put(tx, tableUpstreams, &c.Upstream); err != nil {
		return nil, err
	}
	return nil, c.replaceCredential(tx)
}

// replaceCredential drops what was obtained under the old configuration. A generation never goes back, so that nothing sealed for
// an earlier value opens as a later one.
func (c *PutUpstream) replaceCredential(tx *txn) error {
	id := CredentialID(c.Upstream.Name, SubjectGateway)
	old, exists := get[Credential](tx.Txn, tableCredentials, "id", id)
	if c.Credential == nil {
		if !exists {
			return nil
		}
		next := *old
		next.State, next.Sealed, next.ExpireTime, next.RefreshTime = CredentialEmpty, nil, 0, 0
		next.Generation++
		next.ModifyIndex, next.ModifyTime = tx.index, c.Time
		next.UpstreamIndex = tx.index
		return put(tx, tableCredentials, &next)
	}
	if c.Credential.ID != id || c.Credential.Upstream != c.Upstream.Name {
		return ErrInvalid
	}
	var before *Meta
	if exists {
		if c.Credential.Generation <= old.Generation {
			return ErrConflict
		}
		before = &old.Meta
	}
	if err := stamp(tx, c.Time, &c.Credential.Meta, before, nil); err != nil {
		return err
	}
	c.Credential.UpstreamIndex = tx.index
	return put(tx, tableCredentials, c.Credential)
}

func (c *DeleteUpstream) apply(tx *txn) (any, error) {
	u, ok := get[Upstream](tx.Txn, tableUpstreams, "id", c.Name)
	if !ok {
		return nil, ErrNotFound
	}
	if _, err := tx.DeleteAll(tableCredentials, "upstream", c.Name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := tx.Delete(tableUpstreams, u); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil, nil
}

func (c *PutPolicy) apply(tx *txn) (any, error) {
	if c.Policy.Name == "" {
		return nil, ErrInvalid
	}
	var before *Meta
	if old, ok := get[Policy](tx.Txn, tablePolicies, "id", c.Policy.Name); ok {
		before = &old.Meta
	}
	if err := stamp(tx, c.Time, &c.Policy.Meta, before, c.Expect); err != nil {
		return nil, err
	}
	return nil, put(tx, tablePolicies, &c.Policy)
}

func (c *DeletePolicy) apply(tx *txn) (any, error) {
	p, ok := get[Policy](tx.Txn, tablePolicies, "id", c.Name)
	if !ok {
		return nil, ErrNotFound
	}
	if err := tx.Delete(tablePolicies, p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil, nil
}

func (*Establish) apply(*txn) (any, error) { return nil, nil }
