package stdio

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// replaceMember puts value in the place of the member that path leads to, and leaves every other
// byte of text alone.
func replaceMember(data []byte, value []byte, path ...string) ([]byte, error) {
	start, end := 0, len(data)
	for _, name := range path {
		s, e, err := locateMember(data[start:end], name)
		if err != nil {
			return nil, err
		}
		start, end = start+s, start+e
	}
	return slices.Concat(data[:start], value, data[end:]), nil
}

// locateMember gives the range of the last member with that name, which is the one that decoders
// take.
func locateMember(object []byte, name string) (start, end int, err error) {
	in := json.NewDecoder(bytes.NewReader(object))
	if opening, err := in.Token(); err != nil || opening != json.Delim('{') {
		return 0, 0, fmt.Errorf("the parent of %q is no object", name)
	}
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return 0, 0, err
		}
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return 0, 0, err
		}
		if key == name {
			end = int(in.InputOffset())
			start = end - len(value)
		}
	}
	if end == 0 {
		return 0, 0, fmt.Errorf("there is no member %q", name)
	}
	return start, end, nil
}
