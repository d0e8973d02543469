package kind

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxBytes bounds a file of documents and the body of a request that holds one.
const MaxBytes = 1 << 20

// Decode reads one document from JSON, strictly: unknown and repeated fields and wrong types are Problems. The document is not
// validated. The errors never quote a value.
func Decode(data []byte) (Resource, error) {
	if len(data) > MaxBytes {
		return nil, Problems{{Message: "the document is larger than 1 MiB"}}
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       Kind   `json:"kind"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, Problems{problemOf(err)}
	}
	switch {
	case head.APIVersion == "" && head.Kind == "":
		return nil, Problems{{Message: "is no document: it begins with apiVersion: " + APIVersion + " and kind: Agent, Policy or Upstream"}}
	case head.APIVersion != APIVersion:
		return nil, Problems{{Pointer: "/apiVersion", Message: fmt.Sprintf("is %q: this version reads %s", head.APIVersion, APIVersion)}}
	}
	r, err := New(head.Kind)
	if err != nil {
		return nil, Problems{{Pointer: "/kind", Message: err.Error()}}
	}
	if err := json.Unmarshal(data, r, json.RejectUnknownMembers(true)); err != nil {
		return nil, Problems{problemOf(err)}
	}
	return r, nil
}

// problemOf turns a decoder's error into one that speaks of documents.
func problemOf(err error) Problem {
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return Problem{Pointer: string(syntactic.JSONPointer), Message: "is there twice"}
		}
		return Problem{Pointer: string(syntactic.JSONPointer), Message: "is no valid JSON"}
	}
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return Problem{Message: "cannot be read"}
	}
	at := string(semantic.JSONPointer)
	switch {
	case errors.Is(err, json.ErrUnknownName):
		return Problem{Pointer: at, Message: unknownField(semantic.JSONPointer.LastToken())}
	case semantic.Err != nil && explained(semantic.GoType, semantic.JSONKind):
		return Problem{Pointer: at, Message: semantic.Err.Error()}
	}
	return Problem{Pointer: at, Message: fmt.Sprintf("has to be %s, not %s", wanted(semantic.GoType), found(semantic.JSONKind))}
}

func unknownField(name string) string {
	if slices.Contains([]string{"regions", "reuse", "clients"}, name) {
		return "is not supported by this version"
	}
	return "unknown field"
}

// explained tells of types of this package that say themselves what they want.
func explained(t reflect.Type, k jsontext.Kind) bool {
	if t == nil {
		return false
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[Duration]() {
		return k == '"' // anything else does not reach UnmarshalText
	}
	return slices.Contains([]reflect.Type{reflect.TypeFor[Secret](), reflect.TypeFor[Text](), reflect.TypeFor[OnStale]()}, t)
}

func wanted(t reflect.Type) string {
	if t == nil {
		return "something else"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		if strings.HasSuffix(t.PkgPath(), "time") {
			return "a time"
		}
		return "a mapping"
	default:
		return "a text"
	}
}

func found(k jsontext.Kind) string {
	switch k {
	case 't', 'f':
		return "true or false (a text needs quotes)"
	case '0':
		return "a number (a text needs quotes)"
	case '"':
		return "a text"
	case '[':
		return "a list"
	case '{':
		return "a mapping"
	default:
		return "what is there"
	}
}
