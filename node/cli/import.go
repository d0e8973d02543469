package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sallyport/crypto"
	"sallyport/node/api"
	"sallyport/node/api/client"
	"sallyport/node/api/kind"
	"sallyport/node/cli/importer"
	"sallyport/node/cli/profile"
	"sallyport/transport"
)

// imported is the result of import.
type imported struct {
	File        string    `json:"file"`
	Upstreams   []applied `json:"upstreams"`
	Skipped     []remark  `json:"skipped,omitempty"`
	Replacement string    `json:"replacement,omitempty"`
}

type remark struct {
	Server string `json:"server"`
	Reason string `json:"reason"`
}

func (a *app) importCommand() *cobra.Command {
	var found connection
	var agent string
	c := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Make upstreams of the MCP servers that a client has configured",
		Long: `Make upstreams of the remote MCP servers in the configuration of Claude, VS Code or Cursor, with the
credentials that it holds, and print what to put in their place. No file is changed. Without FILE the
first configuration that is found is read, that of the current directory before those of the user.

With --agent the agent is created, permitted to use what was imported, and given a token that is kept in
the profile: then the printed entries work as they are.`,
		Args: args(0, 1, "one configuration file"),
		RunE: func(c *cobra.Command, args []string) error {
			access, err := found.resolve(crypto.AdminToken)
			if err != nil {
				return err
			}
			file, result, err := readServers(c, args)
			if err != nil {
				return err
			}
			network := transport.NewClient(transport.ClientConfig{RootCAs: access.RootCAs})
			defer network.Close()
			ctx, cancel := context.WithTimeout(c.Context(), requestTime)
			defer cancel()
			node := client.New(access.Origin, access.Token, network)
			taken := takeOver(ctx, node, result)
			taken.File = file
			if taken.Replacement, err = result.Replacement(access.Origin); err != nil {
				return err
			}
			if done := succeeded(taken.Upstreams); agent != "" && len(done) > 0 {
				if err := found.equip(ctx, c, node, access, agent, done); err != nil {
					return err
				}
			}
			return errors.Join(a.printImported(c, taken, agent), failures(taken.Upstreams))
		},
	}
	found.flags(c)
	c.Flags().StringVar(&agent, "agent", "", "create this agent and let it use what is imported")
	return c
}

// readServers reads the file, or finds one, and asks for what is missing in it.
func readServers(c *cobra.Command, args []string) (file string, result importer.Result, err error) {
	options := importer.Options{Env: os.LookupEnv}
	read := func() (string, importer.Result, error) {
		if len(args) == 1 {
			r, err := importer.Read(args[0], options)
			return args[0], r, err
		}
		dir, err := os.Getwd()
		if err != nil {
			return "", importer.Result{}, err
		}
		places, err := importer.Places(dir)
		if err != nil {
			return "", importer.Result{}, err
		}
		place, r, err := importer.ReadFirst(places, options)
		return place.Path, r, err
	}
	file, result, err = read()
	if err != nil || len(result.Missing) == 0 {
		return file, result, err
	}
	typed, err := prompt(c, result.Missing)
	if err != nil {
		return "", importer.Result{}, err
	}
	options.Input = func(id string) (crypto.Secret, bool) {
		value, ok := typed[id]
		return value, ok
	}
	return read()
}

// prompt asks the user for values, without showing them. Where nobody can answer, none are known, and the servers that need them are skipped.
func prompt(c *cobra.Command, missing []importer.Input) (map[string]crypto.Secret, error) {
	typed := map[string]crypto.Secret{}
	terminal, ok := c.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return typed, nil
	}
	for _, input := range missing {
		what := input.Description
		if what == "" {
			what = input.ID
		}
		fmt.Fprintf(c.ErrOrStderr(), "%s: ", what)
		value, err := term.ReadPassword(int(terminal.Fd()))
		fmt.Fprintln(c.ErrOrStderr())
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", input.ID, err)
		}
		typed[input.ID] = crypto.NewSecret(value)
	}
	return typed, nil
}

// takeOver makes the upstreams.
func takeOver(ctx context.Context, node *client.Client, result importer.Result) imported {
	taken := imported{Upstreams: []applied{}}
	for _, s := range result.Skipped {
		taken.Skipped = append(taken.Skipped, remark{s.Server, s.Reason})
	}
	for _, p := range result.Problems {
		taken.Skipped = append(taken.Skipped, remark{p.Server, p.Message})
	}
	for _, u := range result.Upstreams {
		for _, text := range u.Notes {
			taken.Skipped = append(taken.Skipped, remark{u.Name, text})
		}
		answer, err := putImported(ctx, node, u)
		done := applied{Kind: kind.KindUpstream, Name: u.Name, Outcome: "failed"}
		if err != nil {
			done.Error = err.Error()
		} else {
			done = newApplied(answer.Resource, answer.Outcome)
		}
		taken.Upstreams = append(taken.Upstreams, done)
	}
	return taken
}

func putImported(ctx context.Context, node *client.Client, u importer.Upstream) (client.Applied, error) {
	draft := &kind.Upstream{
		Envelope: kind.Envelope{APIVersion: kind.APIVersion, Kind: kind.KindUpstream, Metadata: kind.Metadata{Name: u.Name}},
		Spec:     kind.UpstreamSpec{URL: u.URL},
	}
	switch len(u.Headers) {
	case 0:
	case 1:
		for name, value := range u.Headers {
			draft.Spec.Credential = kind.CredentialSpec{Grant: "static", Header: kind.StaticHeader{Name: name, Value: kind.NewSecret(value)}}
		}
	default:
		return client.Applied{}, fmt.Errorf("it has %d headers and this version sends one: apply an Upstream with the one that holds its credential", len(u.Headers))
	}
	if problems := draft.Validate(); len(problems) > 0 {
		return client.Applied{}, problems
	}
	existing, _, err := node.Get(ctx, kind.KindUpstream, u.Name)
	if err != nil && !client.IsNotFound(err) {
		return client.Applied{}, err
	}
	if old, ok := existing.(*kind.Upstream); ok && old.Spec.URL != u.URL {
		return client.Applied{}, fmt.Errorf("there is an upstream of that name already, for %s: delete it, or rename the server in the file", old.Spec.URL)
	}
	return node.Put(ctx, draft, client.Put{})
}

func succeeded(results []applied) []applied {
	return slices.DeleteFunc(slices.Clone(results), func(r applied) bool { return r.Error != "" })
}

// equip makes an agent that may use the upstreams, and keeps its token.
func (n *connection) equip(ctx context.Context, c *cobra.Command, node *client.Client, access profile.Access, agent string, upstreams []applied) error {
	var names []string
	for _, u := range upstreams {
		names = append(names, fmt.Sprintf("Upstream::%q", u.Name))
	}
	slices.Sort(names)
	envelope := func(k kind.Kind, name string) kind.Envelope {
		return kind.Envelope{APIVersion: kind.APIVersion, Kind: k, Metadata: kind.Metadata{Name: name}}
	}
	resources := []kind.Resource{
		&kind.Agent{Envelope: envelope(kind.KindAgent, agent)},
		&kind.Policy{
			Envelope: envelope(kind.KindPolicy, agent+"-imported"),
			Spec:     kind.PolicySpec{Cedar: fmt.Sprintf("permit (principal == Agent::%q, action, resource)\n  when { resource in [%s] };\n", agent, strings.Join(names, ", "))},
		},
	}
	for _, r := range resources {
		if _, _, err := node.Get(ctx, r.Head().Kind, r.Head().Metadata.Name); err == nil && r.Head().Kind == kind.KindAgent {
			continue // it keeps its roles
		}
		answer, err := node.Put(ctx, r, client.Put{})
		if err != nil {
			return fmt.Errorf("write %s: %w", reference(r), err)
		}
		note(c, "%s %s", reference(r), newApplied(r, answer.Outcome).Outcome)
	}
	issued, err := node.IssueToken(ctx, api.TokenRequest{Agent: agent})
	if err != nil {
		return err
	}
	p, err := profile.Load()
	if err != nil {
		return err
	}
	access.Token = crypto.SecretString(issued.Text)
	return keepAccess(c, &p, access, n.authority())
}

// authority is the file with the CA certificate that the connection trusts, empty if it is none of its own.
func (n *connection) authority() string {
	if n.dataDir == "" {
		return os.Getenv("SALLYPORT_CACERT")
	}
	path := n.dataDir + string(os.PathSeparator) + authorityFile
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

func (a *app) printImported(c *cobra.Command, taken imported, agent string) error {
	if a.format != "table" {
		return a.printData(c.OutOrStdout(), taken)
	}
	note(c, "read %s", taken.File)
	for _, u := range taken.Upstreams {
		note(c, "%s %s", u.reference(), u.Outcome)
	}
	for _, s := range taken.Skipped {
		note(c, "%s: %s", s.Server, s.Reason)
	}
	if agent == "" && len(taken.Upstreams) > 0 {
		note(c, "no agent may use them yet: apply a policy that permits it, or run import again with --agent NAME")
	}
	if len(taken.Upstreams) == 0 {
		return nil
	}
	if anyFailed(taken.Upstreams) {
		note(c, "put this in their place, but for those that failed:")
	} else {
		note(c, "put this in their place:")
	}
	_, err := fmt.Fprintln(c.OutOrStdout(), strings.TrimSuffix(taken.Replacement, "\n"))
	return err
}
