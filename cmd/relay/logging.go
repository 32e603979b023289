package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/relay"
)

// isTerminal reports whether w is a terminal that a person looks at.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// terminalWidth is the number of columns of the terminal w, 0 when it is none.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

func textLog(w io.Writer, cfg config.Log) bool {
	return cfg.Format == config.FormatText || (cfg.Format == config.FormatAuto && isTerminal(w))
}

// lastWord makes the error that ends a process the last line of a JSON log, so
// that every line is one object. A person at a terminal reads it as plain text.
func lastWord(ctx context.Context, log *slog.Logger, err error) error {
	if err == nil {
		return nil
	}
	finding, remedy := remedyOf(err)
	if halt, ok := errors.AsType[*relay.HaltError](err); ok {
		finding = "halted (" + halt.Reason + "): " + finding
	}
	log.ErrorContext(ctx, "relay failed", "error", finding, "remedy", remedy, "exit_code", exitCode(err))
	return reported{err}
}

// newLogger writes JSON lines, or text on a terminal. The level can be changed
// while the process runs.
func newLogger(w io.Writer, cfg config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(cfg.Level)
	opts := &slog.HandlerOptions{Level: level}
	if textLog(w, cfg) {
		return slog.New(slog.NewTextHandler(w, opts)), level
	}
	return slog.New(slog.NewJSONHandler(w, opts)), level
}
