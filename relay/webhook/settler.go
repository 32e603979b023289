package webhook

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dot-do/relay/relay"
)

const (
	settleBatch = 256                    // bounds one ledger transaction
	heldPause   = 500 * time.Millisecond // before outcomes that could not be recorded just then are tried again
	heldSilence = time.Minute            // between two log lines about them
)

// settlement is the outcome of a task on its way into the ledger.
type settlement struct {
	task    *task
	outcome relay.Outcome
}

// settler brings outcomes into the ledger, as many per transaction as came up
// during the last one. It tries for as long as it takes. While the ledger refuses
// it halves its batches down to single outcomes, which take turns: an outcome
// that cannot be stored holds up its own event only. Outcomes of subscriptions
// that the ledger names as held are set aside for a moment, without that.
type settler struct {
	ledger    Ledger
	log       *slog.Logger
	committed func([]settlement)

	mu      sync.Mutex
	queue   []settlement
	held    []settlement // not to be tried before until
	until   time.Time
	heldBy  error     // why
	told    time.Time // when that was logged last
	closed  bool
	failing error
	wake    chan struct{}
}

func newSettler(ledger Ledger, log *slog.Logger, committed func([]settlement)) *settler {
	return &settler{ledger: ledger, log: log, committed: committed, wake: make(chan struct{}, 1)}
}

func (s *settler) add(t *task, o relay.Outcome) {
	s.mu.Lock()
	s.queue = append(s.queue, settlement{t, o})
	s.mu.Unlock()
	signal(s.wake)
}

// close lets run end when the queue is empty.
func (s *settler) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	signal(s.wake)
}

// err is the last answer of the ledger: nil when it took the batch.
func (s *settler) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing
}

// left is how many outcomes are not recorded, and why.
func (s *settler) left() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	why := s.failing
	if why == nil {
		why = s.heldBy
	}
	return len(s.queue) + len(s.held), why
}

func (s *settler) run(ctx context.Context) {
	const firstPause, lastPause = 25 * time.Millisecond, 2 * time.Second
	size, pause := settleBatch, firstPause
	for {
		batch, closed := s.next(size)
		if len(batch) == 0 {
			if closed {
				return
			}
			if !s.rest(ctx) {
				return
			}
			continue
		}
		outcomes := make([]relay.Outcome, len(batch))
		for i := range batch {
			outcomes[i] = batch[i].outcome
		}
		err := s.ledger.Settle(ctx, outcomes)
		if s.setAside(batch, err) {
			continue
		}
		s.report(err)
		if err == nil {
			s.take(len(batch))
			s.committed(batch)
			clear(batch) // the queue's memory may live on
			size, pause = min(2*size, settleBatch), firstPause
			continue
		}
		if size = max(1, len(batch)/2); len(batch) == 1 {
			s.rotate()
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, lastPause)
	}
}

// next returns the head of the queue, which stays there until it is taken.
func (s *settler) next(size int) ([]settlement, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) > 0 && !time.Now().Before(s.until) {
		s.queue, s.held = append(s.queue, s.held...), nil
	}
	n := min(len(s.queue), size)
	return s.queue[:n:n], s.closed && len(s.held) == 0
}

// rest waits until there may be something to do; false when ctx ends.
func (s *settler) rest(ctx context.Context) bool {
	s.mu.Lock()
	pause := time.Hour
	if len(s.held) > 0 {
		pause = time.Until(s.until)
	}
	s.mu.Unlock()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-s.wake:
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	return true
}

// setAside takes the outcomes of the subscriptions that the error names as held
// out of the batch that stands at the head of the queue. It reports whether there
// are any: then the others can be tried at once.
func (s *settler) setAside(batch []settlement, err error) bool {
	var naming interface{ Held() []string }
	if !errors.As(err, &naming) {
		return false
	}
	names := naming.Held()
	var rest, held []settlement
	for _, b := range batch {
		if slices.Contains(names, b.outcome.Delivery.SubscriptionID) {
			held = append(held, b)
		} else {
			rest = append(rest, b)
		}
	}
	if len(held) == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) == 0 {
		s.until = time.Now().Add(heldPause)
	}
	s.held = append(s.held, held...)
	s.queue = append(rest, s.queue[len(batch):]...)
	s.heldBy = err
	if time.Since(s.told) > heldSilence {
		s.told = time.Now()
		s.log.Warn("outcomes of some subscriptions cannot be recorded, trying again", "error", err, "outcomes", len(held))
	}
	return true
}

func (s *settler) take(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = s.queue[n:]
}

// rotate moves the head to the end.
func (s *settler) rotate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(append([]settlement(nil), s.queue[1:]...), s.queue[0])
}

// report logs when the ledger begins and ceases to refuse.
func (s *settler) report(err error) {
	s.mu.Lock()
	before := s.failing
	s.failing = err
	s.mu.Unlock()
	switch {
	case err != nil && before == nil:
		s.log.Warn("outcomes cannot be recorded, trying again", "error", err)
	case err == nil && before != nil:
		s.log.Info("outcomes are recorded again")
	}
}
