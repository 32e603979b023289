package webhook

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

// pickyLedger refuses batches that hold a poisoned outcome, and everything while
// away is set.
type pickyLedger struct {
	Ledger
	mu      sync.Mutex
	away    bool
	stored  []string
	batches int
}

func (l *pickyLedger) Settle(_ context.Context, outcomes []relay.Outcome) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return errors.New("connection refused")
	}
	for _, o := range outcomes {
		if o.Delivery.EventID == "poison" {
			return errors.New("value too long")
		}
	}
	l.batches++
	for _, o := range outcomes {
		l.stored = append(l.stored, o.Delivery.EventID)
	}
	return nil
}

func outcomeOf(event string) relay.Outcome {
	return relay.Outcome{Delivery: relay.Delivery{EventID: event}, Kind: relay.Delivered}
}

func TestAnOutcomeThatCannotBeStoredHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, committed := &pickyLedger{}, 0
		s := newSettler(ledger, slog.New(slog.DiscardHandler), func(b []settlement) { committed += len(b) })
		for range 300 {
			s.add(&task{}, outcomeOf("fine"))
		}
		s.add(&task{}, outcomeOf("poison"))
		for range 300 {
			s.add(&task{}, outcomeOf("fine"))
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.run(ctx); close(done) }()
		pass(time.Minute)
		synctest.Wait()
		require.Equal(t, 600, committed)
		left, _ := s.left()
		require.Equal(t, 1, left)
		require.Error(t, s.err())
		cancel()
		<-done
	})
}

func TestOutcomesOutliveALedgerThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, committed := &pickyLedger{away: true}, 0
		s := newSettler(ledger, slog.New(slog.DiscardHandler), func(b []settlement) { committed += len(b) })
		go s.run(t.Context())
		for range 1000 {
			s.add(&task{}, outcomeOf("fine"))
		}
		pass(time.Hour)
		synctest.Wait()
		require.Zero(t, committed)
		ledger.mu.Lock()
		ledger.away = false
		ledger.mu.Unlock()
		pass(3 * time.Second)
		synctest.Wait()
		require.Equal(t, 1000, committed)
		require.Len(t, ledger.stored, 1000)
		require.Less(t, ledger.batches, 50)
		require.NoError(t, s.err())
		s.close()
	})
}
