package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
)

const (
	// quicDialTimeout is short, because nothing tells a client that its UDP packets are dropped.
	quicDialTimeout = 1500 * time.Millisecond

	// quicHeadStart is how long HTTP/3 is tried alone, and at least how much longer once TCP answers.
	quicHeadStart = 250 * time.Millisecond
)

var (
	errClientClosed = errors.New("client is closed")
	errUDPSilent    = errors.New("no answer over UDP, although TCP gets one")
)

// dialError says that there was no HTTP/3 connection, so that the request cannot have been sent.
type dialError struct{ cause error }

func (e *dialError) Error() string { return e.cause.Error() }
func (e *dialError) Unwrap() error { return e.cause }

// dialQUIC returns when the handshake is complete: there is no 0-RTT.
func (c *Client) dialQUIC(ctx context.Context, addr string, tlsConfig *tls.Config, config *quic.Config) (*quic.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, quicDialTimeout)
	defer cancel()
	remote, err := resolveUDP(ctx, addr)
	if err != nil {
		return nil, &dialError{err}
	}
	transport, err := c.quicTransport()
	if err != nil {
		return nil, &dialError{err}
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	go raceTCP(ctx, remote, giveUp)
	conn, err := transport.Dial(ctx, remote, tlsConfig, config)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, &dialError{fmt.Errorf("dial udp %s: %w", remote, err)}
	}
	return conn, nil
}

// raceTCP looks, once a QUIC handshake takes long, whether TCP gets through to the same port. If it does, or is refused, UDP is given
// up early, though not before it had several round trips.
func raceTCP(ctx context.Context, remote *net.UDPAddr, giveUp context.CancelCauseFunc) {
	if !pause(ctx, quicHeadStart) {
		return
	}
	begun := time.Now()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", remote.String())
	if errors.Is(err, syscall.ECONNREFUSED) {
		giveUp(err)
		return
	}
	if err != nil {
		return
	}
	_ = conn.Close()
	if pause(ctx, max(quicHeadStart, 4*time.Since(begun))) {
		giveUp(errUDPSilent)
	}
}

// pause reports whether d passed before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// quicTransport opens the one UDP socket that all connections share.
func (c *Client) quicTransport() (*quic.Transport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClientClosed
	}
	if c.quic == nil {
		udp, err := net.ListenUDP("udp", nil)
		if err != nil {
			return nil, err
		}
		c.udp, c.quic = udp, &quic.Transport{Conn: udp}
	}
	return c.quic, nil
}

// resolveUDP prefers IPv4, which over the whole internet is still the path that UDP more often survives.
func resolveUDP(ctx context.Context, addr string) (*net.UDPAddr, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	best := ips[0]
	for _, ip := range ips {
		if ip.Unmap().Is4() {
			best = ip
			break
		}
	}
	best = best.Unmap()
	return &net.UDPAddr{IP: best.AsSlice(), Port: port, Zone: best.Zone()}, nil
}
