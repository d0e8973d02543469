// Package profile keeps what the command line needs to talk to nodes: their address, the CA
// certificate that signs for them and the tokens to show them. Settings are in a file that may be
// read by people; tokens are in the keyring of the operating system or, where there is none, in
// files that only their owner can read. The environment overrides all of it:
//
//	SALLYPORT_ADDR        address of a node, such as https://127.0.0.1:8443
//	SALLYPORT_TOKEN       gateway or admin token
//	SALLYPORT_CACERT      path of a PEM file with the CA certificate
//	SALLYPORT_CONFIG_DIR  where the profile is kept
package profile

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"sallyport/crypto"
)

const (
	fileName = "profiles.yaml"

	maxFile    = 1 << 20
	maxToken   = 16 << 10
	ownerOnly  = fs.FileMode(0o077) // bits that a file with a secret must not have
	noStranger = fs.FileMode(0o022) // bits that a file must not have which decides whom to trust
)

// Profile is the profile as it was loaded, and where to keep changes.
type Profile struct {
	dir    string
	getenv func(string) string
	ring   keyring
	file   settings
}

// settings is the content of the profile file.
type settings struct {
	Addr  string                 `yaml:"addr,omitempty"`
	Nodes map[string]nodeSetting `yaml:"nodes,omitempty"` // by origin
}

type nodeSetting struct {
	CA     string                      `yaml:"ca,omitempty"`     // path of a PEM file, relative to the profile
	Tokens map[crypto.TokenKind]string `yaml:"tokens,omitempty"` // where the token of that kind is kept
}

// Access is what a command needs to talk to a node.
type Access struct {
	Address string         // as given or configured
	Origin  string         // scheme, host and port of it
	RootCAs *x509.CertPool // nil for those of the operating system
	Token   crypto.Secret  // empty if none is known
}

// Load reads the profile. That there is none yet is no error.
func Load() (Profile, error) {
	dir := os.Getenv("SALLYPORT_CONFIG_DIR")
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return Profile{}, fmt.Errorf("find the directory of the profile: %w; set SALLYPORT_CONFIG_DIR", err)
		}
		dir = filepath.Join(base, "sallyport")
	}
	return load(dir, os.Getenv, osKeyring{})
}

func load(dir string, getenv func(string) string, ring keyring) (Profile, error) {
	p := Profile{dir: dir, getenv: getenv, ring: ring}
	file, err := p.read()
	if err != nil {
		return Profile{}, err
	}
	p.file = file
	return p, nil
}

// Resolve finds what is needed to talk to the node at address, which may have a path. Without an
// address it takes SALLYPORT_ADDR or the profile's. SALLYPORT_TOKEN and SALLYPORT_CACERT come
// before what is kept for the node. Kind is the kind of token that the command needs: the two open
// different doors, and a node refuses the wrong one.
func (p Profile) Resolve(address string, kind crypto.TokenKind) (Access, error) {
	for _, other := range []string{p.getenv("SALLYPORT_ADDR"), p.file.Addr} {
		if address == "" {
			address = other
		}
	}
	if address == "" {
		return Access{}, errors.New("no node is known: give its address, or set SALLYPORT_ADDR, for example to https://127.0.0.1:8443")
	}
	origin, err := Origin(address)
	if err != nil {
		return Access{}, err
	}
	roots, err := p.roots(origin)
	if err != nil {
		return Access{}, err
	}
	token, err := p.token(origin, kind)
	if err != nil {
		return Access{}, err
	}
	return Access{Address: address, Origin: origin, RootCAs: roots, Token: token}, nil
}

// SaveAddr makes address the one to use when none is given.
func (p *Profile) SaveAddr(address string) error {
	if _, err := Origin(address); err != nil {
		return err
	}
	return p.change(func(s *settings) { s.Addr = address })
}

// SaveCA keeps the certificates that sign for the node at origin. They replace those of the
// operating system for it.
func (p *Profile) SaveCA(origin string, pem []byte) error {
	origin, err := Origin(origin)
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return fmt.Errorf("save the CA certificate for %s: there is no PEM certificate in it", origin)
	}
	name := filepath.Join("ca", fileStem(origin)+".pem")
	if err := p.write(name, pem); err != nil {
		return fmt.Errorf("save the CA certificate for %s: %w", origin, err)
	}
	return p.changeNode(origin, func(n *nodeSetting) { n.CA = name })
}

// roots is the pool that certificates of origin must lead to; nil for that of the system.
func (p Profile) roots(origin string) (*x509.CertPool, error) {
	path, hint := p.getenv("SALLYPORT_CACERT"), "SALLYPORT_CACERT must name a PEM file, such as ca.pem in the data directory of the node"
	forbidden := fs.FileMode(0)
	if path == "" {
		path, hint = p.file.Nodes[origin].CA, "save the certificate again"
		forbidden = noStranger
		if path == "" {
			return nil, nil
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(p.dir, path)
		}
	}
	pem, err := readFile(path, maxFile, forbidden)
	if err != nil {
		return nil, fmt.Errorf("read the CA certificate for %s: %w; %s", origin, err, hint)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the CA certificate for %s: there is no PEM certificate in %s; %s", origin, path, hint)
	}
	return pool, nil
}

func (p Profile) read() (settings, error) {
	path := filepath.Join(p.dir, fileName)
	content, err := readFile(path, maxFile, noStranger)
	if errors.Is(err, fs.ErrNotExist) {
		return settings{}, nil
	}
	if err != nil {
		return settings{}, fmt.Errorf("read the profile: %w", err)
	}
	var s settings
	if len(bytes.TrimSpace(content)) == 0 {
		return s, nil
	}
	if err := yaml.UnmarshalWithOptions(content, &s, yaml.Strict()); err != nil {
		return settings{}, fmt.Errorf("read the profile %s: %w", path, err)
	}
	// People write addresses in many ways; lookups use one.
	nodes := make(map[string]nodeSetting, len(s.Nodes))
	for address, node := range s.Nodes {
		origin, err := Origin(address)
		if err != nil {
			return settings{}, fmt.Errorf("read the profile %s: %w", path, err)
		}
		nodes[origin] = node
	}
	s.Nodes = nodes
	return s, nil
}

// change applies edit to the file as it is now: another process may have written it meanwhile.
func (p *Profile) change(edit func(*settings)) error {
	s, err := p.read()
	if err != nil {
		return err
	}
	edit(&s)
	content, err := yaml.Marshal(s)
	if err == nil {
		err = p.write(fileName, content)
	}
	if err != nil {
		return fmt.Errorf("write the profile: %w", err)
	}
	p.file = s
	return nil
}

func (p *Profile) changeNode(origin string, edit func(*nodeSetting)) error {
	return p.change(func(s *settings) {
		node := s.Nodes[origin]
		edit(&node)
		if s.Nodes == nil {
			s.Nodes = map[string]nodeSetting{} // there was no file
		}
		s.Nodes[origin] = node
	})
}

// fileStem makes a file name of an origin. Different origins have different ones, on systems that do
// not like colons too.
func fileStem(origin string) string {
	scheme, rest, _ := strings.Cut(origin, "://")
	var stem strings.Builder
	stem.WriteString(scheme + "_")
	for _, b := range []byte(rest) {
		if 'a' <= b && b <= 'z' || '0' <= b && b <= '9' || b == '.' || b == '-' {
			stem.WriteByte(b)
		} else {
			fmt.Fprintf(&stem, "_%02x", b)
		}
	}
	return stem.String()
}
