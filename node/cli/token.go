package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/node/api"
	"sallyport/node/api/client"
	"sallyport/node/api/kind"
)

func (a *app) token() *cobra.Command {
	return a.group("token", "Issue and list tokens", a.tokenIssue(), a.tokenList())
}

func (a *app) tokenIssue() *cobra.Command {
	var agent, role, name string
	var ttl time.Duration
	var upstreams []string
	c := asking(&cobra.Command{
		Use:   "issue --agent NAME | --admin ROLE",
		Short: "Issue a token and print it, this once",
		Args:  noArgs,
	}, func(ctx context.Context, c *cobra.Command, node *client.Client, _ []string) error {
		if role != "" {
			issued, err := node.IssueAdminToken(ctx, api.AdminTokenRequest{Role: api.Role(role), Name: name, TTL: kind.Duration(ttl)})
			if err != nil {
				return err
			}
			note(c, "admin token %s (%s), ends %s", issued.ID, issued.Role, moment(issued.Expires))
			return a.print(c, issued, func(t *table) { t.line(issued.Text) })
		}
		issued, err := node.IssueToken(ctx, api.TokenRequest{Agent: agent, TTL: kind.Duration(ttl), Upstreams: upstreams})
		if err != nil {
			return err
		}
		note(c, "gateway token %s of agent %s, ends %s", issued.ID, issued.Agent, moment(issued.Expires))
		return a.print(c, issued, func(t *table) { t.line(issued.Text) })
	})
	c.PreRunE = func(*cobra.Command, []string) error {
		switch {
		case (agent == "") == (role == ""):
			return usagef("give one of --agent NAME, for a gateway token, and --admin ROLE, for an admin token")
		case role != "" && len(upstreams) > 0:
			return usagef("--upstream belongs to --agent: admin tokens open no upstream")
		case agent != "" && name != "":
			return usagef("--name belongs to --admin: a gateway token is its agent's")
		case ttl < 0:
			return usagef("--ttl %s is in the past", ttl)
		}
		return nil
	}
	c.Flags().StringVar(&agent, "agent", "", "agent that the gateway token is for")
	c.Flags().StringArrayVar(&upstreams, "upstream", nil, "limit the gateway token to this upstream; may be repeated")
	c.Flags().StringVar(&role, "admin", "", "role of an admin token: viewer, operator, security or owner")
	c.Flags().StringVar(&name, "name", "", "who or what the admin token is for")
	c.Flags().DurationVar(&ttl, "ttl", 0, "lifetime (default: 2160h for gateway tokens, 24h for admin tokens)")
	return c
}

// note tells people something that is not the result.
func note(c *cobra.Command, format string, args ...any) {
	fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...)
}

func (a *app) tokenList() *cobra.Command {
	var agent string
	var admin bool
	c := asking(&cobra.Command{
		Use:   "list",
		Short: "List tokens, without their text",
		Args:  noArgs,
	}, func(ctx context.Context, c *cobra.Command, node *client.Client, _ []string) error {
		if admin {
			tokens, err := node.AdminTokens(ctx)
			if err != nil {
				return err
			}
			return a.print(c, map[string]any{"items": tokens}, func(t *table) {
				t.row("ID", "ROLE", "NAME", "STATE", "CREATED", "EXPIRES")
				for _, k := range tokens {
					t.row(k.ID, string(k.Role), k.Name, string(k.State), moment(k.Created), moment(k.Expires))
				}
			})
		}
		tokens, err := node.Tokens(ctx, agent)
		if err != nil {
			return err
		}
		return a.print(c, map[string]any{"items": tokens}, func(t *table) { tokenTable(t, tokens) })
	})
	c.Flags().StringVar(&agent, "agent", "", "only those of this agent")
	c.Flags().BoolVar(&admin, "admin", false, "admin tokens")
	c.PreRunE = func(*cobra.Command, []string) error {
		if admin && agent != "" {
			return usagef("--agent and --admin exclude each other: admin tokens have no agent")
		}
		return nil
	}
	return c
}

func tokenTable(t *table, tokens []*api.Token) {
	t.row("TOKEN", "AGENT", "STATE", "UPSTREAMS", "CREATED", "EXPIRES")
	for _, k := range tokens {
		upstreams := "all"
		if len(k.Upstreams) > 0 {
			upstreams = strings.Join(k.Upstreams, ",")
		}
		t.row(k.ID, k.Agent, string(k.State), upstreams, moment(k.Created), moment(k.Expires))
	}
}
