package raftfsm

import "fmt"

func (c *PutGatewayToken) apply(tx *txn) (any, error) {
	t := &c.Token
	if t.ID == "" || t.Hash == ([32]byte{}) {
		return nil, ErrInvalid
	}
	if _, ok := get[GatewayToken](tx.Txn, tableGatewayTokens, "id", t.ID); ok {
		return nil, ErrExists
	}
	if _, ok := get[GatewayToken](tx.Txn, tableGatewayTokens, "hash", t.Hash[:]); ok {
		return nil, ErrExists
	}
	if _, ok := get[Agent](tx.Txn, tableAgents, "id", t.Agent); !ok {
		return nil, ErrNotFound
	}
	t.RevokedIndex = 0
	if err := stamp(tx, c.Time, &t.Meta, nil, nil); err != nil {
		return nil, err
	}
	return nil, put(tx, tableGatewayTokens, t)
}

func (c *PutAdminToken) apply(tx *txn) (any, error) {
	t := &c.Token
	if t.ID == "" || t.Role == "" || t.Hash == ([32]byte{}) {
		return nil, ErrInvalid
	}
	if _, ok := get[AdminToken](tx.Txn, tableAdminTokens, "id", t.ID); ok {
		return nil, ErrExists
	}
	if _, ok := get[AdminToken](tx.Txn, tableAdminTokens, "hash", t.Hash[:]); ok {
		return nil, ErrExists
	}
	t.RevokedIndex = 0
	if err := stamp(tx, c.Time, &t.Meta, nil, nil); err != nil {
		return nil, err
	}
	return nil, put(tx, tableAdminTokens, t)
}

func (c *PutCredential) apply(tx *txn) (any, error) {
	n := &c.Credential
	u, ok := get[Upstream](tx.Txn, tableUpstreams, "id", n.Upstream)
	if !ok {
		return nil, ErrNotFound
	}
	if n.ID != CredentialID(n.Upstream, n.Subject) || n.Generation == 0 {
		return nil, ErrInvalid
	}
	if n.UpstreamIndex != u.ModifyIndex {
		return nil, ErrConflict
	}
	var before *Meta
	var generation uint64
	if old, ok := get[Credential](tx.Txn, tableCredentials, "id", n.ID); ok {
		before, generation = &old.Meta, old.Generation
	}
	if n.Generation != generation+1 {
		return nil, ErrConflict
	}
	if err := stamp(tx, c.Time, &n.Meta, before, nil); err != nil {
		return nil, err
	}
	return nil, put(tx, tableCredentials, n)
}

func (c *Revoke) apply(tx *txn) (any, error) {
	r := c.Revocation
	if r.ID == "" {
		return nil, ErrInvalid
	}
	if _, ok := get[Revocation](tx.Txn, tableRevocations, "id", r.ID); ok {
		return nil, nil // submitted twice: the first one holds
	}
	if err := end(tx, c.Time, r.Kind, r.Subject); err != nil {
		return nil, err
	}
	return nil, record(tx, c.Time, r)
}

// end marks the subject of a revocation.
func end(tx *txn, now int64, kind SubjectKind, subject string) error {
	switch kind {
	case RevokeToken:
		if t, ok := get[GatewayToken](tx.Txn, tableGatewayTokens, "id", subject); ok {
			next := *t
			next.RevokedIndex, next.ModifyIndex, next.ModifyTime = tx.index, tx.index, now
			return put(tx, tableGatewayTokens, &next)
		}
		if t, ok := get[AdminToken](tx.Txn, tableAdminTokens, "id", subject); ok {
			next := *t
			next.RevokedIndex, next.ModifyIndex, next.ModifyTime = tx.index, tx.index, now
			return put(tx, tableAdminTokens, &next)
		}
	case RevokeAgent:
		if a, ok := get[Agent](tx.Txn, tableAgents, "id", subject); ok {
			next := *a
			next.RevokedIndex, next.ModifyIndex, next.ModifyTime = tx.index, tx.index, now
			return put(tx, tableAgents, &next)
		}
	case RevokeCredential:
		if cr, ok := get[Credential](tx.Txn, tableCredentials, "id", subject); ok {
			next := *cr
			next.State, next.Sealed, next.ExpireTime, next.RefreshTime = CredentialRevoked, nil, 0, 0
			next.Generation++
			next.ModifyIndex, next.ModifyTime = tx.index, now
			return put(tx, tableCredentials, &next)
		}
	default:
		return ErrInvalid
	}
	return ErrNotFound
}

func record(tx *txn, now int64, r Revocation) error {
	if err := stamp(tx, now, &r.Meta, nil, nil); err != nil {
		return err
	}
	return put(tx, tableRevocations, &r)
}

func (c *Purge) apply(tx *txn) (any, error) {
	var gone []any
	var tables []string
	for t := range all[GatewayToken](tx.Txn, tableGatewayTokens) {
		if t.ExpireTime != 0 && t.ExpireTime < c.ExpiredBefore {
			gone, tables = append(gone, t), append(tables, tableGatewayTokens)
		}
	}
	for t := range all[AdminToken](tx.Txn, tableAdminTokens) {
		if t.ExpireTime != 0 && t.ExpireTime < c.ExpiredBefore {
			gone, tables = append(gone, t), append(tables, tableAdminTokens)
		}
	}
	for r := range all[Revocation](tx.Txn, tableRevocations) {
		if r.CreateTime < c.RecordedBefore {
			gone, tables = append(gone, r), append(tables, tableRevocations)
		}
	}
	for i, r := range gone {
		if err := tx.Delete(tables[i], r); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return len(gone), nil
}
