package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// blockingHandler answers with an event, then waits to be released or cancelled, then ends its answer.
type blockingHandler struct {
	started, cancelled, release chan struct{}
}

func newBlockingHandler() *blockingHandler {
	return &blockingHandler{started: make(chan struct{}, 8), cancelled: make(chan struct{}, 8), release: make(chan struct{})}
}

func (h *blockingHandler) serve(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/stream":
		fmt.Fprint(w, "data: first\n\n")
		_ = http.NewResponseController(w).Flush()
	case "/call":
	default:
		fmt.Fprint(w, "at once")
		return
	}
	h.started <- struct{}{}
	select {
	case <-h.release:
		fmt.Fprint(w, "last")
	case <-r.Context().Done():
		h.cancelled <- struct{}{}
	}
}

type answerResult struct {
	body string
	err  error
}

// begin makes a request in the background and waits for its handler to run.
func (h *blockingHandler) begin(t *testing.T, client *http.Client, url string) <-chan answerResult {
	t.Helper()
	result := make(chan answerResult, 1)
	go func() {
		answer, err := client.Get(url)
		if err != nil {
			result <- answerResult{err: err}
			return
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		result <- answerResult{string(body), err}
	}()
	await(t, "the handler to start", h.started)
	return result
}

func TestShutdownLetsCallsFinish(t *testing.T) {
	forEachProtocol(t, func(t *testing.T, protocol string) {
		handler := newBlockingHandler()
		server := startServer(t, handler.serve, nil)
		client := server.client(t, protocol)
		call := handler.begin(t, client, server.url+"/call")
		stream := handler.begin(t, client, server.url+"/stream")

		stopped := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		go func() { stopped <- server.Shutdown(ctx) }()
		if err := await(t, "Serve to return", server.served); err != nil {
			t.Errorf("Serve: %v, want nil after Shutdown", err)
		}
		server.served <- nil // for the end of the test

		// A client that was not there before is not served.
		if answer, err := server.client(t, "HTTP/1.1").Get(server.url + "/"); err == nil {
			t.Errorf("a new client is still answered: %s", answer.Status)
			_ = answer.Body.Close()
		}
		select {
		case err := <-stopped:
			t.Fatalf("Shutdown returned with calls in flight: %v", err)
		default:
		}

		close(handler.release)
		if got := await(t, "the call", call); got.err != nil || got.body != "last" {
			t.Errorf("the call in flight ends with %q, %v", got.body, got.err)
		}
		if got := await(t, "the stream", stream); got.err != nil || got.body != "data: first\n\nlast" {
			t.Errorf("the open stream ends with %q, %v", got.body, got.err)
		}
		if err := await(t, "Shutdown to return", stopped); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

func TestShutdownCutsOffWhatDoesNotEnd(t *testing.T) {
	forEachProtocol(t, func(t *testing.T, protocol string) {
		handler := newBlockingHandler()
		server := startServer(t, handler.serve, nil)
		stream := handler.begin(t, server.client(t, protocol), server.url+"/stream")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := server.Shutdown(ctx)
		mustBe(t, "Shutdown", err, context.Canceled)
		mustFail(t, "Shutdown", err, "1 calls were cut off")
		await(t, "the request to be cancelled", handler.cancelled)
		if got := await(t, "the stream", stream); got.err == nil {
			t.Errorf("the client takes the cut stream for a whole one: %q", got.body)
		}
	})
}

func TestShutdownWithIdleClients(t *testing.T) {
	server := startServer(t, newBlockingHandler().serve, nil)
	for _, protocol := range protocols {
		get(t, server.client(t, protocol), server.url, "at once")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestShutdownFreesThePort(t *testing.T) {
	server := startServer(t, newBlockingHandler().serve, nil)
	for _, protocol := range protocols {
		get(t, server.client(t, protocol), server.url, "at once")
	}
	if err := server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := startServer(t, newBlockingHandler().serve, func(c *ServerConfig) { c.Addr = server.Addr().String() })
	for _, protocol := range protocols {
		get(t, next.client(t, protocol), next.url, "at once")
	}
}

func TestShutdownTwiceAtOnce(t *testing.T) {
	forEachProtocol(t, func(t *testing.T, protocol string) {
		handler := newBlockingHandler()
		server := startServer(t, handler.serve, nil)
		call := handler.begin(t, server.client(t, protocol), server.url+"/call")
		stopped := make(chan error, 2)
		for range 2 {
			go func() { stopped <- server.Shutdown(t.Context()) }()
		}
		close(handler.release)
		for range 2 {
			if err := await(t, "Shutdown to return", stopped); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
		}
		if got := await(t, "the call", call); got.err != nil || got.body != "last" {
			t.Errorf("the call in flight ends with %q, %v", got.body, got.err)
		}
	})
}

func TestShutdownWithoutServe(t *testing.T) {
	server, err := Listen(ServerConfig{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := server.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	}
	if err := server.Serve(); err != nil {
		t.Errorf("Serve after Shutdown: %v", err)
	}
	listener, err := net.Listen("tcp", server.Addr().String())
	if err != nil {
		t.Fatalf("the port is still taken: %v", err)
	}
	_ = listener.Close()
}

func TestServeReportsLostSocket(t *testing.T) {
	pair := newTestPair(t, "test")
	for _, lost := range []string{"tcp", "udp"} {
		server, err := Listen(ServerConfig{
			Addr:           "127.0.0.1:0",
			GetCertificate: pair.always(t),
		})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- server.Serve() }()
		if lost == "tcp" {
			_ = server.tcp.Close()
		} else {
			_ = server.udp.Close()
		}
		err = await(t, "Serve to return", served)
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve after the %s socket is lost: %v, want net.ErrClosed", lost, err)
		}
		if err := server.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown after that: %v", err)
		}
	}
}

// A node that was killed cannot say goodbye. Its successor tells clients, with a stateless reset.
func TestResetKeyTellsClientsOfARestart(t *testing.T) {
	key := [32]byte{1, 2, 3}
	server := startServer(t, newBlockingHandler().serve, func(c *ServerConfig) { c.ResetKey = &key })
	client := server.client(t, "HTTP/3.0")
	get(t, client, server.url, "at once")

	_ = server.quic.Close() // says nothing to clients
	if err := await(t, "Serve to notice", server.served); err == nil {
		t.Fatal("Serve takes a lost socket for a shutdown")
	}
	server.served <- nil
	startServer(t, newBlockingHandler().serve, func(c *ServerConfig) {
		c.Addr, c.ResetKey = server.Addr().String(), &key
		c.GetCertificate = server.pair.always(t)
	})

	begun := time.Now()
	answer, err := client.Get(server.url)
	if err == nil {
		_ = answer.Body.Close()
		t.Fatal("a call over a connection that is gone succeeds")
	}
	if waited := time.Since(begun); waited > quicIdleTimeout/2 {
		t.Errorf("the client took %s to notice that its connection is gone: %v", waited, err)
	}
	get(t, client, server.url, "at once")
}
