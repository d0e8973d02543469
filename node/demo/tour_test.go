package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	"sallyport/node/demo/idp"
	"sallyport/node/demo/mcpserver"
)

// fakeNode does as much of a node's work as the tour sees, and does some of
// it wrong when told to.
type fakeNode struct {
	idp       *idp.Provider
	upstreams map[string]*mcpserver.Server
	may       map[string][]string // what each agent may call

	passesAll, leaks, forgetsAudit, keepsServing, keepsStreams bool

	patience time.Duration // of the tour

	mu      sync.Mutex // protects the following
	tokens  map[string]string
	audited map[string]auditRecord
	ended   chan struct{} // closed by Revoke
}

func (n *fakeNode) Revoke(_ context.Context, tokenID string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for token := range n.tokens {
		if strings.HasSuffix(token, tokenID) && !n.keepsServing {
			n.tokens[token] = "!" + n.tokens[token]
		}
	}
	if !n.keepsStreams {
		close(n.ended)
	}
	return nil
}

func (n *fakeNode) LastAudit(_ context.Context, agent string) (auditRecord, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.forgetsAudit {
		return auditRecord{}, errors.New("there is no record")
	}
	return n.audited[agent], nil
}

func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	upstream := strings.TrimPrefix(r.URL.Path, "/mcp/")
	target, tool := upstream+"/"+r.Header.Get("Mcp-Name"), r.Header.Get("Mcp-Method") == "tools/call"

	n.mu.Lock()
	agent, revoked := strings.CutPrefix(n.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")], "!")
	record := auditRecord{Time: time.Now(), Agent: agent, Method: r.Header.Get("Mcp-Method"), Target: target, Decision: "denied", Reason: "no policy permits it"}
	allowed := !revoked && (!tool || n.passesAll || slices.Contains(n.may[agent], target))
	if allowed {
		record.Decision, record.Reason = "allowed", "policy "+agent
	}
	n.audited[agent] = record
	n.mu.Unlock()

	switch {
	case revoked:
		http.Error(w, "the token was revoked", http.StatusUnauthorized)
	case !allowed:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"error":{"code":1001,"message":"denied: no policy permits `+target+`"}}`)
	default:
		n.forward(w, r, upstream)
	}
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
		tokens:   map[string]string{finance: "FinanceAgent", support: "SupportAgent"},
		audited:  map[string]auditRecord{},
		ended:    make(chan struct{}),
		patience: 30 * time.Second,
	}
	spoil(node)
	server := httptest.NewServer(node)
	t.Cleanup(server.Close)
	newAgent := func(name, token string) agent {
		return agent{name: name, token: crypto.SecretString(token), gateway: server.URL, http: http.DefaultTransport}
	}

	var out bytes.Buffer
	walked := tour{
		screen: newScreen(&out, func(string) string { return "" }),
		node:   node, accounting: accounting, crm: crm,
		finance: newAgent("FinanceAgent", finance), financeTokenID: finance,
		support:  newAgent("SupportAgent", support),
		patience: node.patience,
	}
	walked.screen.hide(walked.finance.token)
	walked.screen.hide(walked.support.token)
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
		"L-19999", "the open stream has ended too",
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
		"lets everything pass":  {func(n *fakeNode) { n.passesAll = true }, "step 2: the call never reached accounting"},
		"denies everything":     {func(n *fakeNode) { n.may = nil }, "step 1: a policy permits it: accounting answered with 0 rows"},
		"leaks the token":       {func(n *fakeNode) { n.leaks = true }, "step 1: FinanceAgent never saw it"},
		"keeps no audit":        {func(n *fakeNode) { n.forgetsAudit = true }, "step 1: read the audit record: there is no record"},
		"leaves streams open":   {func(n *fakeNode) { n.keepsStreams, n.patience = true, time.Millisecond }, "step 4: the open stream has ended too"},
		"serves revoked tokens": {func(n *fakeNode) { n.keepsServing = true }, "step 4: the next call is refused"},
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
