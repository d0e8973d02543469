package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"

	"sallyport/crypto"
)

const (
	screenWidth = 80
	labelWidth  = 8  // of the column that says what a line is
	indent      = 3  // of everything that belongs to a step
	maxLines    = 14 // shown of one block
)

// screen prints the tour: numbered steps, each with what was sent, what came
// back and what was checked, never wider than 80 columns.
type screen struct {
	out    *output
	colour bool
	hidden []crypto.Secret

	steps  int
	checks int
	failed []string // claims that did not hold, with their step
}

func newScreen(out io.Writer, getenv func(string) string) *screen {
	return &screen{out: &output{Writer: out}, colour: isTerminal(out) && wantsColour(getenv)}
}

// output remembers that nobody can see any more what is written to it, so
// that not every line has to ask.
type output struct {
	io.Writer
	err error // the first
}

func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.Writer.Write(p)
	o.err = err
	return n, err
}

// lost is the error if not everything could be shown.
func (s *screen) lost() error {
	if s.out.err != nil {
		return fmt.Errorf("show the tour: %w", s.out.err)
	}
	return nil
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// wantsColour is false if the user (https://no-color.org) or the terminal
// objects.
func wantsColour(getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// hide makes the screen show a token as its first and last four characters,
// wherever it turns up.
func (s *screen) hide(token crypto.Secret) { s.hidden = append(s.hidden, token) }

// heading starts the tour or what follows it.
func (s *screen) heading(title string) {
	fmt.Fprintf(s.out, "\n%s\n\n", s.paint(bold, s.clean(title)))
}

// step starts the next numbered step.
func (s *screen) step(title string) {
	s.steps++
	fmt.Fprintf(s.out, "\n%s\n", s.paint(bold, fmt.Sprintf("%-*d%s", indent, s.steps, s.clean(title))))
}

// block prints lines under one label, each wrapped.
func (s *screen) block(label string, lines ...string) { s.labelled(label, dim, lines) }

// check prints whether a claim of the tour holds, and remembers it if not.
func (s *screen) check(holds bool, claim string) {
	s.checks++
	if holds {
		s.labelled("ok", green, []string{claim})
		return
	}
	s.labelled("FAILED", red, []string{claim})
	s.failed = append(s.failed, fmt.Sprintf("step %d: %s", s.steps, claim))
}

// paragraph prints prose over the whole width.
func (s *screen) paragraph(text string) {
	for _, line := range wrap(s.clean(text), screenWidth) {
		fmt.Fprintln(s.out, line)
	}
}

// verbatim prints what is to be copied, so it is not wrapped.
func (s *screen) verbatim(text string) {
	for line := range strings.Lines(s.clean(text)) {
		fmt.Fprintln(s.out, strings.TrimRight("  "+line, " \n"))
	}
}

// gap sets apart what comes before from what follows.
func (s *screen) gap() { fmt.Fprintln(s.out) }

// summary ends the tour and reports whether everything held.
func (s *screen) summary() bool {
	fmt.Fprintln(s.out)
	if len(s.failed) == 0 {
		fmt.Fprintln(s.out, s.paint(green, fmt.Sprintf("All %d checks in %d steps held.", s.checks, s.steps)))
		return true
	}
	fmt.Fprintln(s.out, s.paint(red, fmt.Sprintf("%d of %d checks FAILED:", len(s.failed), s.checks)))
	for _, claim := range s.failed {
		s.labelled("", "", []string{claim})
	}
	return false
}

func (s *screen) labelled(label string, style style, lines []string) {
	var wrapped []string
	for _, line := range lines {
		wrapped = append(wrapped, wrap(s.clean(line), screenWidth-indent-labelWidth)...)
	}
	if more := len(wrapped) - maxLines; more > 0 {
		wrapped = append(wrapped[:maxLines], fmt.Sprintf("… and %d more lines", more))
	}
	for _, line := range wrapped {
		padded := fmt.Sprintf("%-*s", labelWidth, label)
		fmt.Fprintf(s.out, "%*s%s%s\n", indent, "", s.paint(style, padded), line)
		label = ""
	}
}

// clean hides secrets, and everything an upstream could steer a terminal with.
func (s *screen) clean(text string) string {
	for _, token := range s.hidden {
		text = strings.ReplaceAll(text, token.ExposeString(), mask(token))
	}
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// mask is what may be shown of a token: enough to tell two apart.
func mask(token crypto.Secret) string {
	text := token.ExposeString()
	if len(text) < 24 {
		return "[secret]"
	}
	return text[:4] + "…" + text[len(text)-4:]
}

// style is an ANSI sequence that a terminal shows the text after it in.
type style string

const (
	bold  style = "\x1b[1m"
	dim   style = "\x1b[2m"
	green style = "\x1b[32m"
	red   style = "\x1b[1;31m"
	plain style = "\x1b[0m"
)

func (s *screen) paint(style style, text string) string {
	if !s.colour || style == "" || strings.TrimSpace(text) == "" {
		return text
	}
	return string(style) + text + string(plain)
}

// wrap breaks text into lines of at most width characters: between words,
// compact JSON between members, and what has neither anywhere.
func wrap(text string, width int) []string {
	var lines []string
	for paragraph := range strings.SplitSeq(text, "\n") {
		rest := []rune(strings.TrimRight(paragraph, " "))
		inJSON := strings.Contains(paragraph, `{"`)
		for len(rest) > width {
			end := breakAt(rest, width, inJSON)
			lines = append(lines, strings.TrimRight(string(rest[:end]), " "))
			rest = rest[end:]
		}
		lines = append(lines, string(rest))
	}
	return lines
}

// breakAt is the length of the first line of text. A line less than half full
// is not worth keeping things together for.
func breakAt(text []rune, width int, inJSON bool) int {
	for i := width; inJSON && i > width/2; i-- {
		if text[i-1] == ',' && (text[i] == '"' || text[i] == '{') {
			return i
		}
	}
	for i := width + 1; i > width/2; i-- {
		if text[i-1] == ' ' {
			return i
		}
	}
	return width
}
