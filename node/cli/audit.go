package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sallyport/node/api"
	"sallyport/node/api/client"
)

func (a *app) audit() *cobra.Command {
	return a.group("audit", "Read the audit log", a.auditTail(), a.auditSearch())
}

// auditFlags choose records.
func auditFlags(c *cobra.Command, q *client.AuditQuery) {
	c.Flags().StringVar(&q.Agent, "agent", "", "only records about this agent")
	c.Flags().StringVar(&q.Upstream, "upstream", "", "only records about this upstream")
	c.Flags().StringVar(&q.Item, "item", "", "only records about this tool, prompt or URI")
	c.Flags().StringVar(&q.Kind, "kind", "", "only records of this kind: use, outcome or admin")
	c.Flags().StringVar(&q.Decision, "decision", "", "only records with this decision: allowed or denied")
	c.Flags().StringVar(&q.ID, "id", "", "only the records of this call or change")
}

func (a *app) auditSearch() *cobra.Command {
	var q client.AuditQuery
	var since, until string
	c := asking(&cobra.Command{
		Use:   "search",
		Short: "Find audit records",
		Args:  noArgs,
	}, func(ctx context.Context, c *cobra.Command, node *client.Client, _ []string) error {
		records, err := node.SearchAudit(ctx, q)
		if err != nil {
			return err
		}
		return a.print(c, records, func(t *table) {
			t.row("TIME", "KIND", "WHO", "WHAT", "RESULT", "WHY")
			for _, r := range records {
				recordRow(t, r)
			}
		})
	})
	auditFlags(c, &q)
	c.Flags().StringVar(&since, "since", "", "only records since a time (RFC 3339) or so long ago (such as 1h)")
	c.Flags().StringVar(&until, "until", "", "only records until a time (RFC 3339) or so long ago (such as 10m)")
	c.Flags().IntVar(&q.Limit, "limit", 100, "the newest so many")
	c.PreRunE = func(*cobra.Command, []string) (err error) {
		if q.Since, err = timeFlag("--since", since); err == nil {
			q.Until, err = timeFlag("--until", until)
		}
		return err
	}
	return c
}

func timeFlag(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usagef("%s %s is neither a time such as 2026-01-31T12:00:00Z nor a duration such as 1h", name, text)
	}
	return t, nil
}

func (a *app) auditTail() *cobra.Command {
	var q client.AuditQuery
	var last int
	c := following(&cobra.Command{
		Use:   "tail",
		Short: "Show the newest audit records and those that follow, until interrupted",
		Args:  noArgs,
	}, func(ctx context.Context, c *cobra.Command, node *client.Client, _ []string) error {
		return a.tail(ctx, c, node, q, last)
	})
	auditFlags(c, &q)
	c.Flags().IntVarP(&last, "lines", "n", 10, "begin with the newest so many")
	return c
}

// tail shows the newest records and then those that follow.
func (a *app) tail(ctx context.Context, c *cobra.Command, node *client.Client, q client.AuditQuery, last int) error {
	shown := map[string]bool{}
	show := func(r api.AuditRecord) error {
		if a.format == "table" {
			return a.print(c, r, func(t *table) { recordRow(t, r) })
		}
		if a.format == "yaml" {
			if _, err := fmt.Fprintln(c.OutOrStdout(), "---"); err != nil {
				return err
			}
			return a.printData(c.OutOrStdout(), r)
		}
		return json.NewEncoder(c.OutOrStdout()).Encode(r)
	}
	var failed error
	// The newest are read once the node follows, so that none is missed between; those in both are shown once.
	begin := func() {
		if last <= 0 {
			return
		}
		newest := q
		newest.Limit = last
		records, err := node.SearchAudit(ctx, newest)
		failed = err
		for _, r := range records {
			shown[key(r)] = true
			failed = errors.Join(failed, show(r))
		}
	}
	err := node.FollowAudit(ctx, q, begin, func(r api.AuditRecord) bool {
		if failed != nil {
			return false
		}
		if !shown[key(r)] {
			failed = show(r)
		}
		return failed == nil
	})
	switch {
	case failed != nil:
		return failed
	case c.Context().Err() != nil:
		return nil // interrupted, as it is meant to end
	}
	return err
}

func key(r api.AuditRecord) string {
	return string(r.Kind) + " " + r.ID + " " + r.Time.String() + " " + r.Status
}

func recordRow(t *table, r api.AuditRecord) {
	who, what, result, why := r.Agent, r.Method, r.Decision, r.Reason
	if r.Item != "" {
		what = r.Upstream + "/" + r.Item
	} else if r.Upstream != "" {
		what += " " + r.Upstream
	}
	if r.Subject != "" {
		who, what = r.Token, r.Change+" "+r.Subject
	}
	if r.Status != "" {
		result = r.Status
	}
	if r.Error != "" {
		why = r.Error
	}
	if why == "" && len(r.Policies) > 0 {
		why = "policy " + fmt.Sprint(r.Policies)
	}
	t.row(r.Time.Local().Format("2006-01-02 15:04:05.000"), string(r.Kind), who, what, result, why)
}
