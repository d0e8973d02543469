package cli_test

import (
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/transport"
)

// answer is what became of a request.
type answer struct {
	status int
	body   string
	err    error
}

// ask sends a request and delivers the answer when it has ended.
func ask(rt http.RoundTripper, r *http.Request) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		var a answer
		a.status, a.body, a.err = exchange(rt, r)
		answers <- a
	}()
	return answers
}

// refusesConnections waits until nothing takes connections at an address.
func refusesConnections(t testing.TB, address string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := within(t); ; {
		c, err := net.DialTimeout("tcp", address, patience)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			_ = c.Close()
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			t.Fatalf("%s still takes connections", address)
		}
	}
}

func TestStopLetsCallsFinish(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	n := newNode(t)
	n.start()
	token := n.serve(s)
	h2 := n.web()
	h3 := transport.NewClient(transport.ClientConfig{RootCAs: h2.TLSClientConfig.RootCAs})
	t.Cleanup(func() { _ = h3.Close() })

	calls := map[string]<-chan answer{
		"slow over HTTP/2":   ask(h2, n.message(t, token, "tools/call", "slow", "{}")),
		"slow over HTTP/3":   ask(h3, n.message(t, token, "tools/call", "slow", "{}")),
		"stream over HTTP/2": ask(h2, n.message(t, token, "tools/call", "stream", "{}")),
		"stream over HTTP/3": ask(h3, n.message(t, token, "tools/call", "stream", "{}")),
	}
	listeners := map[string]<-chan answer{
		"HTTP/2": ask(h2, n.message(t, token, "subscriptions/listen", "", "")),
		"HTTP/3": ask(h3, n.message(t, token, "subscriptions/listen", "", "")),
	}
	for range len(calls) + len(listeners) {
		s.waits()
	}
	n.signal(syscall.SIGTERM)
	refusesConnections(t, strings.TrimPrefix(n.url, "https://"))
	for name, listener := range listeners {
		select {
		case a := <-listener:
			if a.err != nil || a.status != http.StatusOK || !strings.Contains(a.body, "begun") {
				t.Errorf("the listener over %s ended with status %d, %v: %s", name, a.status, a.err, a.body)
			}
		case <-within(t).Done():
			t.Fatalf("the listener over %s does not end", name)
		}
	}
	s.release()
	for name, call := range calls {
		if a := <-call; a.err != nil || a.status != http.StatusOK || !strings.Contains(a.body, `"done"`) {
			t.Errorf("%s ended with status %d, %v: %s", name, a.status, a.err, a.body)
		}
	}
	if status := n.exits(); status != 0 {
		t.Errorf("exit status %d:\n%s", status, n.errOut)
	}
}

// A stop is bounded: by its own limit, or by the patience of whoever signals again.
func TestStopDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]os.Signal{"limit": nil, "second SIGTERM": syscall.SIGTERM, "interrupt": os.Interrupt} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			n := newNode(t)
			n.start()
			token := n.serve(s)
			call := ask(n.web(), n.message(t, token, "tools/call", "slow", "{}"))
			s.waits()
			n.signal(syscall.SIGTERM)
			n.says("stopping")
			if again != nil {
				n.signal(again)
			}
			if status := n.exits(); status != 1 || !strings.Contains(n.lastLine(), "1 calls were cut off") {
				t.Errorf("exit status %d:\n%s", status, n.errOut)
			}
			if a := <-call; a.err == nil && a.status == http.StatusOK && strings.Contains(a.body, `"done"`) {
				t.Errorf("the call has an answer: %s", a.body)
			}
			n.start()
			n.stop()
		})
	}
}

// A node that is told to stop while it starts does so.
func TestStopDuringTheStart(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.launch()
	n.says("raft")
	n.signal(syscall.SIGTERM)
	n.exits()
	n.start()
	n.stop()
}
