package importer

import (
	"bytes"
	"encoding/json"
	"strings"
)

// Replacement is what to write into the client's file in the place of the imported servers, for a
// node at that address. The names of the servers stay.
func (r Result) Replacement(node string) (string, error) {
	container := "mcpServers"
	if r.Client == VSCode {
		container = "servers"
	}
	root, projects := &object{}, &object{}
	byProject := map[string]*object{"": {}}
	for _, e := range r.entries {
		servers := byProject[e.project]
		if servers == nil {
			servers = &object{}
			byProject[e.project] = servers
			projects.add(e.project, (&object{}).add(container, servers))
		}
		servers.add(e.server, r.connectEntry(strings.TrimRight(node, "/")+"/mcp/"+e.upstream))
	}
	if user := byProject[""]; len(user.names) > 0 {
		root.add(container, user)
	}
	if len(projects.names) > 0 {
		root.add("projects", projects)
	}
	compact, err := encode(root)
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, compact, "", "  "); err != nil {
		return "", err
	}
	return text.String(), nil
}

func (r Result) connectEntry(address string) *object {
	entry := &object{}
	if r.Client == VSCode {
		entry.add("type", "stdio")
	}
	return entry.add("command", "sallyport").add("args", []string{"connect", address})
}

// object is a JSON object that keeps its order.
type object struct {
	names  []string
	values []any
}

func (o *object) add(name string, value any) *object {
	o.names = append(o.names, name)
	o.values = append(o.values, value)
	return o
}

// MarshalJSON writes the members in the order in which they were added.
func (o *object) MarshalJSON() ([]byte, error) {
	var text bytes.Buffer
	text.WriteByte('{')
	for i, name := range o.names {
		if i > 0 {
			text.WriteByte(',')
		}
		key, err := encode(name)
		if err != nil {
			return nil, err
		}
		value, err := encode(o.values[i])
		if err != nil {
			return nil, err
		}
		text.Write(key)
		text.WriteByte(':')
		text.Write(value)
	}
	text.WriteByte('}')
	return text.Bytes(), nil
}

// encode is json.Marshal without the escapes for HTML, which would change names and addresses.
func encode(value any) ([]byte, error) {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	if err := out.Encode(value); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}
