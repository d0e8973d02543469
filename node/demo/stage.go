package demo

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport/crypto"
	"sallyport/node/api/client"
	"sallyport/node/config"
	"sallyport/node/demo/idp"
	"sallyport/node/demo/mcpserver"
	"sallyport/node/server"
	"sallyport/transport"
)

const (
	oauthClient = "sallyport" // what the node is to the identity provider

	financeAgent = "FinanceAgent"
	supportAgent = "SupportAgent"

	// patience bounds how long the tour waits for what must happen by itself.
	patience   = 30 * time.Second
	auditPause = 5 * time.Millisecond

	// drainTime bounds how long calls in flight may take once the demo ends.
	drainTime = 5 * time.Second
)

// stage is everything that runs during the demo.
type stage struct {
	dir        string // holds all that is on disk
	provider   *idp.Provider
	accounting *mcpserver.Server
	crm        *mcpserver.Server
	node       *server.Node
	network    *transport.Client // reaches the node
	admin      *client.Client    // asks it as its owner

	undo []func() error // what ends each of them, in the order they began
}

// setStage starts everything; strike ends it. ctx bounds the start alone, so
// that the node can drain before what is behind it goes.
func setStage(ctx context.Context, version string) (*stage, error) {
	s := new(stage)
	for _, begin := range []func(context.Context) error{
		s.makeDir,
		s.divertLogs,
		s.startProvider,
		s.startUpstreams,
		func(ctx context.Context) error { return s.startNode(ctx, version) },
		s.openClient,
		s.provision,
	} {
		if err := begin(ctx); err != nil {
			return nil, errors.Join(err, s.strike())
		}
	}
	return s, nil
}

// strike ends everything, the last first, and removes what it left on disk.
func (s *stage) strike() error {
	var failed []error
	for _, end := range slices.Backward(s.undo) {
		failed = append(failed, end())
	}
	return errors.Join(failed...)
}

func (s *stage) whenDone(end func() error) { s.undo = append(s.undo, end) }

func (s *stage) makeDir(context.Context) (err error) {
	if s.dir, err = os.MkdirTemp("", "sallyport-demo-"); err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	s.whenDone(func() error { return os.RemoveAll(s.dir) })
	return nil
}

// divertLogs sends what libraries write to the default loggers to the demo's
// log, for the screen belongs to the tour.
func (s *stage) divertLogs(context.Context) error {
	file, err := os.OpenFile(filepath.Join(s.dir, logFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	structured, plain, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(slog.New(slog.NewJSONHandler(file, nil)))
	s.whenDone(func() error {
		slog.SetDefault(structured)
		// Package log writes to whatever was the default of slog before.
		log.SetOutput(plain)
		log.SetFlags(flags)
		return file.Close()
	})
	return nil
}

func (s *stage) startProvider(ctx context.Context) (err error) {
	s.provider, err = idp.Start(context.WithoutCancel(ctx), idp.Config{Clients: []idp.Client{{
		ID: oauthClient, Scopes: []string{mcpserver.AccountingScope, mcpserver.CRMScope},
	}}})
	if err != nil {
		return err
	}
	s.whenDone(func() error { s.provider.Close(); return nil })
	return s.write(secretFile, s.provider.ClientSecret(oauthClient).ExposeString()+"\n")
}

func (s *stage) startUpstreams(ctx context.Context) (err error) {
	ctx = context.WithoutCancel(ctx)
	if s.accounting, err = mcpserver.StartAccounting(ctx, s.provider.Issuer()); err != nil {
		return err
	}
	s.whenDone(func() error { s.accounting.Close(); return nil })
	if s.crm, err = mcpserver.StartCRM(ctx, s.provider.Issuer()); err != nil {
		return err
	}
	s.whenDone(func() error { s.crm.Close(); return nil })
	s.provider.RegisterResource(s.accounting.URL())
	s.provider.RegisterResource(s.crm.URL())
	return nil
}

func (s *stage) startNode(ctx context.Context, version string) (err error) {
	cfg := config.Default()
	cfg.DataDir, cfg.Bootstrap = filepath.Join(s.dir, nodeDir), true
	cfg.Listen, cfg.ClusterListen, cfg.GossipListen, cfg.OpsListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", ""
	if s.node, err = server.Start(ctx, cfg, version, slog.Default()); err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	s.whenDone(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		if err := s.node.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("stop the node: %w", err)
		}
		return nil
	})
	return nil
}

// openClient makes what talks to the node, trusting its certificate authority.
func (s *stage) openClient(context.Context) error {
	pem, err := os.ReadFile(s.node.CACertPath())
	if err != nil {
		return fmt.Errorf("read the node's CA certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("read the node's CA certificate: there is none in %s", s.node.CACertPath())
	}
	token, err := os.ReadFile(s.node.AdminTokenPath())
	if err != nil {
		return fmt.Errorf("read the owner's token: %w", err)
	}
	s.network = transport.NewClient(transport.ClientConfig{RootCAs: roots})
	s.whenDone(s.network.Close)
	s.admin = client.New(s.node.URL(), crypto.SecretString(strings.TrimSpace(string(token))), s.network)
	return nil
}

// write puts a file into the demo's directory, for its owner alone.
func (s *stage) write(name, content string) error {
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
		return fmt.Errorf("write a file of the demo: %w", err)
	}
	return nil
}
