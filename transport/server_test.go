package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

func TestOneHandlerAnswersEveryProtocol(t *testing.T) {
	server := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s %s %d", r.Proto, r.Method, len(body))
	}, nil)
	_, port, err := net.SplitHostPort(server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}

	forEachProtocol(t, func(t *testing.T, protocol string) {
		answer, err := server.client(t, protocol).Post(server.url, "text/plain", bytes.NewReader(make([]byte, 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		checkAnswer(t, answer, protocol+" POST 1048576")
		wantAltSvc := fmt.Sprintf(`h3=":%s"; ma=86400`, port)
		if protocol == "HTTP/3.0" {
			wantAltSvc = ""
		}
		if got := answer.Header.Get("Alt-Svc"); got != wantAltSvc {
			t.Errorf("Alt-Svc is %q, want %q", got, wantAltSvc)
		}
	})
}

func TestHeaderLimit(t *testing.T) {
	server := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, len(r.Header.Get("X-Big")))
	}, func(c *ServerConfig) { c.Limits.HeaderBytes = 16 << 10 })

	forEachProtocol(t, func(t *testing.T, protocol string) {
		client := server.client(t, protocol)
		request := func(size int) (*http.Response, error) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Big", strings.Repeat("a", size))
			return client.Do(r)
		}

		answer, err := request(12 << 10)
		if err != nil {
			t.Fatal(err)
		}
		checkAnswer(t, answer, "12288")

		answer, err = request(64 << 10)
		if protocol == "HTTP/2.0" && err != nil && strings.Contains(err.Error(), "larger than peer's advertised limit") {
			return // the client heeds what the server told it
		}
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header of 64 KiB gives %s, want 431", answer.Status)
		}
	})
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	server := startServer(t, func(http.ResponseWriter, *http.Request) {}, func(c *ServerConfig) {
		c.Limits.ReadHeaderTimeout = 50 * time.Millisecond
	})
	conn, err := tls.Dial("tcp", server.Addr().String(), &tls.Config{RootCAs: server.pair.pool(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || strings.Contains(string(answer), "200") {
		t.Errorf("after half a header: %q, %v; want the connection to be closed", answer, err)
	}
}

func TestHopByHopHeadersAreRemoved(t *testing.T) {
	endings := map[string]func(http.ResponseWriter){
		"status": func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK); _, _ = io.WriteString(w, "ok") },
		"body":   func(w http.ResponseWriter) { _, _ = io.WriteString(w, "ok") },
		"flush": func(w http.ResponseWriter) {
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "ok")
		},
		"controller": func(w http.ResponseWriter) {
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "ok")
		},
		"early hints": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Connection", "keep-alive")
			_, _ = io.WriteString(w, "ok")
		},
		"nothing": func(http.ResponseWriter) {},
	}
	server := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Upgrade"} {
			w.Header().Set(name, "keep-alive")
		}
		w.Header().Set("X-Stays", "yes")
		endings[strings.TrimPrefix(r.URL.Path, "/")](w)
	}, nil)

	for _, protocol := range []string{"HTTP/3.0", "HTTP/2.0"} {
		client := server.client(t, protocol)
		for ending := range endings {
			want := "ok"
			if ending == "nothing" {
				want = ""
			}
			answer := get(t, client, server.url+"/"+strings.ReplaceAll(ending, " ", "%20"), want)
			for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Upgrade"} {
				// net/http drops only what breaks HTTP/2; the rest is harmless there.
				if value := answer.Header.Get(name); value != "" && protocol == "HTTP/3.0" {
					t.Errorf("%s, %s: %s: %s came through", protocol, ending, name, value)
				}
			}
			if answer.Header.Get("X-Stays") != "yes" {
				t.Errorf("%s, %s: X-Stays is gone", protocol, ending)
			}
		}
	}
}

func TestResponseControllerWorks(t *testing.T) {
	server := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		controller := http.NewResponseController(w)
		err := errors.Join(
			controller.SetReadDeadline(time.Now().Add(patience)),
			controller.SetWriteDeadline(time.Now().Add(patience)),
			controller.Flush(),
		)
		if err != nil {
			fmt.Fprint(w, err)
			return
		}
		fmt.Fprint(w, "all supported")
	}, nil)
	forEachProtocol(t, func(t *testing.T, protocol string) {
		get(t, server.client(t, protocol), server.url, "all supported")
	})
}

// An event must reach the client while the handler still runs.
func TestStreaming(t *testing.T) {
	server := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}, nil)
	forEachProtocol(t, func(t *testing.T, protocol string) {
		answer, err := server.client(t, protocol).Get(server.url)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		want := "data: 0\n\ndata: 1\n\ndata: 2\n\n"
		got := make([]byte, len(want))
		if _, err := io.ReadFull(answer.Body, got); err != nil || string(got) != want {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestClientGoneCancelsRequest(t *testing.T) {
	cancelled := make(chan struct{}, 1)
	server := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		cancelled <- struct{}{}
	}, nil)
	forEachProtocol(t, func(t *testing.T, protocol string) {
		answer, err := server.client(t, protocol).Get(server.url)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Fatal(err)
		}
		await(t, "the request to be cancelled", cancelled)
	})
}

// With the windows that quic-go has by default, two of these uploads stop everything on the connection.
func TestUnreadStreamsDoNotStallOthers(t *testing.T) {
	const stuck = 40
	arrived, done := make(chan struct{}, stuck), make(chan struct{})
	server := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stuck" {
			arrived <- struct{}{}
			select {
			case <-done:
			case <-r.Context().Done():
			}
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}, nil)
	for _, protocol := range []string{"HTTP/3.0", "HTTP/2.0"} {
		t.Run(strings.ReplaceAll(protocol, "/", ""), func(t *testing.T) {
			client := server.client(t, protocol)
			uploader := &http.Client{Transport: client.Transport} // with no timeout that would free the others
			var uploads sync.WaitGroup
			for range stuck {
				uploads.Go(func() {
					answer, err := uploader.Post(server.url+"/stuck", "text/plain", bytes.NewReader(make([]byte, 4<<20)))
					if err == nil {
						_ = answer.Body.Close()
					}
				})
			}
			for range stuck {
				await(t, "an upload to arrive", arrived)
			}
			for range 10 {
				answer, err := client.Post(server.url, "text/plain", bytes.NewReader(make([]byte, 100<<10)))
				if err != nil {
					t.Fatalf("a call beside %d unread uploads: %v", stuck, err)
				}
				checkAnswer(t, answer, "")
			}
			for range stuck {
				done <- struct{}{}
			}
			uploads.Wait()
		})
	}
}

// A client that resets its streams (CVE-2023-44487) must not get more handlers to run than one that waits. quic-go
// counts a stream that was reset until the handler has noticed.
func TestResetStreamsDoNotMultiplyHandlers(t *testing.T) {
	const limit = 3
	var running, most atomic.Int64
	started, release := make(chan struct{}, 100), make(chan struct{})
	server := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		now := running.Add(1)
		defer running.Add(-1)
		for {
			seen := most.Load()
			if now <= seen || most.CompareAndSwap(seen, now) {
				break
			}
		}
		started <- struct{}{}
		<-release // a handler that does not look at its context
	}, func(c *ServerConfig) { c.Limits.ConcurrentStreams = limit })

	client := server.client(t, "HTTP/3.0")
	call := func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.url, nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(r)
		if err == nil {
			_ = answer.Body.Close()
		}
		return err
	}
	for range limit {
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() { failed <- call(ctx) }()
		await(t, "the handler to start", started)
		cancel()
		mustBe(t, "a cancelled call", await(t, "a cancelled call", failed), context.Canceled)
	}
	// Every stream is taken by a handler that has not noticed that its client is gone.
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		mustBe(t, "a call without a stream", call(ctx), context.DeadlineExceeded)
		cancel()
	}
	next := make(chan error, 1)
	go func() { next <- call(t.Context()) }()
	release <- struct{}{}
	await(t, "the waiting call to start", started)
	close(release)
	if err := await(t, "the waiting call", next); err != nil {
		t.Errorf("the call that waited: %v", err)
	}
	if most.Load() > limit {
		t.Errorf("%d handlers ran at once, the limit is %d", most.Load(), limit)
	}
}

func TestNoEarlyData(t *testing.T) {
	server := startServer(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }, nil)
	transport := &http3.Transport{TLSClientConfig: &tls.Config{
		RootCAs:            server.pair.pool(t),
		ClientSessionCache: tls.NewLRUClientSessionCache(4),
	}}
	defer transport.Close()
	client := &http.Client{Transport: transport, Timeout: patience}
	for range 2 {
		get(t, client, server.url, "ok")
		transport.CloseIdleConnections()
	}
	// A request that asks for 0-RTT by its method must still find the handshake complete.
	r, err := http.NewRequestWithContext(t.Context(), http3.MethodGet0RTT, server.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	checkAnswer(t, answer, "ok")
	if answer.TLS == nil || !answer.TLS.HandshakeComplete {
		t.Error("answered before the handshake was complete")
	}

	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	dialer := &quic.Transport{Conn: udp}
	defer dialer.Close()
	config := transport.TLSClientConfig.Clone()
	config.NextProtos, config.ServerName = []string{http3.NextProtoH3}, "127.0.0.1"
	conn, err := dialer.DialEarly(t.Context(), server.udp.LocalAddr(), config, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(0, "")
	await(t, "the handshake", conn.HandshakeComplete())
	if state := conn.ConnectionState(); state.Used0RTT || !state.TLS.DidResume {
		t.Errorf("0-RTT used: %v, session resumed: %v; want a resumed session without 0-RTT", state.Used0RTT, state.TLS.DidResume)
	}
}

func TestManyHandshakesNeedRetry(t *testing.T) {
	server := startServer(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }, func(c *ServerConfig) {
		c.Limits.HandshakesPerSecond = 1
	})
	for range 5 {
		get(t, server.client(t, "HTTP/3.0"), server.url, "ok")
	}
}

func TestHandshakeLimiter(t *testing.T) {
	now := time.Unix(1000, 0)
	limiter := &handshakeLimiter{perSecond: 2, now: func() time.Time { return now }}
	for i, want := range []bool{false, false, true, true} {
		if got := limiter.exceeded(nil); got != want {
			t.Errorf("handshake %d: exceeded is %v", i, got)
		}
	}
	now = now.Add(time.Second)
	if limiter.exceeded(nil) {
		t.Error("the next second is limited too")
	}
}

func TestListenErrors(t *testing.T) {
	server := startServer(t, func(http.ResponseWriter, *http.Request) {}, nil)
	_, err := Listen(ServerConfig{Addr: server.Addr().String()})
	mustFail(t, "a taken port", err, "address already in use")
	_, err = Listen(ServerConfig{Addr: "localhost"})
	mustFail(t, "no port", err, "write HOST:PORT")
	_, err = Listen(ServerConfig{Addr: "127.0.0.1:99999"})
	mustFail(t, "a port out of range", err, "invalid port")

	// The TCP port is given back when the UDP port is not free.
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	_, err = Listen(ServerConfig{Addr: udp.LocalAddr().String()})
	mustFail(t, "a taken UDP port", err, "address already in use")
	tcp, err := net.Listen("tcp", udp.LocalAddr().String())
	if err != nil {
		t.Fatalf("the TCP port is still taken: %v", err)
	}
	_ = tcp.Close()
}

func TestHandshakeErrorsAreNoWarnings(t *testing.T) {
	var out bytes.Buffer
	log := newErrorLog(slog.New(slog.NewTextHandler(&out, nil)))
	log.Printf("http: TLS handshake error from %s: EOF", "192.0.2.1:1")
	if out.Len() > 0 {
		t.Errorf("logged %s", out.String())
	}
	log.Printf("http: panic serving %s", "192.0.2.1:1")
	if !strings.Contains(out.String(), "level=WARN") || !strings.Contains(out.String(), "panic serving") {
		t.Errorf("logged %q", out.String())
	}
}

func TestRequestURIsAreNotLogged(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	server := startServer(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }, func(c *ServerConfig) {
		c.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return out.Write(p)
		}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	forEachProtocol(t, func(t *testing.T, protocol string) {
		get(t, server.client(t, protocol), server.url+"/callback?code=canary", "ok")
	})
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(out.String(), "canary") {
		t.Errorf("logged %s", out.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
