package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/relay/pgstore"
)

type filtersCmd struct {
	Check filtersCheckCmd `cmd:"" help:"Check a filter, a subscription's, or all that are stored."`
	Test  filtersTestCmd  `cmd:"" help:"Say whether a filter takes an event, and why."`
}

// maxInput is more than any event or filter has.
const maxInput = 64 << 20

// input returns what an argument stands for: the text itself when it is JSON, else
// the content of a file, or of standard input for -.
func (a *app) input(what, arg string) ([]byte, error) {
	if text := strings.TrimSpace(arg); strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") {
		return []byte(arg), nil
	}
	from := a.stdin
	if arg != "-" {
		file, err := os.Open(arg)
		if err != nil {
			return nil, usageError{fmt.Errorf("read the %s: %w; give a file, - for standard input, or the JSON itself", what, err)}
		}
		defer func() { _ = file.Close() }() // it was only read
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	if err != nil {
		return nil, usageError{fmt.Errorf("read the %s: %w", what, err)}
	}
	if len(text) > maxInput {
		return nil, usageError{fmt.Errorf("the %s is larger than %d MiB", what, maxInput>>20)}
	}
	return text, nil
}

// openStore opens the database for a command that only reads it.
func (a *app) openStore(ctx context.Context) (*pgstore.Store, error) {
	cfg, err := config.Load(a.configPath, a.environ)
	if err != nil {
		return nil, err
	}
	log, _ := newLogger(a.stderr, cfg.Log)
	return pgstore.Open(ctx, pgstore.Config{URL: cfg.Source.URL, MaxConns: 2, Logger: log})
}

// readWebhook returns a row that must be there.
func readWebhook(ctx context.Context, store *pgstore.Store, id string) (*pgstore.Webhook, error) {
	row, err := store.Webhook(ctx, id)
	if err != nil {
		return nil, err
	}
	if row == nil {
		return nil, usageError{fmt.Errorf("--webhook %q: zapier_webhooks has no such row", id)}
	}
	return row, nil
}

// mistakes returns what Compile found; it returns nothing else.
func mistakes(err error) []*filters.Error {
	var all filters.Errors
	errors.As(err, &all)
	return all
}

// progress tells a waiting person how far something has come, once it takes long.
type progress struct {
	w     io.Writer
	every time.Duration
	next  time.Time
}

func newProgress(w io.Writer) *progress {
	const every = 2 * time.Second
	return &progress{w: w, every: every, next: time.Now().Add(every)}
}

func (p *progress) say(format string, args ...any) {
	if now := time.Now(); now.After(p.next) {
		p.next = now.Add(p.every)
		fmt.Fprintf(p.w, format+"\n", args...)
	}
}
