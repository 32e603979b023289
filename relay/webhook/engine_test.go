package webhook_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/relaytest"
	"github.com/dot-do/relay/relay/webhook"
)

func TestEveryEventReachesEveryMatchingSubscriptionOnceAndIsAcked(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a", "b")
	s.subs.Put(s.subscription(t, "seven", `{"n":7}`))
	s.emit(100)
	start(t, s.config())
	s.emit(100)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "all acked")
	require.Equal(t, 200, s.count("a"))
	require.Equal(t, 200, s.count("b"))
	require.Equal(t, 1, s.count("seven"))
	require.Equal(t, fmt.Appendf(nil, `{"data":{"n":%d}}`, 7), []byte(s.received("seven")[0].body))
	_, repeated := s.total()
	require.Zero(t, repeated)
	require.Equal(t, 200, s.logged("a"))
}

func TestFirstAttemptsStartInStreamOrder(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a")
	s.emit(300)
	cfg := s.config()
	cfg.LaneConcurrency = 1
	start(t, cfg)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "all acked")
	for i, r := range s.received("a") {
		require.Equal(t, fmt.Appendf(nil, `{"data":{"n":%d}}`, i), []byte(r.body))
	}
}

func TestFailuresFollowTheScheduleWithTheSameIDAndBytes(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a")
	var tries atomic.Int64
	s.answer("a", func(w http.ResponseWriter, _ *http.Request) {
		if tries.Add(1) <= 3 {
			w.WriteHeader(500)
		}
	})
	cfg := s.config()
	cfg.RetrySchedule = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}
	start(t, cfg)
	s.emit(1)
	eventually(t, func() bool { return s.logged("a") == 4 }, "four attempts")
	got := s.received("a")
	for i, want := range cfg.RetrySchedule {
		gap := got[i+1].at.Sub(got[i].at)
		require.GreaterOrEqual(t, gap, want*8/10)
		require.Less(t, gap, want*12/10+300*time.Millisecond)
	}
	for i, r := range got {
		require.Equal(t, got[0].id, r.id)
		require.Equal(t, got[0].body, r.body)
		require.Equal(t, fmt.Sprint(i+1), r.attempt)
	}
	kinds := []relay.OutcomeKind{}
	for _, o := range s.ledger.Log("a") {
		kinds = append(kinds, o.Kind)
	}
	require.Equal(t, []relay.OutcomeKind{relay.Retry, relay.Retry, relay.Retry, relay.Delivered}, kinds)
	require.Zero(t, s.feed.Open(), "the event does not wait for the retries")
	require.Zero(t, s.ledger.Waiting(""))
}

func TestExhaustedDeliveryIsDead(t *testing.T) {
	s := newStage(t, time.Minute)
	sub := s.subscription(t, "a", `{}`)
	sub.MaxRetries = 2
	s.subs.Put(sub)
	s.answer("a", status(503))
	cfg := s.config()
	cfg.RetrySchedule = []time.Duration{0}
	start(t, cfg)
	s.emit(1)
	eventually(t, func() bool { return len(s.ledger.Dead("a")) == 1 }, "dead letter")
	require.Equal(t, 3, s.count("a"))
	require.Zero(t, s.ledger.Waiting(""))
}

func TestGoneEndpointIsAskedOnce(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a")
	s.answer("a", status(410))
	start(t, s.config())
	s.emit(1)
	eventually(t, func() bool { return s.logged("a") == 1 }, "logged")
	rows, err := s.subs.Read(t.Context(), []string{"a"})
	require.NoError(t, err)
	require.False(t, rows[0].Active)
	require.Equal(t, relay.Gone, s.ledger.Log("a")[0].Kind)
	require.Equal(t, 1, s.count("a"))
}

func TestDeletedSubscriptionIsSilentAlthoughDeliveriesWait(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a", "b")
	release := make(chan struct{})
	s.answer("a", hang(release))
	start(t, s.config())
	s.emit(40)
	eventually(t, func() bool { return s.count("a") == 4 && s.count("b") == 40 }, "a's lane is full")
	s.subs.Delete("a")
	s.feed.Announce(relay.Announcement{ID: "a", Op: "delete"})
	s.emit(1)
	eventually(t, func() bool { return s.count("b") == 41 }, "the deletion is known")
	close(release)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "the events are acked")
	require.Equal(t, 4, s.count("a"))
}

func TestPausedSubscriptionKeepsWhatWaitsUntilItIsActiveAgain(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a", "b")
	release := make(chan struct{})
	s.answer("a", hang(release))
	start(t, s.config())
	s.emit(20)
	eventually(t, func() bool { return s.count("a") == 4 && s.count("b") == 20 }, "a's lane is busy")
	s.pause("a")
	s.emit(1)
	eventually(t, func() bool { return s.count("b") == 21 }, "the change is known")
	close(release)
	eventually(t, func() bool { return s.ledger.Waiting("a") == 16 && s.feed.Open() == 0 }, "put aside")
	require.Equal(t, 4, s.count("a"))
	s.resume("a")
	s.emit(1)
	eventually(t, func() bool { return s.count("a") == 21 }, "16 that waited and the new one")
	_, repeated := s.total()
	require.Zero(t, repeated)
}

func TestNewSubscriptionSeesOnlyWhatCameAfterIt(t *testing.T) {
	s := newStage(t, time.Minute)
	s.emit(10)
	s.subscribe(t, "late") // committed behind the ten events, announced behind them
	s.feed.Announce(relay.Announcement{ID: "late", Op: "insert", Fresh: true})
	s.emit(5)
	start(t, s.config())
	s.emit(5)
	s.subscribe(t, "later")
	s.feed.Announce(relay.Announcement{ID: "later", Op: "insert", Fresh: true})
	s.emit(5)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "all acked")
	require.Equal(t, 15, s.count("late"))
	require.Equal(t, 5, s.count("later"))
}

func TestChangedSubscriptionIsReadBeforeTheNextEventIsMatched(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a")
	start(t, s.config())
	for i := range 50 {
		s.subs.Put(s.subscription(t, "a", fmt.Sprintf(`{"n":%d}`, i)))
		s.feed.Announce(relay.Announcement{ID: "a", Op: "update"})
		s.emit(1)
		eventually(t, func() bool { return s.feed.Open() == 0 }, "acked")
		require.Equal(t, i+1, s.count("a"))
	}
}

// lateRows are subscriptions whose changes other sessions see later than the log.
type lateRows struct {
	*relaytest.Subscriptions
	ended func(ctx context.Context, xids []uint32) error
}

func (r lateRows) Ended(ctx context.Context, xids []uint32) error { return r.ended(ctx, xids) }

func TestASubscriptionIsNotReadBeforeItsTransactionHasEnded(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a")
	cfg := s.config()
	asked := make(chan []uint32, 1)
	commit := make(chan struct{})
	cfg.Subscriptions = lateRows{s.subs, func(ctx context.Context, xids []uint32) error {
		asked <- xids
		select {
		case <-commit:
		case <-ctx.Done():
		}
		return ctx.Err()
	}}
	start(t, cfg)
	s.feed.Announce(relay.Announcement{ID: "a", Op: "update", XID: 770})
	s.emit(1)
	require.Equal(t, []uint32{770}, <-asked)
	s.subs.Put(s.subscription(t, "a", `{"n":99}`))
	close(commit)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "acked")
	require.Zero(t, s.count("a"), "matched with the filter that was in force")
}

func TestTruncateReadsEverythingAgain(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a", "b")
	start(t, s.config())
	s.emit(1)
	eventually(t, func() bool { return s.count("a") == 1 && s.count("b") == 1 }, "both")
	s.subs.Delete("a")
	s.feed.Announce(relay.Announcement{Op: "truncate"})
	s.emit(1)
	eventually(t, func() bool { return s.count("b") == 2 && s.feed.Open() == 0 }, "b only")
	require.Equal(t, 1, s.count("a"))
}

func TestNewRefusesAnIncompleteConfiguration(t *testing.T) {
	_, err := webhook.New(webhook.Config{})
	require.ErrorContains(t, err, "required")
	cfg := newStage(t, time.Second).config()
	cfg.RetrySchedule = []time.Duration{-1}
	_, err = webhook.New(cfg)
	require.ErrorContains(t, err, "negative")
}
