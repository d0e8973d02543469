package cli_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// No use without a record: whatever the upstream saw of a node that is killed again and again is in its audit, once.
func TestKilledNodeHasARecordOfEveryUse(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	n := newNode(t)
	n.start()
	token := n.serve(s)
	var number atomic.Int64
	for range rounds {
		var callers sync.WaitGroup
		for range 8 {
			rt := n.web()
			callers.Go(func() {
				for {
					arguments := fmt.Sprintf(`{"n":"%d"}`, number.Add(1))
					status, body, err := exchange(rt, n.message(t, token, "tools/call", "echo", arguments))
					if err != nil {
						return // the node was killed
					}
					if status != http.StatusOK || !strings.Contains(body, `"done"`) {
						t.Errorf("a call was answered with status %d: %s", status, body)
						return
					}
				}
			})
		}
		<-time.After(rand.N(400 * time.Millisecond)) // the moment of the kill is what is random
		n.kill()
		callers.Wait()
		n.start()
	}
	n.stop()

	uses := map[string]int{}
	for _, r := range records(t, n) {
		if r.Kind == "use" && r.Item == "echo" {
			uses[r.ArgumentsSHA256]++
			if r.Agent != "A" || r.Upstream != "u" || r.Decision != "allowed" {
				t.Errorf("a record does not say who did what: %+v", r)
			}
		}
	}
	seen := s.counts()
	if len(seen) == 0 {
		t.Error("no call reached the upstream")
	}
	for arguments, times := range seen {
		sum := sha256.Sum256([]byte(arguments))
		if times != 1 || uses[hex.EncodeToString(sum[:])] != 1 {
			t.Errorf("the upstream saw %s %d times, the audit has %d records of it", arguments, times, uses[hex.EncodeToString(sum[:])])
		}
	}
	t.Logf("%d calls reached the upstream", len(seen))
}
