//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// check is one assertion of the conformance suite, as its result files have it.
type check struct {
	ID      string `json:"id"`
	Status  string `json:"status"` // SUCCESS, FAILURE, WARNING, INFO or SKIPPED
	Message string `json:"errorMessage"`
}

// report holds the checks that the suite made, by scenario.
type report struct {
	checks map[string][]check
	// conforms is the suite's own verdict, its exit status: no scored scenario failed.
	conforms bool
}

var resultFolder = regexp.MustCompile(`^server-(.+)-\d{4}-\d\d-\d\dT[0-9-]+Z$`)

// suite runs the server scenarios that a revision requires against a URL.
func suite(t *testing.T, revision era, url string) report {
	t.Helper()
	out := t.TempDir()
	printed, err := run(t, nil, nodeModules(t, ".bin/conformance"), "server", "--url", url, "--requirements", string(revision), "-o", out)
	folders, readErr := os.ReadDir(out)
	if readErr != nil || len(folders) == 0 {
		t.Fatalf("the conformance suite left no results (%v); it printed:\n%s", readErr, tail(printed, 40))
	}
	r := report{checks: map[string][]check{}, conforms: err == nil}
	for _, folder := range folders {
		name := resultFolder.FindStringSubmatch(folder.Name())
		if name == nil {
			t.Fatalf("result folder %q has no scenario in its name", folder.Name())
		}
		data, err := os.ReadFile(filepath.Join(out, folder.Name(), "checks.json"))
		if err != nil {
			t.Fatal(err)
		}
		var checks []check
		if err := json.Unmarshal(data, &checks); err != nil {
			t.Fatalf("%s: %v", folder.Name(), err)
		}
		r.checks[name[1]] = checks
	}
	return r
}

// scored lists the server scenarios that count for a revision.
func scored(t *testing.T, revision era) []string {
	t.Helper()
	data, err := os.ReadFile(nodeModules(t, filepath.Join("@modelcontextprotocol/conformance/requirements", string(revision)+".yaml")))
	if err != nil {
		t.Fatal(err)
	}
	var requirements struct {
		Server []string `yaml:"server"`
	}
	if err := yaml.Unmarshal(data, &requirements); err != nil {
		t.Fatal(err)
	}
	if len(requirements.Server) == 0 {
		t.Fatalf("the requirements of %s list no server scenario", revision)
	}
	return requirements.Server
}

// with lists the checks of a scenario that ended with a status.
func (r report) with(scenario, status string) []check {
	return slices.DeleteFunc(slices.Clone(r.checks[scenario]), func(c check) bool { return c.Status != status })
}

// holds tells whether a scenario was run, proved something, and had no failure.
func (r report) holds(scenario string) bool {
	return len(r.with(scenario, "SUCCESS")) > 0 && len(r.with(scenario, "FAILURE")) == 0
}

func (r report) totals() (passed, failed int) {
	for scenario := range r.checks {
		passed += len(r.with(scenario, "SUCCESS"))
		failed += len(r.with(scenario, "FAILURE"))
	}
	return passed, failed
}

// lost lists the checks that succeed in r and not in other.
func (r report) lost(other report) []string {
	var lost []string
	for _, scenario := range slices.Sorted(maps.Keys(r.checks)) {
		remaining := map[string]int{}
		for _, c := range other.with(scenario, "SUCCESS") {
			remaining[c.ID]++
		}
		for _, c := range r.with(scenario, "SUCCESS") {
			if remaining[c.ID]--; remaining[c.ID] < 0 {
				lost = append(lost, fmt.Sprintf("%s: %s%s", scenario, c.ID, other.message(scenario, c.ID)))
			}
		}
	}
	return lost
}

func (r report) message(scenario, id string) string {
	for _, c := range r.checks[scenario] {
		if c.ID == id && c.Message != "" {
			return ": " + c.Message
		}
	}
	return ""
}

// failures describes what failed in a scenario.
func (r report) failures(scenario string) string {
	var text []string
	for _, c := range r.with(scenario, "FAILURE") {
		text = append(text, c.ID+": "+c.Message)
	}
	if len(r.checks[scenario]) == 0 {
		text = append(text, "not run")
	}
	return strings.Join(text, "; ")
}

func TestReport(t *testing.T) {
	ok, bad, info := check{ID: "a", Status: "SUCCESS"}, check{ID: "a", Status: "FAILURE", Message: "broken"}, check{ID: "a", Status: "INFO"}
	direct := report{checks: map[string][]check{"s": {ok, ok, info}}}
	tests := map[string]struct {
		through []check
		holds   bool
		lost    []string
	}{
		"the same":             {[]check{ok, ok, info}, true, nil},
		"more than directly":   {[]check{ok, ok, ok}, true, nil},
		"one check fails":      {[]check{ok, bad}, false, []string{"s: a: broken"}},
		"one check not made":   {[]check{ok}, true, []string{"s: a"}},
		"scenario not run":     {nil, false, []string{"s: a", "s: a"}},
		"nothing was verified": {[]check{info}, false, []string{"s: a", "s: a"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			through := report{checks: map[string][]check{"s": test.through}}
			if got := through.holds("s"); got != test.holds {
				t.Errorf("holds is %v, want %v", got, test.holds)
			}
			if got := direct.lost(through); !slices.Equal(got, test.lost) {
				t.Errorf("lost %q, want %q", got, test.lost)
			}
		})
	}
}
