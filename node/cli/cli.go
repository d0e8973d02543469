// Package cli is the sallyport command: what it takes, what it prints, and what it exits with.
//
// Results go to stdout, in a form for people or, with -o, for programs. What went wrong goes to stderr. The exit status is 0 when the
// command did what it was asked, 1 when it could not, 2 when it was asked wrongly.
package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// The exit status of the command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// Main runs the command of this process and returns its exit status. version is what `sallyport version` prints.
func Main(version string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, version, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// app is what all commands share.
type app struct {
	version string
	format  string
}

// requestTime bounds commands that ask a node one thing after the other.
const requestTime = 60 * time.Second

func run(ctx context.Context, version string, args []string, in io.Reader, out, errOut io.Writer) int {
	a := &app{version: version}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	command, err := root.ExecuteContextC(ctx)
	var wrong usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &wrong):
		fmt.Fprintf(errOut, "sallyport: %s; see %s --help\n", wrong, command.CommandPath())
		return exitUsage
	default:
		fmt.Fprintf(errOut, "sallyport: %s\n", advised(err))
		return exitFailed
	}
}

func (a *app) root() *cobra.Command {
	root := a.group("sallyport", "A gateway that gives agents access to MCP servers without giving them its credentials")
	root.Long = root.Short + `.

Commands that ask a node find it and its token in this order: --data-dir of a node on this
machine, SALLYPORT_ADDR, SALLYPORT_TOKEN and SALLYPORT_CACERT, the profile.`
	root.SilenceUsage, root.SilenceErrors = true, true
	root.PersistentFlags().StringVarP(&a.format, "output", "o", "table", "form of the result: table, json or yaml")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains([]string{"table", "json", "yaml"}, a.format) {
			return usagef("-o %s does not exist: use table, json or yaml", a.format)
		}
		return nil
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%s", err) })
	root.AddCommand(
		a.node(),
		a.apply(), a.get(), a.describe(), a.delete(), a.diff(),
		a.token(), a.revoke(), a.call(), a.policy(), a.audit(),
		a.importCommand(), a.connect(), a.demo(),
		a.versionCommand(),
	)
	return root
}

// usageError is a mistake on the command line.
type usageError struct{ message string }

func (e usageError) Error() string { return e.message }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// advised adds what to do to errors of the network, which say only what happened.
func advised(err error) error {
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &authority):
		return fmt.Errorf("%w; set SALLYPORT_CACERT to ca.pem from the data directory of the node", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w; check that the node runs and that the address is right", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: no answer within %s; check that the node can be reached", err, requestTime)
	}
	return err
}

// group is a command that has others under it and does nothing itself.
func (a *app) group(name, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use:   name,
		Short: short,
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q", strings.Join(append(commandPath(c), args[0]), " "))
			}
			if c.HasParent() {
				return usagef("%s needs a command: %s", c.CommandPath(), strings.Join(names(c), ", "))
			}
			return c.Help()
		},
	}
	c.AddCommand(commands...)
	return c
}

func commandPath(c *cobra.Command) []string {
	return strings.Fields(c.CommandPath())[1:]
}

func names(c *cobra.Command) []string {
	var list []string
	for _, sub := range c.Commands() {
		list = append(list, sub.Name())
	}
	return list
}

// args makes a check of the number of arguments, most below 0 meaning any.
func args(least, most int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, given []string) error {
		switch {
		case len(given) < least:
			return usagef("an argument is missing: give %s", what)
		case most >= 0 && len(given) > most:
			return usagef("%q is too much: give %s", given[most], what)
		}
		return nil
	}
}

func noArgs(_ *cobra.Command, given []string) error {
	if len(given) > 0 {
		return usagef("the command takes no argument, %q is too much", given[0])
	}
	return nil
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.print(c, map[string]string{"version": a.version}, func(t *table) { t.line("sallyport " + a.version) })
		},
	}
}
