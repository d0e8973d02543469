package stdio

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"

	"sallyport/node/mcp"
)

const (
	maxTools       = 10_000
	maxSchemaDepth = 64
	maxSafeInteger = 1<<53 - 1
	maxHeaderName  = 256
)

// toolHeaders remembers which parameters of which tools go into headers as well (x-mcp-header), as
// the tools/list answers that went through said.
type toolHeaders struct {
	mu     sync.Mutex // protects the following
	byTool map[string]bindings
}

// binding is a parameter whose value is repeated in Mcp-Param-{header}.
type binding struct {
	path   []string // property names from the root of the arguments
	header string
}

type bindings []binding

func (b bindings) equal(other bindings) bool {
	return slices.EqualFunc(b, other, func(x, y binding) bool {
		return x.header == y.header && slices.Equal(x.path, y.path)
	})
}

func (t *toolHeaders) of(tool string) bindings {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byTool[tool]
}

func (t *toolHeaders) set(tool string, b bindings) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(b) == 0 {
		delete(t.byTool, tool)
		return
	}
	if t.byTool == nil {
		t.byTool = map[string]bindings{}
	}
	if _, known := t.byTool[tool]; known || len(t.byTool) < maxTools {
		t.byTool[tool] = b
	}
}

// mirror sets the Mcp-Param headers of a call.
func (t *toolHeaders) mirror(header http.Header, m message) {
	arguments := m.params["arguments"]
	for _, b := range t.of(text(m.params["name"])) {
		value := arguments
		for _, name := range b.path {
			value = member(value, name)
		}
		if plain, ok := headerText(value); ok {
			header.Set(mcp.HeaderParamPrefix+b.header, mcp.EncodeHeaderValue(plain))
		}
	}
}

// headerText is the text of a string, boolean or integer; there is none for null and all else.
func headerText(value json.RawMessage) (string, bool) {
	if len(value) == 0 {
		return "", false
	}
	switch value[0] {
	case '"':
		return text(value), true
	case 't', 'f':
		return string(value), true
	case 'n', '[', '{':
		return "", false
	}
	// 42.0 and 4.2e1 are integers too. The length keeps an exponent from becoming a large number.
	if len(value) > 32 {
		return "", false
	}
	var number float64
	if json.Unmarshal(value, &number) != nil || number > maxSafeInteger || number < -maxSafeInteger {
		return "", false
	}
	whole, _ := big.NewFloat(number).Int(nil)
	if new(big.Float).SetInt(whole).Cmp(big.NewFloat(number)) != 0 {
		return "", false
	}
	return whole.String(), true
}

// learn remembers the headers of the tools in an answer to tools/list. Tools whose annotations are
// not valid cannot be called over HTTP and are taken out, as the specification wants; the rest of
// the answer stays as it came.
func (r *relay) learn(answer message) message {
	var tools []json.RawMessage
	if json.Unmarshal(member(answer.result, "tools"), &tools) != nil {
		return answer
	}
	valid := tools[:0:0]
	for _, tool := range tools {
		name := text(member(tool, "name"))
		b, err := schemaBindings(member(tool, "inputSchema"))
		if err != nil {
			r.log.Warn("a tool is left out of tools/list", "tool", short(name), "error", err)
			continue
		}
		r.tools.set(name, b)
		valid = append(valid, tool)
	}
	if len(valid) == len(tools) {
		return answer
	}
	list := slices.Concat([]byte("["), slices.Concat(joined(valid)...), []byte("]"))
	raw, err := replaceMember(answer.raw, list, "result", "tools")
	if err != nil {
		r.log.Warn("tools/list is passed on whole", "error", err)
		return answer
	}
	filtered, err := parseMessage(raw)
	if err != nil {
		return answer
	}
	return filtered
}

// joined puts commas between elements.
func joined(elements []json.RawMessage) [][]byte {
	var parts [][]byte
	for i, element := range elements {
		if i > 0 {
			parts = append(parts, []byte(","))
		}
		parts = append(parts, element)
	}
	return parts
}

// schemaBindings finds the annotated parameters of an input schema. An error means that the
// tool's definition breaks the rules for x-mcp-header.
func schemaBindings(schema json.RawMessage) (bindings, error) {
	// Most schemas have none, and nothing has to be taken apart to know that.
	if !strings.Contains(string(schema), "x-mcp-header") {
		return nil, nil
	}
	var found bindings
	if err := walkSchema(schema, nil, true, 0, &found); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, b := range found {
		if name := strings.ToLower(b.header); seen[name] {
			return nil, fmt.Errorf("x-mcp-header %q is used twice", short(b.header))
		} else {
			seen[name] = true
		}
	}
	slices.SortFunc(found, func(x, y binding) int { return strings.Compare(x.header, y.header) })
	return found, nil
}

// walkSchema looks at one schema. Reachable is one that a chain of properties alone leads to:
// only there the path of the value is known before the arguments are.
func walkSchema(raw json.RawMessage, path []string, reachable bool, depth int, found *bindings) error {
	if depth > maxSchemaDepth {
		return errors.New("the input schema is nested too deeply")
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		for _, schema := range list {
			if err := walkSchema(schema, nil, false, depth+1, found); err != nil {
				return err
			}
		}
		return nil
	}
	var schema map[string]json.RawMessage
	if json.Unmarshal(raw, &schema) != nil {
		return nil
	}
	if annotation, ok := schema["x-mcp-header"]; ok {
		b, err := checkAnnotation(annotation, schema["type"], path, reachable)
		if err != nil {
			return err
		}
		*found = append(*found, b)
	}
	for keyword, value := range schema {
		if err := walkKeyword(keyword, value, path, reachable, depth, found); err != nil {
			return err
		}
	}
	return nil
}

func walkKeyword(keyword string, value json.RawMessage, path []string, reachable bool, depth int, found *bindings) error {
	switch keyword {
	case "const", "enum", "default", "examples", "x-mcp-header":
		return nil // values, not schemas
	case "properties", "patternProperties", "$defs", "definitions", "dependentSchemas":
		var named map[string]json.RawMessage
		_ = json.Unmarshal(value, &named)
		for name, schema := range named {
			below := append(slices.Clone(path), name)
			if err := walkSchema(schema, below, reachable && keyword == "properties", depth+1, found); err != nil {
				return err
			}
		}
		return nil
	}
	return walkSchema(value, nil, false, depth+1, found)
}

func checkAnnotation(annotation, kind json.RawMessage, path []string, reachable bool) (binding, error) {
	name := text(annotation)
	switch {
	case !httpguts.ValidHeaderFieldName(name) || len(name) > maxHeaderName:
		return binding{}, fmt.Errorf("x-mcp-header %q is not a header name", short(name))
	case !reachable || len(path) == 0:
		return binding{}, fmt.Errorf("x-mcp-header %q is not at a parameter reached by properties alone", name)
	case !primitive(kind):
		return binding{}, fmt.Errorf("x-mcp-header %q is at a parameter that is not a string, integer or boolean", name)
	}
	return binding{path: path, header: name}, nil
}

// primitive accepts the optional form ["string", "null"] too: a null has no header.
func primitive(kind json.RawMessage) bool {
	var kinds []string
	if json.Unmarshal(kind, &kinds) != nil {
		kinds = []string{text(kind)}
	}
	kinds = slices.DeleteFunc(kinds, func(k string) bool { return k == "null" })
	return len(kinds) == 1 && slices.Contains([]string{"string", "integer", "boolean"}, kinds[0])
}
