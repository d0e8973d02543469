package transport

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// startUpstream runs a TLS server that is none of ours.
func startUpstream(t *testing.T, handler http.HandlerFunc) (*httptest.Server, testPair) {
	t.Helper()
	pair := newTestPair(t, "upstream")
	upstream := httptest.NewUnstartedServer(handler)
	upstream.EnableHTTP2 = true
	upstream.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that break off are part of the tests
	upstream.TLS = newTLSConfig(pair.certificate(t))
	upstream.StartTLS()
	t.Cleanup(upstream.Close)
	return upstream, pair
}

func upstreamClient(t *testing.T, limits UpstreamLimits) *http.Client {
	t.Helper()
	transport := NewUpstreamTransport(limits)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func TestUpstreamTransport(t *testing.T) {
	// The environment must not send credentials anywhere else.
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	upstream, pair := startUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %q", r.Proto, r.Header.Get("Accept-Encoding"))
	})
	client := upstreamClient(t, UpstreamLimits{RootCAs: pair.pool(t)})
	get(t, client, upstream.URL, `HTTP/2.0 ""`)

	if NewUpstreamTransport(UpstreamLimits{}).Proxy != nil {
		t.Error("it asks the environment for a proxy")
	}
	_, err := upstreamClient(t, UpstreamLimits{}).Get(upstream.URL)
	mustFail(t, "an unknown authority", err, "certificate signed by unknown authority")
}

func TestUpstreamKeepsConnections(t *testing.T) {
	var mu sync.Mutex
	connections := map[string]bool{}
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		connections[r.RemoteAddr] = true
	}))
	defer upstream.Close()
	client := upstreamClient(t, UpstreamLimits{})
	for range 20 {
		get(t, client, upstream.URL, "")
	}
	if len(connections) != 1 {
		t.Errorf("20 calls in a row took %d connections", len(connections))
	}
}

func TestUpstreamLimits(t *testing.T) {
	done := make(chan struct{})
	upstream, pair := startUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/silent":
			<-done
		case "/header":
			w.Header().Set("X-Big", strings.Repeat("a", 100<<10))
		case "/slow-body":
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "late")
		}
	})
	defer close(done)
	client := upstreamClient(t, UpstreamLimits{RootCAs: pair.pool(t), ResponseHeaderTimeout: 50 * time.Millisecond})
	_, err := client.Get(upstream.URL + "/silent")
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("an upstream that is silent: %v, want a timeout", err)
	}

	client = upstreamClient(t, UpstreamLimits{RootCAs: pair.pool(t)})
	_, err = client.Get(upstream.URL + "/header")
	if err == nil {
		t.Error("a header of 100 KiB passes")
	}
	get(t, client, upstream.URL+"/slow-body", "late")
}
