package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// table is a result for people: rows of cells, and lines that run across.
type table struct {
	out *tabwriter.Writer
	err error
}

func (t *table) row(cells ...string) {
	for i, cell := range cells {
		if cell == "" {
			cells[i] = "-"
		}
	}
	t.line(strings.Join(cells, "\t"))
}

func (t *table) line(text string) {
	if _, err := fmt.Fprintln(t.out, text); t.err == nil {
		t.err = err
	}
}

// print writes a result as -o asks: v for programs, what human puts into the table for people.
func (a *app) print(c *cobra.Command, v any, human func(*table)) error {
	if a.format != "table" {
		return a.printData(c.OutOrStdout(), v)
	}
	t := &table{out: tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)}
	human(t)
	if err := t.out.Flush(); t.err == nil {
		t.err = err
	}
	return t.err
}

func (a *app) printData(out io.Writer, v any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if a.format == "json" {
		_, err := out.Write(text.Bytes())
		return err
	}
	return writeYAML(out, text.Bytes())
}

// toYAML is v as YAML, with the names that its JSON has.
func toYAML(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("write the result: %w", err)
	}
	var out bytes.Buffer
	err = writeYAML(&out, text)
	return out.String(), err
}

func writeYAML(out io.Writer, jsonText []byte) error {
	var tree any
	if err := yaml.UnmarshalWithOptions(jsonText, &tree, yaml.UseOrderedMap()); err != nil {
		return fmt.Errorf("write the result as YAML: %w", err)
	}
	text, err := yaml.MarshalWithOptions(tree, yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return fmt.Errorf("write the result as YAML: %w", err)
	}
	_, err = out.Write(text)
	return err
}

// moment is a time for people.
func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// age is how long ago t was, in its largest unit.
func age(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(int(d.Seconds()), 0))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
