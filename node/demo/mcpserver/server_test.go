package mcpserver_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"sallyport/node/demo/idp"
	"sallyport/node/demo/mcpserver"
)

const (
	legacy = "2025-11-25"
	modern = "2026-07-28"
)

// demo is an identity provider with both servers behind it.
type demo struct {
	idp             *idp.Provider
	accounting, crm *mcpserver.Server
}

func startDemo(t *testing.T) demo {
	t.Helper()
	p, err := idp.Start(t.Context(), idp.Config{Clients: []idp.Client{{
		ID: "sallyport", Scopes: []string{mcpserver.AccountingScope, mcpserver.CRMScope},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	d := demo{idp: p}
	for _, s := range []struct {
		server **mcpserver.Server
		start  func(context.Context, string) (*mcpserver.Server, error)
	}{{&d.accounting, mcpserver.StartAccounting}, {&d.crm, mcpserver.StartCRM}} {
		*s.server, err = s.start(t.Context(), p.Issuer())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup((*s.server).Close)
		p.RegisterResource((*s.server).URL())
	}
	return d
}

// token asks the identity provider for an access token for one resource.
func (d demo) token(t *testing.T, resource string, scopes ...string) *oauth2.Token {
	t.Helper()
	cc := clientcredentials.Config{
		ClientID:       "sallyport",
		ClientSecret:   d.idp.ClientSecret("sallyport").ExposeString(),
		TokenURL:       d.idp.Issuer() + "/oauth/token",
		AuthStyle:      oauth2.AuthStyleInHeader,
		Scopes:         scopes,
		EndpointParams: url.Values{"resource": {resource}},
	}
	token, err := cc.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func connect(t *testing.T, server *mcpserver.Server, version string, token *oauth2.Token) (*mcp.ClientSession, error) {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint:   server.URL(),
		HTTPClient: oauth2.NewClient(t.Context(), oauth2.StaticTokenSource(token)),
		MaxRetries: -1,
	}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err == nil {
		t.Cleanup(func() { _ = session.Close() })
	}
	return session, err
}

// mustConnect checks that the wanted revision was not silently replaced.
func mustConnect(t *testing.T, server *mcpserver.Server, version string, token *oauth2.Token) *mcp.ClientSession {
	t.Helper()
	session, err := connect(t, server, version, token)
	if err != nil {
		t.Fatal(err)
	}
	if got := session.InitializeResult().ProtocolVersion; got != version {
		t.Fatalf("speaks %s, want %s", got, version)
	}
	return session
}

// call makes a tool call and decodes its structured content.
func call(t *testing.T, session *mcp.ClientSession, tool string, arguments map[string]any, out any) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		t.Fatal(err)
	}
	if result.IsError {
		t.Fatalf("%s: %s", tool, textOf(result))
	}
	text, err := json.Marshal(result.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatal(err)
	}
}

func textOf(result *mcp.CallToolResult) string {
	var text strings.Builder
	for _, content := range result.Content {
		if part, ok := content.(*mcp.TextContent); ok {
			text.WriteString(part.Text)
		}
	}
	return text.String()
}

func TestAccountingInBothEras(t *testing.T) {
	d := startDemo(t)
	for _, version := range []string{legacy, modern} {
		t.Run(version, func(t *testing.T) {
			token := d.token(t, d.accounting.URL(), mcpserver.AccountingScope)
			session := mustConnect(t, d.accounting, version, token)
			before, began := d.accounting.Calls(), time.Now()

			var page struct {
				Rows []struct {
					ID    string
					Cents int
				}
				Caller struct {
					ClientID string `json:"client_id"`
					Sub      string
				}
			}
			call(t, session, "query_ledger", map[string]any{"account": "operating", "limit": 3}, &page)
			if len(page.Rows) != 3 || page.Rows[0].ID != "L-19999" || page.Rows[0].Cents != -48250 {
				t.Errorf("rows = %+v", page.Rows)
			}
			if page.Caller.ClientID != "sallyport" || page.Caller.Sub != "sallyport" {
				t.Errorf("caller = %+v", page.Caller)
			}

			digest := sha256.Sum256([]byte(token.AccessToken))
			want := mcpserver.Caller{
				ClientID: "sallyport", Subject: "sallyport",
				TokenFingerprint: hex.EncodeToString(digest[:])[:8], Tool: "query_ledger",
			}
			got := d.accounting.LastCaller()
			if got.Time.Before(began) || got.Time.After(time.Now()) {
				t.Errorf("called at %s, between %s and now", got.Time, began)
			}
			if want.Time = got.Time; got != want {
				t.Errorf("last caller = %+v, want %+v", got, want)
			}

			var booked struct {
				ID     string
				Amount int
			}
			call(t, session, "write_transaction", map[string]any{"account": "travel", "amount": -1250, "memo": "ferry"}, &booked)
			if booked.ID == "" || booked.Amount != -1250 {
				t.Errorf("receipt = %+v", booked)
			}
			if got := d.accounting.Calls() - before; got != 2 {
				t.Errorf("%d calls were counted, want 2", got)
			}
		})
	}
}

func TestCRMInBothEras(t *testing.T) {
	d := startDemo(t)
	for _, version := range []string{legacy, modern} {
		t.Run(version, func(t *testing.T) {
			session := mustConnect(t, d.crm, version, d.token(t, d.crm.URL()))

			var record struct {
				Customer struct{ Name, Email, Phone, SSN string }
				Payment  struct{ Card, IBAN string }
			}
			call(t, session, "get_customer", map[string]any{"id": "C-1002"}, &record)
			if record.Customer.SSN != "219-09-9999" || record.Customer.Email != "bruno@example.net" || record.Payment.IBAN == "" {
				t.Errorf("record = %+v", record)
			}

			var found struct{ Customers []struct{ ID string } }
			call(t, session, "search_customers", map[string]any{"query": "LINDQVIST"}, &found)
			if len(found.Customers) != 1 || found.Customers[0].ID != "C-1003" {
				t.Errorf("found = %+v", found)
			}
			call(t, session, "search_customers", map[string]any{"query": "nobody"}, &found)
			if len(found.Customers) != 0 {
				t.Errorf("found = %+v, want none", found)
			}

			resource, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "crm://customers/C-1001"})
			if err != nil {
				t.Fatal(err)
			}
			if text := resource.Contents[0].Text; !strings.Contains(text, `"ssn":"078-05-1120"`) {
				t.Errorf("resource = %s", text)
			}
			if _, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "crm://customers/C-9"}); err == nil {
				t.Error("read a customer who does not exist")
			}

			prompt, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "draft_reply", Arguments: map[string]string{"id": "C-1001"}})
			if err != nil {
				t.Fatal(err)
			}
			text, ok := prompt.Messages[0].Content.(*mcp.TextContent)
			if !ok || !strings.Contains(text.Text, "Ada Marlowe <ada.marlowe@example.com>") {
				t.Errorf("prompt = %+v", prompt.Messages[0].Content)
			}
		})
	}
}

func TestMistakesAreToolErrors(t *testing.T) {
	d := startDemo(t)
	accounting := mustConnect(t, d.accounting, modern, d.token(t, d.accounting.URL()))
	crm := mustConnect(t, d.crm, modern, d.token(t, d.crm.URL()))
	tests := map[string]struct {
		session   *mcp.ClientSession
		tool      string
		arguments map[string]any
		says      string
	}{
		"unknown account":  {accounting, "query_ledger", map[string]any{"account": "slush"}, `no account "slush"`},
		"too many rows":    {accounting, "query_ledger", map[string]any{"account": "travel", "limit": 1001}, "use 1 to 1000"},
		"writes nowhere":   {accounting, "write_transaction", map[string]any{"account": "slush", "amount": 1, "memo": ""}, `no account "slush"`},
		"unknown customer": {crm, "get_customer", map[string]any{"id": "C-9"}, `no customer "C-9"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			result, err := test.session.CallTool(t.Context(), &mcp.CallToolParams{Name: test.tool, Arguments: test.arguments})
			if err != nil {
				t.Fatal(err)
			}
			if text := textOf(result); !result.IsError || !strings.Contains(text, test.says) {
				t.Errorf("error %t, text %q, want an error with %q", result.IsError, text, test.says)
			}
		})
	}
}

func TestForeignTokensAreRefused(t *testing.T) {
	d, other := startDemo(t), startDemo(t)
	other.idp.RegisterResource(d.accounting.URL())
	tests := map[string]*oauth2.Token{
		"none":                nil,
		"made up":             {AccessToken: "spt_nonsense"},
		"for the other one":   d.token(t, d.crm.URL()),
		"without a resource":  d.token(t, ""),
		"without its scope":   d.token(t, d.accounting.URL(), mcpserver.CRMScope),
		"of another provider": other.token(t, d.accounting.URL()),
	}
	for name, token := range tests {
		for _, version := range []string{legacy, modern} {
			t.Run(name+" "+version, func(t *testing.T) {
				if token == nil {
					token = &oauth2.Token{}
				}
				if _, err := connect(t, d.accounting, version, token); err == nil {
					t.Error("connected")
				}
			})
		}
	}
	if d.accounting.Calls() != 0 || d.accounting.LastCaller() != (mcpserver.Caller{}) {
		t.Errorf("last caller = %+v", d.accounting.LastCaller())
	}
}

func TestRefusalNamesTheMetadata(t *testing.T) {
	d := startDemo(t)
	resp, err := http.Post(d.accounting.URL(), "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	base := strings.TrimSuffix(d.accounting.URL(), "/mcp")
	want := base + "/.well-known/oauth-protected-resource/mcp"
	if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(got, want) {
		t.Fatalf("answer %d, WWW-Authenticate %q, want 401 with %s", resp.StatusCode, got, want)
	}

	for _, document := range []string{want, strings.TrimSuffix(want, "/mcp")} {
		resp, err := http.Get(document)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		var metadata struct {
			Resource             string
			AuthorizationServers []string `json:"authorization_servers"`
		}
		if err := json.Unmarshal(body, &metadata); err != nil {
			t.Fatal(err)
		}
		if metadata.Resource != d.accounting.URL() || !slices.Equal(metadata.AuthorizationServers, []string{d.idp.Issuer()}) {
			t.Errorf("%s = %s", document, body)
		}
	}
}

func TestStartNeedsAnIssuer(t *testing.T) {
	if _, err := mcpserver.StartCRM(t.Context(), "http://127.0.0.1:1"); err == nil {
		t.Error("started without an issuer")
	}
}

func TestCloseEndsOpenSessions(t *testing.T) {
	d := startDemo(t)
	session := mustConnect(t, d.crm, legacy, d.token(t, d.crm.URL()))
	d.crm.Close()
	if _, err := session.ListTools(t.Context(), nil); err == nil {
		t.Error("a session outlived its server")
	}
	d.crm.Close() // may be repeated
}
