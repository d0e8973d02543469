// Package sallyport_test keeps the layout of the repository: which part may
// import which, that every package says what it is for, and that no package is
// a drawer for leftovers.
package sallyport_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "sallyport"

// base is what stands on nothing else in the module.
var base = []string{"transport", "crypto", "raftfsm"}

// leaves may be used by every package under node.
var leaves = []string{"node/mcp", "node/config"}

// parts are the packages that may meet only in meetingPlaces.
var parts = []string{"node/identity", "node/policy", "node/audit", "node/upstream", "node/authserver", "node/console"}

// allowed says which folders' packages the packages of a folder may import,
// besides those of the folder itself. The longest matching folder counts; a
// package without one is a violation, so that a new folder is a decision.
var allowed = func() map[string][]string {
	below := slices.Concat(leaves, base, []string{"cluster"})
	meeting := slices.Concat(parts, below)
	front := slices.Concat([]string{"node/server", "node/api"}, leaves, []string{"crypto", "transport"})
	rules := map[string][]string{
		".":             nil,
		"transport":     nil,
		"crypto":        nil,
		"raftfsm":       nil,
		"cluster":       base,
		"node/mcp":      nil,
		"node/config":   nil,
		"node/gateway":  meeting,
		"node/api":      meeting,
		"node/server":   slices.Concat(meeting, []string{"node/gateway", "node/api"}),
		"node/demo":     front,
		"node/cli":      slices.Concat(front, []string{"node/demo"}),
		"cmd/sallyport": {"node/cli"},
		"bench":         {"transport", "crypto", "node/mcp", "node/server", "node/api"},
		"interop":       nil,
	}
	for _, part := range parts {
		rules[part] = below
	}
	return rules
}()

// leftovers are names that say nothing about what is inside.
var leftovers = []string{"util", "utils", "common", "helper", "helpers", "misc"}

func TestLayout(t *testing.T) {
	found, err := violations(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
}

// violations reads every Go file under root, whatever its build tags.
func violations(root fs.FS) ([]string, error) {
	var found []string
	documented := map[string]bool{}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // a build in another process came and went
		case err != nil:
			return err
		case entry.IsDir() && ignoredByGo(name):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		source, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		found = append(found, fileViolations(name, file)...)
		if isTest := strings.HasSuffix(name, "_test.go"); !isTest || path.Dir(name) == "." {
			dir := path.Dir(name)
			documented[dir] = documented[dir] || strings.TrimSpace(file.Doc.Text()) != ""
		}
		return nil
	})
	for dir, ok := range documented {
		if !ok {
			found = append(found, fmt.Sprintf("%s: the package has no doc comment that says what it is for", dir))
		}
	}
	slices.Sort(found)
	return found, err
}

func ignoredByGo(dir string) bool {
	name := path.Base(dir)
	return dir != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "node_modules")
}

func fileViolations(name string, file *ast.File) []string {
	var found []string
	dir := path.Dir(name)
	isTest := strings.HasSuffix(name, "_test.go")
	folder, ok := folderOf(dir)
	if !ok {
		found = append(found, fmt.Sprintf("%s: no import rule for this folder: add it to the table in layout_test.go", dir))
	}
	for _, spec := range file.Imports {
		imported, inModule := strings.CutPrefix(unquote(spec.Path.Value)+"/", module+"/")
		imported = strings.TrimSuffix(imported, "/")
		if ok && inModule && !mayImport(folder, imported, isTest) {
			found = append(found, fmt.Sprintf("%s: %s may not import %s", name, folder, imported))
		}
	}
	for _, decl := range file.Decls {
		if f, isFunc := decl.(*ast.FuncDecl); isFunc && f.Recv == nil && f.Name.Name == "init" {
			found = append(found, fmt.Sprintf("%s: has a func init: construct what it prepares where it is used", name))
		}
	}
	for _, word := range []string{path.Base(dir), strings.TrimSuffix(file.Name.Name, "_test")} {
		if slices.Contains(leftovers, word) {
			found = append(found, fmt.Sprintf("%s: the package name %s says nothing: name the one idea it holds", name, word))
			break
		}
	}
	return found
}

// mayImport tells whether a package of folder may import the package imported.
// Tests may build more around what they test, except below: a test of the base
// that needs the house shows that the base does not stand alone.
func mayImport(folder, imported string, isTest bool) bool {
	list := allowed[folder]
	if isTest {
		if !slices.Contains(base, folder) {
			return true
		}
		list = base
	}
	return slices.ContainsFunc(append([]string{folder}, list...), func(f string) bool { return within(imported, f) })
}

// folderOf finds the longest folder with a rule that holds dir.
func folderOf(dir string) (string, bool) {
	for folder := dir; ; folder = path.Dir(folder) {
		if _, ok := allowed[folder]; ok && (folder != "." || dir == ".") {
			return folder, true
		}
		if folder == "." {
			return "", false
		}
	}
}

func within(dir, folder string) bool {
	return dir == folder || strings.HasPrefix(dir, folder+"/")
}

func unquote(literal string) string {
	s, err := strconv.Unquote(literal)
	if err != nil {
		return literal // cannot be: the parser accepted it
	}
	return s
}

func TestLayoutFindsViolations(t *testing.T) {
	const doc = "// Package p is for this test.\n"
	imports := func(paths ...string) string {
		source := doc + "package p\n"
		for _, p := range paths {
			source += "import _ \"" + p + "\"\n"
		}
		return source
	}
	tests := map[string]struct {
		file, source string
		want         string // a part of the one violation; empty for none
	}{
		"outside modules are free":         {"crypto/a.go", imports("crypto/tls", "github.com/tink-crypto/tink-go/v2/aead"), ""},
		"module with a longer name":        {"crypto/a.go", imports("sallyport-extras/node/mcp"), ""},
		"crypto imports transport":         {"crypto/a.go", imports("sallyport/transport"), "crypto may not import transport"},
		"crypto imports its own folder":    {"crypto/a.go", imports("sallyport/crypto/kms"), ""},
		"crypto subfolder is crypto":       {"crypto/kms/a.go", imports("sallyport/raftfsm"), "crypto may not import raftfsm"},
		"prefix is not a folder":           {"crypto/a.go", imports("sallyport/cryptography"), "crypto may not import cryptography"},
		"transport test imports crypto":    {"transport/a_test.go", imports("sallyport/crypto"), ""},
		"transport test imports the house": {"transport/a_test.go", imports("sallyport/node/server"), "transport may not import node/server"},
		"raftfsm imports cluster":          {"raftfsm/a.go", imports("sallyport/cluster"), "raftfsm may not import cluster"},
		"cluster imports what is below":    {"cluster/a.go", imports("sallyport/raftfsm", "sallyport/transport", "sallyport/crypto"), ""},
		"cluster imports a leaf of node":   {"cluster/a.go", imports("sallyport/node/config"), "cluster may not import node/config"},
		"leaf imports crypto":              {"node/mcp/a.go", imports("sallyport/crypto"), "node/mcp may not import crypto"},
		"leaf imports leaf":                {"node/config/a.go", imports("sallyport/node/mcp"), "node/config may not import node/mcp"},
		"policy imports identity":          {"node/policy/a.go", imports("sallyport/node/identity"), "node/policy may not import node/identity"},
		"policy test imports identity":     {"node/policy/a_test.go", imports("sallyport/node/identity"), ""},
		"policy imports leaf and cluster":  {"node/policy/a.go", imports("sallyport/node/mcp", "sallyport/cluster"), ""},
		"gateway imports policy":           {"node/gateway/a.go", imports("sallyport/node/policy"), ""},
		"gateway imports server":           {"node/gateway/a.go", imports("sallyport/node/server"), "node/gateway may not import node/server"},
		"api subfolder imports audit":      {"node/api/v1/a.go", imports("sallyport/node/audit", "sallyport/node/api"), ""},
		"api imports gateway":              {"node/api/a.go", imports("sallyport/node/gateway"), "node/api may not import node/gateway"},
		"server imports all under it":      {"node/server/a.go", imports("sallyport/node/gateway", "sallyport/node/api/v1", "sallyport/cluster"), ""},
		"server imports cli":               {"node/server/a.go", imports("sallyport/node/cli"), "node/server may not import node/cli"},
		"server imports demo":              {"node/server/a.go", imports("sallyport/node/demo"), "node/server may not import node/demo"},
		"demo imports server and its own":  {"node/demo/a.go", imports("sallyport/node/server", "sallyport/node/demo/idp"), ""},
		"demo imports gateway":             {"node/demo/a.go", imports("sallyport/node/gateway"), "node/demo may not import node/gateway"},
		"cli imports demo":                 {"node/cli/a.go", imports("sallyport/node/demo", "sallyport/node/api/client"), ""},
		"cli imports raftfsm":              {"node/cli/a.go", imports("sallyport/raftfsm"), "node/cli may not import raftfsm"},
		"main imports cli":                 {"cmd/sallyport/main.go", imports("sallyport/node/cli"), ""},
		"main imports server":              {"cmd/sallyport/main.go", imports("sallyport/node/server"), "cmd/sallyport may not import node/server"},
		"bench imports policy":             {"bench/a.go", imports("sallyport/node/policy"), "bench may not import node/policy"},
		"folder without a rule":            {"node/webhooks/a.go", imports(), "no import rule for this folder"},
		"test in a folder without a rule":  {"extras/a_test.go", imports(), "no import rule for this folder"},
		"no doc comment":                   {"crypto/a.go", "package crypto\n", "crypto: the package has no doc comment"},
		"build constraint is no doc":       {"crypto/a.go", "//go:build linux\n\npackage crypto\n", "crypto: the package has no doc comment"},
		"doc in a test does not count":     {"crypto/a_test.go", imports(), ""},
		"init":                             {"crypto/a.go", doc + "package p\nfunc init() {}\n", "has a func init"},
		"method named init":                {"crypto/a.go", doc + "package p\ntype t int\nfunc (t) init() {}\n", ""},
		"folder named utils":               {"node/api/utils/a.go", imports(), "package name utils says nothing"},
		"package named common":             {"node/api/shared/a.go", doc + "package common\n", "package name common says nothing"},
		"test package named helpers":       {"node/api/shared/a_test.go", doc + "package helpers_test\n", "package name helpers says nothing"},
		"ignored by go":                    {"interop/node_modules/x/a.go", imports("sallyport/node/cli"), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			found, err := violations(fstest.MapFS{test.file: {Data: []byte(test.source)}})
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" && len(found) != 0 {
				t.Errorf("found %q, want none", found)
			}
			if test.want != "" && (len(found) != 1 || !strings.Contains(found[0], test.want)) {
				t.Errorf("found %q, want one with %q", found, test.want)
			}
		})
	}
}

func TestLayoutRefusesWhatDoesNotParse(t *testing.T) {
	if _, err := violations(fstest.MapFS{"crypto/a.go": {Data: []byte("no Go")}}); err == nil {
		t.Error("a file that does not parse was accepted")
	}
}
