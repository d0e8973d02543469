package kind

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml/ast"
)

// readDocument goes from YAML by way of JSON, so that documents and bodies of requests are read by the same strict decoder.
func readDocument(file string, body ast.Node) (*Document, Problems) {
	begin := body.GetToken().Position
	document := &Document{At: fmt.Sprintf("%s:%d", file, begin.Line), positions: map[string]string{}}
	var buffer bytes.Buffer
	tree := tree{file: file, positions: document.positions, out: jsontext.NewEncoder(&buffer)}
	if err := tree.write(body, ""); err != nil {
		var problem Problem
		if !errors.As(err, &problem) {
			problem = document.locate(Problem{Message: "is no valid document"})
		}
		return nil, Problems{problem}
	}
	r, err := Decode(buffer.Bytes())
	if err == nil {
		document.Resource = r
		err = r.Validate().orNil()
	}
	var found Problems
	if errors.As(document.Locate(err), &found) {
		return document, found
	}
	return document, nil
}

// tree writes a YAML document as JSON and notes where each value was.
type tree struct {
	file      string
	positions map[string]string
	out       *jsontext.Encoder
}

func (t tree) at(n ast.Node) string {
	p := n.GetToken().Position
	return fmt.Sprintf("%s:%d:%d", t.file, p.Line, p.Column)
}

func (t tree) write(node ast.Node, pointer jsontext.Pointer) error {
	if _, named := t.positions[string(pointer)]; !named {
		t.positions[string(pointer)] = t.at(node)
	}
	switch n := node.(type) {
	case *ast.MappingNode:
		return t.writeMapping(n.Values, pointer)
	case *ast.MappingValueNode:
		return t.writeMapping([]*ast.MappingValueNode{n}, pointer)
	case *ast.SequenceNode:
		return t.writeSequence(n.Values, pointer)
	case *ast.StringNode:
		return t.out.WriteToken(jsontext.String(n.Value))
	case *ast.LiteralNode:
		return t.out.WriteToken(jsontext.String(n.Value.Value))
	case *ast.BoolNode:
		return t.out.WriteToken(jsontext.Bool(n.Value))
	case *ast.NullNode:
		return t.out.WriteToken(jsontext.Null)
	case *ast.IntegerNode:
		return t.out.WriteValue(jsontext.Value(fmt.Sprint(n.Value)))
	case *ast.FloatNode:
		return t.out.WriteToken(jsontext.Float(n.Value))
	default:
		return Problem{At: t.at(node), Message: "is a value that documents do not have: put a text in quotes"}
	}
}

func (t tree) writeMapping(values []*ast.MappingValueNode, pointer jsontext.Pointer) error {
	if err := t.out.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for _, entry := range values {
		key, ok := entry.Key.(*ast.StringNode)
		if !ok {
			return Problem{At: t.at(entry.Key), Message: "is a key that is no text: put it in quotes"}
		}
		field := pointer.AppendToken(key.Value)
		if _, twice := t.positions[string(field)]; twice {
			return Problem{At: t.at(key), Pointer: string(field), Message: "is there twice"}
		}
		// The key's place, not the value's: a value can begin lines below, and a missing one nowhere.
		t.positions[string(field)] = t.at(key)
		if err := t.out.WriteToken(jsontext.String(key.Value)); err != nil {
			return err
		}
		if err := t.write(entry.Value, field); err != nil {
			return err
		}
	}
	return t.out.WriteToken(jsontext.EndObject)
}

func (t tree) writeSequence(values []ast.Node, pointer jsontext.Pointer) error {
	if err := t.out.WriteToken(jsontext.BeginArray); err != nil {
		return err
	}
	for i, v := range values {
		if err := t.write(v, pointer.AppendToken(fmt.Sprint(i))); err != nil {
			return err
		}
	}
	return t.out.WriteToken(jsontext.EndArray)
}
