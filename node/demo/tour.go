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
	"slices"
	"strings"
	"time"

	"sallyport/crypto"
	"sallyport/node/api"
	"sallyport/node/api/client"
	"sallyport/node/demo/mcpserver"
)

const codeDenied = 1001 // of the node's JSON-RPC errors

// gateway is what the tour asks of the node, besides the calls of its agents.
type gateway interface {
	// Revoke ends a gateway token and returns when that is committed.
	Revoke(ctx context.Context, tokenID string) error
	// Audit is the newest audit record that q chooses. It waits for one.
	Audit(ctx context.Context, q client.AuditQuery) (api.AuditRecord, error)
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
	finance    agent
	support    agent

	patience time.Duration // how long an open stream may outlive its token
}

// run makes every step, also after one failed, unless ctx ends.
func (t *tour) run(ctx context.Context) {
	t.screen.hide(t.finance.token)
	t.screen.hide(t.support.token)
	for _, step := range []struct {
		title string
		walk  func(context.Context) error
	}{
		{"FinanceAgent reads the ledger, without a key to it", t.read},
		{"FinanceAgent may not book a transaction", t.write},
		{"SupportAgent may use crm, but not accounting", t.serve},
		{"FinanceAgent's token is revoked, and refused from then on", t.revoke},
	} {
		t.screen.step(step.title)
		err := step.walk(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			t.screen.check(false, err.Error())
		}
	}
}

// read shows a call that passes, with a token that the agent never had.
func (t *tour) read(ctx context.Context) error {
	began := time.Now()
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
		fmt.Sprintf("accounting saw OAuth client %q, token #%s (SHA-256)", client, caller.TokenFingerprint))
	t.screen.check(caller.TokenFingerprint != "" && caller.TokenFingerprint != own,
		fmt.Sprintf("the node put it there: FinanceAgent's own token is #%s", own))
	t.screen.check(!holdsJWT(got.received), "FinanceAgent never saw it: no OAuth token is in what it received")
	return t.auditUse(ctx, t.finance, "accounting/query_ledger", began, caller.Time)
}

// write shows that what no policy permits does not happen, and what would
// permit it.
func (t *tour) write(ctx context.Context) error {
	listed, err := t.call(ctx, t.finance, request{upstream: "accounting", method: "tools/list"})
	if err != nil {
		return err
	}
	t.screen.check(slices.Equal(listed.tools(), []string{"query_ledger"}), "FinanceAgent is not even shown the tool write_transaction")
	t.screen.gap()

	began, before := time.Now(), t.accounting.Calls()
	got, err := t.call(ctx, t.finance, toolCall("accounting", "write_transaction",
		map[string]any{"account": "operating", "amount": -99900, "memo": "a new sail"}))
	if err != nil {
		return err
	}
	t.screen.check(got.denied(), "denied: no policy permits it")
	t.screen.check(strings.Contains(got.advice(), `Tool::"accounting/write_transaction"`), "the answer names a policy that would")
	t.screen.check(t.accounting.Calls() == before, "the call never reached accounting")
	return t.auditDenial(ctx, t.finance, "accounting/write_transaction", began)
}

// serve shows that each agent has its own rights.
func (t *tour) serve(ctx context.Context) error {
	began := time.Now()
	got, err := t.call(ctx, t.support, toolCall("crm", "get_customer", map[string]any{"id": "C-1002"}))
	if err != nil {
		return err
	}
	var found struct {
		StructuredContent struct{ Customer struct{ Name string } }
	}
	_ = json.Unmarshal(got.result, &found) // what cannot be read has no name
	name, caller := found.StructuredContent.Customer.Name, t.crm.LastCaller()
	t.screen.check(name != "" && caller.Tool == "get_customer", "a policy permits it: crm answered")
	t.screen.check(caller.TokenFingerprint != "" && caller.TokenFingerprint != t.accounting.LastCaller().TokenFingerprint,
		fmt.Sprintf("it saw token #%s, another one than accounting", caller.TokenFingerprint))
	if err := t.auditUse(ctx, t.support, "crm/get_customer", began, caller.Time); err != nil {
		return err
	}
	t.screen.gap()

	began, before := time.Now(), t.accounting.Calls()
	got, err = t.call(ctx, t.support, toolCall("accounting", "query_ledger", map[string]any{"account": "operating", "limit": 2}))
	if err != nil {
		return err
	}
	t.screen.check(got.denied() && t.accounting.Calls() == before, "denied: no policy permits it to SupportAgent")
	return t.auditDenial(ctx, t.support, "accounting/query_ledger", began)
}

// revoke shows that a token is dead at once, with whatever hangs on it.
func (t *tour) revoke(ctx context.Context) error {
	stream, err := t.finance.listen(ctx, "accounting")
	if err != nil {
		return err
	}
	defer stream.Close()
	t.screen.block("open", "FinanceAgent listens for changes on /mcp/accounting (an SSE stream)")
	ended := make(chan time.Time, 1)
	go func() {
		_, _ = io.Copy(io.Discard, stream) // that it ends is what matters, not how
		ended <- time.Now()
	}()

	began, before := time.Now(), t.accounting.Calls()
	if err := t.node.Revoke(ctx, t.finance.tokenID); err != nil {
		return fmt.Errorf("revoke the token: %w", err)
	}
	t.screen.block("sent", "sallyport revoke token "+t.finance.tokenID)
	t.screen.block("back", "committed in "+milliseconds(time.Since(began)))
	t.screen.gap()

	got, err := t.call(ctx, t.finance, toolCall("accounting", "query_ledger", map[string]any{"account": "operating", "limit": 2}))
	if err != nil {
		return err
	}
	refused := time.Since(began)
	t.screen.check(got.status == http.StatusUnauthorized && t.accounting.Calls() == before,
		fmt.Sprintf("the next call was refused %s after the revocation was asked for", milliseconds(refused)))

	timeout := time.NewTimer(t.patience)
	defer timeout.Stop()
	select {
	case at := <-ended:
		t.screen.check(true, fmt.Sprintf("the open stream ended %s after it", milliseconds(at.Sub(began))))
	case <-timeout.C:
		t.screen.check(false, fmt.Sprintf("the open stream ended within %s", t.patience))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return t.auditRevocation(ctx, began)
}

// call makes a request on the screen: what was sent, and what came back.
func (t *tour) call(ctx context.Context, a agent, r request) (answer, error) {
	what := r.method
	if r.name != "" {
		arguments, err := json.Marshal(r.params["arguments"])
		if err != nil {
			return answer{}, fmt.Errorf("encode arguments: %w", err)
		}
		what += " " + r.name + " " + string(arguments)
	}
	t.screen.block("sent", fmt.Sprintf("POST /mcp/%s, as %s with token %s", r.upstream, a.name, mask(a.token)), what)
	got, err := a.send(ctx, r)
	if err != nil {
		return answer{}, err
	}
	t.screen.block("back", append([]string{
		fmt.Sprintf("%s, %d %s, %s", got.protocol, got.status, http.StatusText(got.status), milliseconds(got.took)),
	}, got.text()...)...)
	return got, nil
}

// auditUse shows both records of a call that passed, and checks that the first
// is older than the call that it tells of.
func (t *tour) auditUse(ctx context.Context, a agent, target string, began, called time.Time) error {
	use, err := t.use(ctx, a, target, began)
	if err != nil {
		return err
	}
	outcome, err := t.node.Audit(ctx, client.AuditQuery{Kind: "outcome", ID: use.ID, Since: began})
	if err != nil {
		return fmt.Errorf("read the record of the outcome: %w", err)
	}
	t.screen.block("audit",
		fmt.Sprintf("%s %s: %s %s", clock(use), use.Decision, use.Agent, target),
		fmt.Sprintf("by policy %s, with credential %s", strings.Join(use.Policies, ", "), use.Credential),
		fmt.Sprintf("%s %s: %d bytes in %s", clock(outcome), outcome.Status, outcome.Bytes, milliseconds(time.Duration(outcome.Micros)*time.Microsecond)))
	upstream, _, _ := strings.Cut(target, "/")
	t.screen.check(use.Decision == "allowed" && use.Time.Before(called) && outcome.Status == "ok",
		fmt.Sprintf("recorded %s before %s got the call, and again after it", milliseconds(called.Sub(use.Time)), upstream))
	return nil
}

// auditDenial shows the record of a call that did not pass.
func (t *tour) auditDenial(ctx context.Context, a agent, target string, began time.Time) error {
	use, err := t.use(ctx, a, target, began)
	if err != nil {
		return err
	}
	t.screen.block("audit", fmt.Sprintf("%s %s: %s %s", clock(use), use.Decision, use.Agent, target))
	t.screen.check(use.Decision == "denied" && use.Credential == "", "the refusal is recorded, and used no credential")
	return nil
}

// use finds the record of an agent's call since began.
func (t *tour) use(ctx context.Context, a agent, target string, began time.Time) (api.AuditRecord, error) {
	upstream, item, _ := strings.Cut(target, "/")
	record, err := t.node.Audit(ctx, client.AuditQuery{Kind: "use", Agent: a.name, Upstream: upstream, Item: item, Since: began})
	if err != nil {
		return api.AuditRecord{}, fmt.Errorf("read the record of the call: %w", err)
	}
	return record, nil
}

// auditRevocation shows the records of the revocation and of the stream that
// it ended. The call that was refused has none: nobody known made it.
func (t *tour) auditRevocation(ctx context.Context, began time.Time) error {
	revoked, err := t.node.Audit(ctx, client.AuditQuery{Kind: "admin", Since: began})
	if err != nil {
		return fmt.Errorf("read the record of the revocation: %w", err)
	}
	stream, err := t.node.Audit(ctx, client.AuditQuery{Kind: "outcome", Agent: t.finance.name, Since: began})
	if err != nil {
		return fmt.Errorf("read the record of the stream's end: %w", err)
	}
	t.screen.block("audit",
		fmt.Sprintf("%s %s %s", clock(revoked), revoked.Change, revoked.Subject),
		fmt.Sprintf("%s %s: %s %s %s", clock(stream), stream.Status, stream.Agent, stream.Upstream, stream.Method))
	t.screen.check(revoked.Change == "revoke" && revoked.Subject == "token/"+t.finance.tokenID && stream.Status == "revoked",
		"the revocation is recorded, and that it ended the stream")
	return nil
}

func clock(r api.AuditRecord) string { return r.Time.Local().Format("15:04:05.000") }

func (a answer) denied() bool {
	return a.failure != nil && a.failure.Code == codeDenied && strings.HasSuffix(a.failure.Message, "no policy permits it")
}

func (a answer) advice() string {
	if a.failure == nil {
		return ""
	}
	return a.failure.Data.Advice
}

// tools are the names in the answer to tools/list.
func (a answer) tools() []string {
	var list struct {
		Tools []struct{ Name string }
	}
	_ = json.Unmarshal(a.result, &list) // what cannot be read has no tools
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
	}
	return names
}

// text is the part of an answer worth a look.
func (a answer) text() []string {
	switch {
	case a.failure != nil:
		said := []string{fmt.Sprintf("error %d: %s", a.failure.Code, a.failure.Message), a.advice()}
		return slices.DeleteFunc(said, func(line string) bool { return line == "" })
	case a.problem != "":
		return []string{a.problem}
	}
	var result struct {
		StructuredContent json.RawMessage `json:"structuredContent"`
	}
	if json.Unmarshal(a.result, &result) == nil && len(result.StructuredContent) > 0 {
		return []string{string(result.StructuredContent)}
	}
	if names := a.tools(); names != nil {
		return []string{"tools: " + strings.Join(names, ", ")}
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
