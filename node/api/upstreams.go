package api

import (
	"context"
	"fmt"
	"iter"
	"net/url"

	"sallyport/crypto"
	"sallyport/node/api/kind"
	"sallyport/raftfsm"
)

func (a *api) upstreams() resource[kind.Upstream] {
	return resource[kind.Upstream]{
		kind:    kind.KindUpstream,
		writers: operators,
		all: func(v raftfsm.View) iter.Seq[*kind.Upstream] {
			return mapped(v.Upstreams(), func(r *raftfsm.Upstream) *kind.Upstream { return upstreamDocument(v, r) })
		},
		find: func(v raftfsm.View, name string) (*kind.Upstream, uint64, bool) {
			r, ok := v.Upstream(name)
			if !ok {
				return nil, 0, false
			}
			return upstreamDocument(v, r), r.ModifyIndex, true
		},
		plan:   a.planUpstream,
		delete: func(name, _ string) raftfsm.Command { return &raftfsm.DeleteUpstream{Name: name} },
	}
}

func upstreamDocument(v raftfsm.View, r *raftfsm.Upstream) *kind.Upstream {
	_, has := storedValue(v, r)
	return kind.UpstreamOf(r, has)
}

// storedValue is the static value that is kept for an upstream.
func storedValue(v raftfsm.View, r *raftfsm.Upstream) (*raftfsm.Credential, bool) {
	c, ok := v.Credential(raftfsm.CredentialID(r.Name, raftfsm.SubjectGateway))
	return c, ok && r.Grant == raftfsm.GrantStatic && c.Grant == raftfsm.GrantStatic && c.State == raftfsm.CredentialActive && len(c.Sealed) > 0
}

func credentialRevoked(v raftfsm.View, upstream string) bool {
	c, ok := v.Credential(raftfsm.CredentialID(upstream, raftfsm.SubjectGateway))
	return ok && c.State == raftfsm.CredentialRevoked
}

// planUpstream seals what the document brings, keeps what it leaves out, and finds out whether anything changes.
func (a *api) planUpstream(_ context.Context, v raftfsm.View, d *kind.Upstream) (plan[kind.Upstream], error) {
	next := d.Record()
	old, exists := v.Upstream(next.Name)
	p := plan[kind.Upstream]{}
	command := &raftfsm.PutUpstream{Time: a.now(), Expect: &p.current}
	var before kind.Resource
	if exists {
		p.current, next.SecretGeneration = old.ModifyIndex, old.SecretGeneration
		unstamped := *old
		unstamped.Meta = raftfsm.Meta{}
		before = upstreamDocument(v, &unstamped)
	}

	var err error
	switch next.Grant {
	case raftfsm.GrantStatic:
		command.Credential, p.secretChanged, err = a.sealValue(v, d, &next, old)
	case raftfsm.GrantClientCredentials:
		p.secretChanged, err = a.sealClientSecret(d, &next, old)
	}
	if err != nil {
		return plan[kind.Upstream]{}, err
	}

	p.result = kind.UpstreamOf(&next, true)
	// An upstream whose credential was revoked is written again even if nothing else changes: that is how an operator asks for a new one.
	if exists && !p.secretChanged && !credentialRevoked(v, next.Name) {
		if equal, err := same(before, p.result); err != nil || equal {
			p.result = upstreamDocument(v, old)
			return p, err
		}
	}
	command.Upstream = next
	p.command = command
	return p, nil
}

// sealValue makes the credential of the static grant. One that stays is sealed again, because its generation is bound into it.
func (a *api) sealValue(v raftfsm.View, d *kind.Upstream, next, old *raftfsm.Upstream) (*raftfsm.Credential, bool, error) {
	id := raftfsm.CredentialID(next.Name, raftfsm.SubjectGateway)
	value, changed := d.Spec.Credential.Header.Value.Value(), true
	generation := uint64(1)
	if existing, ok := v.Credential(id); ok {
		generation = existing.Generation + 1
	}
	var stored *raftfsm.Credential
	if old != nil {
		if c, ok := storedValue(v, old); ok {
			stored = c
		}
	}
	if stored != nil {
		kept, err := a.Data.Open(stored.Sealed, credentialBinding(id, stored.Generation))
		if err != nil {
			return nil, false, fmt.Errorf("open the value of upstream %s: %w", next.Name, err)
		}
		changed = !value.Empty() && !value.Equal(kept)
		if value.Empty() {
			if problem := movedAway(old, next); problem != "" {
				return nil, false, secretNeeded("/spec/credential/header/value", problem)
			}
			value = kept
		}
	}
	if value.Empty() {
		return nil, false, secretNeeded("/spec/credential/header/value", "no value is stored")
	}
	sealed, err := a.Data.Seal(value, credentialBinding(id, generation))
	if err != nil {
		return nil, false, err
	}
	return &raftfsm.Credential{
		ID: id, Upstream: next.Name, Subject: raftfsm.SubjectGateway, Grant: raftfsm.GrantStatic, State: raftfsm.CredentialActive,
		Generation: generation, Sealed: sealed, Header: next.Header,
	}, changed, nil
}

func credentialBinding(id string, generation uint64) crypto.Binding {
	return crypto.Binding{Kind: "credential", ID: id, Generation: generation}
}

func secretBinding(upstream string, generation uint64) crypto.Binding {
	return crypto.Binding{Kind: "upstream", ID: upstream, Generation: generation}
}

// sealClientSecret puts the client secret or private key into next, a new one sealed or the old one as it is.
func (a *api) sealClientSecret(d *kind.Upstream, next, old *raftfsm.Upstream) (changed bool, err error) {
	pointer, secret := "/spec/credential/clientSecret", d.Spec.Credential.ClientSecret.Value()
	if next.ClientAuth == raftfsm.PrivateKeyJWT {
		pointer, secret = "/spec/credential/privateKey", d.Spec.Credential.PrivateKey.Value()
	}
	stored := old != nil && len(old.ClientSecret) > 0
	sameSort := stored && (old.ClientAuth == raftfsm.PrivateKeyJWT) == (next.ClientAuth == raftfsm.PrivateKeyJWT)
	if secret.Empty() {
		if !sameSort {
			return false, secretNeeded(pointer, "none is stored")
		}
		if problem := movedAway(old, next); problem != "" {
			return false, secretNeeded(pointer, problem)
		}
		next.ClientSecret = old.ClientSecret
		return false, nil
	}
	if sameSort {
		kept, err := a.Control.Open(old.ClientSecret, secretBinding(old.Name, old.SecretGeneration))
		if err != nil {
			return false, fmt.Errorf("open the client secret of upstream %s: %w", old.Name, err)
		}
		if kept.Equal(secret) {
			next.ClientSecret = old.ClientSecret
			return false, nil
		}
	}
	next.SecretGeneration++
	next.ClientSecret, err = a.Control.Seal(secret, secretBinding(next.Name, next.SecretGeneration))
	return true, err
}

// movedAway tells of changes after which a stored secret would go to somebody else. Otherwise whoever may edit an upstream could
// have the secret of its old server sent to one of their own.
func movedAway(old, next *raftfsm.Upstream) string {
	switch {
	case origin(old.URL) != origin(next.URL):
		return "url names another server than the one that the stored secret is for"
	case old.Issuer != next.Issuer || old.TokenURL != next.TokenURL:
		return "issuer or tokenURL names another authorization server than the one that the stored secret is for"
	case old.ClientID != next.ClientID:
		return "clientID names another client than the one that the stored secret is for"
	case !old.Insecure && next.Insecure:
		return "insecure permits to send the stored secret without encryption"
	}
	return ""
}

func origin(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	return u.Scheme + "://" + u.Host
}

func secretNeeded(pointer, why string) error {
	return kind.Problems{{Pointer: pointer, Message: why + ": give the secret itself"}}
}
