package natsstream

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
)

// serverLog hands the embedded server's lines to slog: what it notices is debug
// to an operator of the relay, what it complains about is a warning.
type serverLog struct {
	log   *slog.Logger
	debug bool

	mu    sync.Mutex
	first error // fatal line: why the server does not start
}

func newServerLog(ctx context.Context, log *slog.Logger) *serverLog {
	return &serverLog{log: log.With("component", "nats_server"), debug: log.Enabled(ctx, slog.LevelDebug)}
}

func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// Noticef is part of the server's Logger.
func (l *serverLog) Noticef(format string, v ...any) { l.line(slog.LevelDebug, format, v) }

// Debugf is part of the server's Logger.
func (l *serverLog) Debugf(format string, v ...any) { l.line(slog.LevelDebug, format, v) }

// Tracef is part of the server's Logger.
func (l *serverLog) Tracef(format string, v ...any) { l.line(slog.LevelDebug, format, v) }

// Warnf is part of the server's Logger.
func (l *serverLog) Warnf(format string, v ...any) { l.line(slog.LevelWarn, format, v) }

// Errorf is part of the server's Logger.
func (l *serverLog) Errorf(format string, v ...any) { l.line(slog.LevelWarn, format, v) }

// Fatalf is part of the server's Logger. The server expects to be ended by it; here
// whoever started it looks at the error.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.line(slog.LevelWarn, format, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = fmt.Errorf(format, v...)
	}
}

func (l *serverLog) line(level slog.Level, format string, v []any) {
	ctx := context.Background() // the server has none
	if l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "nats server", "line", fmt.Sprintf(format, v...))
	}
}
