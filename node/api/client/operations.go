package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sallyport/node/api"
)

// IssueToken makes a gateway token.
func (c *Client) IssueToken(ctx context.Context, r api.TokenRequest) (api.IssuedToken, error) {
	return post[api.IssuedToken](ctx, c, "/v1/tokens", r)
}

// Tokens lists gateway tokens, those of one agent unless it is empty.
func (c *Client) Tokens(ctx context.Context, agent string) ([]*api.Token, error) {
	query := url.Values{}
	if agent != "" {
		query.Set("agent", agent)
	}
	return list[api.Token](ctx, c, "/v1/tokens", query)
}

// IssueAdminToken makes an admin token.
func (c *Client) IssueAdminToken(ctx context.Context, r api.AdminTokenRequest) (api.IssuedAdminToken, error) {
	return post[api.IssuedAdminToken](ctx, c, "/v1/admin-tokens", r)
}

// AdminTokens lists admin tokens.
func (c *Client) AdminTokens(ctx context.Context) ([]*api.AdminToken, error) {
	return list[api.AdminToken](ctx, c, "/v1/admin-tokens", nil)
}

// Revoke ends something.
func (c *Client) Revoke(ctx context.Context, r api.RevocationRequest) (api.RevocationAnswer, error) {
	return post[api.RevocationAnswer](ctx, c, "/v1/revocations", r)
}

// Credentials lists credentials, those for one upstream unless it is empty.
func (c *Client) Credentials(ctx context.Context, upstream string) ([]*api.Credential, error) {
	query := url.Values{}
	if upstream != "" {
		query.Set("upstream", upstream)
	}
	return list[api.Credential](ctx, c, "/v1/credentials", query)
}

// Status tells how the node does.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	status, _, err := ask[api.Status](ctx, c, request{method: http.MethodGet, path: "/v1/status"})
	return status, err
}

// Nodes lists the nodes of the cluster.
func (c *Client) Nodes(ctx context.Context) ([]*api.Node, error) {
	return list[api.Node](ctx, c, "/v1/nodes", nil)
}

// CheckPolicy asks which policies decide, and why.
func (c *Client) CheckPolicy(ctx context.Context, r api.PolicyRequest) (api.PolicyDecision, error) {
	return post[api.PolicyDecision](ctx, c, "/v1/policy/check", r)
}

// AuditQuery chooses audit records; empty fields choose all.
type AuditQuery struct {
	Agent, Upstream, Item, Kind, Decision, ID string
	Since, Until                              time.Time
	Limit                                     int // the newest so many; 0: the node's default
}

func (q AuditQuery) values() url.Values {
	values := url.Values{}
	for name, value := range map[string]string{
		"agent": q.Agent, "upstream": q.Upstream, "item": q.Item, "kind": q.Kind, "decision": q.Decision, "id": q.ID,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	for name, t := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !t.IsZero() {
			values.Set(name, t.Format(time.RFC3339Nano))
		}
	}
	if q.Limit != 0 {
		values.Set("limit", strconv.Itoa(q.Limit))
	}
	return values
}

// SearchAudit finds audit records, oldest first.
func (c *Client) SearchAudit(ctx context.Context, q AuditQuery) ([]api.AuditRecord, error) {
	found, _, err := ask[api.AuditList](ctx, c, request{method: http.MethodGet, path: "/v1/audit", query: q.values()})
	return found.Records, err
}

// maxRecord bounds one line of a followed audit log.
const maxRecord = 1 << 20

// FollowAudit yields the records that are written from now on, until ctx ends or yield returns false. started is called once the node
// follows.
func (c *Client) FollowAudit(ctx context.Context, q AuditQuery, started func(), yield func(api.AuditRecord) bool) error {
	query := q.values()
	query.Set("follow", "true")
	resp, err := c.send(ctx, request{method: http.MethodGet, path: "/v1/audit", query: query})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	started()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxRecord)
	for lines.Scan() {
		var r api.AuditRecord
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("read an audit record: %w", err)
		}
		if !yield(r) {
			return nil
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case lines.Err() != nil:
		return fmt.Errorf("follow the audit log: %w", lines.Err())
	}
	return errors.New("follow the audit log: the node ended the stream: it stops, or the admin token has ended")
}

func list[T any](ctx context.Context, c *Client, path string, query url.Values) ([]*T, error) {
	answer, _, err := ask[api.List[T]](ctx, c, request{method: http.MethodGet, path: path, query: query})
	return answer.Items, err
}
