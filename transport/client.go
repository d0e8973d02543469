package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

const (
	// tcpMemory is how long HTTP/3 is not tried again with a host that answered over TCP alone.
	tcpMemory = 10 * time.Minute

	tcpDialTimeout  = 10 * time.Second
	tcpIdleTimeout  = 90 * time.Second
	maxAnswerHeader = 64 << 10

	// answerWindow bounds what a node may send of one answer that is not read. As on the server side, the
	// window of the connection holds as many of them as a node allows streams, so that answers that
	// nobody reads at the moment do not stall the others.
	answerWindow     = 256 << 10
	connectionWindow = 250 * answerWindow
)

// ClientConfig says whom a Client trusts.
type ClientConfig struct {
	// RootCAs are the authorities to trust; nil means those of the system.
	RootCAs *x509.CertPool
	// ServerName is the name that certificates must carry; empty means the host of the URL.
	ServerName string
}

// Client reaches nodes over HTTP/3, and over HTTP/2 or HTTP/1.1 where UDP does not get through. It is an http.RoundTripper.
// A request is repeated only if it cannot have been sent, or by the rules of http.Transport.
type Client struct {
	tcp *http.Transport
	h3  *http3.Transport
	now func() time.Time

	openAnswers atomic.Int64 // over HTTP/3

	mu      sync.Mutex // protects the following
	tcpOnly map[string]time.Time
	udp     *net.UDPConn
	quic    *quic.Transport
	closed  bool
}

// NewClient makes a client. It opens no socket before the first request.
func NewClient(config ClientConfig) *Client {
	tlsConfig := &tls.Config{RootCAs: config.RootCAs, ServerName: config.ServerName, MinVersion: tls.VersionTLS12}
	c := &Client{now: time.Now, tcpOnly: map[string]time.Time{}}
	c.tcp = &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: tcpDialTimeout}).DialContext,
		TLSClientConfig:        tlsConfig.Clone(),
		TLSHandshakeTimeout:    tcpDialTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
		IdleConnTimeout:        tcpIdleTimeout,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: keepAlive, PingTimeout: pingTimeout},
	}
	c.h3 = &http3.Transport{
		TLSClientConfig:        tlsConfig.Clone(),
		Dial:                   c.dialQUIC,
		MaxResponseHeaderBytes: maxAnswerHeader,
		DisableCompression:     true,
		// At lower levels it logs request URIs, and nothing above is of use to a client.
		Logger: slog.New(slog.DiscardHandler),
		QUICConfig: &quic.Config{
			HandshakeIdleTimeout:           quicDialTimeout,
			MaxIdleTimeout:                 quicIdleTimeout,
			KeepAlivePeriod:                keepAlive,
			InitialStreamReceiveWindow:     answerWindow,
			MaxStreamReceiveWindow:         answerWindow,
			InitialConnectionReceiveWindow: connectionWindow,
			MaxConnectionReceiveWindow:     connectionWindow,
		},
	}
	return c
}

// RoundTrip implements http.RoundTripper.
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL == nil || r.URL.Scheme != "https" || c.usesTCP(r.URL.Host) {
		return c.tcp.RoundTrip(r)
	}

	body := holdBody(r)
	answer, quicErr := c.roundTripQUIC(body.attach(r))
	var undialled *dialError
	if quicErr == nil || !errors.As(quicErr, &undialled) || r.Context().Err() != nil {
		body.release()
		return answer, quicErr
	}

	again, err := body.takeBack(r)
	if err != nil {
		return nil, errors.Join(err, quicErr)
	}
	answer, err = c.tcp.RoundTrip(again)
	if err != nil {
		return nil, fmt.Errorf("%w (and before that over HTTP/3: %w)", err, quicErr)
	}
	// Only now is it known that UDP is at fault, and not the node.
	c.rememberTCP(r.URL.Host)
	return answer, nil
}

// CloseIdleConnections closes connections that no call uses.
func (c *Client) CloseIdleConnections() {
	c.tcp.CloseIdleConnections()
	// To http3.Transport a connection is idle as soon as the header of its last answer is there, even while the
	// body is still being read.
	if c.openAnswers.Load() == 0 {
		c.h3.CloseIdleConnections()
	}
}

// Close closes every connection over HTTP/3 and idle ones over TCP. The client cannot be used after that.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	transport, udp := c.quic, c.udp
	c.quic, c.udp = nil, nil
	c.mu.Unlock()

	c.tcp.CloseIdleConnections()
	err := c.h3.Close()
	if transport != nil {
		err = errors.Join(err, transport.Close(), udp.Close())
	}
	return err
}

func (c *Client) roundTripQUIC(r *http.Request) (*http.Response, error) {
	c.openAnswers.Add(1)
	answer, err := c.h3.RoundTrip(r)
	if err != nil {
		c.openAnswers.Add(-1)
		return nil, err
	}
	answer.Body = &answerBody{ReadCloser: answer.Body, ended: sync.OnceFunc(func() { c.openAnswers.Add(-1) })}
	return answer, nil
}

func (c *Client) usesTCP(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, known := c.tcpOnly[host]
	if known && c.now().After(until) {
		delete(c.tcpOnly, host)
		return false
	}
	return known
}

func (c *Client) rememberTCP(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tcpOnly[host] = c.now().Add(tcpMemory)
}

// answerBody tells when an answer has been read or given up.
type answerBody struct {
	io.ReadCloser
	ended func()
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.ended()
	}
	return n, err
}

func (b *answerBody) Close() error {
	b.ended()
	return b.ReadCloser.Close()
}
