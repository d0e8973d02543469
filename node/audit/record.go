package audit

import "time"

// Kind is what a record tells of.
type Kind string

// The kinds of records.
const (
	// KindUse is written before a credential leaves the node, or with the decision that it does not.
	KindUse Kind = "use"
	// KindOutcome tells how the call of a use record ended.
	KindOutcome Kind = "outcome"
	// KindAdmin tells of a change through the admin API.
	KindAdmin Kind = "admin"
)

// Decisions of a use record.
const (
	Allowed = "allowed"
	Denied  = "denied"
)

// Record is one line of the audit. It holds no secret and no body.
type Record struct {
	Time time.Time `json:"time"`
	// ID is the same in the use record of a call and in its outcome record.
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
	Node string `json:"node"`

	Agent    string `json:"agent,omitempty"`
	Token    string `json:"token,omitempty"` // the id of the gateway or admin token
	Upstream string `json:"upstream,omitempty"`
	Method   string `json:"method,omitempty"`
	Item     string `json:"item,omitempty"` // tool, prompt or URI
	Era      string `json:"era,omitempty"`

	Decision string   `json:"decision,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Policies []string `json:"policies,omitempty"`

	Credential string `json:"credential,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
	// ArgumentsSHA256 is a digest of the arguments as they were sent, in hex.
	ArgumentsSHA256 string `json:"argumentsSHA256,omitempty"`
	// StalenessMillis is the proved age of the node's state at the last check before the first byte.
	StalenessMillis int64 `json:"stalenessMillis,omitempty"`

	Status string `json:"status,omitempty"` // outcome: ok, tool_error, error, cancelled, refused
	Code   string `json:"code,omitempty"`   // outcome: JSON-RPC error code
	Error  string `json:"error,omitempty"`
	Micros int64  `json:"micros,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"` // sent to the caller
	Trace  string `json:"trace,omitempty"` // W3C trace id

	// Subject is what an admin record changed, Change how.
	Subject string `json:"subject,omitempty"`
	Change  string `json:"change,omitempty"`
}

// Filter chooses records; empty fields choose all.
type Filter struct {
	Agent, Upstream, Item, Kind, Decision, ID string
	Since, Until                              time.Time
	// Limit bounds how many records are returned, the newest; 0 means no bound.
	Limit int
}

// Match tells whether the filter chooses a record.
func (f Filter) Match(r Record) bool {
	for _, c := range [][2]string{
		{f.Agent, r.Agent}, {f.Upstream, r.Upstream}, {f.Item, r.Item}, {f.Kind, string(r.Kind)}, {f.Decision, r.Decision}, {f.ID, r.ID},
	} {
		if c[0] != "" && c[0] != c[1] {
			return false
		}
	}
	if !f.Since.IsZero() && r.Time.Before(f.Since) {
		return false
	}
	return f.Until.IsZero() || r.Time.Before(f.Until)
}
