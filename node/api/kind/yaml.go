package kind

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of one file. The YAML parser takes quadratic time in the tokens of one document.
const (
	maxDocuments = 1000
	maxTokens    = 5000 // in one document
	maxDepth     = 32
)

// Document is a resource and where it was read.
type Document struct {
	Resource
	// At is file:line of the document's beginning.
	At string

	positions map[string]string // by JSON pointer, file:line:column
}

// locate says where in the file the field of a problem is, or what is nearest around it.
func (d *Document) locate(p Problem) Problem {
	at := p.Pointer
	for {
		if position, ok := d.positions[at]; ok {
			p.At = position
			return p
		}
		i := strings.LastIndexByte(at, '/')
		if i < 0 {
			p.At = d.At
			return p
		}
		at = at[:i]
	}
}

// Locate puts positions on Problems of the document, such as those of Resolve.
func (d *Document) Locate(err error) error {
	var problems Problems
	if !errors.As(err, &problems) {
		return err
	}
	located := make(Problems, len(problems))
	for i, p := range problems {
		located[i] = d.locate(p)
	}
	return located
}

// ParseYAML reads the documents of a file and validates them. file is its name in errors. An error is Problems: all that is
// wrong with all documents, each with file:line:column. JSON is YAML.
func ParseYAML(file string, data []byte) ([]*Document, error) {
	if len(data) > MaxBytes {
		return nil, Problems{{At: file, Message: "is larger than 1 MiB: split it"}}
	}
	tokens := lexer.Tokenize(string(data))
	if problem, bad := outOfBounds(file, tokens); bad {
		return nil, Problems{problem}
	}
	parsed, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, Problems{syntaxProblem(file, err)}
	}
	var documents []*Document
	var problems Problems
	named := map[string]string{}
	for _, body := range parsed.Docs {
		if body.Body == nil {
			continue
		}
		document, found := readDocument(file, body.Body)
		if document != nil && len(found) == 0 {
			head := document.Head()
			id := head.Kind.Plural() + "/" + head.Metadata.Name
			if first, twice := named[id]; twice {
				found = append(found, document.locate(Problem{Pointer: "/metadata/name", Message: fmt.Sprintf("%s %s is declared at %s already", head.Kind, head.Metadata.Name, first)}))
			}
			named[id] = document.At
			documents = append(documents, document)
		}
		problems = append(problems, found...)
	}
	return documents, problems.orNil()
}

// outOfBounds looks at the tokens before the parser does, and refuses what would take it too long, and what documents do not need:
// anchors and aliases, with which a small file becomes a large one, tags, merges, directives and complex keys.
func outOfBounds(file string, tokens token.Tokens) (Problem, bool) {
	at := func(t *token.Token, format string, args ...any) (Problem, bool) {
		return Problem{At: fmt.Sprintf("%s:%d:%d", file, t.Position.Line, t.Position.Column), Message: fmt.Sprintf(format, args...)}, true
	}
	documents, inDocument, flow := 1, 0, 0
	var columns []int // of the block collections that are open, at most one for each column
	line := 0
	for _, t := range tokens {
		inDocument++
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return at(t, "anchors, aliases and merges are not supported: write the value out")
		case token.TagType:
			return at(t, "tags are not supported: put a text in quotes")
		case token.DirectiveType:
			return at(t, "directives are not supported")
		case token.MappingKeyType:
			return at(t, "complex keys are not supported")
		case token.DocumentHeaderType:
			documents, inDocument, columns = documents+1, 0, columns[:0]
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		}
		if t.Position.Line != line || t.Type == token.SequenceEntryType {
			line = t.Position.Line
			for len(columns) > 0 && columns[len(columns)-1] >= t.Position.Column {
				columns = columns[:len(columns)-1]
			}
			columns = append(columns, t.Position.Column)
		}
		switch {
		case documents > maxDocuments:
			return at(t, "has more than %d documents: split the file", maxDocuments)
		case inDocument > maxTokens:
			return at(t, "the document is too large: split it")
		case flow > maxDepth || len(columns) > maxDepth:
			return at(t, "is nested more than %d deep", maxDepth)
		}
	}
	return Problem{}, false
}

func syntaxProblem(file string, err error) Problem {
	var located yaml.Error
	if errors.As(err, &located) && located.GetToken() != nil && located.GetToken().Position != nil {
		p := located.GetToken().Position
		return Problem{At: fmt.Sprintf("%s:%d:%d", file, p.Line, p.Column), Message: located.GetMessage()}
	}
	return Problem{At: file, Message: "is no valid YAML"}
}
