package cli

import (
	"context"

	"github.com/spf13/cobra"

	"sallyport/node/api/client"
)

// question is what a command asks a node.
type question func(ctx context.Context, c *cobra.Command, node *client.Client, args []string) error

// asking makes a command that asks a node, within a bounded time.
func asking(c *cobra.Command, do question) *cobra.Command {
	return following(c, func(ctx context.Context, c *cobra.Command, node *client.Client, args []string) error {
		ctx, cancel := context.WithTimeout(ctx, requestTime)
		defer cancel()
		return do(ctx, c, node, args)
	})
}

// following makes a command that asks a node for as long as it likes.
func following(c *cobra.Command, do question) *cobra.Command {
	found := (&connection{}).flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		node, done, err := found.admin()
		if err != nil {
			return err
		}
		defer done()
		return do(c.Context(), c, node, args)
	}
	return c
}
