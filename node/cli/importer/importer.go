// Package importer reads the MCP servers that a client has configured (Claude Desktop, Claude Code,
// VS Code, Cursor) and says which of them can become upstreams, with what credential, and what to
// write in their place. It changes no file. Header values and whatever else may be a secret are in
// no text that it makes.
package importer

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"sallyport/crypto"
)

const (
	maxFile    = 16 << 20
	maxDepth   = 64
	maxServers = 1000
	maxValue   = 64 << 10 // of a header or address
)

// Client is a program whose configuration is read.
type Client string

const (
	ClaudeDesktop Client = "Claude Desktop"
	ClaudeCode    Client = "Claude Code"
	VSCode        Client = "VS Code"
	Cursor        Client = "Cursor"

	// SomeClient has servers under mcpServers, as all but VS Code do, in a file whose name does not
	// tell which it is. What is to be written there is the same.
	SomeClient Client = "a client of the Claude or Cursor kind"
)

// Options say where values come from that the file only refers to.
type Options struct {
	Env   func(name string) (string, bool)      // environment variables, as os.LookupEnv
	Input func(id string) (crypto.Secret, bool) // what the user typed for ${input:id}; may be nil
}

// Result is what a configuration holds.
type Result struct {
	Client    Client
	Upstreams []Upstream
	Skipped   []Skipped
	Problems  []Problem
	Missing   []Input // values to ask the user for, once each

	entries []entry
}

// Upstream is a draft of an upstream.
type Upstream struct {
	Name    string // [a-z][a-z0-9-]{0,30}, unique in the result
	URL     string
	Headers map[string]crypto.Secret // by canonical header name
	Notes   []string                 // what the user should know or check
}

// Skipped is a server that is no business of a gateway.
type Skipped struct {
	Server string
	Reason string
}

// Problem is why a server, or a part of it, was not taken over, and what to do.
type Problem struct {
	Server  string
	Message string
}

// Input is a value that the client asks its user for.
type Input struct {
	ID          string
	Description string
}

// entry is a server in the client's file that an upstream replaces.
type entry struct {
	project  string // of ~/.claude.json; empty elsewhere
	server   string
	upstream string
}

// group is one object of servers in the file.
type group struct {
	project string
	servers []member
}

// Parse reads a configuration. The path it came from only helps to tell the client.
func Parse(content []byte, path string, options Options) (Result, error) {
	if len(content) > maxFile {
		return Result{}, fmt.Errorf("the configuration is larger than %d bytes", maxFile)
	}
	plain, err := plainJSON(content)
	if err != nil {
		return Result{}, err
	}
	root, err := members(plain)
	if err != nil {
		return Result{}, locate(plain, err)
	}
	groups, client, err := serverGroups(root, path)
	if err != nil {
		return Result{}, err
	}

	p := &parser{
		options: options,
		result:  Result{Client: client},
		inputs:  inputDescriptions(root),
		names:   map[string]bool{},
	}
	count := 0
	for _, g := range groups {
		for _, server := range g.servers {
			if count++; count > maxServers {
				return Result{}, fmt.Errorf("the configuration has more than %d servers", maxServers)
			}
			p.server(g.project, server)
		}
	}
	return p.result, nil
}

// serverGroups finds the objects that hold servers. VS Code calls them servers, in a file of their
// own or under mcp in its settings; the others call them mcpServers, and Claude Code has more of
// them for each project.
func serverGroups(root []member, path string) ([]group, Client, error) {
	if servers, ok := find(root, "servers"); ok {
		group, err := serverGroup("", servers)
		return group, VSCode, err
	}
	if settings, ok := find(root, "mcp"); ok {
		inside, err := members(settings)
		if servers, ok := find(inside, "servers"); err == nil && ok {
			group, err := serverGroup("", servers)
			return group, VSCode, err
		}
	}

	var all []group
	found := false
	if servers, ok := find(root, "mcpServers"); ok {
		found = true
		user, err := serverGroup("", servers)
		if err != nil {
			return nil, "", err
		}
		all = append(all, user...)
	}
	if raw, ok := find(root, "projects"); ok {
		projects, err := members(raw)
		if err == nil {
			for _, project := range projects {
				inside, _ := members(project.value)
				servers, ok := find(inside, "mcpServers")
				if !ok {
					continue
				}
				found = true
				group, err := serverGroup(project.name, servers)
				if err != nil {
					return nil, "", err
				}
				all = append(all, group...)
			}
		}
	}
	if !found {
		return nil, "", errors.New(`the configuration has no MCP servers: they are under "mcpServers" (Claude, Cursor) or "servers" (VS Code)`)
	}
	return all, clientOf(path), nil
}

func serverGroup(project string, raw json.RawMessage) ([]group, error) {
	servers, err := members(raw)
	if err != nil {
		return nil, errors.New("the MCP servers are not an object of name and server")
	}
	return []group{{project, servers}}, nil
}

// inputDescriptions are the texts with which VS Code asks for its inputs.
func inputDescriptions(root []member) map[string]string {
	raw, ok := find(root, "inputs")
	if settings, inSettings := find(root, "mcp"); !ok && inSettings {
		inside, _ := members(settings)
		raw, _ = find(inside, "inputs")
	}
	var inputs []struct{ ID, Description string }
	_ = json.Unmarshal(raw, &inputs)
	descriptions := map[string]string{}
	for _, input := range inputs {
		descriptions[input.ID] = input.Description
	}
	return descriptions
}

// parser builds a result server by server.
type parser struct {
	options Options
	result  Result
	inputs  map[string]string
	names   map[string]bool
}

func (p *parser) server(project string, m member) {
	label := m.name
	if project != "" {
		label += " (project " + project + ")"
	}
	spec, err := readSpec(m.value)
	if err != nil {
		p.problem(label, "%v", err)
		return
	}
	if spec.url == "" {
		if reason, remote := spec.localProgram(); !remote {
			p.result.Skipped = append(p.result.Skipped, Skipped{label, reason})
			return
		}
		if spec, err = spec.disguised(); err != nil {
			p.problem(label, "%v", err)
			return
		}
	}
	draft, ok := p.draft(label, spec)
	if !ok {
		return
	}
	name := p.add(m.name, draft)
	p.result.entries = append(p.result.entries, entry{project, m.name, name})
}

// add returns the name of the upstream, which is an earlier one if that is the same server with the
// same credential.
func (p *parser) add(server string, draft Upstream) string {
	for _, u := range p.result.Upstreams {
		if u.URL == draft.URL && maps.EqualFunc(u.Headers, draft.Headers, crypto.Secret.Equal) {
			return u.Name
		}
	}
	draft.Name = uniqueName(server, p.names)
	p.result.Upstreams = append(p.result.Upstreams, draft)
	return draft.Name
}

func (p *parser) problem(server, format string, args ...any) {
	p.result.Problems = append(p.result.Problems, Problem{server, fmt.Sprintf(format, args...)})
}

func (p *parser) missing(id string) {
	input := Input{ID: id, Description: p.inputs[id]}
	if !slices.Contains(p.result.Missing, input) {
		p.result.Missing = append(p.result.Missing, input)
	}
}
