package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func newTLSConfig(cert *tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{*cert}}
}

func newTestClient(t *testing.T, pair testPair) *Client {
	t.Helper()
	client := NewClient(ClientConfig{RootCAs: pair.pool(t)})
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return client
}

// startWithoutUDP runs a server as it is seen from where UDP is blocked: nobody answers on the UDP port.
func startWithoutUDP(t *testing.T, handler http.HandlerFunc) (*httptest.Server, testPair) {
	t.Helper()
	upstream, pair := startUpstream(t, handler)
	udp, err := net.ListenPacket("udp", upstream.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	return upstream, pair
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%s %s", r.Proto, body)
}

func TestClientPrefersHTTP3(t *testing.T) {
	server := startServer(t, echo, nil)
	client := &http.Client{Transport: newTestClient(t, server.pair), Timeout: patience}
	for range 3 {
		answer, err := client.Post(server.url, "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		checkAnswer(t, answer, "HTTP/3.0 body")
	}
	// By name, with a port that is part of no certificate.
	get(t, client, strings.Replace(server.url, "127.0.0.1", "localhost", 1), "HTTP/3.0 ")
}

func TestClientFallsBackToTCP(t *testing.T) {
	server, pair := startWithoutUDP(t, echo)
	transport := newTestClient(t, pair)
	client := &http.Client{Transport: transport, Timeout: patience}
	big := strings.Repeat("x", 1<<20)
	bodies := map[string]io.Reader{
		"replayable": strings.NewReader(big),
		"a stream":   io.MultiReader(strings.NewReader(big)), // http.NewRequest knows no GetBody for it
	}
	for name, body := range bodies {
		answer, err := client.Post(server.URL, "text/plain", body)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		checkAnswer(t, answer, "HTTP/2.0 "+big)
		transport.forgetTCP()
	}
	get(t, client, server.URL, "HTTP/2.0 ")
}

// forgetTCP lets the memory of a client run out.
func (c *Client) forgetTCP() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.tcpOnly)
}

func TestClientRemembersWhatWorks(t *testing.T) {
	server, pair := startWithoutUDP(t, echo)
	client := newTestClient(t, pair)
	now := time.Now()
	client.now = func() time.Time { return now }
	host := strings.TrimPrefix(server.URL, "https://")
	if client.usesTCP(host) {
		t.Fatal("TCP without having tried HTTP/3")
	}
	get(t, &http.Client{Transport: client, Timeout: patience}, server.URL, "HTTP/2.0 ")
	if !client.usesTCP(host) || client.usesTCP("other.example:8443") {
		t.Error("want TCP for this host and no other")
	}
	now = now.Add(tcpMemory + time.Second)
	if client.usesTCP(host) {
		t.Error("HTTP/3 is never tried again")
	}
}

func TestClientSaysThatNobodyIsThere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	client := newTestClient(t, newTestPair(t, "test"))
	_, err = (&http.Client{Transport: client, Timeout: patience}).Get("https://" + addr)
	mustBe(t, "a port where nobody listens", err, syscall.ECONNREFUSED)
	if client.usesTCP(addr) {
		t.Error("remembers TCP although it does not work either")
	}
}

func TestClientChecksCertificates(t *testing.T) {
	server := startServer(t, echo, nil)
	stranger := newTestClient(t, newTestPair(t, "stranger"))
	_, err := (&http.Client{Transport: stranger, Timeout: patience}).Get(server.url)
	var verification *tls.CertificateVerificationError
	if !errors.As(err, &verification) {
		t.Errorf("a certificate of an unknown authority: %v", err)
	}

	for name, want := range map[string]bool{"localhost": true, "other.example": false} {
		client := NewClient(ClientConfig{RootCAs: server.pair.pool(t), ServerName: name})
		answer, err := (&http.Client{Transport: client, Timeout: patience}).Get(server.url)
		if err == nil {
			checkAnswer(t, answer, "HTTP/3.0 ")
		}
		if (err == nil) != want {
			t.Errorf("server name %s: %v", name, err)
		}
		_ = client.Close()
	}
}

// A call that may have been handled must not be made again.
func TestClientDoesNotRepeatWhatWasSent(t *testing.T) {
	var calls atomic.Int64
	server := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}, nil)
	client := &http.Client{Transport: newTestClient(t, server.pair), Timeout: patience}
	answer, err := client.Post(server.url, "text/plain", strings.NewReader("body"))
	if err == nil {
		_ = answer.Body.Close()
		t.Fatal("an aborted call succeeds")
	}
	if calls.Load() != 1 {
		t.Errorf("the call was made %d times", calls.Load())
	}
}

func TestClientSurvivesRestartOfServer(t *testing.T) {
	server := startServer(t, echo, nil)
	client := &http.Client{Transport: newTestClient(t, server.pair), Timeout: patience}
	get(t, client, server.url, "HTTP/3.0 ")
	if err := server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	startServer(t, echo, func(c *ServerConfig) {
		c.Addr = server.Addr().String()
		c.GetCertificate = server.pair.always(t)
	})
	answer, err := client.Post(server.url, "text/plain", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	checkAnswer(t, answer, "HTTP/3.0 body")
}

func TestClientCancelledWhileDialling(t *testing.T) {
	server, pair := startWithoutUDP(t, func(http.ResponseWriter, *http.Request) { t.Error("the call was made") })
	client := newTestClient(t, pair)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	body := &closeRecorder{Reader: strings.NewReader("body")}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.RoundTrip(r)
	mustBe(t, "RoundTrip", err, context.DeadlineExceeded)
	if !body.closed.Load() {
		t.Error("the body of the request was not closed")
	}
}

// closeRecorder is a request body that knows whether it was closed, which RoundTrip must do in any case.
type closeRecorder struct {
	io.Reader
	closed atomic.Bool
}

func (r *closeRecorder) Close() error {
	r.closed.Store(true)
	return nil
}

func TestClientClosesRequestBodies(t *testing.T) {
	quicServer := startServer(t, echo, nil)
	tcpServer, tcpPair := startWithoutUDP(t, echo)
	tests := map[string]struct {
		url  string
		pair testPair
	}{
		"over HTTP/3": {quicServer.url, quicServer.pair},
		"over TCP":    {tcpServer.URL, tcpPair},
	}
	for name, test := range tests {
		body := &closeRecorder{Reader: strings.NewReader("body")}
		answer, err := (&http.Client{Transport: newTestClient(t, test.pair), Timeout: patience}).Post(test.url, "text/plain", body)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if !body.closed.Load() {
			t.Errorf("%s: the body of the request was not closed", name)
		}
	}
}

func TestCloseIdleConnectionsLeavesOpenStreams(t *testing.T) {
	handler := newBlockingHandler()
	server := startServer(t, handler.serve, nil)
	transport := newTestClient(t, server.pair)
	client := &http.Client{Transport: transport, Timeout: patience}
	answer, err := client.Get(server.url + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	client.CloseIdleConnections()
	close(handler.release)
	checkAnswer(t, answer, "data: first\n\nlast")
	if open := transport.openAnswers.Load(); open != 0 {
		t.Errorf("%d answers count as open after all were read", open)
	}
	client.CloseIdleConnections()
	get(t, client, server.url, "at once")
}

func TestClosedClient(t *testing.T) {
	server := startServer(t, echo, nil)
	unused := NewClient(ClientConfig{})
	if err := unused.Close(); err != nil {
		t.Errorf("Close of a client that was never used: %v", err)
	}
	client := NewClient(ClientConfig{RootCAs: server.pair.pool(t)})
	get(t, &http.Client{Transport: client, Timeout: patience}, server.url, "HTTP/3.0 ")
	for range 2 {
		if err := client.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if answer, err := (&http.Client{Transport: client}).Get(server.url); err == nil {
		_ = answer.Body.Close()
		t.Error("a closed client answers")
	}
}

func TestHeldBody(t *testing.T) {
	newRequest := func(getBody bool) (*http.Request, *closeRecorder) {
		body := &closeRecorder{Reader: strings.NewReader("body")}
		r := httptest.NewRequest(http.MethodPost, "https://node.example/", body)
		if getBody {
			r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("body")), nil }
		}
		return r, body
	}

	t.Run("closed before it is released", func(t *testing.T) {
		r, body := newRequest(false)
		held := holdBody(r)
		_ = held.attach(r).Body.Close()
		if body.closed.Load() {
			t.Error("closed although held")
		}
		held.release()
		if !body.closed.Load() {
			t.Error("not closed although released")
		}
	})
	t.Run("closed after it is released", func(t *testing.T) {
		r, body := newRequest(false)
		held := holdBody(r)
		attached := held.attach(r)
		held.release()
		if body.closed.Load() {
			t.Error("closed although nobody did")
		}
		_ = attached.Body.Close()
		if !body.closed.Load() {
			t.Error("not closed")
		}
	})
	t.Run("taken back unread", func(t *testing.T) {
		r, _ := newRequest(false)
		held := holdBody(r)
		attached := held.attach(r)
		_ = attached.Body.Close()
		again, err := held.takeBack(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := attached.Body.Read(make([]byte, 1)); !errors.Is(err, errBodyTaken) {
			t.Errorf("the earlier attempt still reads the body: %v", err)
		}
		if body, err := io.ReadAll(again.Body); err != nil || !bytes.Equal(body, []byte("body")) {
			t.Errorf("read %q, %v", body, err)
		}
	})
	t.Run("taken back after a part was read", func(t *testing.T) {
		for _, getBody := range []bool{true, false} {
			r, body := newRequest(getBody)
			held := holdBody(r)
			if _, err := held.attach(r).Body.Read(make([]byte, 2)); err != nil {
				t.Fatal(err)
			}
			again, err := held.takeBack(r)
			if !body.closed.Load() {
				t.Error("the body that is no longer needed is not closed")
			}
			if !getBody {
				mustFail(t, "takeBack without GetBody", err, "cannot be sent again")
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if whole, err := io.ReadAll(again.Body); err != nil || string(whole) != "body" {
				t.Errorf("read %q, %v", whole, err)
			}
		}
	})
}
