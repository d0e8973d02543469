package transport

import (
	"net"
	"sync"
	"time"
)

// Limits bound what one peer may take of a listener. A zero field means its default. The size of
// a body is for the handler to bound, which knows what it expects.
type Limits struct {
	// HeaderBytes is the most that a request header may hold, over which the answer is 431. Default 32 KiB;
	// HTTP/1.1 and HTTP/2 allow a few KiB more.
	HeaderBytes int
	// ReadHeaderTimeout is how long a TLS handshake and a request header may take on TCP. Default 10 s.
	ReadHeaderTimeout time.Duration
	// IdleTimeout is how long a connection without a call is kept. Default 120 s.
	IdleTimeout time.Duration
	// ConcurrentStreams is how many calls may run at once on one HTTP/2 or HTTP/3 connection. Default 250.
	ConcurrentStreams int
	// HandshakeTimeout is how long a QUIC handshake may pause. Default 5 s.
	HandshakeTimeout time.Duration
	// HandshakesPerSecond is how many QUIC handshakes are begun on trust. A client above that has to show first, in one
	// more round trip, that it receives at the address it claims (RFC 9000 section 8.1.2). Default 1000.
	HandshakesPerSecond int
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.HeaderBytes, 32<<10)
	setDefault(&l.ReadHeaderTimeout, 10*time.Second)
	setDefault(&l.IdleTimeout, 120*time.Second)
	setDefault(&l.ConcurrentStreams, 250)
	setDefault(&l.HandshakeTimeout, 5*time.Second)
	setDefault(&l.HandshakesPerSecond, 1000)
	return l
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// handshakeLimiter counts the handshakes of the current second.
type handshakeLimiter struct {
	perSecond int
	now       func() time.Time

	mu     sync.Mutex // protects the following
	second int64
	count  int
}

// exceeded counts one more handshake and reports whether that is too many.
func (l *handshakeLimiter) exceeded(net.Addr) bool {
	second := l.now().Unix()
	l.mu.Lock()
	defer l.mu.Unlock()
	if second != l.second {
		l.second, l.count = second, 0
	}
	l.count++
	return l.count > l.perSecond
}
