package transport

import (
	"bytes"
	"context"
	"log"
	"log/slog"
)

// warnings passes on records of level Warn and above.
type warnings struct{ slog.Handler }

func (h warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

// newErrorLog gives net/http a log that ends in logger.
func newErrorLog(logger *slog.Logger) *log.Logger { return log.New(errorLog{logger}, "", 0) }

type errorLog struct{ logger *slog.Logger }

// Write takes one message. Failed handshakes are what port scanners cause all day, and not worth a warning.
func (l errorLog) Write(message []byte) (int, error) {
	level := slog.LevelWarn
	if bytes.HasPrefix(message, []byte("http: TLS handshake error")) {
		level = slog.LevelDebug
	}
	l.logger.Log(context.Background(), level, string(bytes.TrimSpace(message)))
	return len(message), nil
}
