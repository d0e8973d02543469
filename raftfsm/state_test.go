package raftfsm

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"
)

// replica applies commands at consecutive indexes.
type replica struct {
	*State
	t    testing.TB
	next uint64
}

func newReplica(t testing.TB) *replica {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return &replica{State: s, t: t}
}

func (r *replica) do(c Command) error {
	r.t.Helper()
	data, err := Encode(c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.next++
	res, err := r.Apply(r.next, data)
	if err != nil {
		r.t.Fatal(err)
	}
	if res.Index != r.next || r.Applied() != r.next {
		r.t.Fatalf("applied %d, result says %d, state says %d", r.next, res.Index, r.Applied())
	}
	return res.Err
}

func (r *replica) must(cs ...Command) {
	r.t.Helper()
	for _, c := range cs {
		if err := r.do(c); err != nil {
			r.t.Fatalf("%T: %v", c, err)
		}
	}
}

func (r *replica) refuses(want error, c Command) {
	r.t.Helper()
	if err := r.do(c); !errors.Is(err, want) {
		r.t.Fatalf("%T: %v, want %v", c, err, want)
	}
}

func hashOf(b byte) (h [32]byte) {
	h[0] = b
	return h
}

func token(id, agent string, h byte) *PutGatewayToken {
	return &PutGatewayToken{Time: 5, Token: GatewayToken{ID: id, Agent: agent, Hash: hashOf(h)}}
}

// populated holds at least one record of each kind.
func populated(t testing.TB) *replica {
	t.Helper()
	r := newReplica(t)
	r.must(
		&SetCluster{Time: 1, Cluster: Cluster{ID: "c1", CACert: []byte("pem"), CAKey: []byte("sealed")}},
		&PutAgent{Time: 2, Agent: Agent{Name: "FinanceAgent", Roles: []string{"finance"}, Labels: map[string]string{"a": "b"}}},
		&PutUpstream{
			Time: 3, Upstream: Upstream{Name: "crm", URL: "https://crm.example/mcp", Grant: GrantStatic, Header: "X-Api-Key"},
			Credential: &Credential{ID: "crm:gateway", Upstream: "crm", Subject: SubjectGateway, Generation: 1, State: CredentialActive, Sealed: []byte("s")},
		},
		&PutPolicy{Time: 4, Policy: Policy{Name: "p", Cedar: "permit(principal,action,resource);"}},
		token("t1", "FinanceAgent", 1),
		&PutAdminToken{Time: 6, Token: AdminToken{ID: "a1", Role: "owner", Hash: hashOf(9)}},
		&Revoke{Time: 7, Revocation: Revocation{ID: "r1", Kind: RevokeToken, Subject: "t1", Reason: "test"}},
	)
	return r
}

func TestCommands(t *testing.T) {
	r := populated(t)
	v := r.Read()
	if tok, ok := v.GatewayTokenByHash(hashOf(1)); !ok || tok.ID != "t1" || tok.RevokedIndex != 7 {
		t.Fatalf("token by hash: %+v %v", tok, ok)
	}
	if c, ok := v.Credential(CredentialID("crm", SubjectGateway)); !ok || c.UpstreamIndex != 3 {
		t.Fatalf("credential: %+v %v", c, ok)
	}
	zero, three := uint64(0), uint64(3)
	r.refuses(ErrExists, &SetCluster{Cluster: Cluster{ID: "c2"}})
	r.refuses(ErrConflict, &PutAgent{Agent: Agent{Name: "FinanceAgent"}, Expect: &zero})
	r.refuses(ErrConflict, &PutAgent{Agent: Agent{Name: "Other"}, Expect: &three})
	r.refuses(ErrInvalid, &PutAgent{})
	r.refuses(ErrExists, token("t1", "FinanceAgent", 2))
	r.refuses(ErrExists, token("t2", "FinanceAgent", 1))
	r.refuses(ErrNotFound, token("t2", "Nobody", 2))
	r.refuses(ErrNotFound, &DeletePolicy{Name: "other"})
	r.refuses(ErrNotFound, &DeleteUpstream{Name: "other"})
	r.refuses(ErrNotFound, &DeleteAgent{Name: "other", RevocationID: "r2"})
	r.refuses(ErrNotFound, &Revoke{Revocation: Revocation{ID: "r2", Kind: RevokeAgent, Subject: "other"}})
	r.refuses(ErrInvalid, &Revoke{Revocation: Revocation{ID: "r2", Kind: "planet", Subject: "mars"}})
	r.must(&Revoke{Revocation: Revocation{ID: "r1", Kind: RevokeToken, Subject: "t1"}})
	if n := count(r.Read().RevocationsAfter(0)); n != 1 {
		t.Fatalf("%d revocations after a repeated one, want 1", n)
	}
	// The view from before the refused commands still shows the old state.
	if v.Index() != 7 {
		t.Fatalf("view moved to %d", v.Index())
	}
}

func count[T any](seq func(func(T) bool)) (n int) {
	for range seq {
		n++
	}
	return n
}

func TestRevokedStaysRevoked(t *testing.T) {
	r := populated(t)
	r.must(&Revoke{Time: 8, Revocation: Revocation{ID: "r2", Kind: RevokeAgent, Subject: "FinanceAgent"}})
	revoked := r.next
	r.must(&PutAgent{Time: 9, Agent: Agent{Name: "FinanceAgent"}})
	if a, _ := r.Read().Agent("FinanceAgent"); a.RevokedIndex != revoked || a.CreateIndex != 2 {
		t.Fatalf("agent after an update: %+v", a)
	}
	r.must(token("t3", "FinanceAgent", 3), &DeleteAgent{Time: 10, Name: "FinanceAgent", RevocationID: "r3"})
	v := r.Read()
	if _, ok := v.GatewayToken("t3"); ok {
		t.Fatal("a token outlived its agent")
	}
	var ids []string
	for rv := range v.RevocationsAfter(revoked) {
		ids = append(ids, rv.ID)
	}
	if len(ids) != 1 || ids[0] != "r3" {
		t.Fatalf("revocations after %d: %v", revoked, ids)
	}
}

func TestCredentialGenerations(t *testing.T) {
	r := populated(t)
	put := func(gen, upstream uint64) *PutCredential {
		return &PutCredential{Credential: Credential{
			ID: "crm:gateway", Upstream: "crm", Subject: SubjectGateway, Generation: gen, UpstreamIndex: upstream, Sealed: []byte("x"), State: CredentialActive,
		}}
	}
	r.refuses(ErrConflict, put(1, 3))
	r.refuses(ErrConflict, put(3, 3))
	r.refuses(ErrConflict, put(2, 2))
	r.must(put(2, 3))
	r.must(&Revoke{Revocation: Revocation{ID: "rc", Kind: RevokeCredential, Subject: "crm:gateway"}})
	c, _ := r.Read().Credential("crm:gateway")
	if c.State != CredentialRevoked || c.Sealed != nil || c.Generation != 3 {
		t.Fatalf("revoked credential: %+v", c)
	}
	r.must(&PutUpstream{Upstream: Upstream{Name: "crm", URL: "https://other.example/mcp", Grant: GrantClientCredentials}})
	c, _ = r.Read().Credential("crm:gateway")
	if c.State != CredentialEmpty || c.Generation != 4 || c.UpstreamIndex != r.next {
		t.Fatalf("credential after its upstream changed: %+v", c)
	}
	r.refuses(ErrConflict, put(5, 3))
	r.must(put(5, r.next-1), &DeleteUpstream{Name: "crm"})
	if _, ok := r.Read().Credential("crm:gateway"); ok {
		t.Fatal("a credential outlived its upstream")
	}
}

func TestPurge(t *testing.T) {
	r := populated(t)
	old := token("old", "FinanceAgent", 4)
	old.Token.ExpireTime = 100
	young := token("young", "FinanceAgent", 5)
	young.Token.ExpireTime = 300
	r.must(old, young, &Purge{ExpiredBefore: 200, RecordedBefore: 8})
	v := r.Read()
	_, gone := v.GatewayToken("old")
	_, kept := v.GatewayToken("young")
	_, unlimited := v.GatewayToken("t1")
	if gone || !kept || !unlimited || count(v.RevocationsAfter(0)) != 0 {
		t.Fatalf("old %v, young %v, unlimited %v, revocations %d", gone, kept, unlimited, count(v.RevocationsAfter(0)))
	}
}

func TestUnknownCommandsStopTheReplica(t *testing.T) {
	good, err := Encode(&DeletePolicy{Name: "p"})
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Clone(good)
	other[1], other[2] = 0x7f, 0xff
	later := bytes.Clone(good)
	later[0] = 9
	for name, data := range map[string][]byte{
		"empty": {}, "later format": later, "unknown type": other, "no payload": good[:3], "cut payload": good[:len(good)-1],
		"trailing bytes": append(bytes.Clone(good), 0), "unknown field": append(append([]byte{}, good[:3]...), 0xa1, 0x18, 0x63, 0x01),
	} {
		r := populated(t)
		before := r.Applied()
		if _, err := r.Apply(before+1, data); !errors.Is(err, ErrUnknownCommand) {
			t.Errorf("%s: %v, want ErrUnknownCommand", name, err)
		}
		if r.Applied() != before {
			t.Errorf("%s: the replica moved on", name)
		}
	}
}

func snapshotOf(t testing.TB, s *State) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Snapshot().Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSnapshotRoundTrip(t *testing.T) {
	r := populated(t)
	data := snapshotOf(t, r.State)
	other := newReplica(t)
	other.must(&PutAgent{Agent: Agent{Name: "Stale"}})
	watch := other.Read().WatchPolicies()
	if err := other.Restore(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if !watch.Fired() {
		t.Fatal("a watch slept through the restore")
	}
	if got := snapshotOf(t, other.State); !bytes.Equal(got, data) {
		t.Fatal("the restored state writes another snapshot")
	}
	if other.Applied() != r.Applied() {
		t.Fatalf("restored at %d, want %d", other.Applied(), r.Applied())
	}
	if tok, ok := other.Read().GatewayTokenByHash(hashOf(1)); !ok || tok.RevokedIndex == 0 {
		t.Fatal("the revoked token came back unrevoked")
	}
}

func TestDamagedSnapshotChangesNothing(t *testing.T) {
	data := snapshotOf(t, populated(t).State)
	r := newReplica(t)
	r.must(&PutAgent{Agent: Agent{Name: "Mine"}})
	for i := range data {
		flipped := bytes.Clone(data)
		flipped[i] ^= 0x10
		for _, bad := range [][]byte{flipped, data[:i]} {
			if err := r.Restore(bytes.NewReader(bad)); !errors.Is(err, ErrSnapshot) {
				t.Fatalf("byte %d: %v, want ErrSnapshot", i, err)
			}
		}
	}
	if _, ok := r.Read().Agent("Mine"); !ok || r.Applied() != 1 {
		t.Fatal("a damaged snapshot changed the state")
	}
}

func TestWatchesAndWaits(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r := populated(t)
	v := r.Read()
	policies, revocations, credential := v.WatchPolicies(), v.WatchRevocations(), v.WatchCredential("crm:gateway")
	reached := make(chan error, 1)
	third := r.Applied() + 3
	go func() { reached <- r.WaitApplied(ctx, third) }()
	r.must(&PutPolicy{Policy: Policy{Name: "q", Cedar: "x"}})
	if err := policies.Wait(ctx); err != nil || revocations.Fired() || credential.Fired() {
		t.Fatalf("after a policy: %v, revocations %v, credential %v", err, revocations.Fired(), credential.Fired())
	}
	r.must(&Revoke{Revocation: Revocation{ID: "rc", Kind: RevokeCredential, Subject: "crm:gateway"}})
	if !revocations.Fired() || !credential.Fired() {
		t.Fatal("the watches slept through the revocation of the credential")
	}
	r.Advance(r.next + 1)
	if err := <-reached; err != nil {
		t.Fatal(err)
	}
	done, stop := context.WithCancel(ctx)
	stop()
	if err := r.WaitApplied(done, 1000); !errors.Is(err, context.Canceled) {
		t.Fatalf("wait with a cancelled context: %v", err)
	}
}

func FuzzApply(f *testing.F) {
	for _, c := range []Command{&PutAgent{Agent: Agent{Name: "a"}}, &Purge{}, &Revoke{}, &DeleteUpstream{Name: "crm"}, token("x", "FinanceAgent", 7)} {
		data, err := Encode(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		one, two := populated(t), populated(t)
		_, err1 := one.Apply(8, data)
		_, err2 := two.Apply(8, data)
		if (err1 == nil) != (err2 == nil) || !bytes.Equal(snapshotOf(t, one.State), snapshotOf(t, two.State)) {
			t.Fatalf("two replicas differ after the same entry: %v, %v", err1, err2)
		}
	})
}

func FuzzRestore(f *testing.F) {
	f.Add(snapshotOf(f, populated(f).State))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newReplica(t)
		if err := r.Restore(bytes.NewReader(data)); err == nil {
			snapshotOf(t, r.State)
		} else if r.Applied() != 0 {
			t.Fatal("a refused snapshot changed the state")
		}
	})
}
