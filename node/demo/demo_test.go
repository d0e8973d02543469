package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sallyport/crypto"
	"sallyport/node/api/client"
	"sallyport/node/api/kind"
)

// onStage sets the stage in a directory of the test.
func onStage(t *testing.T) *stage {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	s, err := setStage(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.strike(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// The whole demo against a real node, and none of its secrets on the screen or
// in the logs.
func TestEveryStepHolds(t *testing.T) {
	s := onStage(t)
	var out bytes.Buffer
	if err := s.play(t.Context(), Config{Version: "test", Out: &out, Exit: true}); err != nil {
		t.Errorf("%v:\n%s", err, out.String())
	}
	// What the user gets to see after the tour counts too.
	if err := s.invite(t.Context(), newScreen(&out, os.Getenv), "/usr/local/bin/sallyport"); err != nil {
		t.Error(err)
	}
	text := out.String()
	for _, want := range []string{
		"All 18 checks in 4 steps held.", "HTTP/3.0, 200 OK", "HTTP/3.0, 401 Unauthorized",
		"error 1001: FinanceAgent may not tools/call", "tools: query_ledger\n", "by policy finance, with credential accounting:gateway",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the demo does not say %q:\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		// A path to copy is as long as it is.
		if columns := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); columns > 80 && !strings.Contains(line, s.dir) {
			t.Errorf("%d columns: %s", columns, line)
		}
	}

	secret := regexp.MustCompile(`spt_[0-9A-Za-z]{8}|spa_[0-9A-Za-z]{8}|eyJ[0-9A-Za-z]{8}|` + regexp.QuoteMeta(s.provider.ClientSecret(oauthClient).ExposeString()))
	if !secret.Match(s.read(t, tokenFile)) || !secret.Match(s.read(t, secretFile)) || !secret.Match(s.read(t, "node/admin.token")) {
		t.Fatal("the test knows no secret when it sees one")
	}
	audit, err := fs.Glob(os.DirFS(s.dir), "node/audit/*.jsonl")
	if err != nil || len(audit) == 0 {
		t.Fatalf("no audit: %v", err)
	}
	for _, name := range append(audit, logFile, resourcesFile) {
		if found := secret.Find(s.read(t, name)); found != nil {
			t.Errorf("%s holds a secret that begins with %.8s", name, found)
		}
	}
	if found := secret.FindString(text); found != "" {
		t.Errorf("a secret that begins with %.8s is on the screen", found)
	}
}

func (s *stage) read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// The file to apply does what the hints say of it, and what the node advises.
func TestPermitPermits(t *testing.T) {
	s := onStage(t)
	finance, err := s.newAgent(t.Context(), financeAgent)
	if err != nil {
		t.Fatal(err)
	}
	write := toolCall("accounting", "write_transaction", map[string]any{"account": "travel", "amount": -1, "memo": "x"})
	got, err := finance.send(t.Context(), write)
	if err != nil {
		t.Fatal(err)
	}
	documents, err := kind.ParseYAML(permitFile, s.read(t, permitFile))
	if err != nil || len(documents) != 1 {
		t.Fatalf("%d documents: %v", len(documents), err)
	}
	policy, ok := documents[0].Resource.(*kind.Policy)
	if !ok {
		t.Fatalf("%T is no policy", documents[0].Resource)
	}
	if flat := strings.Join(strings.Fields(policy.Spec.Cedar), " "); !got.denied() || !strings.HasSuffix(got.advice(), flat) {
		t.Errorf("advice %q, in the file is %q", got.advice(), flat)
	}
	if _, err := s.admin.Put(t.Context(), policy, client.Put{}); err != nil {
		t.Fatal(err)
	}
	if got, err = finance.send(t.Context(), write); err != nil || got.failure != nil || got.result == nil {
		t.Errorf("with the policy: %+v, %v", got, err)
	}
}

// watched is an output that does something once a text has appeared in it.
type watched struct {
	bytes.Buffer
	text string
	then func()
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if w.then != nil && strings.Contains(w.String(), w.text) {
		w.then()
		w.then = nil
	}
	return n, err
}

// Run stays up until it is interrupted, can be used meanwhile, and leaves
// nothing behind.
func TestRunStaysUpAndCleansUp(t *testing.T) {
	place := t.TempDir()
	t.Setenv("TMPDIR", place)
	structured, plain, flags := slog.Default(), log.Writer(), log.Flags()

	ctx, interrupt := context.WithTimeout(t.Context(), time.Minute)
	defer interrupt()
	full := make(chan struct{})
	out := &watched{text: "VS Code", then: func() { close(full) }}
	done := make(chan error, 1)
	go func() { done <- Run(ctx, Config{Version: "test", Executable: "/usr/local/bin/sallyport", Out: out}) }()
	select {
	case <-full:
	case err := <-done:
		t.Fatalf("the demo has ended: %v", err)
	}

	files, err := filepath.Glob(place + "/*/" + tokenFile)
	if err != nil || len(files) != 1 {
		t.Fatalf("token files %v, %v", files, err)
	}
	token, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if kind, _, err := crypto.ParseToken(strings.TrimSpace(string(token))); err != nil || kind != crypto.GatewayToken {
		t.Errorf("the token file holds a token of kind %q: %v", kind, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the token file: %v, %v", info.Mode(), err)
	}

	interrupt()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(place); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if slog.Default() != structured || log.Writer() != plain || log.Flags() != flags {
		t.Error("the default loggers are not what they were")
	}
}

func TestRunInterruptedInTheTour(t *testing.T) {
	place := t.TempDir()
	t.Setenv("TMPDIR", place)
	ctx, interrupt := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	out := &watched{text: "2  FinanceAgent", then: func() { interrupt(cause) }}
	if err := Run(ctx, Config{Version: "test", Out: out, Exit: true}); !errors.Is(err, cause) {
		t.Errorf("ended with %v, want %v", err, cause)
	}
	if strings.Contains(out.String(), "FAILED") {
		t.Errorf("being interrupted is shown as a failure:\n%s", out.String())
	}
	if left, err := os.ReadDir(place); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRunNeedsAPlace(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	err := Run(t.Context(), Config{Version: "test", Out: &bytes.Buffer{}, Exit: true})
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "start the demo: make a temporary directory: ") {
		t.Errorf("error %v", err)
	}
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// A demo that nobody can see does not stay up.
func TestRunEndsWithoutOutput(t *testing.T) {
	s := onStage(t)
	for _, exit := range []bool{true, false} {
		if err := s.play(t.Context(), Config{Version: "test", Out: closed{}, Exit: exit}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("exit %t: %v", exit, err)
		}
	}
}

// A tour that did not hold is an error.
func TestRunFailsIfAStepDoes(t *testing.T) {
	s := onStage(t)
	s.crm.Close() // so that step 3 cannot hold
	var out bytes.Buffer
	if err := s.play(t.Context(), Config{Out: &out, Exit: true}); err == nil || !strings.Contains(out.String(), "FAILED") {
		t.Errorf("error %v:\n%s", err, out.String())
	}
}
