package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"sallyport/node/api"
	"sallyport/node/api/client"
)

func (a *app) revoke() *cobra.Command {
	var reason string
	var wait bool
	c := asking(&cobra.Command{
		Use:   "revoke agent|token|credential|user ID",
		Short: "End what exists of an agent, a token or a credential",
		Long: `End what exists of an agent, a token or a credential, open streams included.
It cannot be undone; a new token or credential is another one.`,
		Args: func(c *cobra.Command, given []string) error {
			if err := args(2, 2, "what to end (agent, token, credential or user) and its name or id")(c, given); err != nil {
				return err
			}
			if !slices.Contains([]string{"agent", "token", "credential", "user"}, given[0]) {
				return usagef("%q cannot be revoked: name agent, token, credential or user", given[0])
			}
			return nil
		},
	}, func(ctx context.Context, c *cobra.Command, node *client.Client, args []string) error {
		began := time.Now()
		answer, err := node.Revoke(ctx, api.RevocationRequest{Kind: args[0], ID: args[1], Reason: reason})
		if err != nil {
			return err
		}
		took := time.Since(began)
		// A committed revocation is in force on every node that can prove its state fresh; this version has one node.
		if wait && answer.State != "committed" {
			return fmt.Errorf("the revocation %s is %s: it is not in force everywhere yet", answer.ID, answer.State)
		}
		if !answer.Recorded {
			note(c, "warning: the node could not write this into its audit log; look at its disk")
		}
		result := struct {
			api.RevocationAnswer
			Millis float64 `json:"millis"`
		}{answer, float64(took.Microseconds()) / 1000}
		return a.print(c, result, func(t *table) {
			t.line(fmt.Sprintf("ended %s in %s (%s as %s, index %d)", answer.Ended, took.Round(10*time.Microsecond), answer.State, answer.ID, answer.Index))
		})
	})
	c.Flags().StringVar(&reason, "reason", "", "why, for the record")
	c.Flags().BoolVar(&wait, "wait", false, "return when all nodes have confirmed")
	return c
}
