package demo

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"sallyport/crypto"
)

const longToken = "spt_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmn"

// rows are the numbers of the result that tests wrap.
const rows = `{"rows":[{"id":"L-19999","date":"2026-10-30","cents":-48250},{"id":"L-19998","date":"2026-10-29","cents":-129925}]}`

func TestScreenFitsIn80Columns(t *testing.T) {
	tests := map[string]struct {
		print func(*screen)
		want  string
	}{
		"step": {
			func(s *screen) { s.step("FinanceAgent reads the ledger"); s.step("And again") },
			`
1  FinanceAgent reads the ledger

2  And again
`,
		},
		"short block": {
			func(s *screen) { s.block("sent", "POST /mcp/accounting", "tools/call query_ledger {}") },
			`   sent    POST /mcp/accounting
           tools/call query_ledger {}
`,
		},
		"words break between words": {
			func(s *screen) {
				s.block("back", "the quick brown fox jumps over the lazy dog while the tide is coming in and the ropes are wet")
			},
			`   back    the quick brown fox jumps over the lazy dog while the tide is coming
           in and the ropes are wet
`,
		},
		"JSON breaks between members": {
			func(s *screen) { s.block("back", rows) },
			`   back    {"rows":[{"id":"L-19999","date":"2026-10-30","cents":-48250},
           {"id":"L-19998","date":"2026-10-29","cents":-129925}]}
`,
		},
		"what has neither breaks anywhere": {
			func(s *screen) { s.block("back", strings.Repeat("x", 75)) },
			"   back    " + strings.Repeat("x", 69) + "\n           xxxxxx\n",
		},
		"characters count, not bytes": {
			func(s *screen) { s.block("back", strings.Repeat("é", 69)) },
			"   back    " + strings.Repeat("é", 69) + "\n",
		},
		"long blocks are cut": {
			func(s *screen) { s.block("back", strings.Repeat("a line\n", 15)+"a line") },
			"   back    a line\n" + strings.Repeat("           a line\n", 13) + "           … and 2 more lines\n",
		},
		"checks": {
			func(s *screen) { s.check(true, "this is so"); s.check(false, "that is so") },
			`   ok      this is so
   FAILED  that is so
`,
		},
		"all held": {
			func(s *screen) { s.step("One"); s.check(true, "this"); s.summary() },
			`
1  One
   ok      this

All 1 checks in 1 steps held.
`,
		},
		"some failed": {
			func(s *screen) {
				s.step("One")
				s.check(true, "this")
				s.step("Two")
				s.check(false, "that the open stream ends together with the token that it was opened with")
				s.summary()
			},
			`
1  One
   ok      this

2  Two
   FAILED  that the open stream ends together with the token that it was opened
           with

1 of 2 checks FAILED:
           step 2: that the open stream ends together with the token that it was
           opened with
`,
		},
		"tokens are masked": {
			func(s *screen) {
				s.hide(crypto.SecretString(longToken))
				s.block("back", "you sent "+longToken+", did you not?")
				s.verbatim("curl " + longToken + "\n")
			},
			`   back    you sent spt_…klmn, did you not?
  curl spt_…klmn
`,
		},
		"lines to copy keep their form": {
			func(s *screen) { s.verbatim("curl \\\n  -d '{}'\n\nend\n"); s.gap() },
			"  curl \\\n    -d '{}'\n\n  end\n\n",
		},
		"nobody steers the terminal": {
			func(s *screen) { s.block("back", "a\x1b[2Jb\rc\u202ed") },
			"   back    a?[2Jb?c?d\n",
		},
		"prose": {
			func(s *screen) {
				s.paragraph("Everything runs on this machine and is gone when the demo ends: press Ctrl-C for that.")
			},
			`Everything runs on this machine and is gone when the demo ends: press Ctrl-C for
that.
`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			test.print(newScreen(&out, os.Getenv))
			if out.String() != test.want {
				t.Errorf("printed\n%s\nwant\n%s", out.String(), test.want)
			}
			for line := range strings.Lines(out.String()) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
					t.Errorf("%d columns: %s", n, line)
				}
			}
		})
	}
}

func TestScreenColours(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &output{Writer: &out}, colour: true}
	s.step("One")
	s.check(true, "this is so,\nand that")
	want := "\n\x1b[1m1  One\x1b[0m\n   \x1b[32mok      \x1b[0mthis is so,\n           and that\n"
	if out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}

func TestColourOnlyOnATerminal(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if isTerminal(file) || isTerminal(&bytes.Buffer{}) {
		t.Error("what is not a terminal counts as one")
	}
	for _, test := range []struct {
		name, value string
		want        bool
	}{
		{"TERM", "xterm-256color", true},
		{"TERM", "dumb", false},
		{"NO_COLOR", "", true},
		{"NO_COLOR", "1", false},
	} {
		got := wantsColour(func(name string) string {
			if name == test.name {
				return test.value
			}
			return ""
		})
		if got != test.want {
			t.Errorf("%s=%s: colour %t, want %t", test.name, test.value, got, test.want)
		}
	}
}

func TestSummaryTellsWhetherAllHeld(t *testing.T) {
	s := newScreen(&bytes.Buffer{}, os.Getenv)
	s.check(true, "this")
	if !s.summary() {
		t.Error("one check held, and the summary says otherwise")
	}
	s.check(false, "that")
	if s.summary() {
		t.Error("one check failed, and the summary says otherwise")
	}
}

func TestMask(t *testing.T) {
	for text, want := range map[string]string{
		longToken: "spt_…klmn",
		"short":   "[secret]",
		"":        "[secret]",
	} {
		if got := mask(crypto.SecretString(text)); got != want {
			t.Errorf("mask(%q) = %q, want %q", text, got, want)
		}
	}
}
