package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"sallyport/node/api"
	"sallyport/node/api/client"
)

// maxRequest bounds the file with a question to the policies.
const maxRequest = 1 << 20

func (a *app) policy() *cobra.Command {
	return a.group("policy", "Ask the policies", a.policyCheck())
}

func (a *app) policyCheck() *cobra.Command {
	var path string
	c := asking(&cobra.Command{
		Use:   "check -f REQUEST",
		Short: "Show which policies decide a request, and why",
		Long: `Show which policies decide a request, and why. The file holds, in YAML or JSON:

  agent: FinanceAgent            # with the roles it has, or those of roles: [...]
  upstream: accounting
  item: query_ledger             # tool, prompt or URI
  action: tools/call             # or prompts/get, resources/read
  arguments: {limit: 100}`,
		Args: noArgs,
	}, func(ctx context.Context, c *cobra.Command, node *client.Client, _ []string) error {
		question, err := readQuestion(path, c.InOrStdin())
		if err != nil {
			return err
		}
		d, err := node.CheckPolicy(ctx, question)
		if err != nil {
			return err
		}
		return a.print(c, d, func(t *table) {
			answer := "denied"
			if d.Allowed {
				answer = "allowed"
			}
			t.line(answer)
			for _, p := range d.Policies {
				t.line("  by policy " + p)
			}
			for _, e := range d.Errors {
				t.line("  error in " + e)
			}
			if d.Missing != "" {
				t.line("  this would permit it:\n    " + d.Missing)
			}
		})
	})
	c.Flags().StringVarP(&path, "filename", "f", "", "file with the request, - for stdin")
	c.PreRunE = func(*cobra.Command, []string) error {
		if path == "" {
			return usagef("-f is missing: name a file with a request")
		}
		return nil
	}
	return c
}

func readQuestion(path string, stdin io.Reader) (api.PolicyRequest, error) {
	text, err := readInput(path, maxRequest+1, stdin)
	switch {
	case err != nil:
		return api.PolicyRequest{}, fmt.Errorf("read the request: %w", err)
	case len(text) > maxRequest:
		return api.PolicyRequest{}, fmt.Errorf("read the request: %s is larger than 1 MiB", path)
	}
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		return api.PolicyRequest{}, fmt.Errorf("read the request %s: %w", path, err)
	}
	var question api.PolicyRequest
	decoder := json.NewDecoder(bytes.NewReader(asJSON))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&question); err != nil {
		return api.PolicyRequest{}, fmt.Errorf("read the request %s: %w", path, err)
	}
	if question.Action == "" {
		question.Action = "tools/call"
	}
	return question, nil
}
