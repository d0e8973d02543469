package cli

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/crypto"
	"sallyport/node/api/client"
	"sallyport/node/cli/profile"
	"sallyport/transport"
)

// Files that a node keeps in its data directory for those who may read it.
const (
	addressFile    = "node.addr"  // of MCP
	adminFile      = "admin.addr" // of the admin API
	authorityFile  = "ca.pem"
	adminTokenFile = "admin.token"
)

// maxTokenFile bounds a file that holds a token, an address or a certificate.
const maxTokenFile = 64 << 10

// connection is how a command finds a node, from its flags.
type connection struct {
	addr      string
	dataDir   string
	tokenFile string
}

// flags adds the flags to a command that asks a node.
func (n *connection) flags(c *cobra.Command) *connection {
	c.Flags().StringVar(&n.addr, "addr", "", "address of the node (default: SALLYPORT_ADDR, or the profile's)")
	c.Flags().StringVar(&n.dataDir, "data-dir", "", "data directory of a node on this machine, to take address, CA and admin token from")
	c.Flags().StringVar(&n.tokenFile, "token-file", "", "file that holds the token (default: SALLYPORT_TOKEN, or the profile's)")
	return n
}

// resolve finds the node and the token of that kind for it.
func (n *connection) resolve(kind crypto.TokenKind) (profile.Access, error) {
	var token crypto.Secret
	if n.tokenFile != "" {
		text, err := readSmall(n.tokenFile)
		if err != nil {
			return profile.Access{}, fmt.Errorf("read the token: %w", err)
		}
		token = crypto.SecretString(strings.TrimSpace(string(text)))
	}
	access, err := n.find(kind)
	if !token.Empty() {
		// The token that the environment or the profile would give may be of the wrong kind: it is not used.
		if other := map[crypto.TokenKind]crypto.TokenKind{crypto.AdminToken: crypto.GatewayToken, crypto.GatewayToken: crypto.AdminToken}[kind]; err != nil {
			access, err = n.find(other)
		}
		access.Token = token
	}
	if err != nil {
		return profile.Access{}, err
	}
	if access.Token.Empty() {
		what := "SALLYPORT_TOKEN to an admin token (spa_...), or give --data-dir on the machine of the node"
		if kind == crypto.GatewayToken {
			what = "SALLYPORT_TOKEN to a gateway token (spt_...), or give --token-file"
		}
		return profile.Access{}, fmt.Errorf("no token is known for %s: set %s", access.Origin, what)
	}
	return access, nil
}

func (n *connection) find(kind crypto.TokenKind) (profile.Access, error) {
	p, err := profile.Load()
	if err != nil {
		return profile.Access{}, err
	}
	if n.dataDir != "" {
		return n.local(kind)
	}
	access, err := p.Resolve(n.addr, kind)
	if dir := os.Getenv("SALLYPORT_DATA_DIR"); err != nil && dir != "" && n.addr == "" && os.Getenv("SALLYPORT_ADDR") == "" {
		beside := connection{dataDir: dir}
		return beside.local(kind)
	}
	return access, err
}

// local reads what a node on this machine left for its owner.
func (n *connection) local(kind crypto.TokenKind) (profile.Access, error) {
	address := n.addr
	if address == "" {
		file := addressFile
		if kind == crypto.AdminToken {
			file = adminFile
		}
		text, err := readSmall(filepath.Join(n.dataDir, file))
		if errors.Is(err, fs.ErrNotExist) {
			return profile.Access{}, fmt.Errorf("no node has been started with the data directory %s", n.dataDir)
		}
		if err != nil {
			return profile.Access{}, fmt.Errorf("find the address of the node: %w", err)
		}
		address = strings.TrimSpace(string(text))
	}
	origin, err := profile.Origin(address)
	if err != nil {
		return profile.Access{}, err
	}
	access := profile.Access{Address: address, Origin: origin}
	pem, err := readSmall(filepath.Join(n.dataDir, authorityFile))
	switch {
	case errors.Is(err, fs.ErrNotExist): // the node's certificate is somebody else's
	case err != nil:
		return profile.Access{}, fmt.Errorf("read the node's CA: %w", err)
	default:
		// Besides the system's: the node may have a certificate from elsewhere.
		if access.RootCAs, err = x509.SystemCertPool(); err != nil {
			access.RootCAs = x509.NewCertPool()
		}
		if !access.RootCAs.AppendCertsFromPEM(pem) {
			return profile.Access{}, fmt.Errorf("read the node's CA: there is no certificate in %s", filepath.Join(n.dataDir, authorityFile))
		}
	}
	if kind != crypto.AdminToken || n.tokenFile != "" {
		return access, nil
	}
	token, err := readSmall(filepath.Join(n.dataDir, adminTokenFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return profile.Access{}, fmt.Errorf("read the admin token: %w", err)
	}
	access.Token = crypto.SecretString(strings.TrimSpace(string(token)))
	return access, nil
}

// admin makes a client of the admin API, and what closes its connections.
func (n *connection) admin() (*client.Client, func(), error) {
	access, err := n.resolve(crypto.AdminToken)
	if err != nil {
		return nil, nil, err
	}
	network := transport.NewClient(transport.ClientConfig{RootCAs: access.RootCAs})
	return client.New(access.Origin, access.Token, network), func() { _ = network.Close() }, nil
}

func readSmall(path string) ([]byte, error) {
	text, err := readInput(path, maxTokenFile+1, nil)
	if err == nil && len(text) > maxTokenFile {
		err = fmt.Errorf("%s is larger than 64 KiB", path)
	}
	return text, err
}
