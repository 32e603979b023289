package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/webhook"
)

func TestOneHangingEndpointDelaysNobody(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "fine", "hangs")
	release := make(chan struct{})
	defer close(release)
	s.answer("hangs", hang(release))
	cfg := s.config()
	cfg.HTTPTimeout = 3 * time.Second
	cfg.DrainTimeout = time.Second
	start(t, cfg)
	began := time.Now()
	for range 20 {
		s.emit(50)
		<-time.After(time.Millisecond)
	}
	eventually(t, func() bool { return s.count("fine") == 1000 }, "the healthy one has all")
	require.Less(t, time.Since(began), 3*time.Second)
	require.LessOrEqual(t, s.count("hangs"), 8)
	eventually(t, func() bool { return s.feed.Open() <= 20 }, "what does not fit its lane is put aside, and acked")
	eventually(t, func() bool { return s.ledger.Waiting("hangs") > 900 }, "in the ledger")
}

func TestEndpointThatComesBackGetsWhatWasPutAside(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a")
	release := make(chan struct{})
	s.answer("a", hang(release))
	start(t, s.config())
	s.emit(300)
	eventually(t, func() bool { return s.ledger.Waiting("a") > 200 }, "put aside")
	close(release)
	eventually(t, func() bool { return s.logged("a") == 300 && s.ledger.Waiting("") == 0 }, "all delivered")
	n, repeated := s.total()
	require.Equal(t, 300, n)
	require.Zero(t, repeated)
}

func TestDrainLosesAndRepeatsNothing(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a", "b", "c")
	for _, id := range []string{"a", "b", "c"} {
		s.answer(id, func(http.ResponseWriter, *http.Request) { <-time.After(2 * time.Millisecond) })
	}
	s.emit(600)
	for {
		stop := start(t, s.config())
		<-time.After(30 * time.Millisecond)
		stop()
		if s.feed.Open() == 0 && s.ledger.Waiting("") == 0 {
			break
		}
		s.feed.Crash() // nobody holds anything after a drain
	}
	n, repeated := s.total()
	require.Equal(t, 1800, n)
	require.Zero(t, repeated)
	require.Equal(t, 1800, s.logged(""))
}

func TestDrainGivesBackEventsAtOnce(t *testing.T) {
	s := newStage(t, time.Hour)
	s.subscribe(t, "a")
	release := make(chan struct{})
	s.answer("a", hang(release))
	s.emit(20)
	stop := start(t, s.config())
	eventually(t, func() bool { return s.count("a") == 4 }, "attempts under way")
	time.AfterFunc(50*time.Millisecond, func() { close(release) })
	stop()
	require.Equal(t, 4, s.count("a"))
	require.Equal(t, 16, s.feed.Open())
	start(t, s.config())
	eventually(t, func() bool { return s.feed.Open() == 0 }, "the next process has them without waiting")
	n, repeated := s.total()
	require.Equal(t, 20, n)
	require.Zero(t, repeated)
}

func TestKilledProcessLosesNothingAndRepeatsOnlyWhatWasNotRecorded(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a", "b")
	for _, id := range []string{"a", "b"} {
		s.answer(id, func(http.ResponseWriter, *http.Request) { <-time.After(time.Millisecond) })
	}
	s.emit(1000)
	settled := map[string]bool{}
	for round := range 4 {
		dead := &atomic.Bool{}
		cfg := s.config()
		m := mortal{s.feed, s.ledger, dead}
		cfg.Feed, cfg.Ledger, cfg.DrainTimeout = mortalFeed{m}, mortalLedger{m}, 10*time.Millisecond
		e, err := webhook.New(cfg)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { _ = e.Run(ctx); close(done) }()
		at := 100 * (round + 1)
		eventually(t, func() bool { return s.logged("") >= at }, "some are recorded")
		dead.Store(true)
		for _, o := range s.ledger.Log("") {
			settled[relay.WebhookID(o.Delivery.EventID, o.Delivery.SubscriptionID)] = true
		}
		before, _ := s.total()
		cancel()
		<-done
		after, _ := s.total()
		require.Less(t, after-before, 1000)
		s.feed.Crash()
		s.mu.Lock() // forget what arrived before: from here on nothing settled may arrive
		s.requests = map[string][]request{}
		s.mu.Unlock()

		if round == 3 {
			start(t, s.config())
			eventually(t, func() bool { return s.feed.Open() == 0 && s.ledger.Waiting("") == 0 }, "all acked in the end")
		}
		s.mu.Lock()
		for _, list := range s.requests {
			for _, r := range list {
				require.False(t, settled[r.id], "sent again although it was recorded")
			}
		}
		s.mu.Unlock()
	}
	require.Equal(t, 2000, s.logged(""))
}

func TestBrokenSubscriptionIsReportedOnceAndHarmsNobody(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "fine")
	broken := s.subscription(t, "broken", `{}`)
	broken.Filter, broken.Broken = nil, &relay.FilterError{Code: "unknown_operator", Pointer: "/n/$gtee"}
	s.subs.Put(broken)
	var logged bytes.Buffer
	var mu sync.Mutex
	cfg := s.config()
	cfg.Logger = slog.New(slog.NewJSONHandler(&locked{w: &logged, mu: &mu}, nil))
	unsealed := s.subscription(t, "unsealed", `{}`)
	unsealed.Filter, unsealed.Broken = nil, errors.New("signing secret is sealed")
	s.subs.Put(unsealed)
	var counted atomic.Value
	cfg.Observer.Subscriptions = func(known, broken, quarantined int) { counted.Store([3]int{known, broken, quarantined}) }
	start(t, cfg)
	for range 3 {
		s.feed.Announce(relay.Announcement{ID: "broken", Op: "update"})
		s.emit(10)
	}
	eventually(t, func() bool { return s.count("fine") == 30 && s.feed.Open() == 0 }, "fine has all")
	require.Empty(t, s.received("broken"))
	require.Equal(t, [3]int{3, 2, 1}, counted.Load())
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, 1, bytes.Count(logged.Bytes(), []byte("gtee")))
	require.NotContains(t, logged.String(), s.url)
}

type locked struct {
	w  *bytes.Buffer
	mu *sync.Mutex
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func TestUnreadableMessageIsCountedAndPassedOver(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a")
	var unreadable atomic.Int64
	cfg := s.config()
	cfg.Observer.Unreadable = func() { unreadable.Add(1) }
	s.emit(1)
	s.feed.AppendBroken(errors.New("no position header"))
	s.emit(1)
	start(t, cfg)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "all acked")
	require.Equal(t, 2, s.count("a"))
	require.Equal(t, int64(1), unreadable.Load())
}

func TestEventsStayExtendedWhileTheirDeliveriesTakeLong(t *testing.T) {
	s := newStage(t, 60*time.Millisecond)
	s.subscribe(t, "a")
	release := make(chan struct{})
	s.answer("a", hang(release))
	start(t, s.config())
	s.emit(10)
	time.AfterFunc(600*time.Millisecond, func() { close(release) })
	eventually(t, func() bool { return s.feed.Open() == 0 }, "all acked")
	n, repeated := s.total()
	require.Equal(t, 10, n)
	require.Zero(t, repeated)
}

func TestLedgerThatIsAwayHoldsDeliveriesAndHealsWithoutLoss(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a")
	cfg := s.config()
	cfg.MaxUnsettled = 50
	e, err := webhook.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	eventually(t, func() bool { return e.Ready() == nil }, "ready")
	s.ledger.Refuse(errors.New("connection refused"))
	s.emit(500)
	eventually(t, func() bool { return s.count("a") == 50 && e.Ready() != nil }, "attempts go on to the bound")
	require.Empty(t, s.ledger.Log(""))
	s.ledger.Refuse(nil)
	eventually(t, func() bool { return s.logged("") == 500 && e.Ready() == nil }, "healed")
	n, repeated := s.total()
	require.Equal(t, 500, n)
	require.Zero(t, repeated)
	cancel()
	require.NoError(t, <-done)
}

func TestDrainSaysWhatCouldNotBeRecorded(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a")
	cfg := s.config()
	cfg.DrainTimeout = 10 * time.Millisecond
	e, err := webhook.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	eventually(t, func() bool { return e.Ready() == nil }, "ready")
	s.ledger.Refuse(errors.New("connection refused"))
	s.emit(3)
	eventually(t, func() bool { return s.count("a") == 3 && e.Ready() != nil }, "attempted")
	cancel()
	require.ErrorContains(t, <-done, "3 outcomes could not be recorded")
}

func TestHugeFanOutStaysWithinItsBounds(t *testing.T) {
	s := newStage(t, time.Minute)
	for i := range 2000 {
		s.subscribe(t, fmt.Sprint("s", i))
	}
	cfg := s.config()
	cfg.MaxDeliveries = 100
	var most atomic.Int64
	cfg.Observer.Load = func(l webhook.Load) { most.Store(max(most.Load(), int64(l.Waiting+l.Running+l.Unsettled))) }
	start(t, cfg)
	s.emit(2)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "all acked")
	n, repeated := s.total()
	require.Equal(t, 4000, n)
	require.Zero(t, repeated)
	require.LessOrEqual(t, most.Load(), int64(101))
}

func TestRunEndsOnAnErrorThatAPersonMustDecideAbout(t *testing.T) {
	s := newStage(t, time.Minute)
	cfg := s.config()
	cfg.Feed = haltingFeed{s.feed}
	e, err := webhook.New(cfg)
	require.NoError(t, err)
	var halt *relay.HaltError
	require.ErrorAs(t, e.Run(t.Context()), &halt)
	require.Error(t, e.Run(t.Context()), "an engine runs once")
}

func TestRunEndsWhenTheStreamIsAnotherOne(t *testing.T) {
	s := newStage(t, time.Minute)
	cfg := s.config()
	cfg.Feed = replacedFeed{s.feed}
	e, err := webhook.New(cfg)
	require.NoError(t, err)
	require.ErrorIs(t, e.Run(t.Context()), relay.ErrStreamReplaced)
}

type replacedFeed struct{ webhook.Feed }

func (replacedFeed) Next(context.Context, int) ([]relay.StreamMessage, error) {
	return nil, fmt.Errorf("stream EVENTS: %w", relay.ErrStreamReplaced)
}

type haltingFeed struct{ webhook.Feed }

func (haltingFeed) Next(context.Context, int) ([]relay.StreamMessage, error) {
	return nil, relay.Halt("stream_gone", errors.New("stream was deleted"), "create it")
}

func TestASubscriptionWhoseFilterBreaksLosesItsEarlierOne(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "fine", "tightened")
	start(t, s.config())
	s.emit(1)
	eventually(t, func() bool { return s.count("tightened") == 1 }, "it works")
	broken := s.subscription(t, "tightened", `{}`)
	broken.Filter, broken.Broken = nil, &relay.FilterError{Code: "bad_operand", Pointer: "/n/$gt"}
	s.subs.Put(broken)
	s.feed.Announce(relay.Announcement{ID: "tightened", Op: "update"})
	s.emit(10)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "all acked")
	require.Equal(t, [2]int{11, 1}, [2]int{s.count("fine"), s.count("tightened")})
	s.subs.Put(s.subscription(t, "tightened", `{"n":12}`))
	s.feed.Announce(relay.Announcement{ID: "tightened", Op: "update"})
	s.emit(3)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "all acked")
	require.Equal(t, [2]int{14, 2}, [2]int{s.count("fine"), s.count("tightened")})
}

func TestFilterThatPanicsCostsItsSubscriptionOnly(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a", "bad", "b")
	var panicked atomic.Int64
	var counted atomic.Value
	cfg := s.config()
	cfg.Observer.Panicked = func() { panicked.Add(1) }
	cfg.Observer.Subscriptions = func(known, broken, quarantined int) { counted.Store([3]int{known, broken, quarantined}) }
	e, err := webhook.New(cfg)
	require.NoError(t, err)
	webhook.PlantPanic(e, "bad")
	run(t, e)
	s.emit(50)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "all acked")
	require.Equal(t, [3]int{50, 0, 50}, [3]int{s.count("a"), s.count("bad"), s.count("b")})
	require.EqualValues(t, 2, panicked.Load(), "once in the index, once alone")
	require.Equal(t, [3]int{3, 1, 1}, counted.Load())
}

func TestAnIndexThatPanicsCostsNoDelivery(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "a", "b")
	s.subs.Put(s.subscription(t, "odd", `{"n":7}`))
	cfg := s.config()
	e, err := webhook.New(cfg)
	require.NoError(t, err)
	webhook.BreakIndex(e)
	run(t, e)
	s.emit(20)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "all acked")
	require.Equal(t, [3]int{20, 20, 1}, [3]int{s.count("a"), s.count("b"), s.count("odd")})
}

func TestAttemptThatPanicsIsAFailedAttempt(t *testing.T) {
	s := newStage(t, time.Minute)
	sub := s.subscription(t, "a", `{}`)
	sub.MaxRetries = 1
	s.subs.Put(sub)
	cfg := s.config()
	cfg.RetrySchedule = []time.Duration{0}
	e, err := webhook.New(cfg)
	require.NoError(t, err)
	webhook.BreakSender(e)
	run(t, e)
	s.emit(1)
	eventually(t, func() bool { return len(s.ledger.Dead("a")) == 1 }, "dead after two panics")
	require.Equal(t, 2, s.logged("a"))
	require.Equal(t, "internal", webhook.FailureClass(s.ledger.Log("a")[0].Attempt.Error))
	require.NotContains(t, s.ledger.Log("a")[0].Attempt.Error, s.url)
}

func TestUndecidedFilterDoesNotDeliverAndIsLoggedOnce(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subs.Put(s.subscription(t, "a", `{"content":"x"}`))
	var logged bytes.Buffer
	var mu sync.Mutex
	var undecided atomic.Int64
	cfg := s.config()
	cfg.Logger = slog.New(slog.NewJSONHandler(&locked{w: &logged, mu: &mu}, nil))
	cfg.Observer.Undecided = func(n int) { undecided.Add(int64(n)) }
	start(t, cfg)
	for i := range 5 {
		s.feed.Append(relay.Event{
			ID: fmt.Sprint("evt_", i), Type: "thing.updated", Visibility: relay.VisibleToEveryone,
			Body: []byte(`{}`), Data: []byte(`{}`), Unavailable: []string{"content"},
		})
	}
	eventually(t, func() bool { return s.feed.Open() == 0 }, "all acked")
	require.Zero(t, s.count("a"))
	require.EqualValues(t, 5, undecided.Load())
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, 1, bytes.Count(logged.Bytes(), []byte("REPLICA IDENTITY FULL")))
}

func TestProcessesShareEventsAndRetriesWithoutRepeating(t *testing.T) {
	s := newStage(t, time.Minute)
	ids := []string{"a", "b", "c", "d"}
	for _, id := range ids {
		sub := s.subscription(t, id, `{}`)
		sub.MaxRetries = 100
		s.subs.Put(sub)
	}
	failing := map[string]*atomic.Int64{}
	for _, id := range ids {
		failing[id] = &atomic.Int64{}
		s.answer(id, func(w http.ResponseWriter, _ *http.Request) {
			if failing[id].Add(1)%3 == 0 {
				w.WriteHeader(500)
			}
		})
	}
	cfg := s.config()
	cfg.RetrySchedule = []time.Duration{50 * time.Millisecond}
	for range 3 {
		start(t, cfg)
	}
	for range 10 {
		s.emit(50)
	}
	eventually(t, func() bool { return s.feed.Open() == 0 && s.ledger.Waiting("") == 0 }, "everything settled")
	delivered := map[string]int{}
	for _, o := range s.ledger.Log("") {
		if o.Kind == relay.Delivered {
			delivered[o.Delivery.EventID+o.Delivery.SubscriptionID]++
		}
	}
	require.Equal(t, 2000, len(delivered)) //nolint:testifylint // Len would print them all
	for key, n := range delivered {
		require.Equal(t, 1, n, key)
	}
	n, _ := s.total()
	require.Equal(t, n, s.logged(""), "one log row for each request")
}

func TestRetriesOfOneEndpointDoNotHoldUpThoseOfAnother(t *testing.T) {
	s := newStage(t, time.Minute)
	s.subscribe(t, "dead", "fine")
	release := make(chan struct{})
	defer close(release)
	s.answer("dead", hang(release))
	var backlog []relay.Outcome
	for i := range 5000 { // all due before the healthy one's
		backlog = append(backlog, relay.Outcome{Kind: relay.Deferred, Delivery: relay.Delivery{EventID: fmt.Sprint("evt_old", i), SubscriptionID: "dead", Body: []byte("{}")}})
	}
	require.NoError(t, s.ledger.Settle(t.Context(), backlog))
	for i := range 20 {
		require.NoError(t, s.ledger.Settle(t.Context(), []relay.Outcome{{Kind: relay.Deferred, Delivery: relay.Delivery{EventID: fmt.Sprint("evt_new", i), SubscriptionID: "fine", Body: []byte("{}")}}}))
	}
	cfg := s.config()
	cfg.HTTPTimeout, cfg.DrainTimeout = 3*time.Second, time.Millisecond
	began := time.Now()
	start(t, cfg)
	eventually(t, func() bool { return s.count("fine") == 20 }, "the healthy one's retries")
	require.Less(t, time.Since(began), 3*time.Second)
}
