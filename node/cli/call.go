package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"sallyport/crypto"
	"sallyport/transport"
)

func (a *app) call() *cobra.Command {
	var found connection
	var whole string
	c := &cobra.Command{
		Use:   "call UPSTREAM/TOOL [NAME=VALUE...]",
		Short: "Call one tool, as an agent would",
		Long: `Call one tool, as an agent would, with the agent's gateway token.

A VALUE that is JSON is sent as what it is, such as 10, true or [1,2]; any other is a text.
To send a text that looks like JSON, quote it: NAME='"10"'.`,
		Args: args(1, -1, "the tool as UPSTREAM/TOOL, then its arguments as NAME=VALUE"),
		RunE: func(c *cobra.Command, given []string) error {
			upstream, tool, ok := strings.Cut(given[0], "/")
			if !ok || upstream == "" || tool == "" {
				return usagef("%q names no tool: give UPSTREAM/TOOL, such as accounting/query_ledger", given[0])
			}
			arguments, err := toolArguments(given[1:], whole)
			if err != nil {
				return err
			}
			access, err := found.resolve(crypto.GatewayToken)
			if err != nil {
				return err
			}
			network := transport.NewClient(transport.ClientConfig{RootCAs: access.RootCAs})
			defer network.Close()
			ctx, cancel := context.WithTimeout(c.Context(), requestTime)
			defer cancel()
			caller := mcpCaller{transport: network, endpoint: access.Origin + "/mcp/" + upstream, token: access.Token, version: a.version}
			result, err := caller.callTool(ctx, tool, arguments)
			if err != nil {
				return fmt.Errorf("call %s: %w", given[0], err)
			}
			return a.printResult(c, given[0], result)
		},
	}
	found.flags(c)
	c.Flags().StringVar(&whole, "arg-json", "", "all arguments as one JSON object")
	return c
}

// toolArguments makes the object of a call's arguments.
func toolArguments(pairs []string, whole string) (jsontext.Value, error) {
	if whole != "" {
		if len(pairs) > 0 {
			return nil, usagef("--arg-json and NAME=VALUE exclude each other")
		}
		v := jsontext.Value(whole)
		if !v.IsValid() || v.Kind() != '{' {
			return nil, usagef("--arg-json is no JSON object")
		}
		return v, nil
	}
	object := []byte("{")
	seen := map[string]bool{}
	for i, pair := range pairs {
		name, text, ok := strings.Cut(pair, "=")
		switch {
		case !ok || name == "":
			return nil, usagef("%q is no NAME=VALUE", pair)
		case seen[name]:
			return nil, usagef("the argument %s is given twice", name)
		}
		seen[name] = true
		if i > 0 {
			object = append(object, ',')
		}
		key, err := jsontext.AppendQuote(object, name)
		if err != nil {
			return nil, usagef("the name %q is no valid text", name)
		}
		value := jsontext.Value(text)
		if !value.IsValid() {
			if value, err = jsontext.AppendQuote(nil, text); err != nil {
				return nil, usagef("the value of %s is no valid text", name)
			}
		}
		object = append(append(key, ':'), value...)
	}
	return append(object, '}'), nil
}

// toolResult is what is read of a tool's result.
type toolResult struct {
	Content []struct {
		Type     string `json:"type"`
		Text     string `json:"text"`
		MIMEType string `json:"mimeType"`
		URI      string `json:"uri"`
		Resource struct {
			URI  string `json:"uri"`
			Text string `json:"text"`
		} `json:"resource"`
	} `json:"content"`
	Structured json.RawMessage `json:"structuredContent"`
	IsError    bool            `json:"isError"`
	ResultType string          `json:"resultType"`
}

// printResult prints what a tool answered. An answer that tells of an error is one of the command too.
func (a *app) printResult(c *cobra.Command, tool string, raw jsontext.Value) error {
	var result toolResult
	if err := json.Unmarshal(raw, &result); err != nil {
		return fmt.Errorf("read the result of %s: %w", tool, err)
	}
	if result.ResultType == "input_required" {
		return fmt.Errorf("%s asks for input, which this command cannot give: use an MCP client", tool)
	}
	err := a.print(c, json.RawMessage(raw), func(t *table) {
		for _, part := range result.Content {
			switch part.Type {
			case "text":
				t.line(strings.TrimSuffix(part.Text, "\n"))
			case "resource":
				t.line(strings.TrimSuffix(part.Resource.URI+"\n"+part.Resource.Text, "\n"))
			case "resource_link":
				t.line(part.URI)
			default:
				t.line(strings.TrimSpace("[" + part.Type + " " + part.MIMEType + "; -o json shows it]"))
			}
		}
		if len(result.Content) == 0 && result.Structured != nil {
			t.line(string(result.Structured))
		}
	})
	if result.IsError {
		err = errors.Join(err, fmt.Errorf("%s reports an error", tool))
	}
	return err
}
