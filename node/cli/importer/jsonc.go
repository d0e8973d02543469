package importer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// plainJSON blanks out comments and trailing commas, which VS Code allows, and the byte order mark
// that editors on Windows write. Every other byte keeps its place, so that offsets in errors are
// those of the file.
func plainJSON(content []byte) ([]byte, error) {
	plain := bytes.Clone(content)
	if bytes.HasPrefix(plain, []byte("\xef\xbb\xbf")) {
		copy(plain, "   ")
	}
	comma, depth := -1, 0 // comma: the place of one that follows a value and that nothing followed yet
	value := false
	for i := 0; i < len(plain); {
		switch c := plain[i]; c {
		case ' ', '\t', '\r', '\n':
			i++
		case '/':
			end := commentEnd(plain, i)
			if end < 0 {
				return nil, fmt.Errorf("line %d: a / that begins no comment, or a comment without an end", lineOf(plain, i))
			}
			blank(plain[i:end])
			i = end
		case '"':
			comma, value = -1, true
			i = stringEnd(plain, i)
		case ',':
			if comma = -1; value {
				comma = i
			}
			value = false
			i++
		case '{', '[':
			comma, value = -1, false
			if depth++; depth > maxDepth {
				return nil, fmt.Errorf("line %d: nested more than %d deep", lineOf(plain, i), maxDepth)
			}
			i++
		case '}', ']':
			if comma >= 0 {
				plain[comma] = ' '
			}
			comma, value = -1, true
			depth--
			i++
		default:
			comma, value = -1, true
			i++
		}
	}
	return plain, nil
}

// commentEnd is where the comment that starts at i ends; -1 if there is none.
func commentEnd(text []byte, i int) int {
	switch {
	case bytes.HasPrefix(text[i:], []byte("//")):
		if n := bytes.IndexByte(text[i:], '\n'); n >= 0 {
			return i + n
		}
		return len(text)
	case bytes.HasPrefix(text[i:], []byte("/*")):
		if n := bytes.Index(text[i+2:], []byte("*/")); n >= 0 {
			return i + 2 + n + 2
		}
	}
	return -1
}

// stringEnd is behind the closing quote of the string that starts at i, or at the end of the text.
func stringEnd(text []byte, i int) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

func blank(text []byte) {
	for i, c := range text {
		if c != '\n' && c != '\r' {
			text[i] = ' '
		}
	}
}

func lineOf(text []byte, offset int) int {
	return 1 + bytes.Count(text[:min(offset, len(text))], []byte("\n"))
}

// locate says where in the file a decoding error is.
func locate(text []byte, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("line %d: %w", lineOf(text, int(syntax.Offset)), err)
	}
	return err
}

// member is a member of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

var errNoObject = errors.New("not a JSON object")

// members are those of an object in the order of the file, which a map would lose. Of members with
// the same name the last one counts, as it does for the clients.
func members(raw json.RawMessage) ([]member, error) {
	// This alone checks the whole text, with offsets.
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil {
		var wrongType *json.UnmarshalTypeError
		if errors.As(err, &wrongType) {
			return nil, errNoObject
		}
		return nil, err
	}
	if object == nil {
		return nil, errNoObject
	}
	in := json.NewDecoder(bytes.NewReader(raw))
	if _, err := in.Token(); err != nil {
		return nil, err
	}
	var all []member
	seen := map[string]bool{}
	for in.More() {
		token, err := in.Token()
		if err != nil {
			return nil, err
		}
		var skip json.RawMessage
		if err := in.Decode(&skip); err != nil {
			return nil, err
		}
		name, _ := token.(string)
		if !seen[name] {
			seen[name] = true
			all = append(all, member{name, object[name]})
		}
	}
	return all, nil
}

func find(all []member, name string) (json.RawMessage, bool) {
	for _, m := range all {
		if m.name == name {
			return m.value, true
		}
	}
	return nil, false
}
