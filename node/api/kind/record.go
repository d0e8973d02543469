package kind

import (
	"time"

	"sallyport/raftfsm"
)

// Record is the agent as the cluster keeps it, without its history.
func (a *Agent) Record() raftfsm.Agent {
	return raftfsm.Agent{Name: a.Metadata.Name, Labels: a.Metadata.Labels, Roles: a.Spec.Roles}
}

// AgentOf is the document of a record.
func AgentOf(r *raftfsm.Agent) *Agent {
	return &Agent{Envelope: envelope(KindAgent, r.Name, r.Labels, r.Meta), Spec: AgentSpec{Roles: r.Roles}}
}

// Record is the policy as the cluster keeps it, without its history.
func (c *Policy) Record() raftfsm.Policy {
	return raftfsm.Policy{Name: c.Metadata.Name, Labels: c.Metadata.Labels, Cedar: c.Spec.Cedar}
}

// PolicyOf is the document of a record.
func PolicyOf(r *raftfsm.Policy) *Policy {
	return &Policy{Envelope: envelope(KindPolicy, r.Name, r.Labels, r.Meta), Spec: PolicySpec{Cedar: r.Cedar}}
}

// Record is the upstream as the cluster keeps it, without its history and without the secret, which has to be sealed first.
func (u *Upstream) Record() raftfsm.Upstream {
	s, c := &u.Spec, &u.Spec.Credential
	r := raftfsm.Upstream{
		Name:          u.Metadata.Name,
		Labels:        u.Metadata.Labels,
		URL:           s.URL,
		Insecure:      s.Insecure,
		UserData:      s.UserData,
		AllowService:  s.AllowService,
		TimeoutMillis: time.Duration(s.Timeout).Milliseconds(),
		CACert:        []byte(s.CACert.String()),
		StaleMillis:   time.Duration(s.OnStale.Serve).Milliseconds(),
		Grant:         c.Grant,
	}
	switch c.Grant {
	case "":
		r.Grant = raftfsm.GrantNone
	case raftfsm.GrantStatic:
		r.Header = c.Header.Name
	case raftfsm.GrantClientCredentials:
		r.Issuer, r.TokenURL, r.ClientID, r.ClientAuth = c.Issuer, c.TokenURL, c.ClientID, c.clientAuth()
		r.Scopes, r.Resource, r.OmitResource = c.Scopes, c.Resource, c.OmitResource
		r.KeyID, r.PrivateKeyAlg = c.KeyID, c.Algorithm
	}
	return r
}

// UpstreamOf is the document of a record. hasValue says whether the value of the static grant is stored, which the record does not tell.
func UpstreamOf(r *raftfsm.Upstream, hasValue bool) *Upstream {
	u := &Upstream{
		Envelope: envelope(KindUpstream, r.Name, r.Labels, r.Meta),
		Spec: UpstreamSpec{
			URL:          r.URL,
			Insecure:     r.Insecure,
			UserData:     r.UserData,
			AllowService: r.AllowService,
			Timeout:      Duration(time.Duration(r.TimeoutMillis) * time.Millisecond),
			CACert:       NewText(string(r.CACert)),
			OnStale:      OnStale{Serve: Duration(time.Duration(r.StaleMillis) * time.Millisecond)},
			Credential: CredentialSpec{
				Grant:        r.Grant,
				Issuer:       r.Issuer,
				TokenURL:     r.TokenURL,
				ClientID:     r.ClientID,
				ClientAuth:   r.ClientAuth,
				KeyID:        r.KeyID,
				Algorithm:    r.PrivateKeyAlg,
				Scopes:       r.Scopes,
				Resource:     r.Resource,
				OmitResource: r.OmitResource,
				Header:       StaticHeader{Name: r.Header},
			},
		},
	}
	c := &u.Spec.Credential
	switch {
	case r.Grant == raftfsm.GrantStatic && hasValue:
		c.Header.Value = StoredSecret()
	case len(r.ClientSecret) == 0:
	case r.ClientAuth == raftfsm.PrivateKeyJWT:
		c.PrivateKey = StoredSecret()
	default:
		c.ClientSecret = StoredSecret()
	}
	return u
}

func envelope(k Kind, name string, labels map[string]string, m raftfsm.Meta) Envelope {
	e := Envelope{APIVersion: APIVersion, Kind: k, Metadata: Metadata{Name: name, Labels: labels}}
	if m.CreateTime != 0 {
		e.Metadata.Created, e.Metadata.Modified = time.UnixMilli(m.CreateTime).UTC(), time.UnixMilli(m.ModifyTime).UTC()
	}
	return e
}
