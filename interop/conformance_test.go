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

// bridged lists, by the era of the suite, the scored scenarios that hold when
// the upstream is of the other era. The rest need what the bridge does not
// carry: requests from the server to the client.
var bridged = map[era][]string{}

// Client and upstream of different eras.
func TestConformanceBridged(t *testing.T) {
	for revision, other := range map[era]era{modern: legacy, legacy: modern} {
		t.Run(string(revision)+" before "+string(other), func(t *testing.T) {
			n := startNode(t, everythingServer(t, other))
			through := suite(t, revision, shim(t, n.endpoint(), n.token, n.roots))
			for _, scenario := range scored(t, revision) {
				holds := through.holds(scenario)
				t.Logf("%-5v %s: %s", holds, scenario, through.failures(scenario))
				if !holds && slices.Contains(bridged[revision], scenario) {
					t.Errorf("%s no longer holds: %s", scenario, through.failures(scenario))
				}
			}
		})
	}
}
