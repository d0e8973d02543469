package kind

import (
	"bytes"
	"maps"
	"slices"
)

// maxValueBytes bounds one secret or certificate.
const maxValueBytes = 64 << 10

// value is a field that may stand elsewhere than in the document.
type value interface {
	unresolved() *Source
	resolve(text []byte)
}

// Sources reads the values that a document leaves out.
type Sources struct {
	Env      func(name string) (string, bool)
	ReadFile func(path string) ([]byte, error)
}

// Resolve puts the values in place that the document takes from elsewhere. One line end at the end of a file is not part of the value.
func Resolve(r Resource, from Sources) error {
	var p Problems
	fields := r.secrets()
	for _, pointer := range slices.Sorted(maps.Keys(fields)) {
		source := fields[pointer].unresolved()
		if source == nil {
			continue
		}
		text, problem := read(source, from)
		if problem != "" {
			p.add(pointer, "%s", problem)
			continue
		}
		fields[pointer].resolve(text)
	}
	return p.orNil()
}

func read(source *Source, from Sources) (text []byte, problem string) {
	switch {
	case source.Env != "":
		value, ok := from.Env(source.Env)
		if !ok {
			return nil, "the environment variable " + source.Env + " is not set"
		}
		text = []byte(value)
	default:
		content, err := from.ReadFile(source.File)
		if err != nil {
			return nil, err.Error()
		}
		text = bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	}
	switch {
	case len(text) == 0:
		return nil, "what valueFrom names is empty"
	case len(text) > maxValueBytes:
		return nil, "what valueFrom names is larger than 64 KiB"
	}
	return text, ""
}

// Unresolved reports the values that still stand elsewhere. A node refuses those: it reads no files and no environment for others.
func Unresolved(r Resource) Problems {
	var p Problems
	fields := r.secrets()
	for _, pointer := range slices.Sorted(maps.Keys(fields)) {
		if fields[pointer].unresolved() != nil {
			p.add(pointer, "valueFrom is read by the command-line client: send the value itself")
		}
	}
	return p
}
