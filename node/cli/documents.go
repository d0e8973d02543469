package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/node/api/kind"
)

// readDocuments reads the documents of files and directories, - for stdin, with their secrets, in the order in which they are applied.
// The error has all that is wrong with all of them.
func readDocuments(paths []string, stdin io.Reader) ([]*kind.Document, error) {
	var documents []*kind.Document
	var problems kind.Problems
	for _, path := range paths {
		files, err := documentFiles(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			found, err := readFile(file, stdin)
			var wrong kind.Problems
			if err != nil && !errors.As(err, &wrong) {
				return nil, err
			}
			documents, problems = append(documents, found...), append(problems, wrong...)
		}
	}
	problems = append(problems, twice(documents)...)
	if len(problems) > 0 {
		return nil, problems
	}
	if len(documents) == 0 {
		return nil, fmt.Errorf("there is no document in %s", strings.Join(paths, ", "))
	}
	order := kind.Kinds()
	slices.SortStableFunc(documents, func(x, y *kind.Document) int {
		return slices.Index(order, x.Head().Kind) - slices.Index(order, y.Head().Kind)
	})
	return documents, nil
}

// documentFiles lists the files that a path stands for.
func documentFiles(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("read documents: there is no .yaml, .yml or .json file in the directory %s", path)
	}
	return files, nil
}

// readFile reads the documents of one file. What they take from files is beside it.
func readFile(path string, stdin io.Reader) ([]*kind.Document, error) {
	name, dir := path, filepath.Dir(path)
	if path == "-" {
		name, dir = "stdin", "."
	}
	text, err := readInput(path, kind.MaxBytes+1, stdin)
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	documents, err := kind.ParseYAML(name, text)
	var problems kind.Problems
	if err != nil && !errors.As(err, &problems) {
		return nil, err
	}
	sources := kind.Sources{Env: os.LookupEnv, ReadFile: func(value string) ([]byte, error) {
		if !filepath.IsAbs(value) {
			value = filepath.Join(dir, value)
		}
		return readSmall(value)
	}}
	for _, d := range documents {
		problems = append(problems, resolve(d, sources)...)
	}
	if len(problems) > 0 {
		return documents, problems
	}
	return documents, nil
}

// resolve puts the secrets into a document and checks it with them.
func resolve(d *kind.Document, sources kind.Sources) kind.Problems {
	err := kind.Resolve(d.Resource, sources)
	if err == nil {
		err = orNil(d.Validate())
	}
	var problems kind.Problems
	errors.As(d.Locate(err), &problems)
	return problems
}

func orNil(p kind.Problems) error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// twice reports documents of one name in different files; within a file the parser does.
func twice(documents []*kind.Document) kind.Problems {
	var problems kind.Problems
	first := map[string]string{}
	for _, d := range documents {
		id := reference(d)
		file, _, _ := strings.Cut(d.At, ":")
		if at, ok := first[id]; ok && !strings.HasPrefix(at, file+":") {
			problems = append(problems, kind.Problem{At: d.At, Message: fmt.Sprintf("%s is declared at %s already", id, at)})
		}
		first[id] = d.At
	}
	return problems
}

// reference is how output names a resource: upstream/accounting.
func reference(r kind.Resource) string {
	return strings.ToLower(string(r.Head().Kind)) + "/" + r.Head().Metadata.Name
}

// readInput reads at most so many bytes of a file, - for stdin.
func readInput(path string, most int64, stdin io.Reader) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(stdin, most))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}
