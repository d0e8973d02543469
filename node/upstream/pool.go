package upstream

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"sync"
	"time"

	"sallyport/raftfsm"
	"sallyport/transport"
)

// Pool keeps the connections to upstreams and their authorization servers. Upstreams that trust the same authorities and wait as long
// share a transport.
type Pool struct {
	mu         sync.Mutex // protects the following
	transports map[poolKey]*http.Transport
}

type poolKey struct {
	ca      [sha256.Size]byte
	timeout time.Duration
}

// maxTransports bounds the pool; configurations that are no longer in use are dropped with all others when it is reached.
const maxTransports = 256

// NewPool makes an empty pool.
func NewPool() *Pool { return &Pool{transports: map[poolKey]*http.Transport{}} }

// For gives the transport for an upstream.
func (p *Pool) For(u *raftfsm.Upstream) (http.RoundTripper, error) {
	key := poolKey{timeout: time.Duration(u.TimeoutMillis) * time.Millisecond}
	if len(u.CACert) > 0 {
		key.ca = sha256.Sum256(u.CACert)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.transports[key]; ok {
		return t, nil
	}
	limits := transport.UpstreamLimits{ResponseHeaderTimeout: key.timeout}
	if len(u.CACert) > 0 {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(u.CACert) {
			return nil, fmt.Errorf("upstream %s: spec.caCert holds no certificate", u.Name)
		}
		limits.RootCAs = roots
	}
	if len(p.transports) >= maxTransports {
		p.dropAll()
	}
	t := transport.NewUpstreamTransport(limits)
	p.transports[key] = t
	return t, nil
}

func (p *Pool) dropAll() {
	for key, t := range p.transports {
		t.CloseIdleConnections()
		delete(p.transports, key)
	}
}

// Close drops idle connections.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropAll()
}
