package importer

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"sallyport/crypto"
)

// draft makes an upstream of a remote server, if it can be one.
func (p *parser) draft(label string, s spec) (Upstream, bool) {
	switch s.kind {
	case "", "http", "streamable-http", "streamableHttp", "streamable_http":
	case "sse":
		p.problem(label, "it speaks the HTTP+SSE transport of 2024, which Sallyport does not; most servers have a streamable HTTP address by now, often with /mcp instead of /sse")
		return Upstream{}, false
	default:
		p.problem(label, "the transport %q is not streamable HTTP, the only one that Sallyport speaks", s.kind)
		return Upstream{}, false
	}
	address, unresolved := p.expand(s.url, s)
	if len(unresolved) > 0 {
		p.problem(label, "its address refers to %s, which has no value; set it and import again", strings.Join(unresolved, ", "))
		return Upstream{}, false
	}
	u, err := checkAddress(address)
	if err != nil {
		p.problem(label, "%v", err)
		return Upstream{}, false
	}

	draft := Upstream{URL: address, Headers: p.headers(label, s), Notes: s.notes}
	note := func(format string, args ...any) { draft.Notes = append(draft.Notes, fmt.Sprintf(format, args...)) }
	if s.disabled {
		note("it is switched off in the client")
	}
	if loopback(u.Hostname()) {
		note("its address is on this machine, where a node elsewhere cannot reach it")
	}
	if strings.HasSuffix(u.Path, "/sse") {
		note("its address ends in /sse: if it speaks only the HTTP+SSE transport of 2024, look for its streamable HTTP address, often /mcp")
	}
	if u.RawQuery != "" {
		note("its address has parameters; if one of them is a key, it will be seen by whoever may read the upstream: a header is the place for it")
	}
	if address != s.url {
		note("its address contains a value that the file only refers to; if that is a secret, it will be seen by whoever may read the upstream")
	}
	switch {
	case len(s.headers) == 0:
		note("it has no credential here; if it wants OAuth, set spec.credential")
	case len(draft.Headers) > 1:
		note("it has %d headers and a static credential has one: choose among %s", len(draft.Headers), strings.Join(slices.Sorted(maps.Keys(draft.Headers)), ", "))
	}
	return draft, true
}

// headers are those that can be a credential. One that needs a value nobody gave is left out, and
// said to be.
func (p *parser) headers(label string, s spec) map[string]crypto.Secret {
	headers := map[string]crypto.Secret{}
	for _, h := range s.headers {
		name := http.CanonicalHeaderKey(h.name)
		value, unresolved := p.expand(h.value, s)
		value = strings.TrimSpace(value)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			p.problem(label, "%q is not the name of a header; it is left out", h.name)
		case slices.Contains([]string{"Accept", "Content-Type", "Host", "User-Agent", "Connection"}, name), strings.HasPrefix(name, "Mcp-"):
			// The gateway has its own.
		case len(unresolved) > 0:
			p.problem(label, "the header %s refers to %s, which has no value; it is left out", name, strings.Join(unresolved, ", "))
		case value == "" || len(value) > maxValue || !httpguts.ValidHeaderFieldValue(value):
			p.problem(label, "the value of the header %s is empty or not allowed in a header; it is left out", name)
		default:
			headers[name] = crypto.SecretString(value)
		}
	}
	return headers
}

func checkAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	// The error of url.Parse quotes the address, in which there may be a password.
	case err != nil || u.Hostname() == "" || len(address) > maxValue || u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("its address is not an http or https URL")
	case u.User != nil:
		return nil, errors.New("its address contains a user or password; remove them and give them as a header")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("its address %s://%s is plain http, where anybody on the way can read the credential; use https, or add the upstream by hand with insecure: true", u.Scheme, u.Host)
	}
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// reference is ${input:id} or ${env:NAME} (VS Code, Cursor), ${NAME} or ${NAME:-default} (Claude
// Code, mcp-remote).
var reference = regexp.MustCompile(`\$\{([^{}]*)\}`)

// expand puts values in the place of references and names those that have none.
func (p *parser) expand(text string, s spec) (value string, unresolved []string) {
	value = reference.ReplaceAllStringFunc(text, func(ref string) string {
		name := ref[2 : len(ref)-1]
		if inner, ok := s.env[name]; ok && s.fromEnv {
			// What a client hands to mcp-remote in the environment may again refer to something.
			got, missing := p.expand(inner, spec{})
			unresolved = append(unresolved, missing...)
			return got
		}
		if got, ok := p.lookUp(name); ok {
			return got
		}
		plain, _, _ := strings.Cut(name, ":-")
		unresolved = append(unresolved, "${"+plain+"}")
		return ""
	})
	return value, unresolved
}

func (p *parser) lookUp(name string) (string, bool) {
	if id, isInput := strings.CutPrefix(name, "input:"); isInput {
		if p.options.Input != nil {
			if secret, ok := p.options.Input(id); ok {
				return secret.ExposeString(), true
			}
		}
		p.missing(id)
		return "", false
	}
	name, fallback, hasFallback := strings.Cut(strings.TrimPrefix(name, "env:"), ":-")
	if p.options.Env != nil {
		if value, ok := p.options.Env(name); ok && value != "" {
			return value, true
		}
	}
	return fallback, hasFallback
}
