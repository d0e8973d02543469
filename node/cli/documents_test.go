package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/node/api/kind"
)

// write makes files, by name below a fresh directory.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	agentA = "apiVersion: sallyport/v1\nkind: Agent\nmetadata: {name: A}\n"
	agentB = "apiVersion: sallyport/v1\nkind: Agent\nmetadata: {name: B}\n"
	allow  = "apiVersion: sallyport/v1\nkind: Policy\nmetadata: {name: allow}\nspec: {cedar: 'permit (principal, action, resource);'}\n"
	keyed  = "apiVersion: sallyport/v1\nkind: Upstream\nmetadata: {name: u}\nspec:\n  url: https://u.example\n" +
		"  credential: {grant: static, header: {name: X, value: {valueFrom: {file: sub/key}}}}\n"
)

func TestReadDocuments(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"z.yaml": agentA + "---\n" + keyed, "a.yml": allow, "c.json": `{"apiVersion":"sallyport/v1","kind":"Agent","metadata":{"name":"C"}}`,
		"notes.txt": "no document", "sub/key": "the key\n", "sub/ignored.yaml": "no document",
	})
	documents, err := readDocuments([]string{dir, "-"}, strings.NewReader(agentB))
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, d := range documents {
		order = append(order, reference(d))
		if u, ok := d.Resource.(*kind.Upstream); ok && u.Spec.Credential.Header.Value.Value().ExposeString() != "the key" {
			t.Error("the value is not that of the file beside the document")
		}
	}
	if got := strings.Join(order, " "); got != "upstream/u agent/C agent/A agent/B policy/allow" {
		t.Errorf("the order is %s", got)
	}
}

func TestReadDocumentsRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"nothing":                    {map[string]string{"a.txt": ""}, []string{"there is no .yaml, .yml or .json file in the directory"}},
		"no document":                {map[string]string{"a.yaml": "# nothing\n"}, []string{"there is no document in"}},
		"errors of all files":        {map[string]string{"a.yaml": "a: b\n", "b.yaml": agentA + "spec: 1\n"}, []string{"a.yaml:1", "b.yaml:4:1: spec: has to be a mapping"}},
		"a name in two files":        {map[string]string{"a.yaml": agentA, "b.yaml": agentB + "---\n" + agentA}, []string{"b.yaml:5: agent/A is declared at", "a.yaml:1 already"}},
		"missing secret":             {map[string]string{"a.yaml": keyed}, []string{"a.yaml:6:49: spec.credential.header.value: ", "no such file or directory"}},
		"secret no header can carry": {map[string]string{"a.yaml": keyed, "sub/key": "a\nb\n"}, []string{"a.yaml:6:49: spec.credential.header.value: holds line breaks"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readDocuments([]string{writeFiles(t, test.files)}, nil)
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
		})
	}
	if _, err := readDocuments([]string{"/nonexistent"}, nil); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}
