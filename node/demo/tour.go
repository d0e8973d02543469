package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"sallyport/crypto"
	"sallyport/node/demo/mcpserver"
)

const codeDenied = 1001 // of the node's JSON-RPC errors

// writePermit is the policy that FinanceAgent lacks in the tour.
const writePermit = `permit (principal in Role::"finance",
        action == Action::"tools/call",
        resource == Tool::"accounting/write_transaction");`

// gateway is what the tour asks of the node, besides the calls of its agents.
type gateway interface {
	// Revoke ends a gateway token and returns when that is committed.
	Revoke(ctx context.Context, tokenID string) error
	// LastAudit is the newest audit record about an agent.
	LastAudit(ctx context.Context, agent string) (auditRecord, error)
}

// auditRecord is what the tour shows of a record.
type auditRecord struct {
	Time     time.Time
	Agent    string
	Method   string
	Target   string // upstream/tool
	Decision string // "allowed" or "denied"
	Reason   string // the policy that decided, or why none did
}

// upstream is an MCP server that can be asked who called it.
type upstream interface {
	LastCaller() mcpserver.Caller
	Calls() int
}

// tour walks through what a gateway is for, and checks every claim it makes.
type tour struct {
	screen     *screen
	node       gateway
	accounting upstream
	crm        upstream

	finance        agent
	financeTokenID string
	support        agent

	patience time.Duration // how long an open stream may outlive its token
}

// run makes every step, also after one failed.
func (t *tour) run(ctx context.Context) {
	for _, step := range []struct {
		title string
		walk  func(context.Context) error
	}{
		{"FinanceAgent reads the ledger", t.read},
		{"FinanceAgent tries to book a transaction", t.write},
		{"SupportAgent is kept out of accounting and let into crm", t.serve},
		{"FinanceAgent's token is revoked", t.revoke},
	} {
		t.screen.step(step.title)
		if err := step.walk(ctx); err != nil {
			t.screen.check(false, err.Error())
		}
	}
}

// read shows a call that passes, with a token that the agent never had.
func (t *tour) read(ctx context.Context) error {
	got, err := t.call(ctx, t.finance, toolCall("accounting", "query_ledger", map[string]any{"account": "operating", "limit": 2}))
	if err != nil {
		return err
	}
	var ledger struct {
		StructuredContent struct {
			Rows   []any
			Caller struct {
				ClientID string `json:"client_id"`
			}
		}
	}
	_ = json.Unmarshal(got.result, &ledger) // what cannot be read has no rows
	rows, client := len(ledger.StructuredContent.Rows), ledger.StructuredContent.Caller.ClientID
	t.screen.check(rows == 2, fmt.Sprintf("a policy permits it: accounting answered with %d rows", rows))

	caller, own := t.accounting.LastCaller(), fingerprint(t.finance.token)
	t.screen.check(client != "" && client == caller.ClientID,
		fmt.Sprintf("accounting was called by OAuth client %q, with token #%s", client, caller.TokenFingerprint))
	t.screen.check(caller.TokenFingerprint != "" && caller.TokenFingerprint != own,
		fmt.Sprintf("that token was injected: FinanceAgent's own is #%s", own))
	t.screen.check(!holdsJWT(got.received), "FinanceAgent never saw it: no token is in anything it received")
	return t.audit(ctx, t.finance, "accounting/query_ledger", "allowed")
}

// write shows that what no policy permits does not happen, and what would
// permit it.
func (t *tour) write(ctx context.Context) error {
	before := t.accounting.Calls()
	got, err := t.call(ctx, t.finance, toolCall("accounting", "write_transaction",
		map[string]any{"account": "operating", "amount": -99900, "memo": "a new sail"}))
	if err != nil {
		return err
	}
	t.screen.check(got.denied(), "denied: no policy permits it")
	t.screen.check(t.accounting.Calls() == before, "the call never reached accounting")
	t.screen.block("permit", "this policy would permit it:", writePermit)
	return t.audit(ctx, t.finance, "accounting/write_transaction", "denied")
}

// serve shows that each agent has its own rights.
func (t *tour) serve(ctx context.Context) error {
	got, err := t.call(ctx, t.support, toolCall("accounting", "query_ledger", map[string]any{"account": "operating", "limit": 2}))
	if err != nil {
		return err
	}
	t.screen.check(got.denied(), "denied: no policy permits it")
	if err := t.audit(ctx, t.support, "accounting/query_ledger", "denied"); err != nil {
		return err
	}

	got, err = t.call(ctx, t.support, toolCall("crm", "get_customer", map[string]any{"id": "C-1002"}))
	if err != nil {
		return err
	}
	var found struct {
		StructuredContent struct{ Customer struct{ Name string } }
	}
	_ = json.Unmarshal(got.result, &found) // what cannot be read has no name
	name, caller := found.StructuredContent.Customer.Name, t.crm.LastCaller()
	t.screen.check(name != "" && caller.Tool == "get_customer",
		fmt.Sprintf("a policy permits it: crm answered client %q, with token #%s", caller.ClientID, caller.TokenFingerprint))
	return t.audit(ctx, t.support, "crm/get_customer", "allowed")
}

// revoke shows that a token is dead at once, with whatever hangs on it.
func (t *tour) revoke(ctx context.Context) error {
	stream, err := t.finance.listen(ctx, "accounting")
	if err != nil {
		return err
	}
	defer stream.Close()
	t.screen.block("open", "FinanceAgent listens for changes on /mcp/accounting (an SSE stream)")
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, stream)
		ended <- err
	}()

	began := time.Now()
	if err := t.node.Revoke(ctx, t.financeTokenID); err != nil {
		return fmt.Errorf("revoke the token: %w", err)
	}
	t.screen.block("sent", "sallyport revoke token "+t.financeTokenID)
	t.screen.block("back", "committed in "+milliseconds(time.Since(began)))

	before := t.accounting.Calls()
	got, err := t.call(ctx, t.finance, toolCall("accounting", "query_ledger", map[string]any{"account": "operating", "limit": 2}))
	if err != nil {
		return err
	}
	refused := time.Since(began)
	t.screen.check(got.status == http.StatusUnauthorized && t.accounting.Calls() == before,
		fmt.Sprintf("the next call is refused, %s after the revocation was asked for", milliseconds(refused)))

	timeout := time.NewTimer(t.patience)
	defer timeout.Stop()
	select {
	case <-ended:
		t.screen.check(true, fmt.Sprintf("the open stream has ended too, within %s", milliseconds(time.Since(began))))
	case <-timeout.C:
		t.screen.check(false, fmt.Sprintf("the open stream has ended too, within %s", t.patience))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return t.audit(ctx, t.finance, "accounting/query_ledger", "denied")
}

// call makes a request on the screen: what was sent, and what came back.
func (t *tour) call(ctx context.Context, a agent, r request) (answer, error) {
	arguments, err := json.Marshal(r.params["arguments"])
	if err != nil {
		return answer{}, fmt.Errorf("encode arguments: %w", err)
	}
	t.screen.block("sent",
		fmt.Sprintf("POST /mcp/%s, as %s with token %s", r.upstream, a.name, mask(a.token)),
		fmt.Sprintf("%s %s %s", r.method, r.name, arguments))
	got, err := a.send(ctx, r)
	if err != nil {
		return answer{}, err
	}
	t.screen.block("back", append([]string{
		fmt.Sprintf("%d %s, %s, %s", got.status, http.StatusText(got.status), got.protocol, milliseconds(got.took)),
	}, got.text()...)...)
	return got, nil
}

// audit shows the record of the step's call and checks what it says.
func (t *tour) audit(ctx context.Context, a agent, target, decision string) error {
	record, err := t.node.LastAudit(ctx, a.name)
	if err != nil {
		return fmt.Errorf("read the audit record: %w", err)
	}
	t.screen.block("audit", fmt.Sprintf("%s %s %s %s %s: %s",
		record.Time.Format("15:04:05.000"), record.Agent, record.Method, record.Target, record.Decision, record.Reason))
	t.screen.check(record.Agent == a.name && record.Target == target && record.Decision == decision,
		fmt.Sprintf("the audit record says %s", decision))
	return nil
}

func (a answer) denied() bool {
	return a.failure != nil && a.failure.Code == codeDenied && strings.Contains(a.failure.Message, "no policy permits")
}

// text is the part of an answer worth a look.
func (a answer) text() []string {
	switch {
	case a.failure != nil && len(a.failure.Data) > 0:
		return []string{fmt.Sprintf("error %d: %s", a.failure.Code, a.failure.Message), string(a.failure.Data)}
	case a.failure != nil:
		return []string{fmt.Sprintf("error %d: %s", a.failure.Code, a.failure.Message)}
	}
	var result struct {
		StructuredContent json.RawMessage `json:"structuredContent"`
	}
	if json.Unmarshal(a.result, &result) == nil && len(result.StructuredContent) > 0 {
		return []string{string(result.StructuredContent)}
	}
	if len(a.result) > 0 {
		return []string{string(a.result)}
	}
	return nil
}

// holdsJWT reports whether text has anything in it that begins as a JSON Web
// Token does, which is what the demo's identity provider issues.
func holdsJWT(text []byte) bool { return bytes.Contains(text, []byte("eyJ")) }

// fingerprint tells tokens apart without showing them: the first 8 hex digits
// of their SHA-256, as the demo's MCP servers have it.
func fingerprint(token crypto.Secret) string {
	digest := sha256.Sum256(token.Expose())
	return hex.EncodeToString(digest[:4])
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}
