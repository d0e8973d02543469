package kind

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"sallyport/crypto"
)

// Source says where the command-line client finds a value that a document leaves out. Exactly one is set.
type Source struct {
	Env  string `json:"env,omitempty"`
	File string `json:"file,omitempty"` // relative to the document's own directory
}

// Secret is a value that goes to a node and never comes back. In a document it is the text itself or
// {valueFrom: {env: NAME}} or {valueFrom: {file: PATH}}; a node shows {set: true} in its place. The zero Secret is not given.
type Secret struct {
	text   crypto.Secret
	from   *Source
	stored bool
}

// NewSecret makes a Secret that holds its value.
func NewSecret(text crypto.Secret) Secret { return Secret{text: text} }

// StoredSecret makes what a node shows of a secret that it keeps.
func StoredSecret() Secret { return Secret{stored: true} }

// Value is the secret itself, empty unless it is given in the document or resolved.
func (s Secret) Value() crypto.Secret { return s.text }

// Given tells whether the document says anything about the secret.
func (s Secret) Given() bool { return !s.text.Empty() || s.from != nil || s.stored }

// IsZero leaves a secret that is not given out of documents.
func (s Secret) IsZero() bool { return !s.Given() }

// unresolved is where the value has to be read from first.
func (s Secret) unresolved() *Source { return s.from }

func (s *Secret) resolve(text []byte) { *s = Secret{text: crypto.NewSecret(text)} }

// MarshalJSON shows where the secret is, never the secret: a document that holds one is printed as a node would print it.
// See Reveal.
func (s Secret) MarshalJSON() ([]byte, error) {
	switch {
	case s.from != nil:
		return json.Marshal(map[string]*Source{"valueFrom": s.from})
	case s.Given():
		return []byte(`{"set":true}`), nil
	}
	return []byte("null"), nil
}

// UnmarshalJSON reads a secret as it stands in a document.
func (s *Secret) UnmarshalJSON(data []byte) error {
	text, from, stored, err := readValue(data)
	if err != nil {
		return err
	}
	if text != nil && *text == "" {
		return errors.New("is empty: leave it out or give the secret")
	}
	*s = Secret{from: from, stored: stored}
	if text != nil {
		s.text = crypto.SecretString(*text)
	}
	return nil
}

// Reveal is the document with its secrets in clear, for the body of the one request that hands it to a node.
func Reveal(r Resource) ([]byte, error) {
	text := json.MarshalToFunc(func(out *jsontext.Encoder, s Secret) error {
		if s.text.Empty() {
			return errors.ErrUnsupported // what MarshalJSON does
		}
		return out.WriteToken(jsontext.String(s.text.ExposeString()))
	})
	body, err := json.Marshal(r, json.WithMarshalers(text))
	if err != nil {
		return nil, fmt.Errorf("write %s %s as JSON: %w", r.Head().Kind, r.Head().Metadata.Name, err)
	}
	return body, nil
}

// Text is a value that is no secret but may stand in a file of its own: the text itself or {valueFrom: {file: PATH}}.
type Text struct {
	text string
	from *Source
}

// NewText makes a Text that holds its value.
func NewText(text string) Text { return Text{text: text} }

// String is the text, empty until it is resolved.
func (t Text) String() string { return t.text }

// IsZero leaves a text that is not given out of documents.
func (t Text) IsZero() bool { return t.text == "" && t.from == nil }

func (t Text) unresolved() *Source { return t.from }

func (t *Text) resolve(text []byte) { *t = Text{text: string(text)} }

// MarshalJSON writes the text, or where it is.
func (t Text) MarshalJSON() ([]byte, error) {
	if t.from != nil {
		return json.Marshal(map[string]*Source{"valueFrom": t.from})
	}
	return json.Marshal(t.text)
}

// UnmarshalJSON reads a text as it stands in a document.
func (t *Text) UnmarshalJSON(data []byte) error {
	text, from, stored, err := readValue(data)
	if err != nil {
		return err
	}
	if stored {
		return errors.New(`is no secret: give the text or {valueFrom: {file: PATH}}`)
	}
	*t = Text{from: from}
	if text != nil {
		t.text = *text
	}
	return nil
}

// readValue reads the forms that a value can have. The errors never quote it.
func readValue(data []byte) (text *string, from *Source, stored bool, err error) {
	switch jsontext.Value(bytes.TrimSpace(data)).Kind() {
	case 'n':
		return nil, nil, false, nil
	case '"':
		var s string
		if json.Unmarshal(data, &s) != nil {
			return nil, nil, false, errors.New("is no valid text")
		}
		return &s, nil, false, nil
	case '{':
		var form struct {
			ValueFrom *Source `json:"valueFrom"`
			Set       bool    `json:"set"`
		}
		if json.Unmarshal(data, &form, json.RejectUnknownMembers(true)) != nil || form.Set == (form.ValueFrom != nil) {
			break
		}
		if from := form.ValueFrom; from != nil && (from.Env == "") == (from.File == "") {
			return nil, nil, false, errors.New("valueFrom has to name one of env and file")
		}
		return nil, form.ValueFrom, form.Set, nil
	}
	return nil, nil, false, errors.New("has to be a text, {valueFrom: {env: NAME}} or {valueFrom: {file: PATH}}; numbers need quotes")
}
