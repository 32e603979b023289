package webhook_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// subscribeLimited makes subscriptions that may begin so many deliveries an hour.
func (s *stage) subscribeLimited(t testing.TB, perHour int, ids ...string) {
	for _, id := range ids {
		row := s.subscription(t, id, `{}`)
		row.MaxPerHour = perHour
		s.subs.Put(row)
	}
}

// farFromTheHour waits out the last seconds of an hour: what begins within one shall
// end in it.
func farFromTheHour(t *testing.T) {
	if left := time.Until(time.Now().Truncate(time.Hour).Add(time.Hour)); left < 30*time.Second {
		<-time.After(left)
	}
}

func TestAnHoursQuotaHoldsOverProcessesAndRestarts(t *testing.T) {
	t.Parallel()
	farFromTheHour(t)
	s := newStage(t, time.Minute)
	s.subscribeLimited(t, 10, "limited")
	s.subscribe(t, "free")
	first, second := start(t, s.config()), start(t, s.config())
	s.emit(15)
	eventually(t, func() bool { return s.logged("free") == 15 && s.ledger.Waiting("limited") == 5 }, "first events")
	first()
	start(t, s.config())
	s.emit(10)
	eventually(t, func() bool { return s.logged("free") == 25 && s.ledger.Waiting("limited") == 15 }, "more events")
	require.Equal(t, 10, s.count("limited"))
	require.Equal(t, 10, s.logged("limited"), "what waits has no log row")
	for reason := range s.ledger.Reasons("limited") {
		require.True(t, strings.HasPrefix(reason, "quota: 10 deliveries an hour"), reason)
	}
	second()
}

func TestWhatAQuotaHeldBackGoesOutInTheNextHours(t *testing.T) {
	t.Parallel()
	farFromTheHour(t)
	s := newStage(t, time.Minute)
	s.subscribeLimited(t, 10, "limited")
	stop := start(t, s.config())
	s.emit(25)
	eventually(t, func() bool { return s.ledger.Waiting("limited") == 15 && s.logged("limited") == 10 }, "first hour")
	for _, want := range []int{20, 25} {
		stop() // a process measures the hour by its own clock, which cannot be set
		s.ledger.Elapse(time.Hour + 5*time.Second)
		stop = start(t, s.config())
		eventually(t, func() bool { return s.logged("limited") == want && s.ledger.Waiting("limited") == 25-want }, "next hour")
	}
	n, repeated := s.total()
	require.Equal(t, 25, n)
	require.Zero(t, repeated)
}

func TestARetryIsNotCountedInTheQuota(t *testing.T) {
	t.Parallel()
	farFromTheHour(t)
	s := newStage(t, time.Minute)
	s.subscribeLimited(t, 1, "limited")
	var asked atomic.Int32
	s.answer("limited", func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) <= 2 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	cfg := s.config()
	cfg.RetrySchedule = []time.Duration{10 * time.Millisecond}
	start(t, cfg)
	s.emit(2)
	eventually(t, func() bool { return s.logged("limited") == 3 }, "three attempts of the first event")
	require.Equal(t, 1, s.ledger.Waiting("limited"))
}

func TestWhatWasDrawnAheadIsPutBack(t *testing.T) {
	t.Parallel()
	farFromTheHour(t)
	s := newStage(t, time.Minute)
	s.subscribeLimited(t, 6400, "idle", "stopped")
	stop := start(t, s.config())
	s.emit(1)
	eventually(t, func() bool { return s.logged("idle") == 1 }, "delivered")
	eventually(t, func() bool { return s.ledger.Used("idle") == 1 }, "put back after a second")
	s.emit(1)
	eventually(t, func() bool { return s.logged("stopped") == 2 }, "delivered")
	stop()
	require.Equal(t, 2, s.ledger.Used("stopped"), "put back at the end")
}

func TestADeliveryThatFindsNoRoomInItsLaneIsNotCounted(t *testing.T) {
	t.Parallel()
	farFromTheHour(t)
	s := newStage(t, time.Minute)
	s.subscribeLimited(t, 5000, "hangs")
	release := make(chan struct{})
	defer close(release)
	s.answer("hangs", hang(release))
	cfg := s.config()
	cfg.LaneConcurrency, cfg.HTTPTimeout = 1, time.Minute
	start(t, cfg)
	s.emit(1200)
	// A lane that hangs keeps sixteen in its queue, and one under way.
	eventually(t, func() bool { return s.ledger.Waiting("hangs") >= 1200-17 }, "put aside")
	eventually(t, func() bool { return s.ledger.Used("hangs") <= 17 }, "not counted")
	require.Positive(t, s.ledger.Used("hangs"))
}
