package cluster

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

type raftLogger = hclog.Logger

// newRaftLogger sends what raft logs to log.
func newRaftLogger(log *slog.Logger) raftLogger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Info, Output: io.Discard})
	l.RegisterSink(sink{log.With("component", "raft")})
	return l
}

type sink struct{ log *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s sink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	for i, a := range args {
		switch a := a.(type) {
		case hclog.Format:
			if len(a) > 0 {
				args[i] = fmt.Sprintf(fmt.Sprint(a[0]), a[1:]...)
			}
		case fmt.Stringer:
			args[i] = a.String()
		}
	}
	switch level {
	case hclog.Error:
		s.log.Error(msg, args...)
	case hclog.Warn:
		s.log.Warn(msg, args...)
	case hclog.Info:
		s.log.Info(msg, args...)
	default:
		s.log.Debug(msg, args...)
	}
}
