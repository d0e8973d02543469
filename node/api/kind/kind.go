// Package kind is what users declare: the kinds of resources of this version, how their documents are read from YAML and
// JSON, and what makes one valid. The same structures are the bodies of the admin API.
package kind

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// APIVersion is the only version of documents so far.
const APIVersion = "sallyport/v1"

// Kind names a sort of resource.
type Kind string

// The kinds of this version.
const (
	KindAgent    Kind = "Agent"
	KindPolicy   Kind = "Policy"
	KindUpstream Kind = "Upstream"
)

// Kinds lists them in the order in which they are applied: what is spoken of before what speaks of it.
func Kinds() []Kind { return []Kind{KindUpstream, KindAgent, KindPolicy} }

// Plural is the kind in paths and listings.
func (k Kind) Plural() string {
	if k == KindPolicy {
		return "policies"
	}
	return strings.ToLower(string(k)) + "s"
}

// ParseKind reads a kind as people type it: in any case, singular or plural.
func ParseKind(text string) (Kind, error) {
	for _, k := range Kinds() {
		if strings.EqualFold(text, string(k)) || strings.EqualFold(text, k.Plural()) {
			return k, nil
		}
	}
	return "", unknownKind(text)
}

func unknownKind(name string) error {
	known := "it knows Agent, Policy, Upstream"
	if slices.Contains([]string{"role", "redaction", "identityprovider", "cluster"}, strings.ToLower(name)) {
		return fmt.Errorf("kind %s is not supported by this version; %s", name, known)
	}
	return fmt.Errorf("kind %q does not exist in this version; %s", name, known)
}

// Resource is one document of any kind.
type Resource interface {
	// Head is what the documents of all kinds have in common.
	Head() *Envelope
	// Validate reports all that is wrong with the document by itself.
	Validate() Problems
	// secrets lists the values that may stand elsewhere, by the pointer of their field.
	secrets() map[string]value
}

// Envelope is the part that all kinds share.
type Envelope struct {
	APIVersion string   `json:"apiVersion" enum:"sallyport/v1"`
	Kind       Kind     `json:"kind" enum:"Agent,Policy,Upstream"`
	Metadata   Metadata `json:"metadata"`
}

// Head makes what embeds an Envelope a Resource.
func (e *Envelope) Head() *Envelope { return e }

// Metadata names a resource.
type Metadata struct {
	Name   string            `json:"name" maxLength:"63"`
	Labels map[string]string `json:"labels,omitempty" maxProperties:"64"`
	// Created and Modified are told by the node and ignored by it.
	Created  time.Time `json:"created,omitzero" readOnly:"true"`
	Modified time.Time `json:"modified,omitzero" readOnly:"true"`
}

// Agent is a workload that calls tools.
type Agent struct {
	Envelope
	Spec AgentSpec `json:"spec,omitzero"`
}

// AgentSpec says what policies know of an agent.
type AgentSpec struct {
	// Roles are the groups of agents that policies speak of.
	Roles []string `json:"roles,omitempty" maxItems:"64" nullable:"false"`
}

// Policy is Cedar text under a name.
type Policy struct {
	Envelope
	Spec PolicySpec `json:"spec"`
}

// PolicySpec holds the text.
type PolicySpec struct {
	// Cedar is one policy or more.
	Cedar string `json:"cedar" maxLength:"65536"`
}

// New makes an empty resource of a kind.
func New(k Kind) (Resource, error) {
	switch k {
	case KindAgent:
		return &Agent{}, nil
	case KindPolicy:
		return &Policy{}, nil
	case KindUpstream:
		return &Upstream{}, nil
	}
	return nil, unknownKind(string(k))
}

func (*Agent) secrets() map[string]value  { return nil }
func (*Policy) secrets() map[string]value { return nil }

const (
	maxLabels     = 64
	maxLabelValue = 256
	maxRoles      = 64
	maxCedar      = 64 << 10 // what the policy engine takes
)

var (
	agentName    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,62}$`)
	upstreamName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	labelKey     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$`)
)

// validate checks the part that all kinds share.
func (e *Envelope) validate(want Kind, p *Problems) {
	if e.APIVersion != APIVersion {
		p.add("/apiVersion", "is %q: this version reads %s", e.APIVersion, APIVersion)
	}
	if e.Kind != want {
		p.add("/kind", "is %q where %s is expected", e.Kind, want)
	}
	name, rule := agentName, "begin with a letter and use at most 63 letters, digits and hyphens"
	if want == KindUpstream {
		name, rule = upstreamName, "begin with a lower-case letter and use at most 31 lower-case letters, digits and hyphens"
	}
	switch {
	case e.Metadata.Name == "":
		p.add("/metadata/name", "is missing")
	case !name.MatchString(e.Metadata.Name):
		p.add("/metadata/name", "%q is no name for this kind: %s", e.Metadata.Name, rule)
	}
	if len(e.Metadata.Labels) > maxLabels {
		p.add("/metadata/labels", "has %d labels, more than %d", len(e.Metadata.Labels), maxLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(e.Metadata.Labels)) {
		if !labelKey.MatchString(key) {
			p.add("/metadata/labels", "%q is no label: use at most 63 letters, digits, '.', '_', '/' and hyphens, a letter or digit at both ends", key)
		}
		if v := e.Metadata.Labels[key]; len(v) > maxLabelValue || !printable(v) {
			p.add("/metadata/labels", "the value of %q must be at most %d printable characters", key, maxLabelValue)
		}
	}
}

// Validate implements Resource.
func (a *Agent) Validate() Problems {
	var p Problems
	a.validate(KindAgent, &p)
	if len(a.Spec.Roles) > maxRoles {
		p.add("/spec/roles", "has %d roles, more than %d", len(a.Spec.Roles), maxRoles)
	}
	seen := map[string]bool{}
	for i, role := range a.Spec.Roles {
		at := fmt.Sprintf("/spec/roles/%d", i)
		if !agentName.MatchString(role) {
			p.add(at, "%q is no role name: begin with a letter and use at most 63 letters, digits and hyphens", role)
		}
		if seen[role] {
			p.add(at, "%q is there twice", role)
		}
		seen[role] = true
	}
	return p
}

// Validate implements Resource. Whether the Cedar text is one is for the policy engine to say.
func (c *Policy) Validate() Problems {
	var p Problems
	c.validate(KindPolicy, &p)
	switch {
	case strings.TrimSpace(c.Spec.Cedar) == "":
		p.add("/spec/cedar", "is empty: give at least one policy, such as permit (principal, action, resource);")
	case len(c.Spec.Cedar) > maxCedar:
		p.add("/spec/cedar", "has %d bytes, more than %d: split it into several policies", len(c.Spec.Cedar), maxCedar)
	}
	return p
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })
}
