package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/oauth2/clientcredentials"

	"sallyport/crypto"
	"sallyport/node/api"
	"sallyport/node/api/client"
	"sallyport/node/demo/idp"
	"sallyport/node/demo/mcpserver"
)

// fakeNode does as much of a node's work as the tour sees, and does some of
// it wrong when told to.
type fakeNode struct {
	idp       *idp.Provider
	upstreams map[string]*mcpserver.Server
	may       map[string][]string // what each agent may call

	passesAll, leaks, forgetsAudit, recordsLate, keepsServing, keepsStreams bool

	patience time.Duration // of the tour

	mu      sync.Mutex        // protects the following
	agents  map[string]string // by token
	revoked map[string]bool   // by token
	audited []api.AuditRecord
	ended   chan struct{} // closed by Revoke
}

// Revoke takes the token itself for its id.
func (n *fakeNode) Revoke(_ context.Context, token string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.revoked[token] = !n.keepsServing
	n.audited = append(n.audited, api.AuditRecord{Time: time.Now(), Kind: "admin", Change: "revoke", Subject: "token/" + token})
	if !n.keepsStreams {
		n.audited = append(n.audited, api.AuditRecord{Time: time.Now(), Kind: "outcome", Agent: n.agents[token], Status: "revoked"})
		close(n.ended)
	}
	return nil
}

func (n *fakeNode) Audit(_ context.Context, q client.AuditQuery) (api.AuditRecord, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range slices.Backward(n.audited) {
		about := func(want, got string) bool { return want == "" || want == got }
		if !r.Time.Before(q.Since) && about(q.Kind, string(r.Kind)) && about(q.ID, r.ID) && about(q.Agent, r.Agent) && about(q.Upstream, r.Upstream) && about(q.Item, r.Item) {
			return r, nil
		}
	}
	return api.AuditRecord{}, errNoRecord
}

// record writes both records of a call; the fake knows how it will end.
func (n *fakeNode) record(agent, upstream, tool string, allowed bool) {
	if n.forgetsAudit {
		return
	}
	use := api.AuditRecord{Time: time.Now(), ID: rand.Text(), Kind: "use", Agent: agent, Upstream: upstream, Item: tool, Decision: "denied"}
	if n.recordsLate {
		use.Time = use.Time.Add(time.Minute)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if allowed {
		use.Decision, use.Credential, use.Policies = "allowed", upstream+":gateway", []string{"p"}
		n.audited = append(n.audited, api.AuditRecord{Time: use.Time, ID: use.ID, Kind: "outcome", Agent: agent, Status: "ok"})
	}
	n.audited = append(n.audited, use)
}

func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	upstream, method, tool := strings.TrimPrefix(r.URL.Path, "/mcp/"), r.Header.Get("Mcp-Method"), r.Header.Get("Mcp-Name")
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	n.mu.Lock()
	agent, revoked := n.agents[token], n.revoked[token]
	n.mu.Unlock()
	if revoked {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"title":"Unauthorized","status":401,"detail":"the gateway token has been revoked"}`)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if method == "tools/list" && !n.passesAll {
		var shown []string
		for _, target := range n.may[agent] {
			_, tool, _ := strings.Cut(target, "/")
			shown = append(shown, `{"name":"`+tool+`"}`)
		}
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"tools":[`+strings.Join(shown, ",")+`]}}`)
		return
	}
	target := upstream + "/" + tool
	allowed := n.passesAll || method != "tools/call" || slices.Contains(n.may[agent], target)
	if method == "tools/call" {
		n.record(agent, upstream, tool, allowed)
	}
	if !allowed {
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"error":{"code":1001,"message":"`+agent+` may not tools/call `+target+`: no policy permits it",`+
			`"data":{"advice":"ask an operator for a policy such as: permit (principal, action, resource == Tool::\"`+target+`\");"}}}`)
		return
	}
	n.forward(w, r, upstream)
}

func (n *fakeNode) forward(w http.ResponseWriter, r *http.Request, upstream string) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-n.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	cc := clientcredentials.Config{
		ClientID: "sallyport", ClientSecret: n.idp.ClientSecret("sallyport").ExposeString(),
		TokenURL:       n.idp.Issuer() + "/oauth/token",
		EndpointParams: url.Values{"resource": {n.upstreams[upstream].URL()}},
	}
	token, err := cc.Token(context.WithoutCancel(ctx))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	out, err := http.NewRequestWithContext(ctx, http.MethodPost, n.upstreams[upstream].URL(), r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	out.Header = r.Header.Clone()
	out.Header.Set("Authorization", "Bearer "+token.AccessToken)
	resp, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	if n.leaks {
		w.Header().Set("X-Debug", token.AccessToken)
	}
	w.WriteHeader(resp.StatusCode)
	buffer := make([]byte, 4096)
	for {
		size, err := resp.Body.Read(buffer)
		_, _ = w.Write(buffer[:size])
		_ = http.NewResponseController(w).Flush()
		if err != nil {
			return
		}
	}
}

// walk takes the tour through a fake node and returns what was on the screen.
func walk(t *testing.T, spoil func(*fakeNode)) (text string, held bool) {
	t.Helper()
	provider, err := idp.Start(t.Context(), idp.Config{Clients: []idp.Client{{
		ID: "sallyport", Scopes: []string{mcpserver.AccountingScope, mcpserver.CRMScope},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(provider.Close)
	accounting, err := mcpserver.StartAccounting(t.Context(), provider.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(accounting.Close)
	crm, err := mcpserver.StartCRM(t.Context(), provider.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(crm.Close)
	provider.RegisterResource(accounting.URL())
	provider.RegisterResource(crm.URL())

	finance, support := longToken, strings.Replace(longToken, "0123", "9876", 1)
	node := &fakeNode{
		idp:       provider,
		upstreams: map[string]*mcpserver.Server{"accounting": accounting, "crm": crm},
		may: map[string][]string{
			"FinanceAgent": {"accounting/query_ledger"},
			"SupportAgent": {"crm/get_customer"},
		},
		agents:   map[string]string{finance: "FinanceAgent", support: "SupportAgent"},
		revoked:  map[string]bool{},
		ended:    make(chan struct{}),
		patience: 30 * time.Second,
	}
	spoil(node)
	server := httptest.NewServer(node)
	t.Cleanup(server.Close)
	newAgent := func(name, token string) agent {
		return agent{name: name, token: crypto.SecretString(token), tokenID: token, gateway: server.URL, http: http.DefaultTransport}
	}

	var out bytes.Buffer
	walked := tour{
		screen: newScreen(&out, func(string) string { return "" }),
		node:   node, accounting: accounting, crm: crm,
		finance: newAgent("FinanceAgent", finance),
		support: newAgent("SupportAgent", support), patience: node.patience,
	}
	walked.run(t.Context())
	held = walked.screen.summary()

	for line := range strings.Lines(out.String()) {
		if columns := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); columns > 80 {
			t.Errorf("%d columns: %s", columns, line)
		}
	}
	for _, secret := range []string{finance, support, "eyJ"} {
		if strings.Contains(out.String(), secret) {
			t.Error("a token is on the screen")
		}
	}
	return out.String(), held
}

func TestTourHoldsOnAnHonestNode(t *testing.T) {
	text, held := walk(t, func(*fakeNode) {})
	if !held || strings.Contains(text, "FAILED") {
		t.Errorf("not every step held:\n%s", text)
	}
	for _, want := range []string{
		"1  FinanceAgent reads the ledger", "4  FinanceAgent's token is revoked",
		"with token spt_…klmn", "no policy permits", `Tool::"accounting/write_transaction"`,
		"L-19999", "tools: query_ledger\n", "the gateway token has been revoked\n", "the open stream ended",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the tour does not say %q:\n%s", want, text)
		}
	}
}

func TestTourNoticesABadNode(t *testing.T) {
	tests := map[string]struct {
		spoil func(*fakeNode)
		fails string
	}{
		"lets everything pass":    {func(n *fakeNode) { n.passesAll = true }, "step 2: the call never reached accounting"},
		"shows everything":        {func(n *fakeNode) { n.passesAll = true }, "step 2: FinanceAgent is not even shown"},
		"denies everything":       {func(n *fakeNode) { n.may = nil }, "step 1: a policy permits it: accounting answered with 0 rows"},
		"leaks the token":         {func(n *fakeNode) { n.leaks = true }, "step 1: FinanceAgent never saw it"},
		"keeps no audit":          {func(n *fakeNode) { n.forgetsAudit = true }, "step 1: read the record of the call: the audit has no such record"},
		"records after the event": {func(n *fakeNode) { n.recordsLate = true }, "step 1: recorded -"},
		"leaves streams open":     {func(n *fakeNode) { n.keepsStreams, n.patience = true, time.Millisecond }, "step 4: the open stream ended"},
		"serves revoked tokens":   {func(n *fakeNode) { n.keepsServing = true }, "step 4: the next call was refused"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			text, held := walk(t, test.spoil)
			if held {
				t.Error("the summary says that all held")
			}
			flat := strings.Join(strings.Fields(text[strings.LastIndex(text, "FAILED:"):]), " ")
			if !strings.Contains(flat, test.fails) {
				t.Errorf("want a failure %q:\n%s", test.fails, text)
			}
		})
	}
}

func TestLastEvent(t *testing.T) {
	for name, test := range map[string]struct{ stream, want string }{
		"empty":   {"", ""},
		"one":     {"event: message\ndata: {\"id\":1}\n\n", `{"id":1}`},
		"two":     {"data: {}\n\n: still here\n\ndata: {\"id\":1}\r\n\r\n", `{"id":1}`},
		"no data": {": still here\n\n", ""},
	} {
		if got := string(lastEvent([]byte(test.stream))); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestRefusalByStatusHasNoResult(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "who are you?")
	}))
	defer server.Close()
	a := agent{name: "x", token: crypto.SecretString(longToken), gateway: server.URL, http: http.DefaultTransport}
	got, err := a.send(t.Context(), toolCall("accounting", "query_ledger", nil))
	if err != nil {
		t.Fatal(err)
	}
	if got.status != http.StatusUnauthorized || got.result != nil || got.failure != nil || got.text() != nil || !bytes.Contains(got.received, []byte("who are you?")) {
		t.Errorf("answer = %+v", got)
	}
	if _, err := a.listen(t.Context(), "accounting"); err == nil {
		t.Error("opened a stream that was refused")
	}
	if _, err := json.Marshal(a.token); err == nil {
		t.Error("a token was encoded")
	}
}
