package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Config says how the demo is run.
type Config struct {
	// Version is that of the program.
	Version string
	// Executable is the path of the sallyport binary, for the lines to copy.
	Executable string
	// Out is where the tour is shown, in colour if it is a terminal.
	Out io.Writer
	// Exit ends the demo after the tour instead of leaving it up to be tried.
	Exit bool
}

// Run starts everything, walks through the tour and then stays up until ctx
// ends. It returns an error if a step of the tour did not hold, and leaves
// nothing behind. While it runs, the default loggers of the process write to
// the demo's own log, and a broken pipe does not end the process.
func Run(ctx context.Context, cfg Config) (err error) {
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	s, err := setStage(ctx, cfg.Version)
	if err != nil {
		return fmt.Errorf("start the demo: %w", err)
	}
	defer func() { err = errors.Join(err, s.strike()) }()
	return s.play(ctx, cfg)
}

// play is everything that the user sees.
func (s *stage) play(ctx context.Context, cfg Config) error {
	screen := newScreen(cfg.Out, os.Getenv)
	s.introduce(screen)
	failed := s.walk(ctx, screen)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the tour was cut short: %w", context.Cause(ctx))
	case cfg.Exit:
		return errors.Join(failed, screen.lost())
	}
	if err := errors.Join(s.invite(ctx, screen, cfg.Executable), screen.lost()); err != nil {
		return errors.Join(failed, err)
	}
	return errors.Join(failed, s.stayUp(ctx))
}

// introduce says who is who.
func (s *stage) introduce(screen *screen) {
	screen.heading("Sallyport: agents use tools, and never hold the keys to them")
	screen.verbatim(`FinanceAgent ─┐                  ┌──────┐                 ┌─> accounting
              ├─ gateway token ─>│ node ├─ OAuth token ───┤
SupportAgent ─┘                  └──────┘                 └─> crm
`)
	screen.gap()
	screen.paragraph("An agent holds one gateway token, which opens the node and nothing else. The node checks who calls and what they may do, puts the OAuth token that the MCP server wants into the call, and keeps a record. Agents never see OAuth tokens. In this process run, on loopback:")
	screen.gap()
	screen.block("node", s.node.URL()+", over HTTP/3, HTTP/2 and HTTP/1.1")
	screen.block("tools", "accounting, "+s.accounting.URL(), "crm, "+s.crm.URL(), "two MCP servers that take nothing but OAuth tokens")
	screen.block("issuer", s.provider.Issuer()+", the OpenID provider that issues these")
	screen.block("policy", "FinanceAgent may call accounting/query_ledger, up to 1000 rows", "SupportAgent may use all of crm", "nothing else is permitted")
}

// walk takes the tour with two new agents' tokens.
func (s *stage) walk(ctx context.Context, screen *screen) error {
	finance, err := s.newAgent(ctx, financeAgent)
	if err != nil {
		return err
	}
	support, err := s.newAgent(ctx, supportAgent)
	if err != nil {
		return err
	}
	walked := tour{
		screen: screen, node: s, accounting: s.accounting, crm: s.crm,
		finance: finance, support: support, patience: patience,
	}
	walked.run(ctx)
	if ctx.Err() == nil && !screen.summary() {
		return errors.New("not every step of the tour held: those that did not are listed at its end")
	}
	return nil
}

// invite gives the user what it takes to try the demo, and tells how.
func (s *stage) invite(ctx context.Context, screen *screen, program string) error {
	finance, err := s.newAgent(ctx, financeAgent)
	if err != nil {
		return err
	}
	screen.hide(finance.token)
	if err := s.write(tokenFile, finance.token.ExposeString()+"\n"); err != nil {
		return err
	}
	return hints(screen, place{program: program, dir: s.dir, gateway: s.node.URL()})
}

// stayUp returns when the user has seen enough or the node cannot go on.
func (s *stage) stayUp(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.node.Done():
		return fmt.Errorf("the node stopped: %w", s.node.Err())
	}
}
