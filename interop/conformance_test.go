//go:build interop

package interop

import (
	"slices"
	"testing"
)

// What the server behind it can do, the shim alone must not lose: else a
// failure through a node could be the shim's.
func TestConformanceThroughShim(t *testing.T) {
	for _, revision := range []era{legacy, modern} {
		t.Run(string(revision), func(t *testing.T) {
			upstream := everythingServer(t, revision)
			compare(t, revision, suite(t, revision, upstream), suite(t, revision, shim(t, upstream, "spt_x", nil)))
		})
	}
}

// Client, node and upstream of one era: every scored scenario passes, and no
// check that succeeds on the upstream itself fails through the node, scored or
// not.
func TestConformanceThroughNode(t *testing.T) {
	for _, revision := range []era{legacy, modern} {
		t.Run(string(revision), func(t *testing.T) {
			upstream := everythingServer(t, revision)
			n := startNode(t, upstream)
			compare(t, revision, suite(t, revision, upstream), suite(t, revision, shim(t, n.endpoint(), n.token, n.roots)))
		})
	}
}

func compare(t *testing.T, revision era, direct, through report) {
	t.Helper()
	passed, failed := direct.totals()
	t.Logf("direct: %d checks passed, %d failed", passed, failed)
	passed, failed = through.totals()
	t.Logf("through: %d checks passed, %d failed", passed, failed)
	for _, scenario := range scored(t, revision) {
		if !through.holds(scenario) {
			t.Errorf("scored scenario %s: %s", scenario, through.failures(scenario))
		}
	}
	if !through.conforms {
		t.Error("the suite's own verdict is that the revision's requirements are not met")
	}
	for _, lost := range direct.lost(through) {
		t.Errorf("succeeds directly, not through: %s", lost)
	}
}

// uncarried lists, by the era of the suite, the scored scenarios that need not
// hold when the upstream is of the other era.
var uncarried = map[era][]string{
	// The server asks the client in the middle of a call.
	legacy: {"tools-call-sampling", "tools-call-elicitation", "elicitation-sep1034-defaults", "elicitation-sep1330-enums"},
	modern: {
		"input-required-result-basic-elicitation", "input-required-result-basic-sampling", "input-required-result-basic-list-roots",
		"input-required-result-request-state", "input-required-result-multiple-input-requests", "input-required-result-multi-round",
		"input-required-result-non-tool-request", "input-required-result-result-type", "input-required-result-tampered-state",
		"input-required-result-capability-check",
	},
}

// Client and upstream of different eras: every scored scenario passes but those
// that need what the bridge does not carry.
func TestConformanceBridged(t *testing.T) {
	for revision, upstream := range map[era]string{modern: "legacy", legacy: "modern"} {
		t.Run(string(revision)+" before "+upstream, func(t *testing.T) {
			n := startNode(t, upstreams[upstream](t))
			through := suite(t, revision, shim(t, n.endpoint(), n.token, n.roots))
			held := 0
			required := scored(t, revision)
			for _, scenario := range required {
				switch {
				case through.holds(scenario):
					held++
				case slices.Contains(uncarried[revision], scenario):
					t.Logf("not carried: %s: %s", scenario, through.failures(scenario))
				default:
					t.Errorf("scored scenario %s: %s", scenario, through.failures(scenario))
				}
			}
			t.Logf("%d of %d scored scenarios hold", held, len(required))
		})
	}
}
