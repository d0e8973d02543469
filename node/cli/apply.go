package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"sallyport/node/api"
	"sallyport/node/api/client"
	"sallyport/node/api/kind"
)

// applied is what apply and diff say of one resource.
type applied struct {
	Kind    kind.Kind `json:"kind"`
	Name    string    `json:"name"`
	Outcome string    `json:"outcome"` // created, configured, unchanged, deleted, failed
	Error   string    `json:"error,omitempty"`
	Diff    string    `json:"diff,omitempty"`
}

func newApplied(r kind.Resource, outcome api.Outcome) applied {
	words := map[api.Outcome]string{api.Created: "created", api.Changed: "configured", api.Unchanged: "unchanged"}
	return applied{Kind: r.Head().Kind, Name: r.Head().Metadata.Name, Outcome: words[outcome]}
}

func (r applied) reference() string { return strings.ToLower(string(r.Kind)) + "/" + r.Name }

func (a *app) apply() *cobra.Command {
	var paths []string
	var dryRun, prune bool
	c := asking(&cobra.Command{
		Use:   "apply -f FILE|DIR",
		Short: "Create and change resources as files say",
		Long: `Create and change resources as files say.

All documents are checked before the first is applied. A value that stands elsewhere
(valueFrom) is read here: {env: NAME}, or {file: PATH} beside the document's file.`,
		Args: noArgs,
	}, func(ctx context.Context, c *cobra.Command, node *client.Client, _ []string) error {
		documents, err := readDocuments(paths, c.InOrStdin())
		if err != nil {
			return err
		}
		results, err := check(ctx, node, documents)
		if err != nil {
			return err
		}
		if !dryRun {
			results = write(ctx, node, documents)
		}
		if prune && !anyFailed(results) {
			results = append(results, pruned(ctx, node, documents, dryRun)...)
		}
		suffix := ""
		if dryRun {
			suffix = " (dry run)"
		}
		return errors.Join(a.print(c, results, func(t *table) {
			for _, r := range results {
				t.line(r.reference() + " " + r.Outcome + suffix)
			}
		}), failures(results))
	})
	fileFlag(c, &paths)
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	c.Flags().BoolVar(&prune, "prune", false, "delete resources of the kinds in the files that the files do not name")
	return c
}

func fileFlag(c *cobra.Command, paths *[]string) {
	c.Flags().StringArrayVarP(paths, "filename", "f", nil, "file or directory with documents, - for stdin; may be repeated")
	c.PreRunE = func(*cobra.Command, []string) error {
		if len(*paths) == 0 {
			return usagef("-f is missing: name a file or directory with documents")
		}
		return nil
	}
}

// check asks the node what would become of all documents. Its refusals are one error with the places of the documents.
func check(ctx context.Context, node *client.Client, documents []*kind.Document) ([]applied, error) {
	var results []applied
	var problems kind.Problems
	for _, d := range documents {
		answer, err := node.Put(ctx, d.Resource, client.Put{DryRun: true})
		var refused *client.Error
		switch {
		case errors.As(err, &refused) && refused.Status == http.StatusUnprocessableEntity:
			problems = append(problems, refusals(d, refused)...)
		case err != nil:
			return nil, fmt.Errorf("check %s of %s: %w", reference(d), d.At, err)
		default:
			results = append(results, newApplied(d, answer.Outcome))
		}
	}
	return results, orNil(problems)
}

// refusals puts what a node says about a document at its place in the file.
func refusals(d *kind.Document, refused *client.Error) kind.Problems {
	problems := make(kind.Problems, 0, len(refused.Details))
	for _, detail := range refused.Details {
		pointer := strings.ReplaceAll(strings.TrimPrefix(detail.Location, "body"), ".", "/")
		problems = append(problems, kind.Problem{Pointer: pointer, Message: detail.Message})
	}
	if len(problems) == 0 {
		problems = kind.Problems{{Message: refused.Detail}}
	}
	var located kind.Problems
	errors.As(d.Locate(problems), &located)
	return located
}

// write applies all documents, also after one has failed.
func write(ctx context.Context, node *client.Client, documents []*kind.Document) []applied {
	results := make([]applied, 0, len(documents))
	for _, d := range documents {
		answer, err := node.Put(ctx, d.Resource, client.Put{})
		result := newApplied(d, answer.Outcome)
		if err != nil {
			result.Outcome, result.Error = "failed", err.Error()
		}
		results = append(results, result)
	}
	return results
}

// pruned deletes what the files do not name, in the reverse order of applying.
func pruned(ctx context.Context, node *client.Client, documents []*kind.Document, dryRun bool) []applied {
	var results []applied
	named, kinds := map[string]bool{}, map[kind.Kind]bool{}
	for _, d := range documents {
		named[reference(d)], kinds[d.Head().Kind] = true, true
	}
	for _, k := range slices.Backward(kind.Kinds()) {
		if !kinds[k] {
			continue
		}
		existing, err := node.List(ctx, k)
		if err != nil {
			results = append(results, applied{Kind: k, Name: "*", Outcome: "failed", Error: err.Error()})
			continue
		}
		for _, r := range existing {
			if named[reference(r)] {
				continue
			}
			result := applied{Kind: k, Name: r.Head().Metadata.Name, Outcome: "deleted"}
			if !dryRun {
				if err := node.Delete(ctx, k, result.Name); err != nil && !client.IsNotFound(err) {
					result.Outcome, result.Error = "failed", err.Error()
				}
			}
			results = append(results, result)
		}
	}
	return results
}

func anyFailed(results []applied) bool {
	return slices.ContainsFunc(results, func(r applied) bool { return r.Error != "" })
}

// failures is the error of those that failed.
func failures(results []applied) error {
	var failed []error
	for _, r := range results {
		if r.Error != "" {
			failed = append(failed, fmt.Errorf("%s was not applied: %s", r.reference(), r.Error))
		}
	}
	return errors.Join(failed...)
}

func (a *app) diff() *cobra.Command {
	var paths []string
	c := asking(&cobra.Command{
		Use:   "diff -f FILE|DIR",
		Short: "Show what apply would change",
		Args:  noArgs,
	}, func(ctx context.Context, c *cobra.Command, node *client.Client, _ []string) error {
		documents, err := readDocuments(paths, c.InOrStdin())
		if err != nil {
			return err
		}
		if _, err := check(ctx, node, documents); err != nil {
			return err
		}
		results := make([]applied, 0, len(documents))
		for _, d := range documents {
			result, err := difference(ctx, node, d)
			if err != nil {
				return err
			}
			results = append(results, result)
		}
		return a.print(c, results, func(t *table) {
			for _, r := range results {
				if r.Diff != "" {
					t.line(strings.TrimSuffix(r.Diff, "\n"))
				}
			}
		})
	})
	fileFlag(c, &paths)
	return c
}

// difference compares a resource as it is with what the node would make of a document. Neither shows secrets.
func difference(ctx context.Context, node *client.Client, d *kind.Document) (applied, error) {
	head := d.Head()
	before := ""
	current, _, err := node.Get(ctx, head.Kind, head.Metadata.Name)
	switch {
	case client.IsNotFound(err):
	case err != nil:
		return applied{}, err
	default:
		if before, err = plain(current); err != nil {
			return applied{}, err
		}
	}
	answer, err := node.Put(ctx, d.Resource, client.Put{DryRun: true})
	if err != nil {
		return applied{}, err
	}
	after, err := plain(answer.Resource)
	if err != nil {
		return applied{}, err
	}
	result := newApplied(d, answer.Outcome)
	result.Diff = string(diff.Diff(reference(d), []byte(before), reference(d)+" in "+d.At, []byte(after)))
	if answer.SecretChanged && current != nil {
		result.Diff += "~ " + reference(d) + ": its secret changes\n"
	}
	return result, nil
}

// plain is a resource as YAML without what only the node knows.
func plain(r kind.Resource) (string, error) {
	head := r.Head()
	head.Metadata.Created, head.Metadata.Modified = time.Time{}, time.Time{}
	return toYAML(r)
}
