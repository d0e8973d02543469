package raftfsm

// Command is one change of the replicated state. Times, identifiers and sealed values come in it, so that every replica that
// applies it at the same index ends in the same state.
type Command interface {
	commandType() commandType
	apply(tx *txn) (any, error)
}

type commandType uint16

// Numbers are part of the log format: never reused, never renumbered.
const (
	typeSetCluster commandType = iota + 1
	typePutAgent
	typeDeleteAgent
	typePutUpstream
	typeDeleteUpstream
	typePutPolicy
	typeDeletePolicy
	typePutGatewayToken
	typePutAdminToken
	typePutCredential
	typeRevoke
	typePurge
	typeEstablish
)

// newCommand is the type table: an empty command to decode into, nil for a type that this version does not know.
func newCommand(t commandType) Command {
	switch t {
	case typeSetCluster:
		return new(SetCluster)
	case typePutAgent:
		return new(PutAgent)
	case typeDeleteAgent:
		return new(DeleteAgent)
	case typePutUpstream:
		return new(PutUpstream)
	case typeDeleteUpstream:
		return new(DeleteUpstream)
	case typePutPolicy:
		return new(PutPolicy)
	case typeDeletePolicy:
		return new(DeletePolicy)
	case typePutGatewayToken:
		return new(PutGatewayToken)
	case typePutAdminToken:
		return new(PutAdminToken)
	case typePutCredential:
		return new(PutCredential)
	case typeRevoke:
		return new(Revoke)
	case typePurge:
		return new(Purge)
	case typeEstablish:
		return new(Establish)
	default:
		return nil
	}
}

// Expect makes a write conditional on the record's ModifyIndex: nil writes always, 0 only if there is no such record.
type Expect = *uint64

// SetCluster names the cluster, once.
type SetCluster struct {
	Time    int64   `cbor:"1,keyasint"`
	Cluster Cluster `cbor:"2,keyasint"`
}

// PutAgent creates or replaces an agent.
type PutAgent struct {
	Time   int64  `cbor:"1,keyasint"`
	Agent  Agent  `cbor:"2,keyasint"`
	Expect Expect `cbor:"3,keyasint,omitempty"`
}

// DeleteAgent removes an agent with its tokens, as a revocation with the given id.
type DeleteAgent struct {
	Time         int64  `cbor:"1,keyasint"`
	Name         string `cbor:"2,keyasint"`
	RevocationID string `cbor:"3,keyasint"`
	By           string `cbor:"4,keyasint,omitempty"`
}

// PutUpstream creates or replaces an upstream. A static value arrives as Credential in the same command, so that an upstream
// is never seen with the value of another configuration.
type PutUpstream struct {
	Time       int64       `cbor:"1,keyasint"`
	Upstream   Upstream    `cbor:"2,keyasint"`
	Credential *Credential `cbor:"3,keyasint,omitempty"`
	Expect     Expect      `cbor:"4,keyasint,omitempty"`
}

// DeleteUpstream removes an upstream with its credentials.
type DeleteUpstream struct {
	Name string `cbor:"1,keyasint"`
}

// PutPolicy creates or replaces a policy.
type PutPolicy struct {
	Time   int64  `cbor:"1,keyasint"`
	Policy Policy `cbor:"2,keyasint"`
	Expect Expect `cbor:"3,keyasint,omitempty"`
}

// DeletePolicy removes a policy.
type DeletePolicy struct {
	Name string `cbor:"1,keyasint"`
}

// PutGatewayToken records a new gateway token.
type PutGatewayToken struct {
	Time  int64        `cbor:"1,keyasint"`
	Token GatewayToken `cbor:"2,keyasint"`
}

// PutAdminToken records a new admin token.
type PutAdminToken struct {
	Time  int64      `cbor:"1,keyasint"`
	Token AdminToken `cbor:"2,keyasint"`
}

// PutCredential stores an obtained token. It holds only if the stored generation is the one before the new and the upstream
// is still configured as when the token was asked for; anything else is ErrConflict and the token is dropped.
type PutCredential struct {
	Time       int64      `cbor:"1,keyasint"`
	Credential Credential `cbor:"2,keyasint"`
}

// Revoke ends what exists of a subject.
type Revoke struct {
	Time       int64      `cbor:"1,keyasint"`
	Revocation Revocation `cbor:"2,keyasint"`
}

// Purge drops tokens that expired and revocation events that were recorded before the given times, in Unix milliseconds.
type Purge struct {
	ExpiredBefore  int64 `cbor:"1,keyasint"`
	RecordedBefore int64 `cbor:"2,keyasint"`
}

// Establish changes nothing. A new leader commits it before it serves, so that its replica reflects all that earlier leaders
// committed, and so that every entry after it reaches the state machine.
type Establish struct {
	Node string `cbor:"1,keyasint"`
}

func (*SetCluster) commandType() commandType      { return typeSetCluster }
func (*PutAgent) commandType() commandType        { return typePutAgent }
func (*DeleteAgent) commandType() commandType     { return typeDeleteAgent }
func (*PutUpstream) commandType() commandType     { return typePutUpstream }
func (*DeleteUpstream) commandType() commandType  { return typeDeleteUpstream }
func (*PutPolicy) commandType() commandType       { return typePutPolicy }
func (*DeletePolicy) commandType() commandType    { return typeDeletePolicy }
func (*PutGatewayToken) commandType() commandType { return typePutGatewayToken }
func (*PutAdminToken) commandType() commandType   { return typePutAdminToken }
func (*PutCredential) commandType() commandType   { return typePutCredential }
func (*Revoke) commandType() commandType          { return typeRevoke }
func (*Purge) commandType() commandType           { return typePurge }
func (*Establish) commandType() commandType       { return typeEstablish }
