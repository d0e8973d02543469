package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/node/api"
	"sallyport/node/api/client"
	"sallyport/node/api/kind"
)

func (a *app) get() *cobra.Command {
	return asking(&cobra.Command{
		Use:   "get KIND [NAME]",
		Short: "Show resources",
		Long:  "Show resources. With -o yaml, what is shown can be applied again: a secret stays as it is stored.",
		Args:  kindArgs(1, 2, "a kind (agents, policies, upstreams) and maybe a name"),
	}, func(ctx context.Context, c *cobra.Command, node *client.Client, args []string) error {
		k, err := kind.ParseKind(args[0])
		if err != nil {
			return err
		}
		var resources []kind.Resource
		if len(args) == 2 {
			r, _, err := node.Get(ctx, k, args[1])
			if err != nil {
				return err
			}
			resources = []kind.Resource{r}
			if a.format == "json" {
				return a.printData(c.OutOrStdout(), r)
			}
		} else if resources, err = node.List(ctx, k); err != nil {
			return err
		}
		if a.format == "yaml" {
			return writeDocuments(c, resources)
		}
		return a.print(c, map[string]any{"items": resources}, func(t *table) { resourceTable(t, k, resources) })
	})
}

// kindArgs is args where the first is a kind.
func kindArgs(least, most int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if err := args(least, most, what)(c, given); err != nil {
			return err
		}
		if _, err := kind.ParseKind(given[0]); err != nil {
			return usageError{err.Error()}
		}
		return nil
	}
}

// writeDocuments writes YAML that can be applied again.
func writeDocuments(c *cobra.Command, resources []kind.Resource) error {
	var out bytes.Buffer
	for i, r := range resources {
		if i > 0 {
			out.WriteString("---\n")
		}
		text, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("write %s: %w", reference(r), err)
		}
		if err := writeYAML(&out, text); err != nil {
			return err
		}
	}
	_, err := c.OutOrStdout().Write(out.Bytes())
	return err
}

func resourceTable(t *table, k kind.Kind, resources []kind.Resource) {
	switch k {
	case kind.KindAgent:
		t.row("NAME", "ROLES", "LABELS", "AGE")
	case kind.KindUpstream:
		t.row("NAME", "URL", "GRANT", "LABELS", "AGE")
	case kind.KindPolicy:
		t.row("NAME", "CEDAR", "LABELS", "AGE")
	}
	for _, r := range resources {
		m := r.Head().Metadata
		switch d := r.(type) {
		case *kind.Agent:
			t.row(m.Name, strings.Join(d.Spec.Roles, ","), labels(m.Labels), age(m.Created))
		case *kind.Upstream:
			t.row(m.Name, d.Spec.URL, string(d.Spec.Credential.Grant), labels(m.Labels), age(m.Created))
		case *kind.Policy:
			t.row(m.Name, fmt.Sprintf("%d lines", strings.Count(strings.TrimSpace(d.Spec.Cedar), "\n")+1), labels(m.Labels), age(m.Created))
		}
	}
}

func labels(m map[string]string) string {
	text := fmt.Sprint(m) // sorted by key
	return strings.ReplaceAll(strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(text, "map["), "]"), " ", ","), ":", "=")
}

// description is a resource and what hangs on it.
type description struct {
	Resource    kind.Resource     `json:"resource"`
	Tokens      []*api.Token      `json:"tokens,omitempty"`
	Credentials []*api.Credential `json:"credentials,omitempty"`
}

func (a *app) describe() *cobra.Command {
	return asking(&cobra.Command{
		Use:   "describe KIND NAME",
		Short: "Show a resource and what hangs on it",
		Args:  kindArgs(2, 2, "a kind (agent, policy, upstream) and a name"),
	}, func(ctx context.Context, c *cobra.Command, node *client.Client, args []string) error {
		k, err := kind.ParseKind(args[0])
		if err != nil {
			return err
		}
		var d description
		if d.Resource, _, err = node.Get(ctx, k, args[1]); err != nil {
			return err
		}
		switch k {
		case kind.KindAgent:
			d.Tokens, err = node.Tokens(ctx, args[1])
		case kind.KindUpstream:
			d.Credentials, err = node.Credentials(ctx, args[1])
		}
		if err != nil {
			return err
		}
		text, err := toYAML(d.Resource)
		if err != nil {
			return err
		}
		return a.print(c, d, func(t *table) {
			t.line(strings.TrimSuffix(text, "\n"))
			if len(d.Tokens) > 0 {
				t.line("")
				tokenTable(t, d.Tokens)
			}
			if len(d.Credentials) > 0 {
				t.line("")
				credentialTable(t, d.Credentials)
			}
		})
	})
}

func credentialTable(t *table, list []*api.Credential) {
	t.row("CREDENTIAL", "GRANT", "STATE", "GENERATION", "SCOPE", "EXPIRES")
	for _, c := range list {
		expires := "unknown"
		if !c.Expires.IsZero() {
			expires = moment(c.Expires)
		}
		t.row(c.ID, string(c.Grant), string(c.State), fmt.Sprint(c.Generation), c.Scope, expires)
	}
}

func (a *app) delete() *cobra.Command {
	return asking(&cobra.Command{
		Use:   "delete KIND NAME",
		Short: "Delete a resource",
		Long:  "Delete a resource. With an agent its tokens end, with an upstream its credentials.",
		Args:  kindArgs(2, 2, "a kind (agent, policy, upstream) and a name"),
	}, func(ctx context.Context, c *cobra.Command, node *client.Client, args []string) error {
		k, err := kind.ParseKind(args[0])
		if err != nil {
			return err
		}
		if err := node.Delete(ctx, k, args[1]); err != nil {
			return err
		}
		result := applied{Kind: k, Name: args[1], Outcome: "deleted"}
		return a.print(c, result, func(t *table) { t.line(result.reference() + " deleted") })
	})
}
