package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"sallyport/node/demo"
)

func (a *app) demo() *cobra.Command {
	var exit bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show on this machine what a node does, in a scripted tour",
		Long: `Show on this machine what a node does, in a scripted tour: a node, an identity provider and two MCP
servers on loopback. They stay up until interrupted, to be tried, and leave nothing behind.

The exit status is 0 if every step of the tour held.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			program, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find the path of this program: %w", err)
			}
			return demo.Run(c.Context(), demo.Config{Version: a.version, Executable: program, Out: c.OutOrStdout(), Exit: exit})
		},
	}
	c.Flags().BoolVar(&exit, "exit", false, "end after the tour")
	return c
}
