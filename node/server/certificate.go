package server

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/crypto"
	"sallyport/node/config"
	"sallyport/transport"
)

const (
	issuedValidity = 90 * 24 * time.Hour
	reissueBefore  = 30 * 24 * time.Hour
)

// certificates serves the node's certificate, from files or from the cluster's own authority.
type certificates interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Reload() error
}

func (n *Node) openCertificates() (certificates, error) {
	if n.cfg.TLSCert != "" {
		return transport.LoadCertFiles(n.cfg.TLSCert, n.cfg.TLSKey, n.log)
	}
	ca, err := n.authority()
	if err != nil {
		return nil, err
	}
	if err := n.dir.WriteFile(caFile, ca.CertPEM()); err != nil {
		return nil, err
	}
	issued := &issuedCertificate{ca: ca, hosts: ownHosts(n.cfg)}
	return issued, issued.Reload()
}

// issuedCertificate is signed by the cluster's authority, anew well before it expires.
type issuedCertificate struct {
	ca    *crypto.Authority
	hosts []string

	mu      sync.Mutex // protects the following
	cert    *tls.Certificate
	renewAt time.Time
}

// GetCertificate implements tls.Config.GetCertificate.
func (c *issuedCertificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	due := time.Now().After(c.renewAt)
	cert := c.cert
	c.mu.Unlock()
	if !due {
		return cert, nil
	}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cert, nil
}

// Reload issues a new certificate.
func (c *issuedCertificate) Reload() error {
	now := time.Now()
	cert, err := c.ca.IssueServer(c.hosts, now, issuedValidity)
	if err != nil {
		return fmt.Errorf("issue the node's certificate: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cert, c.renewAt = cert, now.Add(issuedValidity-reissueBefore)
	return nil
}

// ownHosts are the names and addresses by which clients may know this node.
func ownHosts(cfg config.Node) []string {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	add := func(h string) {
		if h != "" && !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	if host, _, err := net.SplitHostPort(cfg.Listen); err == nil {
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			add(strings.ToLower(host))
		}
	}
	if u, err := url.Parse(cfg.Advertise); err == nil {
		add(strings.ToLower(u.Hostname()))
	}
	if name, err := os.Hostname(); err == nil && validHost(name) {
		add(strings.ToLower(name))
	}
	return hosts
}

// validHost tells names that a certificate can carry; a machine may call itself anything.
func validHost(name string) bool {
	if len(name) > 253 {
		return false
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' {
			return false
		}
	}
	return name != "" && name[0] != '-' && name[0] != '.' && !strings.HasSuffix(name, ".")
}

// hostOf is the host of a Host header, without port and brackets, in lower case.
func hostOf(hostport string) string {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

// allowedHost takes the node's names and any address: what DNS rebinding brings is the name of the attacker.
func allowedHost(own []string) func(string) bool {
	return func(hostport string) bool {
		host := hostOf(hostport)
		return slices.Contains(own, host) || net.ParseIP(host) != nil
	}
}

// allowedOrigin takes pages that the node's own names or this machine serve.
func allowedOrigin(own []string) func(string) bool {
	return func(hostport string) bool {
		host := hostOf(hostport)
		ip := net.ParseIP(host)
		return slices.Contains(own, host) || ip != nil && ip.IsLoopback()
	}
}
