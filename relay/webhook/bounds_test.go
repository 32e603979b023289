package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/relay"
)

// stuckLedger never answers Renew and Free.
type stuckLedger struct{ Ledger }

func (stuckLedger) Renew(ctx context.Context, _ []string, _ time.Duration) error {
	<-ctx.Done()
	return ctx.Err()
}

func (stuckLedger) Free(ctx context.Context, _ string, _ []relay.Delivery) error {
	<-ctx.Done()
	return ctx.Err()
}

// countingFeed counts extensions.
type countingFeed struct {
	Feed
	extended atomic.Int64
}

func (f *countingFeed) Extend(relay.StreamMessage) error {
	f.extended.Add(1)
	return nil
}

func (*countingFeed) AckWait() time.Duration { return 10 * time.Second }

func engineWith(t *testing.T, feed Feed, ledger Ledger) *Engine {
	e, err := New(Config{Feed: feed, Ledger: ledger, Subscriptions: noSubscriptions{}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return e
}

type noSubscriptions struct{ Subscriptions }

func TestALedgerThatDoesNotAnswerKeepsNoEventFromBeingExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed := &countingFeed{}
		e := engineWith(t, feed, stuckLedger{})
		e.flights.begin(relay.StreamMessage{Seq: 1})
		e.claims.begin("lease", 1)
		ctx, stop := context.WithCancel(t.Context())
		var keeper sync.WaitGroup
		keeper.Go(func() { e.keep(ctx) })
		keeper.Go(func() { e.keepLeases(ctx) })
		pass(5 * time.Minute)
		require.GreaterOrEqual(t, feed.extended.Load(), int64(85))
		stop()
		keeper.Wait()
	})
}

func TestALedgerThatDoesNotAnswerDoesNotProlongTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := engineWith(t, &countingFeed{}, stuckLedger{})
		var waiting []*task
		for i := range 100 {
			lease := fmt.Sprint("lease", i)
			e.claims.begin(lease, 1)
			waiting = append(waiting, &task{lease: lease})
		}
		began := time.Now()
		e.giveBack(t.Context(), waiting)
		require.LessOrEqual(t, time.Since(began), answerTimeout)
		require.Zero(t, e.claims.len())
	})
}

func TestAProcessThatHoldsAllItMayClaimSleepsThoughMoreIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := engineWith(t, &countingFeed{}, stuckLedger{})
		e.claims.begin("lease", claimsHeld)
		e.claims.wrote(0)
		pass(time.Second)
		wait, err := e.claimOnce(t.Context())
		require.NoError(t, err)
		began := time.Now()
		e.sleepUntilDue(t.Context(), began.Add(wait))
		require.Equal(t, pollBusy, time.Since(began))
	})
}

func TestABatchIsMatchedInPortionsThatFitIntoMemory(t *testing.T) {
	e := engineWith(t, &countingFeed{}, stuckLedger{})
	var changes []change
	for i := range 1000 {
		f, err := filters.Compile([]byte(`{}`))
		require.NoError(t, err)
		id := fmt.Sprint(i)
		changes = append(changes, change{ID: id, Row: &relay.Subscription{ID: id, EventType: "thing.updated", Filter: f, Active: true}})
	}
	e.dir.apply(changes)
	var taken []*flight
	for i := range uint64(256) {
		fl, _ := e.flights.begin(relay.StreamMessage{Seq: i + 1, Event: relay.Event{Type: "thing.updated", Visibility: relay.VisibleToEveryone, Data: []byte(`{}`)}})
		taken = append(taken, fl)
	}
	most, events := 0, 0
	for len(taken) > 0 {
		found := 0
		wanted := e.matchSome(taken)
		for _, w := range wanted {
			found += w.wanted
		}
		require.Equal(t, 1000*len(wanted), found)
		most, events, taken = max(most, found), events+len(wanted), taken[len(wanted):]
	}
	require.Equal(t, 256, events)
	require.Less(t, most, matchedAtOnce+1000)
}

// lockedLedger refuses the outcomes of one subscription and names it.
type lockedLedger struct {
	Ledger
	mu     sync.Mutex
	locked string
	stored map[string]int
	last   time.Time
}

type lockedSubscriptionError string

func (lockedSubscriptionError) Error() string    { return "a row is locked" }
func (s lockedSubscriptionError) Held() []string { return []string{string(s)} }

func (l *lockedLedger) Settle(_ context.Context, outcomes []relay.Outcome) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range outcomes {
		if o.Delivery.SubscriptionID == l.locked {
			return fmt.Errorf("settle: %w", lockedSubscriptionError(l.locked))
		}
	}
	for _, o := range outcomes {
		l.stored[o.Delivery.SubscriptionID]++
		l.last = time.Now()
	}
	return nil
}

func (l *lockedLedger) count(id string) (int, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stored[id], l.last
}

func TestALockedSubscriptionHoldsUpItsOwnOutcomesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := &lockedLedger{locked: "locked", stored: map[string]int{}}
		s := newSettler(ledger, slog.New(slog.DiscardHandler), func([]settlement) {})
		add := func(id string) {
			s.add(&task{}, relay.Outcome{Delivery: relay.Delivery{SubscriptionID: id}, Kind: relay.Deferred})
		}
		began := time.Now()
		go s.run(t.Context())
		for range 1000 {
			add("locked")
			add("fine")
		}
		pass(time.Minute)
		n, last := ledger.count("fine")
		require.Equal(t, 1000, n)
		require.Less(t, last.Sub(began), 100*time.Millisecond)
		left, why := s.left()
		require.Equal(t, 1000, left)
		require.Error(t, why)
		require.NoError(t, s.err(), "the ledger records what it can")

		add("fine")
		synctest.Wait()
		n, _ = ledger.count("fine")
		require.Equal(t, 1001, n)

		ledger.mu.Lock()
		ledger.locked = ""
		ledger.mu.Unlock()
		s.close()
		pass(heldPause + time.Second)
		n, _ = ledger.count("locked")
		require.Equal(t, 1000, n)
		left, _ = s.left()
		require.Zero(t, left)
	})
}

// renewedLedger records the order of calls and fails the first Claim.
type renewedLedger struct {
	Ledger
	mu    sync.Mutex
	calls []string
}

func (l *renewedLedger) Renew(context.Context, []string, time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, "renew")
	return nil
}

func (l *renewedLedger) Claim(ctx context.Context, _ int, _ time.Duration, _ relay.Busy) ([]relay.Delivery, string, error) {
	l.mu.Lock()
	l.calls = append(l.calls, "claim")
	n := len(l.calls)
	l.mu.Unlock()
	if n == 1 {
		return nil, "", errors.New("connection refused")
	}
	<-ctx.Done()
	return nil, "", ctx.Err()
}

func TestAfterALedgerWasAwayLeasesAreRenewedBeforeAnythingIsClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := &renewedLedger{}
		e := engineWith(t, &countingFeed{}, ledger)
		e.claims.begin("lease", 1)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.claimDue(ctx) }()
		pass(time.Second)
		stop()
		require.NoError(t, <-done)
		require.Equal(t, []string{"claim", "renew", "claim"}, ledger.calls)
	})
}

// teasingLedger always has something due and never hands it out: its row is locked.
type teasingLedger struct {
	Ledger
	claims int
}

func (l *teasingLedger) Claim(context.Context, int, time.Duration, relay.Busy) ([]relay.Delivery, string, error) {
	l.claims++
	return nil, "lease", nil
}

func (*teasingLedger) NextDue(context.Context, relay.Busy) (time.Duration, bool, error) {
	return 0, true, nil
}

func TestADueDeliveryThatNobodyCanTakeIsNotAskedForAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := &teasingLedger{}
		e := engineWith(t, &countingFeed{}, ledger)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.claimDue(ctx) }()
		pass(10 * time.Second)
		stop()
		require.NoError(t, <-done)
		require.LessOrEqual(t, ledger.claims, 50)
	})
}
