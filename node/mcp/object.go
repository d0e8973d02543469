package mcp

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// Member is one member of an object, its value as it was written.
type Member struct {
	Name  string
	Value jsontext.Value
}

// Object is a JSON object whose members keep their order and their spelling.
type Object []Member

// ParseObject splits an object into members. Duplicate names are refused.
func ParseObject(v jsontext.Value) (Object, error) {
	if err := checkDepth(v); err != nil {
		return nil, err
	}
	p := parser{body: v, dec: jsontext.NewDecoder(bytes.NewBuffer(v))}
	var o Object
	err := p.object(func(name string) error {
		m := Member{Name: name}
		o = append(o, m)
		return p.raw(&o[len(o)-1].Value)
	})
	if err != nil {
		return nil, fmt.Errorf("read a JSON object: %w", err)
	}
	if len(bytes.TrimSpace(v[p.dec.InputOffset():])) != 0 {
		return nil, errors.New("read a JSON object: there is something behind it")
	}
	return o, nil
}

// Get returns a member's value, nil if there is none.
func (o Object) Get(name string) jsontext.Value {
	for _, m := range o {
		if m.Name == name {
			return m.Value
		}
	}
	return nil
}

// Text returns a member that is a string.
func (o Object) Text(name string) (string, bool) {
	v := o.Get(name)
	if v == nil || v.Kind() != '"' {
		return "", false
	}
	b, err := jsontext.AppendUnquote(nil, v)
	return string(b), err == nil
}

// Set replaces or adds a member; a nil value removes it.
func (o Object) Set(name string, v jsontext.Value) Object {
	for i, m := range o {
		if m.Name == name {
			if v == nil {
				return append(o[:i:i], o[i+1:]...)
			}
			o[i].Value = v
			return o
		}
	}
	if v == nil {
		return o
	}
	return append(o, Member{name, v})
}

// JSON writes the object.
func (o Object) JSON() jsontext.Value {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, Quote(m.Name)...), ':'), m.Value...)
	}
	return append(b, '}')
}

// ParseArray splits an array into its values.
func ParseArray(v jsontext.Value) ([]jsontext.Value, error) {
	if err := checkDepth(v); err != nil {
		return nil, err
	}
	p := parser{body: v, dec: jsontext.NewDecoder(bytes.NewBuffer(v))}
	if k := p.dec.PeekKind(); k != '[' {
		return nil, fmt.Errorf("read a JSON array: found %s", k)
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return nil, fmt.Errorf("read a JSON array: %w", err)
	}
	var out []jsontext.Value
	for p.dec.PeekKind() != ']' {
		item, err := p.value()
		if err != nil {
			return nil, fmt.Errorf("read a JSON array: %w", err)
		}
		out = append(out, item)
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return nil, fmt.Errorf("read a JSON array: %w", err)
	}
	return out, nil
}

// Array writes values as an array.
func Array(items []jsontext.Value) jsontext.Value {
	b := []byte{'['}
	for i, v := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, v...)
	}
	return append(b, ']')
}
