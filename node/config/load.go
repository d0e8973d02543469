package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

const (
	fileFlag  = "config"
	envPrefix = "SALLYPORT_"

	// maxFileBytes bounds the configuration file, which is small when it is one.
	maxFileBytes = 1 << 20
)

// Load reads the configuration: the file that --config or SALLYPORT_CONFIG names over the defaults, the environment over
// the file, and the flags that were set over the environment. A later one replaces a setting as a whole.
func Load(flags *pflag.FlagSet, environ []string) (Node, error) {
	node := Default()
	merged := koanf.New(".")
	layer := func(source string, provider koanf.Provider) error {
		if err := merged.Load(provider, nil); err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
		if err := merged.Unmarshal("", &node); err != nil {
			return fmt.Errorf("%s: %w", source, withoutHeading(err))
		}
		return nil
	}

	if path := filePath(flags, environ); path != "" {
		settings, err := readFile(path)
		if err != nil {
			return Node{}, err
		}
		if err := layer(path, settings); err != nil {
			return Node{}, err
		}
	}
	if err := layer("environment", fromEnvironment(environ)); err != nil {
		return Node{}, err
	}
	if err := layer("command line", fromFlags(flags)); err != nil {
		return Node{}, err
	}
	return node, node.Validate()
}

func filePath(flags *pflag.FlagSet, environ []string) string {
	if f := flags.Lookup(fileFlag); f != nil && f.Changed {
		return f.Value.String()
	}
	for _, variable := range environ {
		if path, ok := strings.CutPrefix(variable, envPrefix+"CONFIG="); ok {
			return path
		}
	}
	return ""
}

// settings is a koanf.Provider of what a file says.
type settings map[string]any

// Read returns the settings.
func (s settings) Read() (map[string]any, error) { return s, nil }

// ReadBytes is not how settings are read.
func (settings) ReadBytes() ([]byte, error) { return nil, errors.New("settings are no bytes") }

// readFile reads a YAML file twice: into a Node, strictly, for errors with a line; and into a map of what it sets.
func readFile(path string) (settings, error) {
	content, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var strict Node
	decoder := yaml.NewDecoder(bytes.NewReader(content), yaml.Strict())
	if err := decoder.Decode(&strict); err != nil && !errors.Is(err, io.EOF) {
		return nil, located(path, err)
	}
	var rest any
	if err := decoder.Decode(&rest); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: has more than one YAML document: a node has one configuration", path)
	}
	set := settings{}
	if err := yaml.Unmarshal(content, &set); err != nil {
		return nil, located(path, err)
	}
	return set, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxFileBytes {
		return nil, fmt.Errorf("%s has more than %d bytes: it is no node configuration", path, maxFileBytes)
	}
	return content, nil
}

// located says where in the file a YAML error is, in one line, without the excerpt that goccy adds.
func located(path string, err error) error {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var unknown *yaml.UnknownFieldError
	position := at.GetToken().Position
	if errors.As(err, &unknown) {
		return fmt.Errorf("%s:%d:%d: unknown setting %q: the settings are %s", path, position.Line, position.Column, at.GetToken().Value, strings.Join(names(), ", "))
	}
	return fmt.Errorf("%s:%d:%d: %s", path, position.Line, position.Column, at.GetMessage())
}

// fromEnvironment leaves out what is not a setting: the command-line client has variables with that prefix too, and so
// have the service links of Kubernetes. A variable that is set to nothing counts as not set.
func fromEnvironment(environ []string) koanf.Provider {
	known := map[string]bool{}
	for _, name := range names() {
		known[name] = true
	}
	return env.Provider(".", env.Opt{
		Prefix:      envPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(variable, value string) (string, any) {
			name := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, envPrefix), "_", "-"))
			if !known[name] || value == "" {
				return "", nil
			}
			return name, value
		},
	})
}

// fromFlags takes the flags that are settings and were set.
func fromFlags(flags *pflag.FlagSet) koanf.Provider {
	known := map[string]bool{}
	for _, name := range names() {
		known[name] = true
	}
	return posflag.ProviderWithFlag(flags, ".", nil, func(f *pflag.Flag) (string, any) {
		if !known[f.Name] {
			return "", nil
		}
		return f.Name, posflag.FlagVal(flags, f)
	})
}

// names lists the settings as Node declares them.
func names() []string {
	var list []string
	for field := range reflect.TypeFor[Node]().Fields() {
		list = append(list, field.Tag.Get("koanf"))
	}
	return list
}

// withoutHeading drops the line that mapstructure puts above a list of errors, even of one.
func withoutHeading(err error) error {
	var list interface{ Unwrap() []error }
	if inner := errors.Unwrap(err); errors.As(err, &list) && inner != nil {
		return inner
	}
	return err
}
