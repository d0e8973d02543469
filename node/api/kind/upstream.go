package kind

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"sallyport/raftfsm"
)

// Upstream is an MCP server behind the gateway.
type Upstream struct {
	Envelope
	Spec UpstreamSpec `json:"spec"`
}

// UpstreamSpec says where the server is and how the gateway presents itself there.
type UpstreamSpec struct {
	// URL of the MCP endpoint: https, or http to loopback or with Insecure.
	URL string `json:"url" maxLength:"2048"`
	// Insecure permits plain http elsewhere than to loopback.
	Insecure bool `json:"insecure,omitempty"`
	// UserData says that the server holds data of people. It then refuses credentials that all callers share, unless AllowService.
	UserData     bool `json:"userData,omitempty"`
	AllowService bool `json:"allowService,omitempty"`
	// Timeout until the headers of a response; the node has a default.
	Timeout Duration `json:"timeout,omitzero"`
	// CACert is PEM that is trusted besides the system's roots.
	CACert Text `json:"caCert,omitzero"`
	// OnStale says what to do when the node cannot prove that its state is fresh.
	OnStale    OnStale        `json:"onStale,omitzero"`
	Credential CredentialSpec `json:"credential,omitzero"`
}

// CredentialSpec says how the credential for an upstream is obtained.
type CredentialSpec struct {
	// Grant is none when left out.
	Grant raftfsm.Grant `json:"grant,omitempty" enum:"none,static,client_credentials"`
	// Issuer or TokenURL name the authorization server; without both it is discovered from the upstream (RFC 9728).
	Issuer       string `json:"issuer,omitempty" maxLength:"2048"`
	TokenURL     string `json:"tokenURL,omitempty" maxLength:"2048"`
	ClientID     string `json:"clientID,omitempty" maxLength:"1024"`
	ClientSecret Secret `json:"clientSecret,omitzero"`
	// ClientAuth follows from what is given: client_secret_basic for ClientSecret, private_key_jwt for PrivateKey.
	ClientAuth raftfsm.ClientAuth `json:"clientAuth,omitempty" enum:"client_secret_basic,client_secret_post,private_key_jwt"`
	// PrivateKey is PEM: PKCS #8, PKCS #1 or SEC 1.
	PrivateKey Secret `json:"privateKey,omitzero"`
	// KeyID and Algorithm go into the header of the assertion; the algorithm follows from the key when left out.
	KeyID     string   `json:"keyID,omitempty" maxLength:"256"`
	Algorithm string   `json:"algorithm,omitempty" enum:"RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA"`
	Scopes    []string `json:"scopes,omitempty" maxItems:"64" nullable:"false"`
	// Resource is what the token is asked for (RFC 8707), the upstream's URL when left out.
	Resource     string `json:"resource,omitempty" maxLength:"2048"`
	OmitResource bool   `json:"omitResource,omitempty"`
	// Header carries the value of the static grant.
	Header StaticHeader `json:"header,omitzero"`
}

// StaticHeader is a header and its whole value.
type StaticHeader struct {
	Name  string `json:"name" maxLength:"128"`
	Value Secret `json:"value,omitzero"`
}

func (u *Upstream) secrets() map[string]value {
	c := &u.Spec.Credential
	return map[string]value{
		"/spec/caCert":                  &u.Spec.CACert,
		"/spec/credential/clientSecret": &c.ClientSecret,
		"/spec/credential/privateKey":   &c.PrivateKey,
		"/spec/credential/header/value": &c.Header.Value,
	}
}

// Duration is a time span written like 30s or 10m.
type Duration time.Duration

// MarshalText writes it like 10m0s.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads it like 10m.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration, such as 30s or 10m", text)
	}
	*d = Duration(parsed)
	return nil
}

// OnStale is "refuse" or {serve: DURATION}. The zero OnStale refuses.
type OnStale struct{ Serve Duration }

// MarshalJSON writes one of the two forms.
func (o OnStale) MarshalJSON() ([]byte, error) {
	if o.Serve == 0 {
		return []byte(`"refuse"`), nil
	}
	return json.Marshal(map[string]Duration{"serve": o.Serve})
}

// UnmarshalJSON reads one of the two forms.
func (o *OnStale) UnmarshalJSON(data []byte) error {
	if string(data) == `"refuse"` || string(data) == "null" {
		*o = OnStale{}
		return nil
	}
	var form struct {
		Serve Duration `json:"serve"`
	}
	if err := json.Unmarshal(data, &form, json.RejectUnknownMembers(true)); err != nil || form.Serve <= 0 {
		return errors.New("has to be refuse or {serve: DURATION}, such as {serve: 10m}")
	}
	o.Serve = form.Serve
	return nil
}
