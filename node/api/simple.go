package api

import (
	"context"
	"iter"

	"sallyport/node/api/kind"
	"sallyport/node/policy"
	"sallyport/raftfsm"
)

func (a *api) agents() resource[kind.Agent] {
	return resource[kind.Agent]{
		kind:    kind.KindAgent,
		writers: operators,
		all:     func(v raftfsm.View) iter.Seq[*kind.Agent] { return mapped(v.Agents(), kind.AgentOf) },
		find: func(v raftfsm.View, name string) (*kind.Agent, uint64, bool) {
			r, ok := v.Agent(name)
			if !ok {
				return nil, 0, false
			}
			return kind.AgentOf(r), r.ModifyIndex, true
		},
		plan: func(_ context.Context, v raftfsm.View, d *kind.Agent) (plan[kind.Agent], error) {
			next := d.Record()
			old, exists := v.Agent(next.Name)
			p := plan[kind.Agent]{result: kind.AgentOf(&next)}
			if exists {
				p.current = old.ModifyIndex
				before := *old
				before.Meta = raftfsm.Meta{}
				if equal, err := same(kind.AgentOf(&before), p.result); err != nil || equal {
					p.result = kind.AgentOf(old)
					return p, err
				}
			}
			p.command = &raftfsm.PutAgent{Time: a.now(), Agent: next, Expect: &p.current}
			return p, nil
		},
		delete: func(name, by string) raftfsm.Command {
			return &raftfsm.DeleteAgent{Time: a.now(), Name: name, RevocationID: newID("rv"), By: by}
		},
	}
}

func (a *api) policies() resource[kind.Policy] {
	return resource[kind.Policy]{
		kind:    kind.KindPolicy,
		writers: security,
		all:     func(v raftfsm.View) iter.Seq[*kind.Policy] { return mapped(v.Policies(), kind.PolicyOf) },
		find: func(v raftfsm.View, name string) (*kind.Policy, uint64, bool) {
			r, ok := v.Policy(name)
			if !ok {
				return nil, 0, false
			}
			return kind.PolicyOf(r), r.ModifyIndex, true
		},
		plan: func(_ context.Context, v raftfsm.View, d *kind.Policy) (plan[kind.Policy], error) {
			next := d.Record()
			if err := policy.Validate(next.Name, next.Cedar); err != nil {
				return plan[kind.Policy]{}, kind.Problems{{Pointer: "/spec/cedar", Message: err.Error()}}
			}
			old, exists := v.Policy(next.Name)
			p := plan[kind.Policy]{result: kind.PolicyOf(&next)}
			if exists {
				p.current = old.ModifyIndex
				before := *old
				before.Meta = raftfsm.Meta{}
				if equal, err := same(kind.PolicyOf(&before), p.result); err != nil || equal {
					p.result = kind.PolicyOf(old)
					return p, err
				}
			}
			p.command = &raftfsm.PutPolicy{Time: a.now(), Policy: next, Expect: &p.current}
			return p, nil
		},
		delete: func(name, _ string) raftfsm.Command { return &raftfsm.DeletePolicy{Name: name} },
	}
}

func mapped[R, D any](records iter.Seq[*R], document func(*R) *D) iter.Seq[*D] {
	return func(yield func(*D) bool) {
		for r := range records {
			if !yield(document(r)) {
				return
			}
		}
	}
}
