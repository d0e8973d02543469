package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"sallyport/node/mcp"
	"sallyport/raftfsm"
)

// catalog remembers which arguments the tools of upstreams want repeated as Mcp-Param-* headers (x-mcp-header, 2026-07-28), as the last
// tools/list that passed showed them.
type catalog struct {
	mu    sync.RWMutex // protects the following
	tools map[upstreamKey]map[string][]paramHeader
}

// paramHeader says that the argument at a path is repeated in a header.
type paramHeader struct {
	path []string
	name string
}

const (
	maxCatalogTools = 10_000
	maxParamHeaders = 64
	maxSchemaDepth  = 8
)

func newCatalog() *catalog { return &catalog{tools: map[upstreamKey]map[string][]paramHeader{}} }

// learn remembers a tool.
func (k *catalog) learn(u *raftfsm.Upstream, tool mcp.Object) {
	name, ok := tool.Text("name")
	if !ok {
		return
	}
	headers := schemaHeaders(tool.Get("inputSchema"), nil)
	k.mu.Lock()
	defer k.mu.Unlock()
	key := keyOf(u)
	if k.tools[key] == nil {
		if len(k.tools) >= maxUpstreams {
			clear(k.tools)
		}
		k.tools[key] = map[string][]paramHeader{}
	}
	if len(k.tools[key]) < maxCatalogTools {
		k.tools[key][name] = headers
	}
}

func (k *catalog) headers(u *raftfsm.Upstream, tool string) (_ []paramHeader, known bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	headers, known := k.tools[keyOf(u)][tool]
	return headers, known
}

// schemaHeaders finds x-mcp-header in what is statically reachable through `properties`.
func schemaHeaders(schema jsontext.Value, path []string) (out []paramHeader) {
	o, err := mcp.ParseObject(schema)
	if err != nil || len(path) >= maxSchemaDepth {
		return nil
	}
	properties, err := mcp.ParseObject(o.Get("properties"))
	if err != nil {
		return nil
	}
	for _, p := range properties {
		at := append(path[:len(path):len(path)], p.Name)
		property, err := mcp.ParseObject(p.Value)
		if err != nil {
			continue
		}
		if name, ok := property.Text("x-mcp-header"); ok {
			out = append(out, paramHeader{at, http.CanonicalHeaderKey(mcp.HeaderParamPrefix + name)})
		}
		out = append(out, schemaHeaders(p.Value, at)...)
		if len(out) > maxParamHeaders {
			return out[:maxParamHeaders]
		}
	}
	return out
}

// argument finds the value at a path as a header carries it; ok is false if it is absent or null.
func argument(arguments jsontext.Value, path []string) (text string, ok bool) {
	v := arguments
	for i, name := range path {
		o, err := mcp.ParseObject(v)
		if err != nil {
			return "", false
		}
		if i == len(path)-1 {
			if s, is := o.Text(name); is {
				return s, true
			}
		}
		v = o.Get(name)
	}
	switch v.Kind() {
	case '0', 't', 'f':
		return string(v), true
	}
	return "", false
}

// checkParams compares the Mcp-Param-* headers of a call with its arguments, as far as the tool is known; the upstream decides on the rest.
func (k *catalog) checkParams(u *raftfsm.Upstream, h http.Header, m *mcp.Message) error {
	if m.Method != "tools/call" {
		return nil
	}
	headers, _ := k.headers(u, m.Name)
	for _, p := range headers {
		want, inBody := argument(m.Arguments, p.path)
		values := h[p.name]
		switch {
		case !inBody && len(values) == 0:
		case !inBody:
			return fmt.Errorf("header %s repeats an argument that is not there", p.name)
		case len(values) != 1:
			return fmt.Errorf("header %s must repeat argument %s once", p.name, strings.Join(p.path, "."))
		default:
			got, err := mcp.DecodeHeaderValue(values[0])
			if err != nil {
				return fmt.Errorf("header %s: %w", p.name, err)
			}
			if !sameValue(got, want) {
				return fmt.Errorf("header %s differs from argument %s", p.name, strings.Join(p.path, "."))
			}
		}
	}
	return nil
}

// sameValue compares texts; integers may be written differently, which is for the upstream to judge.
func sameValue(a, b string) bool {
	return a == b || isNumber(a) && isNumber(b)
}

func isNumber(s string) bool {
	return jsontext.Value(s).IsValid() && jsontext.Value(s).Kind() == '0'
}

// setParams adds the headers that a call of the modern era must carry.
func (k *catalog) setParams(u *raftfsm.Upstream, h http.Header, m *mcp.Message) {
	headers, _ := k.headers(u, m.Name)
	for _, p := range headers {
		if v, ok := argument(m.Arguments, p.path); ok {
			h.Set(p.name, mcp.EncodeHeaderValue(v))
		}
	}
}
