package idp_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"sallyport/node/demo/idp"
)

const resource = "http://127.0.0.1:1/mcp"

func start(t *testing.T, cfg idp.Config) *idp.Provider {
	t.Helper()
	p, err := idp.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	p.RegisterResource(resource)
	return p
}

// post sends a token request and returns its status and decoded answer.
func post(t *testing.T, p *idp.Provider, form url.Values, edit func(*http.Request)) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.Issuer()+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if edit != nil {
		edit(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q, want no-store", got)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("answer %q: %v", body, err)
	}
	return resp.StatusCode, answer
}

func TestSecretClientGetsTokenForResource(t *testing.T) {
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		p := start(t, idp.Config{
			Clients:       []idp.Client{{ID: "gate way", Scopes: []string{"ledger.read", "ledger.write"}}},
			TokenLifetime: time.Hour,
		})
		provider, err := oidc.NewProvider(t.Context(), p.Issuer())
		if err != nil {
			t.Fatal(err)
		}
		cc := clientcredentials.Config{
			ClientID:       "gate way",
			ClientSecret:   p.ClientSecret("gate way").ExposeString(),
			TokenURL:       provider.Endpoint().TokenURL,
			AuthStyle:      style,
			Scopes:         []string{"ledger.read"},
			EndpointParams: url.Values{"resource": {resource}},
		}
		token, err := cc.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		verified, err := provider.Verifier(&oidc.Config{ClientID: resource}).Verify(t.Context(), token.AccessToken)
		if err != nil {
			t.Fatal(err)
		}
		var claims struct {
			ClientID string `json:"client_id"`
			Scope    string `json:"scope"`
			ID       string `json:"jti"`
		}
		if err := verified.Claims(&claims); err != nil {
			t.Fatal(err)
		}
		if verified.Subject != "gate way" || claims.ClientID != "gate way" || claims.Scope != "ledger.read" || claims.ID == "" {
			t.Errorf("subject %q, claims %+v", verified.Subject, claims)
		}
		if left := time.Until(verified.Expiry); left < 30*time.Minute || left > time.Hour {
			t.Errorf("token is valid for %s, want about an hour", left)
		}
		if p.Issued() != 1 {
			t.Errorf("issued %d tokens, want 1", p.Issued())
		}
	}
}

func TestTokenWithoutResourceIsForTheProviderOnly(t *testing.T) {
	p := start(t, idp.Config{Clients: []idp.Client{{ID: "gateway", Scopes: []string{"a", "b"}}}})
	status, answer := post(t, p, url.Values{
		"grant_type": {"client_credentials"}, "scope": {""}, "resource": {""},
		"client_id": {"gateway"}, "client_secret": {p.ClientSecret("gateway").ExposeString()},
	}, nil)
	if status != http.StatusOK || answer["scope"] != "a b" {
		t.Fatalf("answer %d %v", status, answer)
	}
	provider, err := oidc.NewProvider(t.Context(), p.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := answer["access_token"].(string)
	token, err := provider.Verifier(&oidc.Config{SkipClientIDCheck: true}).Verify(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(token.Audience, []string{p.Issuer()}) {
		t.Errorf("audience = %v, want the issuer", token.Audience)
	}
}

func TestRefusedTokenRequests(t *testing.T) {
	p := start(t, idp.Config{Clients: []idp.Client{{ID: "gateway", Scopes: []string{"ledger.read"}}}})
	secret := p.ClientSecret("gateway").ExposeString()
	with := func(edits ...string) url.Values {
		form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"gateway"}, "client_secret": {secret}}
		for i := 0; i < len(edits); i += 2 {
			form.Set(edits[i], edits[i+1])
		}
		return form
	}
	tests := map[string]struct {
		form   url.Values
		edit   func(*http.Request)
		status int
		code   string
	}{
		"wrong secret":          {form: with("client_secret", "guess"), status: 401, code: "invalid_client"},
		"no secret":             {form: with("client_secret", ""), status: 401, code: "invalid_client"},
		"unknown client":        {form: with("client_id", "somebody"), status: 401, code: "invalid_client"},
		"wrong secret in Basic": {form: url.Values{"grant_type": {"client_credentials"}}, edit: func(r *http.Request) { r.SetBasicAuth("gateway", "guess") }, status: 401, code: "invalid_client"},
		"two ways at once":      {form: with(), edit: func(r *http.Request) { r.SetBasicAuth("gateway", secret) }, status: 400, code: "invalid_request"},
		"no assertion at all": {form: with("client_secret", "", "client_assertion", "x.y.z", "client_assertion_type",
			"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), status: 401, code: "invalid_client"},
		"scope not allowed":       {form: with("scope", "ledger.read ledger.write"), status: 400, code: "invalid_scope"},
		"unknown resource":        {form: with("resource", "http://127.0.0.1:2/mcp"), status: 400, code: "invalid_target"},
		"no grant type":           {form: with("grant_type", ""), status: 400, code: "invalid_request"},
		"unheard-of grant":        {form: with("grant_type", "password"), status: 400, code: "unsupported_grant_type"},
		"code grant":              {form: with("grant_type", "authorization_code"), status: 400, code: "unauthorized_client"},
		"oversized body":          {form: with("scope", strings.Repeat("x", 80<<10)), status: 400, code: "invalid_request"},
		"parameters in the query": {form: with(), edit: func(r *http.Request) { r.URL.RawQuery = "scope=ledger.read" }, status: 400, code: "invalid_request"},
		"GET":                     {form: with(), edit: func(r *http.Request) { r.Method = http.MethodGet }, status: 400, code: "invalid_request"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			status, answer := post(t, p, test.form, test.edit)
			if status != test.status || answer["error"] != test.code {
				t.Errorf("answer %d %v, want %d %s", status, answer, test.status, test.code)
			}
			if answer["access_token"] != nil {
				t.Error("a refusal carries a token")
			}
		})
	}
	if p.Issued() != 0 {
		t.Errorf("issued %d tokens, want none", p.Issued())
	}
}

func TestPrivateKeyJWT(t *testing.T) {
	key := newKey(t)
	p := start(t, idp.Config{Clients: []idp.Client{{ID: "gateway", Key: key.Public()}, {ID: "other"}}})
	good := func() jwt.Claims {
		return jwt.Claims{
			Issuer: "gateway", Subject: "gateway", Audience: jwt.Audience{p.Issuer()},
			ID: rand.Text(), Expiry: jwt.NewNumericDate(time.Now().Add(time.Minute)),
		}
	}
	tests := map[string]struct {
		change func(*jwt.Claims)
		key    *ecdsa.PrivateKey
		status int
	}{
		"issuer as audience":         {status: 200},
		"token endpoint as audience": {change: func(c *jwt.Claims) { c.Audience = jwt.Audience{p.Issuer() + "/oauth/token"} }, status: 200},
		"wrong key":                  {key: newKey(t), status: 401},
		"wrong audience":             {change: func(c *jwt.Claims) { c.Audience = jwt.Audience{"http://127.0.0.1:2"} }, status: 401},
		"no audience":                {change: func(c *jwt.Claims) { c.Audience = nil }, status: 401},
		"issuer is not the subject":  {change: func(c *jwt.Claims) { c.Issuer = "other" }, status: 401},
		"client with a secret":       {change: func(c *jwt.Claims) { c.Issuer, c.Subject = "other", "other" }, status: 401},
		"expired":                    {change: func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Minute)) }, status: 401},
		"never expires":              {change: func(c *jwt.Claims) { c.Expiry = nil }, status: 401},
		"expires in a day":           {change: func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(24 * time.Hour)) }, status: 401},
		"no jti":                     {change: func(c *jwt.Claims) { c.ID = "" }, status: 401},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			claims := good()
			if test.change != nil {
				test.change(&claims)
			}
			if test.key == nil {
				test.key = key
			}
			if status, answer := post(t, p, assertionForm(t, test.key, claims), nil); status != test.status {
				t.Errorf("answer %d %v, want %d", status, answer, test.status)
			}
		})
	}

	t.Run("an assertion is good for one request", func(t *testing.T) {
		form := assertionForm(t, key, good())
		if status, answer := post(t, p, form, nil); status != http.StatusOK {
			t.Fatalf("first use: %d %v", status, answer)
		}
		if status, answer := post(t, p, form, nil); status != http.StatusUnauthorized || answer["error"] != "invalid_client" {
			t.Errorf("second use: %d %v, want invalid_client", status, answer)
		}
	})
	if !p.ClientSecret("gateway").Empty() {
		t.Error("a client with a key has a secret too")
	}
}

func assertionForm(t *testing.T, key *ecdsa.PrivateKey, claims jwt.Claims) url.Values {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	assertion, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return url.Values{
		"grant_type":            {"client_credentials"},
		"resource":              {resource},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {assertion},
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestBothDiscoveryDocumentsAreTheSame(t *testing.T) {
	p := start(t, idp.Config{})
	var documents [2]map[string]any
	for i, path := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"} {
		resp, err := http.Get(p.Issuer() + path)
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(resp.Body).Decode(&documents[i])
		resp.Body.Close()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if documents[i]["issuer"] != p.Issuer() || documents[i]["token_endpoint"] != p.Issuer()+"/oauth/token" {
			t.Errorf("%s: %v", path, documents[i])
		}
		if types, ok := documents[i]["response_types_supported"].([]any); !ok || len(types) != 0 {
			t.Errorf("%s: response_types_supported = %v, want []", path, documents[i]["response_types_supported"])
		}
	}
	if len(documents[0]) != len(documents[1]) {
		t.Errorf("the documents differ: %v and %v", documents[0], documents[1])
	}
}

func TestClientsAreChecked(t *testing.T) {
	for name, clients := range map[string][]idp.Client{
		"no ID":        {{}},
		"the same one": {{ID: "a"}, {ID: "a"}},
	} {
		if _, err := idp.Start(t.Context(), idp.Config{Clients: clients}); err == nil {
			t.Errorf("%s: started", name)
		}
	}
}

func TestEndOfContextStopsServing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := idp.Start(ctx, idp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	p.Close() // returns when nothing is served any more
	if resp, err := http.Get(p.Issuer() + "/oauth/jwks"); err == nil {
		resp.Body.Close()
		t.Error("still answers after Close")
	}
}
