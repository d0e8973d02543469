// Package server builds one node from its configuration: it is the only place that knows all the parts.
package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"sallyport/cluster"
	"sallyport/node/audit"
	"sallyport/node/config"
	"sallyport/node/gateway"
	"sallyport/node/identity"
	"sallyport/node/policy"
	"sallyport/node/upstream"
	"sallyport/raftfsm"
	"sallyport/transport"
)

const (
	caFile       = "ca.pem"
	addrFile     = "node.addr"  // where MCP is served
	adminFile    = "admin.addr" // where the admin API is
	resetKeyFile = "quic-reset.key"
	startTimeout = time.Minute
)

// Node is a running node.
type Node struct {
	cfg     config.Node
	version string
	log     *slog.Logger
	started time.Time

	dir     *cluster.DataDir
	cluster *cluster.Node
	keys    *keys
	certs   certificates
	audit   *audit.Log
	auth    *identity.Authenticator
	rules   *policy.Engine
	creds   *upstream.Manager
	pool    *upstream.Pool
	gateway *gateway.Gateway
	metrics *metrics

	public *transport.Server
	admin  *transport.Server // nil unless the admin API has an address of its own
	ops    *http.Server      // nil if there is none
	opsAt  net.Addr
	url    string

	work   sync.WaitGroup
	cancel context.CancelFunc // ends what runs beside the listeners

	mu       sync.Mutex // protects the following
	draining bool
	err      error
	done     chan struct{}
}

// Start builds a node and returns when it serves. version is that of the program.
func Start(ctx context.Context, cfg config.Node, version string, log *slog.Logger) (*Node, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("the node was not ready within %s: its log says what it waited for", startTimeout))
	defer cancel()
	n := &Node{cfg: cfg, version: version, log: log, started: time.Now(), done: make(chan struct{})}
	for _, step := range []func(context.Context) error{n.openState, n.openParts, n.listen} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, n.abandon())
		}
	}
	n.serve()
	log.Info("the node serves", "node", n.dir.Node, "url", n.url, "version", version)
	return n, nil
}

// openState opens the data directory, the replica and the keys, and completes what a bootstrap has to make.
func (n *Node) openState(ctx context.Context) error {
	fresh, err := n.isFresh()
	if err != nil {
		return err
	}
	if n.dir, err = cluster.OpenDataDir(n.cfg.DataDir, n.cfg.ID, "node-"+strings.ToLower(rand.Text()[:8])); err != nil {
		return err
	}
	if n.keys, err = openKeys(ctx, n.cfg, n.dir, fresh && n.dir.Cluster == ""); err != nil {
		return err
	}
	n.cluster, err = cluster.Open(cluster.Config{DataDir: n.dir, Bootstrap: n.cfg.Bootstrap, MaxStaleness: n.cfg.MaxStaleness, Logger: n.log})
	if err != nil {
		return err
	}
	n.pool = upstream.NewPool()
	if n.audit, err = audit.Open(n.dir.File("audit"), n.dir.Node, n.cluster.Disk().Low); err != nil {
		return err
	}
	n.creds = upstream.New(n.cluster, n.keys.control, n.keys.data, n.pool, n.mayUseSecret, n.log)
	n.cluster.Start(cluster.Duty{Name: "renew credentials", Run: n.creds.Renew}, cluster.Duty{Name: "purge", Run: n.purge})
	if err := n.waitEstablished(ctx); err != nil {
		return err
	}
	if n.cfg.Bootstrap {
		if err := n.makeCluster(ctx); err != nil {
			return err
		}
		if err := n.makeAdminToken(ctx); err != nil {
			return err
		}
	}
	if c, ok := n.cluster.Read().Cluster(); ok {
		return n.dir.Joined(c.ID)
	}
	return nil
}

// isFresh tells a directory in which no replica was ever begun. Keys are made before the replica, so that a bootstrap which was cut off
// can be repeated, and never for one that exists: what was sealed with other keys would be lost.
func (n *Node) isFresh() (bool, error) {
	_, err := os.Stat(cluster.LogPath(n.cfg.DataDir))
	switch {
	case err == nil:
		return false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("look at the data directory: %w", err)
	case !n.cfg.Bootstrap:
		return false, fmt.Errorf("%w: give the right --data-dir (it is %s), or make a new cluster with --bootstrap", cluster.ErrNoNode, n.cfg.DataDir)
	}
	return true, nil
}

// waitEstablished returns when the node leads, or with the reason why it cannot go on.
func (n *Node) waitEstablished(ctx context.Context) error {
	established := make(chan error, 1)
	go func() { established <- n.cluster.WaitEstablished(ctx) }()
	select {
	case err := <-n.cluster.Failed():
		return err
	case err := <-established:
		return err
	}
}

// mayUseSecret is the last check before a client's secret goes to a token endpoint, and the record of it.
func (n *Node) mayUseSecret(ctx context.Context, u *raftfsm.Upstream) error {
	if err := n.cluster.Freshness().Check(); err != nil {
		return err
	}
	return n.audit.Append(ctx, audit.Record{
		ID: rand.Text(), Kind: audit.KindUse, Upstream: u.Name, Method: "oauth/token", Decision: audit.Allowed,
		Credential: raftfsm.CredentialID(u.Name, raftfsm.SubjectGateway),
	})
}

// openParts makes what serves requests.
func (n *Node) openParts(context.Context) (err error) {
	if n.certs, err = n.openCertificates(); err != nil {
		return err
	}
	n.metrics = newMetrics(n.cluster)
	n.auth = identity.New(n.cluster)
	n.rules = policy.New(n.cluster)
	own := ownHosts(n.cfg)
	n.gateway = gateway.New(gateway.Config{
		State: n.cluster, Authenticator: n.auth, Policies: n.rules, Credentials: n.creds, Audit: n.audit, Freshness: n.cluster.Freshness(),
		Transports: n.pool, Observer: n.metrics, Sealer: n.keys.data, AllowedHost: allowedHost(own), AllowedOrigin: allowedOrigin(own),
		Version: n.version, Logger: n.log,
	})
	return nil
}

func (n *Node) listen(context.Context) (err error) {
	reset, err := n.resetKey()
	if err != nil {
		return err
	}
	public := http.NewServeMux()
	n.routePublic(public)
	handler := public
	if n.cfg.AdminListen != "" {
		handler = http.NewServeMux()
		n.routeAdmin(handler)
		if n.admin, err = transport.Listen(transport.ServerConfig{Addr: n.cfg.AdminListen, Handler: handler, GetCertificate: n.certs.GetCertificate, Logger: n.log}); err != nil {
			return fmt.Errorf("listen for the admin API: %w: free the address or give another --admin-listen", err)
		}
	} else {
		n.routeAdmin(public)
	}
	if n.public, err = transport.Listen(transport.ServerConfig{Addr: n.cfg.Listen, Handler: public, GetCertificate: n.certs.GetCertificate, Logger: n.log, ResetKey: reset}); err != nil {
		return fmt.Errorf("%w: free the address or give another --listen", err)
	}
	n.url = publicURL(n.cfg, n.public.Addr())
	admin := n.url
	if n.admin != nil {
		admin = publicURL(config.Node{Listen: n.cfg.AdminListen}, n.admin.Addr())
	}
	for file, address := range map[string]string{addrFile: n.url, adminFile: admin} {
		if err := n.dir.WriteFile(file, []byte(address+"\n")); err != nil {
			return err
		}
	}
	return n.listenOps()
}

// resetKey lets QUIC clients of the process before notice at once that it is gone.
func (n *Node) resetKey() (*[32]byte, error) {
	var key [32]byte
	data, err := os.ReadFile(n.dir.File(resetKeyFile))
	if err == nil && len(data) == len(key) {
		copy(key[:], data)
		return &key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", n.dir.File(resetKeyFile), err)
	}
	if _, err := rand.Read(key[:]); err != nil {
		return nil, fmt.Errorf("make a stateless reset key: %w", err)
	}
	return &key, n.dir.WriteFile(resetKeyFile, key[:])
}

// publicURL is how clients reach the node: as advertised, else by the address that it listens on.
func publicURL(cfg config.Node, addr net.Addr) string {
	if cfg.Advertise != "" {
		return strings.TrimSuffix(cfg.Advertise, "/")
	}
	host, _, _ := net.SplitHostPort(cfg.Listen)
	_, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return (&url.URL{Scheme: "https", Host: net.JoinHostPort(host, port)}).String()
}

// serve starts everything that runs until Shutdown.
func (n *Node) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.work.Go(func() { n.auth.Run(ctx) })
	n.work.Go(func() { n.gateway.Run(ctx) })
	n.work.Go(func() { n.end(n.public.Serve()) })
	if n.admin != nil {
		n.work.Go(func() { n.end(n.admin.Serve()) })
	}
	n.work.Go(func() {
		select {
		case err := <-n.cluster.Failed():
			n.end(err)
		case <-ctx.Done():
		}
	})
}

// end tells Done that the node cannot go on. The first reason counts; after Shutdown there is none.
func (n *Node) end(err error) {
	if err == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil && !n.draining {
		n.err = err
		close(n.done)
	}
}

// Done is closed when the node cannot go on; Err says why. Shutdown is still to be called.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err is why the node cannot go on.
func (n *Node) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// URL is where clients reach the node.
func (n *Node) URL() string { return n.url }

// ID is the node's id.
func (n *Node) ID() string { return n.dir.Node }

// OpsAddr is where metrics are served, nil if nowhere.
func (n *Node) OpsAddr() net.Addr { return n.opsAt }

// CACertPath is the file with what clients must trust; it is not there with --tls-cert.
func (n *Node) CACertPath() string { return n.dir.File(caFile) }

// AdminTokenPath is the file with the owner's first token.
func (n *Node) AdminTokenPath() string { return n.dir.File(adminTokenFile) }

// Reload reads the certificate files anew.
func (n *Node) Reload() error { return n.certs.Reload() }

// Shutdown stops taking calls, lets those in flight finish until ctx ends, and closes everything.
func (n *Node) Shutdown(ctx context.Context) error {
	n.mu.Lock()
	if n.draining {
		n.mu.Unlock()
		return nil
	}
	n.draining = true
	n.mu.Unlock()
	n.gateway.Drain()
	err := n.public.Shutdown(ctx)
	if n.admin != nil {
		err = errors.Join(err, n.admin.Shutdown(ctx))
	}
	return errors.Join(err, n.release())
}

// abandon gives up a start that failed, with the ports that it has taken.
func (n *Node) abandon() error {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	for _, s := range []*transport.Server{n.public, n.admin} {
		if s != nil {
			_ = s.Shutdown(now) // nothing is being served yet
		}
	}
	return n.release()
}

// release closes what was opened, in the reverse order.
func (n *Node) release() error {
	var errs []error
	if n.cancel != nil {
		n.cancel()
	}
	if n.ops != nil {
		errs = append(errs, n.ops.Close())
	}
	if n.gateway != nil {
		n.gateway.Close()
	}
	if n.pool != nil {
		n.pool.Close()
	}
	n.work.Wait()
	if n.cluster != nil {
		errs = append(errs, n.cluster.Shutdown())
	}
	if n.audit != nil {
		errs = append(errs, n.audit.Close())
	}
	if n.dir != nil {
		errs = append(errs, n.dir.Close())
	}
	return errors.Join(errs...)
}
