package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/go-json-experiment/json/jsontext"
)

// arguments converts a call's arguments to Cedar. Cedar's own JSON decoder is not used, since it reads {"__entity": ...} as an entity,
// which would let a caller name any principal or resource as an argument.
func (c *compiled) arguments(raw jsontext.Value) (types.Value, error) {
	if len(raw) == 0 {
		return types.NewRecord(nil), nil
	}
	if raw.Kind() != '{' {
		return nil, errors.New("arguments must be an object")
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw))
	v, err := c.value(dec)
	if err != nil {
		return nil, err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("arguments must be one object")
	}
	return v, nil
}

func (c *compiled) value(dec *jsontext.Decoder) (types.Value, error) {
	token, err := dec.ReadToken()
	if err != nil {
		return nil, fmt.Errorf("read arguments: %w", err)
	}
	switch token.Kind() {
	case '"':
		return types.String(token.String()), nil
	case 't', 'f':
		return types.Boolean(token.Bool()), nil
	case '0':
		return number(token.String()), nil
	case '{':
		return c.record(dec)
	case '[':
		return c.list(dec)
	default:
		return opaque(), nil
	}
}

func (c *compiled) record(dec *jsontext.Decoder) (types.Value, error) {
	fields := types.RecordMap{}
	for dec.PeekKind() != '}' {
		token, err := dec.ReadToken()
		if err != nil {
			return nil, fmt.Errorf("read arguments: %w", err)
		}
		name := token.String()
		// A server that ignores case would take the one for the other, and the policy would have looked at neither.
		if read := c.read[strings.ToLower(name)]; len(read) > 0 && !slices.Contains(read, name) {
			return nil, fmt.Errorf("argument %q differs only in case from %q, which a policy reads", name, read[0])
		}
		if fields[types.String(name)], err = c.value(dec); err != nil {
			return nil, err
		}
	}
	_, err := dec.ReadToken()
	return types.NewRecord(fields), err
}

func (c *compiled) list(dec *jsontext.Decoder) (types.Value, error) {
	var items []types.Value
	for dec.PeekKind() != ']' {
		v, err := c.value(dec)
		if err != nil {
			return nil, err
		}
		items = append(items, v)
	}
	_, err := dec.ReadToken()
	return types.NewSet(items...), err
}

// number makes a Long of what is integral and fits, however it is written. Everything else is opaque: `has` holds and every comparison
// is an error, which denies.
func number(text string) types.Value {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return types.Long(n)
	}
	const longest, maxExponent = 64, 64
	if len(text) > longest {
		return opaque()
	}
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		if e, err := strconv.Atoi(text[i+1:]); err != nil || e > maxExponent || e < -maxExponent {
			return opaque()
		}
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok || !r.IsInt() || !r.Num().IsInt64() {
		return opaque()
	}
	return types.Long(r.Num().Int64())
}

func opaque() types.Value { return types.NewRecord(nil) }
