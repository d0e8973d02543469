package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/crypto"
	"sallyport/node/cli/profile"
	"sallyport/node/cli/stdio"
	"sallyport/transport"
)

func (a *app) connect() *cobra.Command {
	var tokenFile string
	var save bool
	c := &cobra.Command{
		Use:   "connect [URL...]",
		Short: "Serve MCP on stdin and stdout, through a node",
		Long: `Serve MCP on stdin and stdout, through a node: the command to put into the configuration of any
MCP client. A URL is that of an upstream, such as https://127.0.0.1:8443/mcp/accounting. With several
URLs the next one is used where a node cannot be reached.

With --save it serves nothing: it keeps the node's CA and the token, from the environment or from
--token-file, in the profile, so that the client's configuration needs neither.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, urls []string) error {
			if len(urls) == 0 {
				urls = []string{""} // as the environment or the profile says
			}
			if save {
				return a.saveAccess(c, urls, tokenFile)
			}
			return a.serveStdio(c, urls, tokenFile)
		},
	}
	c.Flags().StringVar(&tokenFile, "token-file", "", "file that holds the gateway token (default: SALLYPORT_TOKEN, or the profile's)")
	c.Flags().BoolVar(&save, "save", false, "keep address, CA and token in the profile, and end")
	return c
}

func (a *app) serveStdio(c *cobra.Command, urls []string, tokenFile string) error {
	var nodes []stdio.Node
	for _, u := range urls {
		access, err := (&connection{addr: u, tokenFile: tokenFile}).resolve(crypto.GatewayToken)
		if err != nil {
			return err
		}
		endpoint, err := endpoint(access.Address)
		if err != nil {
			return err
		}
		network := transport.NewClient(transport.ClientConfig{RootCAs: access.RootCAs})
		defer network.Close()
		nodes = append(nodes, stdio.Node{URL: endpoint, Token: access.Token, Transport: network})
	}
	err := stdio.Run(c.Context(), stdio.Config{
		Nodes: nodes, In: c.InOrStdin(), Out: c.OutOrStdout(),
		Logger: slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if errors.Is(err, context.Canceled) {
		return nil // interrupted, as it may end
	}
	return err
}

// endpoint is the MCP endpoint that an address names.
func endpoint(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("read the address %s: %w", address, err)
	}
	if !strings.HasPrefix(u.Path, "/mcp/") {
		return "", usagef("%s names no upstream: give its URL, such as %s://%s/mcp/accounting", address, u.Scheme, u.Host)
	}
	return u.String(), nil
}

// saveAccess keeps in the profile what connect needs.
func (a *app) saveAccess(c *cobra.Command, urls []string, tokenFile string) error {
	p, err := profile.Load()
	if err != nil {
		return err
	}
	for _, u := range urls {
		access, err := (&connection{addr: u, tokenFile: tokenFile}).resolve(crypto.GatewayToken)
		if err != nil {
			return err
		}
		if err := keepAccess(c, &p, access, os.Getenv("SALLYPORT_CACERT")); err != nil {
			return err
		}
	}
	return nil
}

// keepAccess puts the way to a node into the profile.
func keepAccess(c *cobra.Command, p *profile.Profile, access profile.Access, caFile string) error {
	if err := p.SaveAddr(access.Origin); err != nil {
		return err
	}
	if caFile != "" {
		pem, err := readSmall(caFile)
		if err != nil {
			return fmt.Errorf("read the CA certificate: %w", err)
		}
		if err := p.SaveCA(access.Origin, pem); err != nil {
			return err
		}
	}
	where, err := p.SaveToken(access.Origin, access.Token)
	if err != nil {
		return err
	}
	note(c, "kept the token for %s in %s", access.Origin, where)
	return nil
}
