package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

const (
	// streamWindow is how much a client may send on one stream that the handler has not read. The window
	// of a QUIC connection is that times the number of streams. Hence unread streams, however many, never use up
	// the window of the connection and so never stall the others, as two of them do with quic-go's defaults
	// (512 KiB for a stream, 768 KiB for the connection). It also bounds the memory that a hostile connection
	// can claim, at 16 MiB with 250 streams. The price is that a body is sent at no more than 64 KiB per round trip;
	// requests to MCP servers are far smaller than that.
	streamWindow = 64 << 10

	// http2ConnectionWindow is the most that net/http documents. It holds 63 unread streams.
	http2ConnectionWindow = 4<<20 - 1

	// A peer that is gone is noticed after quicIdleTimeout or, on HTTP/2, after keepAlive+pingTimeout. A live one answers
	// the keep-alives, so that a quiet stream stays open.
	quicIdleTimeout = 30 * time.Second
	keepAlive       = 15 * time.Second
	pingTimeout     = 15 * time.Second

	// uniStreams is more than the three that HTTP/3 uses; a client may open others to test that servers
	// ignore them (RFC 9114 section 6.2.3).
	uniStreams = 16

	// goAwayLinger is how long clients have, after the last call ended, to receive the rest of its answer and
	// to close the connection themselves, as RFC 9114 section 5.2 asks of them.
	goAwayLinger = time.Second

	// hardCloseWait is how long handlers have to notice that their connection is gone.
	hardCloseWait = 5 * time.Second

	altSvcMaxAge = 24 * time.Hour
)

// ServerConfig says what to listen on and what to serve.
type ServerConfig struct {
	// Addr is HOST:PORT. With port 0 any port is taken that is free for TCP and UDP.
	Addr    string
	Handler http.Handler
	// GetCertificate is asked on every handshake, so that certificates can change.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Limits         Limits
	// Logger gets what goes wrong on connections; nil discards it.
	Logger *slog.Logger
	// ResetKey lets a restarted node tell the QUIC clients of its predecessor that their connections are gone
	// (RFC 9000 section 10.3), which they would otherwise notice only after 30 s. It must be secret and the same after a
	// restart. nil turns that off.
	ResetKey *[32]byte
}

// Server serves one handler over HTTP/3, HTTP/2 and HTTP/1.1 on one port.
type Server struct {
	handler   http.Handler
	altSvc    string
	tcp       net.Listener
	tcpServer *http.Server
	tcpCalls  *callCounter

	udp          *net.UDPConn
	quic         *quic.Transport
	quicListener *quic.Listener
	quicServer   *http3.Server
	quicCalls    *callCounter
	quicServed   chan struct{} // closed when no more QUIC connections are taken

	mu       sync.Mutex // protects the following
	serving  bool
	stopping bool
}

// Listen binds the sockets. Clients can connect from then on, but are answered only once Serve runs.
func Listen(config ServerConfig) (*Server, error) {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	limits := config.Limits.withDefaults()

	tcp, udp, err := listenBoth(config.Addr)
	if err != nil {
		return nil, err
	}
	s := &Server{
		handler:    config.Handler,
		altSvc:     fmt.Sprintf(`h3=":%d"; ma=%d`, tcp.Addr().(*net.TCPAddr).Port, int(altSvcMaxAge.Seconds())),
		tcp:        tcp,
		tcpCalls:   newCallCounter(),
		udp:        udp,
		quicCalls:  newCallCounter(),
		quicServed: make(chan struct{}),
	}
	s.tcpServer = newTCPServer(s.serveTCP, config, limits)
	s.quicServer = &http3.Server{
		Handler:        http.HandlerFunc(s.serveQUIC),
		MaxHeaderBytes: limits.HeaderBytes,
		IdleTimeout:    limits.IdleTimeout,
		// At lower levels it logs whole request URIs.
		Logger: slog.New(warnings{config.Logger.Handler()}),
	}

	limiter := &handshakeLimiter{perSecond: limits.HandshakesPerSecond, now: time.Now}
	s.quic = &quic.Transport{
		Conn:                udp,
		VerifySourceAddress: limiter.exceeded,
		StatelessResetKey:   (*quic.StatelessResetKey)(config.ResetKey),
	}
	// Not ListenEarly: a request in 0-RTT data can be replayed by anybody who recorded it.
	s.quicListener, err = s.quic.Listen(
		http3.ConfigureTLSConfig(&tls.Config{GetCertificate: config.GetCertificate, MinVersion: tls.VersionTLS13}),
		&quic.Config{
			HandshakeIdleTimeout:           limits.HandshakeTimeout,
			MaxIdleTimeout:                 quicIdleTimeout,
			KeepAlivePeriod:                keepAlive,
			MaxIncomingStreams:             int64(limits.ConcurrentStreams),
			MaxIncomingUniStreams:          uniStreams,
			InitialStreamReceiveWindow:     streamWindow,
			MaxStreamReceiveWindow:         streamWindow,
			InitialConnectionReceiveWindow: streamWindow * uint64(limits.ConcurrentStreams+uniStreams),
			MaxConnectionReceiveWindow:     streamWindow * uint64(limits.ConcurrentStreams+uniStreams),
		})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s for HTTP/3: %w", config.Addr, err), tcp.Close(), udp.Close())
	}
	return s, nil
}

func newTCPServer(handle http.HandlerFunc, config ServerConfig, limits Limits) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:           handle,
		TLSConfig:         &tls.Config{GetCertificate: config.GetCertificate, MinVersion: tls.VersionTLS12},
		MaxHeaderBytes:    limits.HeaderBytes,
		ReadHeaderTimeout: limits.ReadHeaderTimeout,
		IdleTimeout:       limits.IdleTimeout,
		Protocols:         protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          limits.ConcurrentStreams,
			MaxReceiveBufferPerStream:     streamWindow,
			MaxReceiveBufferPerConnection: http2ConnectionWindow,
			SendPingTimeout:               keepAlive,
			PingTimeout:                   pingTimeout,
		},
		ErrorLog: newErrorLog(config.Logger),
	}
}

// Addr returns the address that is listened on, which is the same for TCP and UDP.
func (s *Server) Addr() net.Addr { return s.tcp.Addr() }

// Serve answers clients until Shutdown is called, and then returns nil at once, while calls in flight may still run:
// wait for Shutdown to return. It must be called once. If one of the sockets fails, both are closed and the error is returned.
func (s *Server) Serve() error {
	s.mu.Lock()
	stopping := s.stopping
	s.serving = !stopping
	s.mu.Unlock()
	if stopping {
		return nil
	}

	failed := make(chan error, 2)
	go func() {
		defer close(s.quicServed)
		failed <- s.quicServer.ServeListener(s.quicListener)
	}()
	go func() { failed <- s.tcpServer.ServeTLS(s.tcp, "", "") }()

	err := <-failed
	if errors.Is(err, http.ErrServerClosed) {
		<-failed
		return nil
	}
	s.closeHard()
	<-failed
	return fmt.Errorf("serve on %s: %w", s.Addr(), err)
}

// Shutdown accepts nothing new, tells clients so (GOAWAY), and lets the calls in flight finish. When ctx ends
// first, the remaining connections are closed, which cancels the contexts of their requests, and an error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	serving := s.serving
	s.mu.Unlock()

	// Whatever happens, the sockets are free when Shutdown returns.
	defer s.closeHard()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.drain(ctx, serving)
	}()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
	}
	cutOff := s.callsInFlight()
	select {
	case <-drained:
	case <-time.After(hardCloseWait):
		return fmt.Errorf("shut down %s: %d calls go on although their connections are closed: %w", s.Addr(), s.callsInFlight(), ctx.Err())
	}
	if cutOff > 0 {
		return fmt.Errorf("shut down %s: %d calls were cut off: %w", s.Addr(), cutOff, ctx.Err())
	}
	return nil
}

// drain returns when every call has ended: by itself, or because ctx ended and its connection was closed.
func (s *Server) drain(ctx context.Context, serving bool) {
	var both sync.WaitGroup
	both.Go(func() {
		if s.tcpServer.Shutdown(ctx) != nil {
			_ = s.tcpServer.Close()
		}
		_ = s.tcpCalls.wait(context.Background())
	})
	both.Go(func() {
		_ = s.quicListener.Close()
		if serving {
			// http3.Server loses count of a connection that it takes while its Shutdown begins.
			<-s.quicServed
		}
		s.drainQUIC(ctx)
	})
	both.Wait()
}

// drainQUIC shuts the HTTP/3 server down. That waits for clients to close their connections, idle ones included;
// those that do not know to are closed from here a moment after the last call ended.
func (s *Server) drainQUIC(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		if s.quicCalls.wait(ctx) != nil {
			return
		}
		select {
		case <-time.After(goAwayLinger):
			cancel()
		case <-ctx.Done():
		}
	}()
	// Its error is that of ctx, after which it has closed the connections and waited for the handlers.
	_ = s.quicServer.Shutdown(ctx)
}

func (s *Server) callsInFlight() int64 {
	return s.tcpCalls.inFlight.Load() + s.quicCalls.inFlight.Load()
}

// closeHard closes every socket and connection, without a word to clients over QUIC. It may be called more than once.
func (s *Server) closeHard() {
	_ = s.tcpServer.Close()
	_ = s.tcp.Close() // known to tcpServer only once Serve has run
	_ = s.quicListener.Close()
	_ = s.quic.Close()
	_ = s.udp.Close()
}
