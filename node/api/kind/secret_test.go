package kind

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func TestSecretsAreNotPrinted(t *testing.T) {
	u := upstream(func(u *Upstream) { static(u).Value = secret("canary") })
	asJSON, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(asJSON), `"value":{"set":true}`) {
		t.Errorf("the document does not say that the value is set: %s", asJSON)
	}
	asYAML, err := yaml.MarshalWithOptions(u, yaml.UseJSONMarshaler())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(asJSON), string(asYAML), fmt.Sprintf("%v %+v %#v %v", u, u, u, u.Spec.Credential)} {
		if strings.Contains(text, "canary") {
			t.Errorf("the secret is in %s", text)
		}
	}
}

func TestRevealGivesTheSecretOnce(t *testing.T) {
	u := upstream(func(u *Upstream) { static(u).Value = secret("can\"ary") })
	body, err := Reveal(u)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := r.(*Upstream)
	if !ok || got.Spec.Credential.Header.Value.Value().ExposeString() != "can\"ary" {
		t.Errorf("the node would not read the secret from %s", body)
	}
}

func TestResolve(t *testing.T) {
	text := `{apiVersion: sallyport/v1, kind: Upstream, metadata: {name: u}, spec: {url: https://u, credential: {grant: static, header: {name: X, value: {valueFrom: {%s}}}}}}`
	from := Sources{
		Env: func(name string) (string, bool) {
			values := map[string]string{"SET": "from env\n", "EMPTY": ""}
			v, ok := values[name]
			return v, ok
		},
		ReadFile: func(path string) ([]byte, error) {
			switch path {
			case "key":
				return []byte("from file\r\n"), nil
			case "large":
				return make([]byte, maxValueBytes+1), nil
			}
			return nil, errors.New("open " + path + ": no such file")
		},
	}
	tests := map[string]struct{ source, want, problem string }{
		"environment":  {source: "env: SET", want: "from env\n"},
		"file":         {source: "file: key", want: "from file"},
		"not set":      {source: "env: OTHER", problem: "f:1:134: spec.credential.header.value: the environment variable OTHER is not set"},
		"empty":        {source: "env: EMPTY", problem: "what valueFrom names is empty"},
		"missing file": {source: "file: other", problem: "open other: no such file"},
		"large file":   {source: "file: large", problem: "larger than 64 KiB"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			documents, err := ParseYAML("f", fmt.Appendf(nil, text, test.source))
			if err != nil {
				t.Fatal(err)
			}
			if problems := Unresolved(documents[0].Resource); len(problems) != 1 {
				t.Errorf("before, %v is unresolved", problems)
			}
			err = documents[0].Locate(Resolve(documents[0].Resource, from))
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("got %v, want %q", err, test.problem)
				}
				return
			}
			u, ok := documents[0].Resource.(*Upstream)
			if err != nil || !ok || u.Spec.Credential.Header.Value.Value().ExposeString() != test.want {
				t.Errorf("got another value, error %v", err)
			}
			if problems := Unresolved(documents[0].Resource); len(problems) != 0 {
				t.Errorf("after, %v is unresolved", problems)
			}
		})
	}
}

func TestParseKind(t *testing.T) {
	for text, want := range map[string]Kind{"agent": KindAgent, "Agents": KindAgent, "POLICY": KindPolicy, "policies": KindPolicy, "upstreams": KindUpstream} {
		if got, err := ParseKind(text); err != nil || got != want {
			t.Errorf("%s: got %s, %v", text, got, err)
		}
	}
	if _, err := ParseKind("cluster"); err == nil || !strings.Contains(err.Error(), "not supported by this version") {
		t.Errorf("cluster: %v", err)
	}
	if _, err := ParseKind(""); err == nil {
		t.Error("the empty kind exists")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"sallyport/v1","kind":"Agent","metadata":{"name":"A","labels":{"a":"b"}},"spec":{"roles":["r"]}}`))
	f.Add([]byte(`{"apiVersion":"sallyport/v1","kind":"Policy","metadata":{"name":"p"},"spec":{"cedar":"permit (principal, action, resource);"}}`))
	f.Add([]byte(`{"apiVersion":"sallyport/v1","kind":"Upstream","metadata":{"name":"u"},"spec":{"url":"https://u","onStale":{"serve":"1m"},"credential":{"grant":"static","header":{"name":"X","value":"v"}}}}`))
	f.Add([]byte(`{"apiVersion":"sallyport/v1","kind":"Upstream","spec":{"caCert":{"valueFrom":{"file":"x"}},"credential":{"clientSecret":{"set":true},"privateKey":null}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Decode(text)
		if err != nil {
			if problems := (Problems{}); !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("%v is no Problems", err)
			}
			return
		}
		r.Validate()
		body, err := Reveal(r)
		if err != nil {
			t.Fatalf("it is accepted and cannot be written: %v", err)
		}
		if _, err := Decode(body); err != nil {
			t.Fatalf("it is accepted but not what was written of it: %v\n%s", err, body)
		}
	})
}
