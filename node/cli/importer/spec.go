package importer

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// spec is one server as the clients write it.
type spec struct {
	kind    string // type
	url     string
	headers []header
	command string
	args    []string
	env     map[string]string

	// fromEnv is set where ${NAME} means a variable of env first, as mcp-remote has it.
	fromEnv  bool
	disabled bool
	notes    []string
}

type header struct{ name, value string }

func readSpec(raw json.RawMessage) (spec, error) {
	all, err := members(raw)
	if err != nil {
		return spec{}, fmt.Errorf("the server is %w", err)
	}
	var s spec
	for _, field := range []struct {
		name string
		into any
	}{
		{"type", &s.kind},
		{"url", &s.url},
		{"command", &s.command},
		{"args", &s.args},
		{"env", &s.env},
		{"disabled", &s.disabled},
	} {
		value, ok := find(all, field.name)
		if !ok {
			continue
		}
		if field.name == "env" {
			s.env = stringMembers(value)
			continue
		}
		if json.Unmarshal(value, field.into) != nil {
			return spec{}, fmt.Errorf("%q is not what it should be", field.name)
		}
	}
	if raw, ok := find(all, "headers"); ok {
		headers, err := members(raw)
		if err != nil {
			return spec{}, fmt.Errorf("the headers are %w", err)
		}
		for _, h := range headers {
			var value string
			if json.Unmarshal(h.value, &value) != nil {
				return spec{}, fmt.Errorf("the value of the header %q is not a string", h.name)
			}
			s.headers = append(s.headers, header{h.name, value})
		}
	}
	for _, name := range []string{"auth", "oauth"} {
		if _, ok := find(all, name); ok {
			s.notes = append(s.notes, "the client signs in with an OAuth client of its own; put its id and secret into spec.credential")
		}
	}
	if s.url == "" && s.command == "" {
		return spec{}, errors.New(`the server has neither "url" nor "command"`)
	}
	return s, nil
}

// stringMembers leaves out what is not a string: in an environment that may be a number or null.
func stringMembers(raw json.RawMessage) map[string]string {
	all, _ := members(raw)
	values := map[string]string{}
	for _, m := range all {
		var value string
		if json.Unmarshal(m.value, &value) == nil {
			values[m.name] = value
		}
	}
	return values
}

// packageName is what npx and uvx run; nothing else of a command line is shown, because keys and
// passwords are given there.
var packageName = regexp.MustCompile(`^(@[a-z0-9][a-z0-9._-]{0,60}/)?[a-z0-9][a-z0-9._-]{0,60}(@[a-z0-9.^~-]{1,20})?$`)

// localProgram says why a command is nothing for a gateway, or that it is a remote server in
// disguise.
func (s spec) localProgram() (reason string, remote bool) {
	program := baseName(s.command)
	switch {
	case program == "sallyport":
		return "it goes through Sallyport already", false
	case s.remoteArgs() != nil:
		return "", true
	}
	what := program
	if args := slices.DeleteFunc(slices.Clone(s.args), isYes); slices.Contains(runners, program) && len(args) > 0 && packageName.MatchString(args[0]) {
		what += " " + args[0]
	}
	return fmt.Sprintf("it is a program that the client runs on this machine (%s); a gateway can only reach servers with an address", what), false
}

// runners start a package by its name.
var runners = []string{"npx", "bunx", "pnpx", "uvx"}

// starters are the words with which packages are started: npx -p, cmd /c npx, pnpm dlx.
var starters = []string{
	"npx", "bunx", "pnpx", "npm", "pnpm", "yarn", "bun", "exec", "dlx", "x", "cmd", "/c", "/C", "--", "-p", "--package",
}

// remoteArgs are the arguments of mcp-remote, which makes a local server of a remote one; nil if
// the command is something else.
func (s spec) remoteArgs() []string {
	words := append([]string{s.command}, s.args...)
	for i, word := range words {
		name, _, _ := strings.Cut(baseName(word), "@")
		if name == "mcp-remote" {
			return words[i+1:]
		}
		if !slices.Contains(starters, baseName(word)) && !isYes(word) {
			return nil
		}
	}
	return nil
}

func isYes(word string) bool {
	return slices.Contains([]string{"-y", "--yes", "-q", "--quiet"}, word)
}

// baseName is the name of a program without its folder and the endings of Windows.
func baseName(path string) string {
	name := path[strings.LastIndexAny(path, `/\`)+1:]
	if path == "/c" || path == "/C" {
		return path
	}
	for _, ending := range []string{".exe", ".cmd"} {
		name = strings.TrimSuffix(name, ending)
	}
	return name
}

// headerArg is the form in which mcp-remote takes headers.
var headerArg = regexp.MustCompile(`^([A-Za-z0-9_-]+):\s*(.*)$`)

// disguised is the remote server that the arguments of mcp-remote name.
func (s spec) disguised() (spec, error) {
	remote := spec{kind: "http", env: s.env, fromEnv: true, disabled: s.disabled}
	args := s.remoteArgs()
	for i := 0; i < len(args); i++ {
		next := ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		switch args[i] {
		case "--header":
			i++
			// A header that mcp-remote cannot read it leaves out.
			if match := headerArg.FindStringSubmatch(next); match != nil {
				remote.headers = append(remote.headers, header{match[1], match[2]})
			}
		case "--transport":
			i++
			if next == "sse-only" {
				remote.kind = "sse"
			}
		case "--ignore-tool":
			i++
			remote.notes = append(remote.notes, "mcp-remote hid some of its tools (--ignore-tool); write a policy that does not permit them")
		case "--static-oauth-client-info", "--static-oauth-client-metadata", "--resource", "--host", "--auth-timeout":
			i++
			if strings.HasPrefix(args[i-1], "--static") {
				remote.notes = append(remote.notes, "mcp-remote used an OAuth client of its own; put its id and secret into spec.credential")
			}
		default:
			// What else has no scheme is a port, or the program after its package.
			if remote.url == "" && (strings.Contains(args[i], "://") || strings.HasPrefix(args[i], "${")) {
				remote.url = args[i]
			}
		}
	}
	if remote.url == "" {
		return spec{}, errors.New("mcp-remote is started without an address")
	}
	return remote, nil
}
