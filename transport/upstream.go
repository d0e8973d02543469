package transport

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

// UpstreamLimits bound what one call to an upstream may take. A zero field means its default.
type UpstreamLimits struct {
	// DialTimeout bounds DNS and connecting. Default 10 s.
	DialTimeout time.Duration
	// HandshakeTimeout bounds TLS. Default 10 s.
	HandshakeTimeout time.Duration
	// ResponseHeaderTimeout is how long an upstream may take, after it has the whole request, to begin an answer.
	// A tool that answers in JSON does so only when it is done. Default 2 min.
	ResponseHeaderTimeout time.Duration
	// ResponseHeaderBytes is the most that the header of an answer may hold. Default 64 KiB.
	ResponseHeaderBytes int
	// IdleConnsPerHost is how many connections without a call are kept for each upstream. Default 256.
	IdleConnsPerHost int
	// RootCAs are the authorities to trust; nil means those of the system.
	RootCAs *x509.CertPool
}

const (
	// idleConns is over all upstreams.
	idleConns       = 4096
	idleConnTimeout = 90 * time.Second
)

// NewUpstreamTransport makes the connection pool towards upstreams. It speaks HTTP/2 where the upstream does.
// It takes no proxy from the environment and asks for no compression, since what passes through must reach the caller as it came.
func NewUpstreamTransport(limits UpstreamLimits) *http.Transport {
	setDefault(&limits.DialTimeout, 10*time.Second)
	setDefault(&limits.HandshakeTimeout, 10*time.Second)
	setDefault(&limits.ResponseHeaderTimeout, 2*time.Minute)
	setDefault(&limits.ResponseHeaderBytes, 64<<10)
	setDefault(&limits.IdleConnsPerHost, 256)
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            (&net.Dialer{Timeout: limits.DialTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: limits.RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    limits.HandshakeTimeout,
		ResponseHeaderTimeout:  limits.ResponseHeaderTimeout,
		MaxResponseHeaderBytes: int64(limits.ResponseHeaderBytes),
		MaxIdleConns:           idleConns,
		MaxIdleConnsPerHost:    limits.IdleConnsPerHost,
		IdleConnTimeout:        idleConnTimeout,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: keepAlive, PingTimeout: pingTimeout},
	}
}
