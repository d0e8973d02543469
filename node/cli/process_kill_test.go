package cli_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/node/api"
	"sallyport/node/api/client"
	"sallyport/node/api/kind"
)

const (
	// killTime bounds each loop of kills; the first killRounds of them take place whatever the time.
	killTime   = 15 * time.Second
	killRounds = 3
	kills      = 20
)

// rounds yields the numbers of the rounds of a loop of kills.
func rounds(yield func(int) bool) {
	for i, began := 0, time.Now(); i < kills && (i < killRounds || time.Since(began) < killTime); i++ {
		if !yield(i) {
			return
		}
	}
}

// ledger is what one writer knows to be acknowledged.
type ledger struct {
	resources map[string]string   // kind/name to what the last acknowledged write said
	unknown   map[string][]string // to what later writes said that were not acknowledged: any of them may have taken effect
	live      map[string]string   // id of a token to its text
	revoked   map[string]string
	changes   map[string]int // subject of the audit to how many changes were acknowledged
}

// writer writes to the node until it is told to stop, in a name space of its own.
type writer struct {
	id     int
	seq    int
	ledger ledger
}

func newWriter(id int) *writer {
	return &writer{id: id, ledger: ledger{
		resources: map[string]string{}, unknown: map[string][]string{}, live: map[string]string{}, revoked: map[string]string{}, changes: map[string]int{},
	}}
}

// write makes one acknowledged change after the other until one is not acknowledged, which has to be since the node was killed.
func (w *writer) write(t testing.TB, admin *client.Client) error {
	for {
		w.seq++
		var err error
		switch w.seq % 5 {
		case 0:
			err = w.put(t, admin, agent(fmt.Sprintf("A%d", w.id), fmt.Sprintf("r%d", w.seq)))
		case 1:
			err = w.put(t, admin, agent(fmt.Sprintf("A%d-%d", w.id, w.seq), "r"))
		case 2:
			err = w.put(t, admin, policy(fmt.Sprintf("p%d-%d", w.id, w.seq%50), fmt.Sprintf(`permit (principal == Agent::"a%d", action, resource);`, w.seq)))
		case 3:
			err = w.put(t, admin, upstream(fmt.Sprintf("u%d-%d", w.id, w.seq%50), fmt.Sprintf("http://127.0.0.1:9/%d", w.seq)))
		case 4:
			err = w.token(t, admin)
		}
		if err != nil {
			return err
		}
	}
}

func (w *writer) put(t testing.TB, admin *client.Client, r kind.Resource) error {
	key, value := subject(r), spec(r)
	w.ledger.unknown[key] = append(w.ledger.unknown[key], value)
	if _, err := admin.Put(within(t), r, client.Put{}); err != nil {
		return err
	}
	delete(w.ledger.unknown, key)
	w.ledger.resources[key] = value
	w.ledger.changes[key]++
	return nil
}

// token issues a token and revokes every other one.
func (w *writer) token(t testing.TB, admin *client.Client) error {
	name := fmt.Sprintf("A%d", w.id)
	if w.ledger.resources["agent/"+name] == "" {
		return nil
	}
	issued, err := admin.IssueToken(within(t), api.TokenRequest{Agent: name})
	if err != nil {
		return err
	}
	w.ledger.live[issued.ID] = issued.Text
	w.ledger.changes["token/"+issued.ID]++
	if w.seq%2 == 0 {
		return nil
	}
	// From the request on it counts neither as live nor, until the answer, as revoked.
	delete(w.ledger.live, issued.ID)
	if _, err := admin.Revoke(within(t), api.RevocationRequest{Kind: "token", ID: issued.ID}); err != nil {
		return err
	}
	w.ledger.revoked[issued.ID] = issued.Text
	w.ledger.changes["token/"+issued.ID]++
	return nil
}

func subject(r kind.Resource) string {
	return strings.ToLower(string(r.Head().Kind)) + "/" + r.Head().Metadata.Name
}

// spec is what tells one version of a resource from another.
func spec(r kind.Resource) string {
	switch r := r.(type) {
	case *kind.Agent:
		return strings.Join(r.Spec.Roles, " ")
	case *kind.Policy:
		return r.Spec.Cedar
	case *kind.Upstream:
		return r.Spec.URL
	}
	return ""
}

// verify checks that the node knows what was acknowledged, and nothing that nobody wrote.
func verify(t testing.TB, n *node, ledgers []ledger) {
	t.Helper()
	admin, found := n.admin(), map[string]string{}
	for _, k := range kind.Kinds() {
		list, err := admin.List(within(t), k)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			found[subject(r)] = spec(r)
		}
	}
	tokens, err := admin.Tokens(within(t), "")
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]api.TokenState{}
	for _, token := range tokens {
		states[token.ID] = token.State
	}
	recorded := adminChanges(t, n)
	for _, l := range ledgers {
		for key, value := range l.resources {
			if found[key] != value && !slices.Contains(l.unknown[key], found[key]) {
				t.Errorf("%s is %q after the restart, acknowledged was %q", key, found[key], value)
			}
		}
		for id := range l.live {
			if states[id] != api.TokenActive {
				t.Errorf("token %s is %q after the restart, it was issued and never revoked", id, states[id])
			}
		}
		for id := range l.revoked {
			if states[id] != api.TokenRevoked {
				t.Errorf("token %s is %q after the restart, its revocation was acknowledged", id, states[id])
			}
		}
		for key, changes := range l.changes {
			if recorded[key] < changes {
				t.Errorf("the audit has %d records of changes of %s, acknowledged were %d", recorded[key], key, changes)
			}
		}
		probe(t, n, l.live, http.StatusNotFound)
		probe(t, n, l.revoked, http.StatusUnauthorized)
	}
}

// probe calls an upstream that does not exist with some of the tokens: who is known hears so, who is not learns nothing.
func probe(t testing.TB, n *node, tokens map[string]string, want int) {
	t.Helper()
	rt := n.web()
	const some = 3
	left := some
	for id, text := range tokens {
		r, err := http.NewRequestWithContext(within(t), http.MethodPost, n.url+"/mcp/nowhere", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Authorization": {"Bearer " + text}, "Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
		resp, err := rt.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if (want == http.StatusUnauthorized) != (resp.StatusCode == http.StatusUnauthorized) {
			t.Errorf("a call with token %s is answered with %d, want %d", id, resp.StatusCode, want)
		}
		if left--; left == 0 {
			return
		}
	}
}

// record is what these tests read of an audit record.
type record struct {
	ID, Kind, Node, Agent, Upstream, Decision, Status, Subject, Change, Item string
	ArgumentsSHA256                                                          string `json:"argumentsSHA256"`
}

// records reads the audit segments from disk, as they are. A line that a kill cut off may stand at the end of what a process wrote.
func records(t testing.TB, n *node) (whole []record) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(n.dir, "audit", "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, segment := range slices.Sorted(slices.Values(segments)) {
		f, err := os.Open(segment)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var r record
			if json.Unmarshal(lines.Bytes(), &r) == nil && r.ID != "" {
				whole = append(whole, r)
			}
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	return whole
}

func adminChanges(t testing.TB, n *node) map[string]int {
	t.Helper()
	changes := map[string]int{}
	for _, r := range records(t, n) {
		if r.Kind == "admin" && r.Status == "" {
			changes[r.Subject]++
		}
	}
	return changes
}

func TestKilledNodeKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	const parallel = 6
	var writers []*writer
	for i := range parallel {
		writers = append(writers, newWriter(i))
	}
	n.start()
	for range rounds {
		var busy sync.WaitGroup
		for _, w := range writers {
			admin := n.admin()
			busy.Go(func() {
				err := w.write(t, admin)
				var refused *client.Error
				if errors.As(err, &refused) {
					t.Errorf("the node refused: %v", err)
				}
			})
		}
		<-time.After(rand.N(600 * time.Millisecond)) // the moment of the kill is what is random
		n.kill()
		busy.Wait()
		if rand.N(3) == 0 {
			n.launch()
			<-time.After(rand.N(300 * time.Millisecond)) // before it serves, or right after
			n.kill()
		}
		n.start()
		var ledgers []ledger
		for _, w := range writers {
			ledgers = append(ledgers, w.ledger)
		}
		verify(t, n, ledgers)
		if t.Failed() {
			t.FailNow()
		}
	}
	total := 0
	for _, w := range writers {
		for changes := range maps.Values(w.ledger.changes) {
			total += changes
		}
	}
	if total == 0 {
		t.Error("nothing was acknowledged in between")
	}
	n.stop()
	t.Logf("%d acknowledged changes", total)
}

// A bootstrap that was killed is repeated with the same command.
func TestKilledBootstrapCanBeRepeated(t *testing.T) {
	t.Parallel()
	for i := range rounds {
		n := newNode(t)
		for range 1 + i%3 {
			n.launch()
			<-time.After(rand.N(250 * time.Millisecond)) // the moment of the kill is what is random
			n.kill()
		}
		n.start()
		n.put(agent("A", "r"))
		n.kill()
		n.start()
		if _, _, err := n.admin().Get(within(t), kind.KindAgent, "A"); err != nil {
			t.Errorf("after the bootstrap was cut off and repeated: %v", err)
		}
		n.kill()
	}
}
