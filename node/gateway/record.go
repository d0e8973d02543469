package gateway

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sallyport/node/audit"
	"sallyport/node/mcp"
)

// recordUse writes the record that must exist before the credential leaves this node; without it the call is refused.
func (c *call) recordUse() bool {
	c.record = c.newRecord(audit.Allowed)
	if err := c.Audit.Append(c.ctx, c.record); err != nil {
		c.Logger.Error("a call was refused since it could not be recorded", "error", err)
		return c.fail("refused", mcp.CodeInternal, "the call cannot be recorded, and so is not made", "try again later; the operator has to make room for the audit")
	}
	c.recorded = true
	return true
}

// recordDenial records a call that is refused. If that fails, the refusal stands all the same.
func (c *call) recordDenial(reason string) {
	c.record = c.newRecord(audit.Denied)
	c.record.Reason = limit(reason)
	if err := c.Audit.Append(c.ctx, c.record); err != nil {
		c.Logger.Error("a refusal could not be recorded", "error", err)
	}
}

func (c *call) newRecord(decision string) audit.Record {
	r := audit.Record{
		Time: time.Now(), ID: rand.Text(), Kind: audit.KindUse, Agent: c.caller.Agent.Name, Token: c.caller.Token.ID,
		Upstream: c.upstream.Name, Method: c.method(), Era: c.era(), Decision: decision, Policies: c.decision.Policies[:min(len(c.decision.Policies), maxRecordedPolicies)],
		Credential: c.credential.ID, Generation: c.credential.Generation,
	}
	if c.msg != nil {
		r.Item = limit(c.msg.Item())
		r.Trace = traceID(c.msg.Meta.TraceParent)
		if c.msg.Arguments != nil {
			sum := sha256.Sum256(c.msg.Arguments)
			r.ArgumentsSHA256 = hex.EncodeToString(sum[:])
		}
	}
	return r
}

// maxRecordedPolicies keeps records small where many policies agree.
const maxRecordedPolicies = 32

// limit keeps what callers choose from filling the audit.
func limit(s string) string {
	const most = 1024
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// traceID takes the trace id out of a W3C traceparent, if it is one.
func traceID(parent string) string {
	parts := strings.Split(parent, "-")
	if len(parts) != 4 || len(parts[1]) != 32 {
		return ""
	}
	if _, err := hex.DecodeString(parts[1]); err != nil {
		return ""
	}
	return parts[1]
}

// finish records how the call ended.
func (c *call) finish() {
	took := time.Since(c.began)
	if c.status == "" {
		c.status = "ok"
	}
	c.Observer.Request(c.methodLabel(), c.status, took)
	if !c.recorded {
		return
	}
	outcome := audit.Record{
		ID: c.record.ID, Kind: audit.KindOutcome, Agent: c.record.Agent, Upstream: c.record.Upstream, Method: c.record.Method, Item: c.record.Item,
		Status: c.status, Code: c.code, Error: limit(c.problem), Micros: took.Microseconds(), Bytes: c.sent, StalenessMillis: c.staleness.Load(),
	}
	// The client may be gone, the outcome is recorded all the same.
	if err := c.Audit.Append(context.WithoutCancel(c.ctx), outcome); err != nil {
		c.Logger.Error("the outcome of a call could not be recorded", "error", err)
	}
}

// methodLabel bounds the values that a metric can take.
func (c *call) methodLabel() string {
	if c.msg == nil {
		switch c.r.Method {
		case http.MethodPost, http.MethodGet, http.MethodDelete:
			return c.r.Method
		}
		return "other"
	}
	if _, known := c.questions(); known || c.msg.Kind == mcp.Response {
		return c.method()
	}
	return "other"
}

func codeText(code int) string { return strconv.Itoa(code) }
