package crypto

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const canary = "canary-7f3a-secret"

// leaks looks for the canary in the forms that fmt may give bytes.
func leaks(out string) bool {
	for _, form := range []string{
		canary,
		fmt.Sprintf("%x", canary),
		fmt.Sprintf("%X", canary),
		strings.Trim(fmt.Sprint([]byte(canary)), "[]"),
		strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(canary)), "[]byte{"), "}"),
	} {
		if strings.Contains(out, form) {
			return true
		}
	}
	return false
}

type exportedHolder struct {
	Name   string
	Secret Secret
}

type hiddenHolder struct {
	name   string
	secret Secret
}

// holders returns a secret in every wrapping in which a careless log line might meet it.
func holders() map[string]any {
	s := SecretString(canary)
	return map[string]any{
		"value":           s,
		"pointer":         &s,
		"slice":           []Secret{s},
		"map":             map[string]Secret{"k": s},
		"exported field":  exportedHolder{"n", s},
		"pointer to it":   &exportedHolder{"n", s},
		"hidden field":    hiddenHolder{"n", s},
		"pointer to that": &hiddenHolder{"n", s},
		"any":             []any{s, &s},
		"error":           fmt.Errorf("failed with %v: %w", s, errors.New("cause")),
	}
}

func TestSecretDoesNotLeakThroughFmt(t *testing.T) {
	verbs := []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d", "%c", "%U", "%b", "%o", "%e", "%t", "%p", "%T", "%100v", "%!"}
	for name, holder := range holders() {
		for _, verb := range verbs {
			if out := fmt.Sprintf(verb, holder); leaks(out) {
				t.Errorf("%s with %s: %s", name, verb, out)
			}
		}
		if out := fmt.Sprint(holder) + fmt.Sprintln(holder); leaks(out) {
			t.Errorf("%s printed: %s", name, out)
		}
	}
	if out := fmt.Sprintf("%v %s %x %d", SecretString(canary), SecretString(canary), SecretString(canary), SecretString(canary)); out != "[secret] [secret] [secret] [secret]" {
		t.Errorf("printed %q", out)
	}
}

func TestSecretDoesNotLeakThroughSlog(t *testing.T) {
	handlers := map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	}
	for handlerName, newHandler := range handlers {
		for name, holder := range holders() {
			var out bytes.Buffer
			slog.New(newHandler(&out)).With("with", holder).Info("message", "attr", holder, slog.Group("g", "in", holder))
			if out.Len() == 0 || leaks(out.String()) {
				t.Errorf("%s through the %s handler: %s", name, handlerName, out.String())
			}
		}
		var out bytes.Buffer
		slog.New(newHandler(&out)).Info("message", "attr", SecretString(canary))
		if !strings.Contains(out.String(), redacted) {
			t.Errorf("%s handler: no placeholder in %s", handlerName, out.String())
		}
	}
}

func TestSecretIsNotMarshalled(t *testing.T) {
	marshalers := map[string]func(any) ([]byte, error){
		"json": json.Marshal,
		"yaml": yaml.Marshal,
		"xml":  xml.Marshal,
		"gob": func(v any) ([]byte, error) {
			var out bytes.Buffer
			err := gob.NewEncoder(&out).Encode(v)
			return out.Bytes(), err
		},
	}
	for format, marshal := range marshalers {
		for name, holder := range holders() {
			out, err := marshal(holder)
			if leaks(string(out)) || (err != nil && leaks(err.Error())) {
				t.Errorf("%s as %s: %q, %v", name, format, out, err)
			}
		}
		if out, err := marshal(exportedHolder{"n", SecretString(canary)}); err == nil {
			t.Errorf("%s marshals a secret without an error: %q", format, out)
		}
	}
	if out, err := SecretString(canary).MarshalText(); err == nil {
		t.Errorf("MarshalText gave %q", out)
	}
}

func TestSecretValue(t *testing.T) {
	source := []byte(canary)
	s := NewSecret(source)
	source[0] = 'X'
	if s.ExposeString() != canary || string(s.Expose()) != canary {
		t.Errorf("changing the source changed the secret to %q", s.ExposeString())
	}

	tests := []struct {
		name  string
		a, b  Secret
		equal bool
	}{
		{"same", SecretString("a"), NewSecret([]byte("a")), true},
		{"different", SecretString("a"), SecretString("b"), false},
		{"prefix", SecretString("a"), SecretString("aa"), false},
		{"zero and empty", Secret{}, SecretString(""), true},
		{"zero and not", Secret{}, SecretString("a"), false},
	}
	for _, test := range tests {
		if test.a.Equal(test.b) != test.equal || test.b.Equal(test.a) != test.equal {
			t.Errorf("%s: Equal is not %v", test.name, test.equal)
		}
	}
	if !(Secret{}).Empty() || !NewSecret(nil).Empty() || s.Empty() {
		t.Error("Empty is wrong")
	}
}
