package raftfsm

// Meta is what every record carries about its own history. Indexes are Raft log indexes, times are Unix milliseconds
// as the node that issued the command saw them.
type Meta struct {
	CreateIndex uint64 `cbor:"1,keyasint,omitempty"`
	ModifyIndex uint64 `cbor:"2,keyasint,omitempty"`
	CreateTime  int64  `cbor:"3,keyasint,omitempty"`
	ModifyTime  int64  `cbor:"4,keyasint,omitempty"`
}

// Cluster identifies the cluster and holds its certificate authority. There is exactly one, written at bootstrap.
type Cluster struct {
	Meta `cbor:"1,keyasint"`
	ID   string `cbor:"2,keyasint"`
	// CACert is PEM; CAKey is sealed with the control keyring.
	CACert []byte `cbor:"3,keyasint"`
	CAKey  []byte `cbor:"4,keyasint"`
}

// Agent is a workload that calls tools.
type Agent struct {
	Meta   `cbor:"1,keyasint"`
	Name   string            `cbor:"2,keyasint"`
	Labels map[string]string `cbor:"3,keyasint,omitempty"`
	Roles  []string          `cbor:"4,keyasint,omitempty"`
	// RevokedIndex ends every gateway token and session of the agent that was created at or before it.
	RevokedIndex uint64 `cbor:"5,keyasint,omitempty"`
}

// GatewayToken is the one credential an agent holds, kept as its SHA-256 only.
type GatewayToken struct {
	Meta  `cbor:"1,keyasint"`
	ID    string   `cbor:"2,keyasint"`
	Hash  [32]byte `cbor:"3,keyasint"`
	Agent string   `cbor:"4,keyasint"`
	// Upstreams limits the token to these; empty means all that the policies allow.
	Upstreams    []string `cbor:"5,keyasint,omitempty"`
	ExpireTime   int64    `cbor:"6,keyasint,omitempty"` // Unix milliseconds, 0: never
	RevokedIndex uint64   `cbor:"7,keyasint,omitempty"`
}

// AdminToken opens the admin API with one role.
type AdminToken struct {
	Meta         `cbor:"1,keyasint"`
	ID           string   `cbor:"2,keyasint"`
	Hash         [32]byte `cbor:"3,keyasint"`
	Role         string   `cbor:"4,keyasint"` // viewer, operator, security, owner
	Name         string   `cbor:"5,keyasint,omitempty"`
	ExpireTime   int64    `cbor:"6,keyasint,omitempty"`
	RevokedIndex uint64   `cbor:"7,keyasint,omitempty"`
}

// Grant says how a credential is obtained.
type Grant string

// The grants of this version.
const (
	GrantNone              Grant = "none"
	GrantStatic            Grant = "static"
	GrantClientCredentials Grant = "client_credentials"
)

// ClientAuth is how Sallyport authenticates to a token endpoint (RFC 6749 section 2.3, RFC 7523 section 2.2).
type ClientAuth string

// The client authentication methods, named as in the IANA registry.
const (
	ClientSecretBasic ClientAuth = "client_secret_basic"
	ClientSecretPost  ClientAuth = "client_secret_post"
	PrivateKeyJWT     ClientAuth = "private_key_jwt"
)

// Upstream is an MCP server behind the gateway and how its credential is obtained.
type Upstream struct {
	Meta         `cbor:"1,keyasint"`
	Name         string            `cbor:"2,keyasint"`
	Labels       map[string]string `cbor:"3,keyasint,omitempty"`
	URL          string            `cbor:"4,keyasint"`
	Insecure     bool              `cbor:"5,keyasint,omitempty"`
	UserData     bool              `cbor:"6,keyasint,omitempty"`
	AllowService bool              `cbor:"7,keyasint,omitempty"`
	Grant        Grant             `cbor:"8,keyasint"`
	Header       string            `cbor:"9,keyasint,omitempty"` // static: the header that carries the value
	Issuer       string            `cbor:"10,keyasint,omitempty"`
	TokenURL     string            `cbor:"11,keyasint,omitempty"`
	ClientID     string            `cbor:"12,keyasint,omitempty"`
	ClientAuth   ClientAuth        `cbor:"13,keyasint,omitempty"`
	Scopes       []string          `cbor:"14,keyasint,omitempty"`
	Resource     string            `cbor:"15,keyasint,omitempty"` // RFC 8707; empty: the upstream's URL
	// ClientSecret is the client secret or, for private_key_jwt, the private key in PEM, sealed with the control
	// keyring and bound to SecretGeneration.
	ClientSecret     []byte `cbor:"16,keyasint,omitempty"`
	SecretGeneration uint64 `cbor:"17,keyasint,omitempty"`
	KeyID            string `cbor:"18,keyasint,omitempty"` // private_key_jwt: the `kid` header
	TimeoutMillis    int64  `cbor:"19,keyasint,omitempty"` // until response headers, 0: the node's default
	CACert           []byte `cbor:"20,keyasint,omitempty"` // PEM that is trusted besides the system's roots
	OmitResource     bool   `cbor:"21,keyasint,omitempty"` // for authorization servers that refuse RFC 8707
	StaleMillis      int64  `cbor:"22,keyasint,omitempty"` // onStale: serve for this long; 0: refuse
	PrivateKeyAlg    string `cbor:"23,keyasint,omitempty"` // private_key_jwt: JWS algorithm, empty: by key type
}

// CredentialState is where a credential stands.
type CredentialState string

// The states of a credential.
const (
	CredentialActive  CredentialState = "active"
	CredentialRevoked CredentialState = "revoked"
	// CredentialEmpty is what a change of the upstream leaves: nothing is held, and a new token may be obtained.
	CredentialEmpty CredentialState = "empty"
)

// Credential is an encrypted token record: what Sallyport presents to one upstream for one subject.
type Credential struct {
	Meta       `cbor:"1,keyasint"`
	ID         string          `cbor:"2,keyasint"` // CredentialID(Upstream, Subject)
	Upstream   string          `cbor:"3,keyasint"`
	Subject    string          `cbor:"4,keyasint"` // "gateway"; agents and users follow
	Grant      Grant           `cbor:"5,keyasint"`
	State      CredentialState `cbor:"6,keyasint"`
	Generation uint64          `cbor:"7,keyasint"`
	// Sealed is the static value or access token under the data keyring, bound to ID and Generation.
	Sealed     []byte `cbor:"8,keyasint,omitempty"`
	Scheme     string `cbor:"9,keyasint,omitempty"`  // prefix of the header's value, "Bearer" for access tokens
	Header     string `cbor:"10,keyasint,omitempty"` // header that carries the value
	ExpireTime int64  `cbor:"11,keyasint,omitempty"` // Unix milliseconds, 0: unknown or never
	// RefreshTime is when a new token is due, Unix milliseconds, 0: never.
	RefreshTime int64  `cbor:"12,keyasint,omitempty"`
	Scope       string `cbor:"13,keyasint,omitempty"`
	// UpstreamIndex is the ModifyIndex of the upstream whose configuration obtained this token.
	UpstreamIndex uint64 `cbor:"14,keyasint,omitempty"`
}

// SubjectGateway is the subject of credentials that every caller of an upstream shares.
const SubjectGateway = "gateway"

// CredentialID names the credential of a subject at an upstream. Neither part can contain the separator's like.
func CredentialID(upstream, subject string) string { return upstream + ":" + subject }

// Policy is Cedar text under a name.
type Policy struct {
	Meta   `cbor:"1,keyasint"`
	Name   string            `cbor:"2,keyasint"`
	Labels map[string]string `cbor:"3,keyasint,omitempty"`
	Cedar  string            `cbor:"4,keyasint"`
}

// SubjectKind is what a revocation ends.
type SubjectKind string

// The kinds of subjects that can be revoked.
const (
	RevokeToken      SubjectKind = "token"
	RevokeAgent      SubjectKind = "agent"
	RevokeCredential SubjectKind = "credential"
)

// Revocation is an event that ended what existed of its subject when it was committed. It is never undone.
type Revocation struct {
	Meta    `cbor:"1,keyasint"`
	ID      string      `cbor:"2,keyasint"`
	Kind    SubjectKind `cbor:"3,keyasint"`
	Subject string      `cbor:"4,keyasint"`
	Reason  string      `cbor:"5,keyasint,omitempty"`
	By      string      `cbor:"6,keyasint,omitempty"`
}
