package stdio

import (
	"bufio"
	"errors"
	"io"
	"sync"
)

// maxLine is more than a message may have, so that most of those that are too long can still be
// refused by their id.
const maxLine = 4 * maxMessage

var errTooLong = errors.New("the message is longer than 16 MiB")

// lineReader splits stdin into lines of at most limit bytes.
type lineReader struct {
	in    *bufio.Reader
	limit int
}

// next returns a line without its end. After errTooLong the rest of that line is gone and the
// reader stands at the next one. A last line without an end counts.
func (r *lineReader) next() ([]byte, error) {
	var line []byte
	tooLong := false
	for {
		part, err := r.in.ReadSlice('\n')
		if len(line)+len(part) > r.limit {
			tooLong, line = true, nil
		}
		if !tooLong {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case tooLong:
			return nil, errTooLong
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		case err != nil:
			return nil, err
		}
		return line, nil
	}
}

// lineWriter writes whole lines to stdout, which all requests share. The first error is kept and
// reported through broken, since without stdout there is nobody left to serve.
type lineWriter struct {
	broken func(error)

	mu  sync.Mutex // protects the following
	out io.Writer
	err error
}

func (w *lineWriter) line(text []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	whole := append(text[:len(text):len(text)], '\n')
	if _, err := w.out.Write(whole); err != nil {
		w.err = err
		w.broken(err)
	}
}
