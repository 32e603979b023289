package webhook

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dot-do/relay/relay"
)

// retry calls fn until it succeeds, with growing pauses. It gives up when ctx
// ends, or on an error that a person must decide about or that takes another
// engine. It logs the first failure
// and the recovery; task says what fn does.
func retry(ctx context.Context, log *slog.Logger, task string, fn func() error) error {
	const first, last = 50 * time.Millisecond, 2 * time.Second
	for pause := first; ; pause = min(2*pause, last) {
		err := fn()
		switch {
		case err == nil:
			if pause != first {
				log.Info("succeeded after retries", "task", task)
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case final(err):
			return err
		case pause == first:
			log.Warn("failed, trying again", "task", task, "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// final reports whether trying again cannot help.
func final(err error) bool {
	var halt *relay.HaltError
	var setup *relay.SetupError
	return errors.As(err, &halt) || errors.As(err, &setup) || errors.Is(err, relay.ErrStreamReplaced)
}

// stopped is the result of a loop: nothing when it was asked to end.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// signal wakes a loop; one pending wake-up is enough.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
