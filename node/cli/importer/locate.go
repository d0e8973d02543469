package importer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Place is where a client keeps its servers.
type Place struct {
	Client Client
	Path   string
}

// Places are the files of the clients that exist on this system, those of the project in dir first.
func Places(dir string) ([]Place, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, fmt.Errorf("find the configuration of an MCP client: %w; name the file", err)
	}
	config, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("find the configuration of an MCP client: %w; name the file", err)
	}
	var existing []Place
	for _, place := range usualPlaces(dir, home, config) {
		if info, err := os.Stat(place.Path); err == nil && info.Mode().IsRegular() {
			existing = append(existing, place)
		}
	}
	return existing, nil
}

func usualPlaces(dir, home, config string) []Place {
	return []Place{
		{ClaudeCode, filepath.Join(dir, ".mcp.json")},
		{VSCode, filepath.Join(dir, ".vscode", "mcp.json")},
		{Cursor, filepath.Join(dir, ".cursor", "mcp.json")},
		{ClaudeDesktop, filepath.Join(config, "Claude", "claude_desktop_config.json")},
		{ClaudeCode, filepath.Join(home, ".claude.json")},
		{VSCode, filepath.Join(config, "Code", "User", "mcp.json")},
		{Cursor, filepath.Join(home, ".cursor", "mcp.json")},
	}
}

// Read parses the file at path.
func Read(path string, options Options) (Result, error) {
	file, err := os.Open(path)
	if err != nil {
		return Result{}, fmt.Errorf("import: %w", err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return Result{}, fmt.Errorf("import %s: %w", path, err)
	}
	result, err := Parse(content, path, options)
	if err != nil {
		return Result{}, fmt.Errorf("import %s: %w", path, err)
	}
	return result, nil
}

// ReadFirst parses the first of the places that has servers, and returns which that was.
func ReadFirst(places []Place, options Options) (Place, Result, error) {
	var tried []error
	for _, place := range places {
		result, err := Read(place.Path, options)
		if err == nil && !result.empty() {
			return place, result, nil
		}
		if err == nil {
			err = fmt.Errorf("import %s: it has no MCP servers", place.Path)
		}
		tried = append(tried, err)
	}
	if len(tried) == 0 {
		return Place{}, Result{}, fmt.Errorf("import: Claude, VS Code and Cursor have no MCP configuration in the usual places; name the file: %w", fs.ErrNotExist)
	}
	return Place{}, Result{}, errors.Join(tried...)
}

func (r Result) empty() bool {
	return len(r.Upstreams)+len(r.Skipped)+len(r.Problems) == 0
}

// clientOf tells the client by the usual name of its file.
func clientOf(path string) Client {
	slashed := strings.ReplaceAll(path, `\`, "/")
	switch {
	case strings.HasSuffix(slashed, "claude_desktop_config.json"):
		return ClaudeDesktop
	case strings.HasSuffix(slashed, ".mcp.json"), strings.HasSuffix(slashed, ".claude.json"):
		return ClaudeCode
	case strings.HasSuffix(slashed, ".cursor/mcp.json"):
		return Cursor
	}
	return SomeClient
}
