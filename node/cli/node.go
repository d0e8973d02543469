package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/node/api/client"
)

func (a *app) node() *cobra.Command {
	return a.group("node", "Start a node and look at nodes", a.nodeStart(), a.nodeStatus(), a.nodeList())
}

func (a *app) nodeStatus() *cobra.Command {
	return asking(&cobra.Command{
		Use:   "status",
		Short: "Show how a node does",
		Long:  "Show how a node does. The exit status is 1 if the node is not ready to serve.",
		Args:  noArgs,
	}, func(ctx context.Context, c *cobra.Command, node *client.Client, _ []string) error {
		s, err := node.Status(ctx)
		if err != nil {
			return err
		}
		err = a.print(c, s, func(t *table) {
			t.row("node", s.ID)
			t.row("version", s.Version)
			t.row("url", s.URL)
			t.row("region", s.Region)
			t.row("cluster", s.ClusterID)
			t.row("state", s.State)
			t.row("leader", s.Leader)
			t.row("ready", fmt.Sprint(s.Ready))
			for _, p := range s.Problems {
				t.row("problem", p)
			}
			t.row("log", fmt.Sprintf("applied %d of %d, term %d", s.AppliedIndex, s.CommitIndex, s.Term))
			staleness := "not proved"
			if s.Staleness > 0 {
				staleness = time.Duration(s.Staleness).Round(time.Millisecond).String()
			}
			t.row("state is at most", fmt.Sprintf("%s old, %s are allowed", staleness, time.Duration(s.MaxStaleness)))
			t.row("started", moment(s.Started))
		})
		if err == nil && !s.Ready {
			err = errors.New("the node is not ready: " + strings.Join(s.Problems, "; "))
		}
		return err
	})
}

func (a *app) nodeList() *cobra.Command {
	return asking(&cobra.Command{
		Use:   "list",
		Short: "List the nodes of the cluster",
		Args:  noArgs,
	}, func(ctx context.Context, c *cobra.Command, node *client.Client, _ []string) error {
		nodes, err := node.Nodes(ctx)
		if err != nil {
			return err
		}
		return a.print(c, map[string]any{"items": nodes}, func(t *table) {
			t.row("ID", "URL", "REGION", "ROLE", "LEADER")
			for _, n := range nodes {
				leader := ""
				if n.Leader {
					leader = "yes"
				}
				t.row(n.ID, n.URL, n.Region, n.Role, leader)
			}
		})
	})
}
