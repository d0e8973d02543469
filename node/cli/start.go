package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport/node/config"
	"sallyport/node/server"
)

// drainTime bounds how long calls in flight may take to finish when a node stops.
const drainTime = 30 * time.Second

func (a *app) nodeStart() *cobra.Command {
	c := &cobra.Command{
		Use:   "start",
		Short: "Run a node until it is told to stop",
		Long: `Run a node until it is told to stop: by SIGTERM or SIGINT, after the calls in flight have finished.
A second signal stops it at once. SIGHUP reads the TLS certificate again.

Every flag is also a variable, --data-dir SALLYPORT_DATA_DIR, and a key of the file given with --config.
A first node on this machine:  sallyport node start --bootstrap --data-dir D --listen 127.0.0.1:8443`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(c.Flags(), os.Environ())
			if err != nil {
				return fmt.Errorf("the configuration of the node is not valid: %w", err)
			}
			return a.serve(c, cfg)
		},
	}
	config.Flags(c.Flags())
	return c
}

// serve runs a node. The context of the command ends with the first signal to stop.
func (a *app) serve(c *cobra.Command, cfg config.Node) error {
	log := newLogger(c.ErrOrStderr(), cfg.LogLevel)
	// From the beginning: what asks to read a certificate again must not end a node that is about to serve.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	node, err := server.Start(c.Context(), cfg, a.version, log)
	if err != nil {
		return err
	}
	note(c, "serving at %s", node.URL())
	if cfg.TLSCert == "" {
		note(c, "clients have to trust %s (SALLYPORT_CACERT)", node.CACertPath())
	}
	if cfg.Bootstrap {
		note(c, "an admin token of an owner, good for 24 hours from when it was made, is in %s", node.AdminTokenPath())
	}
	for {
		select {
		case <-hangup:
			if err := node.Reload(); err != nil {
				log.Error("the TLS certificate was not read again; the old one stays", "error", err)
			}
		case <-node.Done():
			if err := node.Err(); err != nil {
				return fmt.Errorf("the node stopped: %w", err)
			}
			return nil
		case <-c.Context().Done():
			return drain(node, log)
		}
	}
}

// drain lets the calls in flight finish, unless it takes too long or a second signal comes.
func drain(node *server.Node, log *slog.Logger) error {
	log.Info("stopping: letting the calls in flight finish", "limit", drainTime.String())
	ctx, cancel := context.WithTimeoutCause(context.Background(), drainTime, errors.New("calls were still running after "+drainTime.String()))
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := node.Shutdown(ctx); err != nil {
		return fmt.Errorf("stop the node: %w", err)
	}
	return nil
}

func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}
