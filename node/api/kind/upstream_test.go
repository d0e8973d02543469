package kind

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"reflect"
	"strings"
	"testing"
	"time"

	"sallyport/crypto"
	"sallyport/raftfsm"
)

// upstream is a valid one with the changes of the test.
func upstream(change func(*Upstream)) *Upstream {
	u := &Upstream{
		Envelope: Envelope{APIVersion: APIVersion, Kind: KindUpstream, Metadata: Metadata{Name: "crm"}},
		Spec:     UpstreamSpec{URL: "https://crm.example/mcp"},
	}
	change(u)
	return u
}

func secret(text string) Secret { return NewSecret(crypto.SecretString(text)) }

func static(u *Upstream) *StaticHeader {
	u.Spec.Credential = CredentialSpec{Grant: raftfsm.GrantStatic, Header: StaticHeader{Name: "X-Api-Key", Value: secret("v")}}
	return &u.Spec.Credential.Header
}

func client(u *Upstream) *CredentialSpec {
	u.Spec.Credential = CredentialSpec{Grant: raftfsm.GrantClientCredentials, Issuer: "https://login.example", ClientID: "c", ClientSecret: secret("s")}
	return &u.Spec.Credential
}

func keyPEM(t *testing.T, curve elliptic.Curve) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestUpstreamIsValid(t *testing.T) {
	key := keyPEM(t, elliptic.P384())
	for name, change := range map[string]func(*Upstream){
		"plain":                func(*Upstream) {},
		"loopback by address":  func(u *Upstream) { u.Spec.URL = "http://127.0.0.1:9000/mcp" },
		"loopback by IPv6":     func(u *Upstream) { u.Spec.URL = "http://[::1]:9000/mcp" },
		"loopback by name":     func(u *Upstream) { u.Spec.URL = "http://localhost/mcp" },
		"http when said":       func(u *Upstream) { u.Spec.URL, u.Spec.Insecure = "http://10.0.0.1/mcp", true },
		"static":               func(u *Upstream) { static(u) },
		"static, kept":         func(u *Upstream) { static(u).Value = StoredSecret() },
		"static authorization": func(u *Upstream) { h := static(u); h.Name, h.Value = "Authorization", secret("Bearer x") },
		"client":               func(u *Upstream) { client(u) },
		"client, discovered":   func(u *Upstream) { client(u).Issuer = "" },
		"client, token URL":    func(u *Upstream) { c := client(u); c.Issuer, c.TokenURL = "", "https://login.example/token" },
		"client with a key":    func(u *Upstream) { c := client(u); c.ClientSecret, c.PrivateKey = Secret{}, secret(key) },
		"client with algorithm": func(u *Upstream) {
			c := client(u)
			c.ClientSecret, c.PrivateKey, c.Algorithm = Secret{}, secret(key), "ES384"
		},
		"user data, service allowed": func(u *Upstream) { static(u); u.Spec.UserData, u.Spec.AllowService = true, true },
		"user data, no credential":   func(u *Upstream) { u.Spec.UserData = true },
		"serves stale":               func(u *Upstream) { u.Spec.OnStale.Serve = Duration(time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			if problems := upstream(change).Validate(); len(problems) > 0 {
				t.Error(problems)
			}
		})
	}
}

func TestUpstreamIsRefused(t *testing.T) {
	key := keyPEM(t, elliptic.P256())
	odd := keyPEM(t, elliptic.P224())
	tests := map[string]struct {
		change func(*Upstream)
		want   string
	}{
		"name":                  {func(u *Upstream) { u.Metadata.Name = "CRM" }, `metadata.name: "CRM" is no name`},
		"name too long":         {func(u *Upstream) { u.Metadata.Name = strings.Repeat("a", 32) }, "metadata.name: "},
		"no URL":                {func(u *Upstream) { u.Spec.URL = "" }, "spec.url: is missing"},
		"relative":              {func(u *Upstream) { u.Spec.URL = "crm/mcp" }, "spec.url: is no URL with a host"},
		"no host":               {func(u *Upstream) { u.Spec.URL = "https://:8443/mcp" }, "spec.url: is no URL with a host"},
		"http":                  {func(u *Upstream) { u.Spec.URL = "http://crm.example/mcp" }, "spec.url: is plain http to another machine"},
		"http, looks loopback":  {func(u *Upstream) { u.Spec.URL = "http://127.0.0.1.example/mcp" }, "spec.url: is plain http"},
		"password in URL":       {func(u *Upstream) { u.Spec.URL = "https://a:b@crm.example" }, "spec.url: has a name or password"},
		"fragment":              {func(u *Upstream) { u.Spec.URL = "https://crm.example#a" }, "spec.url: has a fragment"},
		"file":                  {func(u *Upstream) { u.Spec.URL = "file://host/etc" }, `spec.url: has the scheme "file"`},
		"timeout":               {func(u *Upstream) { u.Spec.Timeout = Duration(time.Hour) }, "spec.timeout: "},
		"negative timeout":      {func(u *Upstream) { u.Spec.Timeout = -1 }, "spec.timeout: "},
		"stale user data":       {func(u *Upstream) { u.Spec.UserData, u.Spec.OnStale.Serve = true, 1 }, "spec.onStale: must be refuse"},
		"no certificate":        {func(u *Upstream) { u.Spec.CACert = NewText("x") }, "spec.caCert: holds no PEM"},
		"key as certificate":    {func(u *Upstream) { u.Spec.CACert = NewText(key) }, "spec.caCert: holds a PRIVATE KEY"},
		"user data, static":     {func(u *Upstream) { static(u); u.Spec.UserData = true }, "userData: true refuses"},
		"user data, client":     {func(u *Upstream) { client(u); u.Spec.UserData = true }, "userData: true refuses"},
		"grant":                 {func(u *Upstream) { u.Spec.Credential.Grant = "magic" }, `"magic" does not exist`},
		"header of no grant":    {func(u *Upstream) { static(u); u.Spec.Credential.Grant = raftfsm.GrantNone }, "spec.credential.header: belongs to grant: static"},
		"client of no grant":    {func(u *Upstream) { client(u).Grant = "" }, "spec.credential.clientSecret: belongs to grant: client_credentials"},
		"no header":             {func(u *Upstream) { static(u).Name = "" }, "spec.credential.header.name: is missing"},
		"header with colon":     {func(u *Upstream) { static(u).Name = "X:" }, "is no header name"},
		"header of the gateway": {func(u *Upstream) { static(u).Name = "MCP-Session-Id" }, "is set by the gateway itself"},
		"hop-by-hop header":     {func(u *Upstream) { static(u).Name = "Transfer-Encoding" }, "is set by the gateway itself"},
		"no value":              {func(u *Upstream) { static(u).Value = Secret{} }, "spec.credential.header.value: is missing"},
		"value with line break": {func(u *Upstream) { static(u).Value = secret("a\r\nX: canary") }, "a header cannot carry it"},
		"value with space":      {func(u *Upstream) { static(u).Value = secret("canary ") }, "a header cannot carry it"},
		"no scheme":             {func(u *Upstream) { static(u).Name = "authorization" }, "has no scheme"},
		"issuer and token URL":  {func(u *Upstream) { client(u).TokenURL = "https://login.example/token" }, "stands beside issuer"},
		"issuer with query":     {func(u *Upstream) { client(u).Issuer = "https://login.example?a=b" }, "spec.credential.issuer: has a query"},
		"issuer by http":        {func(u *Upstream) { client(u).Issuer = "http://login.example" }, "spec.credential.issuer: is plain http"},
		"no client id":          {func(u *Upstream) { client(u).ClientID = "" }, "spec.credential.clientID: "},
		"no client secret":      {func(u *Upstream) { client(u).ClientSecret = Secret{} }, "spec.credential.clientSecret: is missing"},
		"secret and key":        {func(u *Upstream) { client(u).PrivateKey = secret(key) }, "spec.credential.clientSecret: has no use"},
		"key for basic":         {func(u *Upstream) { c := client(u); c.PrivateKey, c.ClientAuth = secret(key), raftfsm.ClientSecretBasic }, "spec.credential.privateKey: has no use"},
		"no key":                {func(u *Upstream) { client(u).ClientAuth = raftfsm.PrivateKeyJWT }, "spec.credential.privateKey: is missing"},
		"no such method":        {func(u *Upstream) { client(u).ClientAuth = "none" }, `"none" does not exist`},
		"key is no PEM":         {func(u *Upstream) { c := client(u); c.ClientSecret, c.PrivateKey = Secret{}, secret("canary") }, "is not one private key in PEM"},
		"key on an odd curve":   {func(u *Upstream) { c := client(u); c.ClientSecret, c.PrivateKey = Secret{}, secret(odd) }, "spec.credential.privateKey: "},
		"key and algorithm": {func(u *Upstream) {
			c := client(u)
			c.ClientSecret, c.PrivateKey, c.Algorithm = Secret{}, secret(key), "RS256"
		}, "does not fit algorithm RS256"},
		"key id for a secret":  {func(u *Upstream) { client(u).KeyID = "k" }, "belong to clientAuth: private_key_jwt"},
		"two words as a scope": {func(u *Upstream) { client(u).Scopes = []string{"a b"} }, "spec.credential.scopes.0: "},
		"relative resource":    {func(u *Upstream) { client(u).Resource = "/mcp" }, "spec.credential.resource: "},
		"resource or not":      {func(u *Upstream) { c := client(u); c.Resource, c.OmitResource = "https://r", true }, "contradicts resource"},
		"label":                {func(u *Upstream) { u.Metadata.Labels = map[string]string{"a b": "c"} }, `metadata.labels: "a b" is no label`},
		"label value":          {func(u *Upstream) { u.Metadata.Labels = map[string]string{"a": "b\nc"} }, "metadata.labels: the value of"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			problems := upstream(test.change).Validate()
			if !strings.Contains(problems.Error(), test.want) {
				t.Errorf("got %q, want %q", problems, test.want)
			}
			if strings.Contains(problems.Error(), "canary") {
				t.Errorf("the error quotes a secret: %v", problems)
			}
		})
	}
}

func TestEverythingIsReportedAtOnce(t *testing.T) {
	problems := upstream(func(u *Upstream) {
		client(u).ClientID, u.Spec.URL, u.Metadata.Name = "", "http://x", "X"
	}).Validate()
	if len(problems) != 3 {
		t.Errorf("got %v", problems)
	}
}

// A record and its document say the same, except for the secrets, of which a document says only that they are there.
func TestRecordsKeepEverything(t *testing.T) {
	key := keyPEM(t, elliptic.P256())
	for name, change := range map[string]func(*Upstream){
		"plain":  func(u *Upstream) { u.Spec.Credential.Grant = raftfsm.GrantNone },
		"static": func(u *Upstream) { static(u).Value = StoredSecret() },
		"client": func(u *Upstream) {
			c := client(u)
			c.ClientSecret, c.ClientAuth, c.Scopes, c.Resource = StoredSecret(), raftfsm.ClientSecretPost, []string{"a", "b"}, "https://r"
		},
		"key": func(u *Upstream) {
			c := client(u)
			c.ClientSecret, c.PrivateKey, c.ClientAuth, c.KeyID, c.Algorithm = Secret{}, StoredSecret(), raftfsm.PrivateKeyJWT, "k", "ES256"
			c.Issuer, c.TokenURL, c.OmitResource = "", "https://login.example/token", true
		},
		"rest": func(u *Upstream) {
			u.Spec = UpstreamSpec{
				URL: "http://10.0.0.1", Insecure: true, AllowService: true, Timeout: Duration(3 * time.Second),
				CACert: NewText(key), OnStale: OnStale{Serve: Duration(time.Minute)}, Credential: CredentialSpec{Grant: raftfsm.GrantNone},
			}
			u.Metadata.Labels = map[string]string{"a": "b"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := upstream(change)
			r := u.Record()
			if r.Grant == raftfsm.GrantClientCredentials {
				r.ClientSecret = []byte("sealed")
			}
			if again := UpstreamOf(&r, true); !reflect.DeepEqual(again, u) {
				t.Errorf("got  %+v\nwant %+v", again, u)
			}
		})
	}
}
