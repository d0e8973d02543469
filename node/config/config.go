// Package config is how one node is set up: what each setting is, where it may come from, and what it may hold.
//
// A setting has one name everywhere: the flag --max-staleness is the variable SALLYPORT_MAX_STALENESS and the key
// max-staleness of the configuration file.
package config

import (
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
)

// Node is the configuration of one node. Addresses are host:port; an empty host means all interfaces, port 0 a free port.
type Node struct {
	// ID names the node for good. Empty: as the data directory says, or a fresh one.
	ID string `koanf:"id" yaml:"id"`
	// DataDir holds everything that the node keeps.
	DataDir string `koanf:"data-dir" yaml:"data-dir"`
	// Listen is the public address: HTTP/3 on its UDP port, HTTP/2 and HTTP/1.1 on its TCP port.
	Listen string `koanf:"listen" yaml:"listen"`
	// ClusterListen is the UDP address for other nodes.
	ClusterListen string `koanf:"cluster-listen" yaml:"cluster-listen"`
	// GossipListen is the address at which nodes find each other.
	GossipListen string `koanf:"gossip-listen" yaml:"gossip-listen"`
	// OpsListen serves metrics and profiles without authentication. Empty: nowhere.
	OpsListen string `koanf:"ops-listen" yaml:"ops-listen"`
	// AdminListen moves the admin API from Listen to an address of its own. Empty: it stays.
	AdminListen string `koanf:"admin-listen" yaml:"admin-listen"`
	// Advertise is the URL by which clients reach this node. Empty: made from Listen.
	Advertise string `koanf:"advertise" yaml:"advertise"`
	// Region is where the node stands, for clients that look for a near one.
	Region string `koanf:"region" yaml:"region"`
	// TLSCert and TLSKey are PEM files. Both empty: the cluster's own authority signs a certificate.
	TLSCert string `koanf:"tls-cert" yaml:"tls-cert"`
	TLSKey  string `koanf:"tls-key" yaml:"tls-key"`
	// Key is the key-encryption key, a file or a URI; see KeyURI.
	Key string `koanf:"key" yaml:"key"`
	// Bootstrap makes a new cluster in an empty data directory; with an existing one it changes nothing.
	Bootstrap bool       `koanf:"bootstrap" yaml:"bootstrap"`
	LogLevel  slog.Level `koanf:"log-level" yaml:"log-level"`
	// MaxStaleness is how old the node's state may be, proven, before it refuses to serve.
	MaxStaleness time.Duration `koanf:"max-staleness" yaml:"max-staleness"`
}

// Default is the configuration of which everything that is said elsewhere is a change.
func Default() Node {
	return Node{
		Listen:        ":8443",
		ClusterListen: ":7443",
		GossipListen:  ":7444",
		OpsListen:     "127.0.0.1:9443",
		Region:        "default",
		LogLevel:      slog.LevelInfo,
		MaxStaleness:  10 * time.Second,
	}
}

// KeyURI is where the key-encryption key is: Key, or a file in the data directory.
func (n Node) KeyURI() string {
	if n.Key == "" {
		return filepath.Join(n.DataDir, "node.key")
	}
	return n.Key
}

// Flags adds a flag for every setting, and --config. Load reads those that were set.
func Flags(flags *pflag.FlagSet) {
	d := Default()
	flags.String(fileFlag, "", "YAML file with any of these settings, named as the flags")
	flags.String("id", d.ID, "name of this node, kept for good (default: a fresh one)")
	flags.String("data-dir", d.DataDir, "directory for everything that the node keeps")
	flags.String("listen", d.Listen, "public address, host:port, for HTTP/3 (UDP), HTTP/2 and HTTP/1.1 (TCP)")
	flags.String("cluster-listen", d.ClusterListen, "address for other nodes, host:port (UDP)")
	flags.String("gossip-listen", d.GossipListen, "address at which nodes find each other, host:port")
	flags.String("ops-listen", d.OpsListen, "address for metrics and profiles, not authenticated; empty: none")
	flags.String("admin-listen", d.AdminListen, "address for the admin API alone (default: on --listen)")
	flags.String("advertise", d.Advertise, "URL by which clients reach this node (default: made from --listen)")
	flags.String("region", d.Region, "where the node stands")
	flags.String("tls-cert", d.TLSCert, "PEM file with the certificate chain (default: signed by the cluster's own authority)")
	flags.String("tls-key", d.TLSKey, "PEM file with the private key of --tls-cert")
	flags.String("key", d.Key, "key-encryption key, a file or a URI (default: DATA_DIR/node.key)")
	flags.Bool("bootstrap", d.Bootstrap, "make a new cluster in an empty data directory")
	flags.String("log-level", d.LogLevel.String(), "least level that is logged: debug, info, warn or error")
	flags.Duration("max-staleness", d.MaxStaleness, "how old the node's state may be before it refuses to serve")
}
