package kind

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with a document.
type Problem struct {
	// At is file:line:column where the document came from a file.
	At string
	// Pointer names the field (RFC 6901), empty for the whole document.
	Pointer string
	Message string
}

// Error is the problem in one line.
func (p Problem) Error() string {
	text := p.Message
	if field := p.Field(); field != "" {
		text = field + ": " + text
	}
	if p.At != "" {
		text = p.At + ": " + text
	}
	return text
}

// Field is the pointer as people write paths: spec.credential.grant.
func (p Problem) Field() string {
	return strings.ReplaceAll(strings.TrimPrefix(p.Pointer, "/"), "/", ".")
}

// Problems is everything that is wrong, in the order of the document.
type Problems []Problem

// Error gives each problem a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

func (p *Problems) add(pointer, format string, args ...any) {
	*p = append(*p, Problem{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
}

// orNil makes an error of the problems that is nil when there are none.
func (p Problems) orNil() error {
	if len(p) == 0 {
		return nil
	}
	return p
}
