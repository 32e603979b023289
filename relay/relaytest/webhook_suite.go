package relaytest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/webhook"
)

// LedgerFixture is a ledger to be tested, and what the suite needs to see around
// it.
type LedgerFixture struct {
	Ledger webhook.Ledger
	// Subscribe makes an active subscription and returns its id.
	Subscribe func(t *testing.T) string
	SetActive func(t *testing.T, id string, active bool)
	Delete    func(t *testing.T, id string)
	Active    func(t *testing.T, id string) bool
	// Attempts returns the number and status of the subscription's log rows, in
	// the order in which they were written: "1 retrying", "2 success".
	Attempts func(t *testing.T, id string) []string
	// DeadLetters is how many dead letters the subscription has.
	DeadLetters func(t *testing.T, id string) int
	// Elapse lets time pass for everything that is due or leased.
	Elapse func(t *testing.T, d time.Duration)
}

// LedgerSuite checks what every webhook.Ledger promises. open returns an empty
// ledger.
func LedgerSuite(t *testing.T, open func(t *testing.T) LedgerFixture) {
	for name, test := range map[string]func(*testing.T, LedgerFixture){
		"delivered leaves one log row and nothing due":       ledgerDelivered,
		"retry is due after its delay and keeps its body":    ledgerRetry,
		"deferred leaves no log row and no attempt":          ledgerDeferred,
		"dead leaves a dead letter and nothing due":          ledgerDead,
		"gone deactivates the subscription":                  ledgerGone,
		"everything attempted or put aside is settled":       ledgerSettled,
		"a claim is exclusive until its hold is over":        ledgerClaimExclusive,
		"concurrent claims share nothing":                    ledgerClaimConcurrently,
		"the oldest due deliveries are claimed first":        ledgerClaimOldest,
		"busy and inactive subscriptions are passed over":    ledgerClaimPassesOver,
		"renewed leases outlive their hold":                  ledgerRenew,
		"freed deliveries are due at once, unattempted":      ledgerFree,
		"an outcome whose lease was lost is ignored":         ledgerLostLease,
		"outcomes of a deleted subscription are no error":    ledgerDeletedSubscription,
		"next due tells the time to the nearest free one":    ledgerNextDue,
		"a batch holds outcomes of all kinds and many rows":  ledgerBigBatch,
		"a used up quota hides first attempts only":          ledgerClaimFresh,
		"one delivery of each subscription is claimed":       ledgerClaimOne,
		"ordered deliveries are claimed one after the other": ledgerOrdered,
		"a probe keeps the order":                            ledgerOrderedProbe,
		"no more is drawn in an hour than the limit":         ledgerQuota,
		"concurrent draws share one limit":                   ledgerQuotaConcurrently,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func delivery(event, subscription string) relay.Delivery {
	return relay.Delivery{
		EventID: "evt_" + event, EventType: "thing.updated", SubscriptionID: subscription,
		Owner: relay.Owner{UserID: "u1"},
		Body:  []byte(`{"id":"evt_a","n":12345678901234567890,"s":"ü"}`), StreamSeq: 7, CommitLSN: 0x16B3748,
	}
}

// outcome is the result of attempt n of a delivery.
func outcome(d relay.Delivery, n int, kind relay.OutcomeKind, delay time.Duration) relay.Outcome {
	o := relay.Outcome{Delivery: d, Kind: kind, Delay: delay}
	if kind == relay.Deferred {
		return o
	}
	o.Delivery.Attempts = n
	o.Attempt = &relay.Attempt{
		Number: n, StartedAt: time.Now(), Duration: 12 * time.Millisecond, TargetURL: "https://hooks.example.com/1",
		RequestHeaders: map[string]string{"webhook-signature": "v1,***"}, ResponseHeaders: map[string]string{"server": "x"},
		StatusCode: 200, ResponseBody: "ok",
	}
	switch kind {
	case relay.Delivered:
	case relay.Gone:
		o.Attempt.StatusCode, o.Attempt.Error, o.Reason = 410, "status: 410 Gone", "gone"
	default:
		o.Attempt.StatusCode, o.Attempt.Error, o.Reason = 503, "status: 503 Service Unavailable", "exhausted"
	}
	return o
}

func settle(t *testing.T, f LedgerFixture, outcomes ...relay.Outcome) {
	t.Helper()
	require.NoError(t, f.Ledger.Settle(t.Context(), outcomes))
}

func claim(t *testing.T, f LedgerFixture, limit int, busy ...string) ([]relay.Delivery, string) {
	t.Helper()
	due, lease, err := f.Ledger.Claim(t.Context(), limit, time.Minute, relay.Busy{All: busy})
	require.NoError(t, err)
	return due, lease
}

func ledgerDelivered(t *testing.T, f LedgerFixture) {
	id := f.Subscribe(t)
	settle(t, f, outcome(delivery("a", id), 1, relay.Delivered, 0))
	require.Equal(t, []string{"1 success"}, f.Attempts(t, id))
	f.Elapse(t, 24*time.Hour)
	due, _ := claim(t, f, 10)
	require.Empty(t, due)
	require.True(t, f.Active(t, id))
}

func ledgerRetry(t *testing.T, f LedgerFixture) {
	id := f.Subscribe(t)
	settle(t, f, outcome(delivery("a", id), 1, relay.Retry, time.Hour))
	require.Equal(t, []string{"1 retrying"}, f.Attempts(t, id))
	due, _ := claim(t, f, 10)
	require.Empty(t, due)

	f.Elapse(t, time.Hour+time.Second)
	due, lease := claim(t, f, 10)
	require.Len(t, due, 1)
	want := delivery("a", id)
	want.Attempts = 1
	require.Equal(t, string(want.Body), string(due[0].Body), "the same bytes at every attempt")
	require.Equal(t, want, due[0])

	again := outcome(due[0], 2, relay.Delivered, 0)
	again.Leased = lease
	settle(t, f, again)
	require.Equal(t, []string{"1 retrying", "2 success"}, f.Attempts(t, id))
	f.Elapse(t, 24*time.Hour)
	due, _ = claim(t, f, 10)
	require.Empty(t, due)
}

func ledgerDeferred(t *testing.T, f LedgerFixture) {
	id := f.Subscribe(t)
	settle(t, f, outcome(delivery("a", id), 0, relay.Deferred, time.Second))
	require.Empty(t, f.Attempts(t, id))
	f.Elapse(t, 2*time.Second)
	due, lease := claim(t, f, 10)
	require.Equal(t, []relay.Delivery{delivery("a", id)}, due)

	later := outcome(due[0], 0, relay.Deferred, time.Hour)
	later.Leased = lease
	settle(t, f, later)
	f.Elapse(t, time.Minute+time.Second)
	due, _ = claim(t, f, 10)
	require.Empty(t, due, "put aside again for an hour, whatever the lease said")
}

func ledgerDead(t *testing.T, f LedgerFixture) {
	id := f.Subscribe(t)
	settle(t, f, outcome(delivery("a", id), 1, relay.Retry, 0))
	due, lease := claim(t, f, 10)
	require.Len(t, due, 1)
	last := outcome(due[0], 2, relay.Dead, 0)
	last.Leased = lease
	settle(t, f, last)
	require.Equal(t, []string{"1 retrying", "2 dead"}, f.Attempts(t, id))
	require.Equal(t, 1, f.DeadLetters(t, id))
	require.True(t, f.Active(t, id))
	f.Elapse(t, 24*time.Hour)
	due, _ = claim(t, f, 10)
	require.Empty(t, due)
}

func ledgerGone(t *testing.T, f LedgerFixture) {
	id, other := f.Subscribe(t), f.Subscribe(t)
	settle(t, f,
		outcome(delivery("a", id), 1, relay.Retry, 0),
		outcome(delivery("b", id), 1, relay.Gone, 0),
		outcome(delivery("b", other), 1, relay.Retry, 0))
	require.False(t, f.Active(t, id))
	require.True(t, f.Active(t, other))
	f.Elapse(t, time.Second)
	due, _ := claim(t, f, 10)
	require.Len(t, due, 1, "what waits for the gone endpoint is not sent")
	require.Equal(t, other, due[0].SubscriptionID)
}

func ledgerSettled(t *testing.T, f LedgerFixture) {
	id := f.Subscribe(t)
	settle(t, f,
		outcome(delivery("delivered", id), 1, relay.Delivered, 0),
		outcome(delivery("retry", id), 1, relay.Retry, time.Hour),
		outcome(delivery("deferred", id), 0, relay.Deferred, time.Hour),
		outcome(delivery("dead", id), 1, relay.Dead, 0))
	settled, err := f.Ledger.Settled(t.Context(), []relay.Delivery{
		delivery("new", id), delivery("dead", id), delivery("deferred", id), delivery("retry", id),
		delivery("delivered", id), delivery("delivered", f.Subscribe(t)),
	})
	require.NoError(t, err)
	require.Equal(t, []bool{false, true, true, true, true, false}, settled)
	none, err := f.Ledger.Settled(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, none)
}

func ledgerClaimExclusive(t *testing.T, f LedgerFixture) {
	id := f.Subscribe(t)
	settle(t, f, outcome(delivery("a", id), 1, relay.Retry, 0))
	due, first := claim(t, f, 10)
	require.Len(t, due, 1)
	none, _ := claim(t, f, 10)
	require.Empty(t, none)
	f.Elapse(t, 2*time.Minute)
	due, second := claim(t, f, 10)
	require.Len(t, due, 1)
	require.NotEqual(t, first, second)
}

func ledgerClaimConcurrently(t *testing.T, f LedgerFixture) {
	id := f.Subscribe(t)
	var batch []relay.Outcome
	for i := range 200 {
		batch = append(batch, outcome(delivery(fmt.Sprint(i), id), 1, relay.Retry, 0))
	}
	settle(t, f, batch...)
	f.Elapse(t, time.Second)
	var (
		mu   sync.Mutex
		seen = map[string]int{}
		wg   sync.WaitGroup
		errs []error
	)
	for range 8 {
		wg.Go(func() {
			for range 10 {
				due, _, err := f.Ledger.Claim(t.Context(), 10, time.Minute, relay.Busy{})
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				}
				for _, d := range due {
					seen[d.EventID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Empty(t, errs)
	for event, n := range seen {
		require.Equal(t, 1, n, event)
	}
	for { // a claim may pass over what another one is looking at
		due, _ := claim(t, f, 100)
		if len(due) == 0 {
			break
		}
		for _, d := range due {
			seen[d.EventID]++
		}
	}
	require.Len(t, seen, 200)
}

func ledgerClaimOldest(t *testing.T, f LedgerFixture) {
	id := f.Subscribe(t)
	settle(t, f,
		outcome(delivery("third", id), 1, relay.Retry, 30*time.Second),
		outcome(delivery("first", id), 1, relay.Retry, 10*time.Second),
		outcome(delivery("second", id), 1, relay.Retry, 20*time.Second))
	f.Elapse(t, time.Minute)
	for _, want := range []string{"evt_first", "evt_second", "evt_third"} {
		due, _ := claim(t, f, 1)
		require.Len(t, due, 1)
		require.Equal(t, want, due[0].EventID)
	}
}

func ledgerClaimPassesOver(t *testing.T, f LedgerFixture) {
	busy, paused, idle := f.Subscribe(t), f.Subscribe(t), f.Subscribe(t)
	for _, id := range []string{busy, paused, idle} {
		settle(t, f, outcome(delivery("a", id), 1, relay.Retry, 0))
	}
	f.SetActive(t, paused, false)
	f.Elapse(t, time.Second)
	due, _ := claim(t, f, 10, busy)
	require.Len(t, due, 1)
	require.Equal(t, idle, due[0].SubscriptionID)
	_, some, err := f.Ledger.NextDue(t.Context(), relay.Busy{All: []string{busy}})
	require.NoError(t, err)
	require.False(t, some)
	due, _ = claim(t, f, 10)
	require.Len(t, due, 1)
	require.Equal(t, busy, due[0].SubscriptionID)
}

func ledgerRenew(t *testing.T, f LedgerFixture) {
	id := f.Subscribe(t)
	settle(t, f, outcome(delivery("a", id), 1, relay.Retry, 0))
	due, lease := claim(t, f, 10)
	require.Len(t, due, 1)
	f.Elapse(t, 50*time.Second)
	require.NoError(t, f.Ledger.Renew(t.Context(), []string{lease, "unheard-of"}, time.Minute))
	f.Elapse(t, 50*time.Second)
	due, _ = claim(t, f, 10)
	require.Empty(t, due)
	f.Elapse(t, 20*time.Second)
	due, _ = claim(t, f, 10)
	require.Len(t, due, 1)
}

func ledgerFree(t *testing.T, f LedgerFixture) {
	id := f.Subscribe(t)
	settle(t, f, outcome(delivery("a", id), 1, relay.Retry, 0), outcome(delivery("b", id), 1, relay.Retry, 0))
	f.Elapse(t, time.Second)
	due, lease := claim(t, f, 10)
	require.Len(t, due, 2)
	require.NoError(t, f.Ledger.Free(t.Context(), "unheard-of", due))
	none, _ := claim(t, f, 10)
	require.Empty(t, none)
	require.NoError(t, f.Ledger.Free(t.Context(), lease, due[:1]))
	again, _ := claim(t, f, 10)
	require.Equal(t, due[:1], again)
}

func ledgerLostLease(t *testing.T, f LedgerFixture) {
	id := f.Subscribe(t)
	settle(t, f, outcome(delivery("a", id), 1, relay.Retry, 0))
	due, lost := claim(t, f, 10)
	require.Len(t, due, 1)
	f.Elapse(t, 2*time.Minute)
	due, held := claim(t, f, 10)
	require.Len(t, due, 1)

	late := outcome(due[0], 2, relay.Dead, 0)
	late.Leased = lost
	settle(t, f, late)
	require.Equal(t, 0, f.DeadLetters(t, id))
	require.Equal(t, []string{"1 retrying"}, f.Attempts(t, id))

	good := outcome(due[0], 2, relay.Delivered, 0)
	good.Leased = held
	settle(t, f, good)
	require.Equal(t, []string{"1 retrying", "2 success"}, f.Attempts(t, id))
	good.Kind, good.Delay = relay.Retry, 0
	settle(t, f, good)
	due, _ = claim(t, f, 10)
	require.Empty(t, due, "a settled claim cannot be settled again")
}

func ledgerDeletedSubscription(t *testing.T, f LedgerFixture) {
	gone, kept := f.Subscribe(t), f.Subscribe(t)
	settle(t, f, outcome(delivery("a", gone), 1, relay.Retry, 0))
	f.Delete(t, gone)
	settle(t, f,
		outcome(delivery("b", gone), 1, relay.Retry, 0),
		outcome(delivery("c", gone), 1, relay.Delivered, 0),
		outcome(delivery("d", gone), 0, relay.Deferred, 0),
		outcome(delivery("e", gone), 1, relay.Gone, 0),
		outcome(delivery("b", kept), 1, relay.Delivered, 0))
	require.Equal(t, []string{"1 success"}, f.Attempts(t, kept))
	f.Elapse(t, time.Hour)
	due, _ := claim(t, f, 10)
	require.Empty(t, due)
}

func ledgerNextDue(t *testing.T, f LedgerFixture) {
	_, some, err := f.Ledger.NextDue(t.Context(), relay.Busy{})
	require.NoError(t, err)
	require.False(t, some)

	id := f.Subscribe(t)
	settle(t, f, outcome(delivery("a", id), 1, relay.Retry, time.Minute), outcome(delivery("b", id), 1, relay.Retry, time.Hour))
	wait, some, err := f.Ledger.NextDue(t.Context(), relay.Busy{})
	require.NoError(t, err)
	require.True(t, some)
	require.InDelta(t, time.Minute, wait, float64(10*time.Second))

	f.Elapse(t, 2*time.Minute)
	wait, some, err = f.Ledger.NextDue(t.Context(), relay.Busy{})
	require.NoError(t, err)
	require.True(t, some)
	require.Zero(t, wait)

	due, _ := claim(t, f, 10)
	require.Len(t, due, 1)
	wait, some, err = f.Ledger.NextDue(t.Context(), relay.Busy{})
	require.NoError(t, err)
	require.True(t, some)
	require.InDelta(t, 58*time.Minute, wait, float64(time.Minute), "what is held does not count")
}

func ledgerBigBatch(t *testing.T, f LedgerFixture) {
	const n = 300
	ids := []string{f.Subscribe(t), f.Subscribe(t)}
	kinds := []relay.OutcomeKind{relay.Delivered, relay.Retry, relay.Deferred, relay.Dead, relay.Skipped}
	var batch []relay.Outcome
	for i := range n {
		batch = append(batch, outcome(delivery(fmt.Sprint(i), ids[i%2]), 1, kinds[i%len(kinds)], time.Second))
	}
	settle(t, f, batch...)
	require.Equal(t, n/len(kinds), f.DeadLetters(t, ids[0])+f.DeadLetters(t, ids[1]))
	require.Equal(t, n-n/len(kinds), len(f.Attempts(t, ids[0]))+len(f.Attempts(t, ids[1])))
	f.Elapse(t, time.Minute)
	due, _ := claim(t, f, n)
	require.Len(t, due, 2*n/len(kinds))
}

func ledgerClaimFresh(t *testing.T, f LedgerFixture) {
	id := f.Subscribe(t)
	settle(t, f, outcome(delivery("a", id), 1, relay.Retry, 0), outcome(delivery("b", id), 0, relay.Deferred, 0))
	f.Elapse(t, time.Second)
	spent := relay.Busy{Fresh: []string{id}}
	due, _, err := f.Ledger.Claim(t.Context(), 10, time.Minute, spent)
	require.NoError(t, err)
	require.Len(t, due, 1)
	require.Equal(t, "evt_a", due[0].EventID)
	_, some, err := f.Ledger.NextDue(t.Context(), spent)
	require.NoError(t, err)
	require.False(t, some)
}

func ledgerClaimOne(t *testing.T, f LedgerFixture) {
	probed, paused, other := f.Subscribe(t), f.Subscribe(t), f.Subscribe(t)
	for _, id := range []string{probed, paused, other} {
		settle(t, f, outcome(delivery("young", id), 1, relay.Retry, 2*time.Second), outcome(delivery("old", id), 1, relay.Retry, time.Second),
			outcome(delivery("later", id), 1, relay.Retry, time.Hour))
	}
	f.SetActive(t, paused, false)
	f.Elapse(t, time.Minute)
	for _, want := range []string{"evt_old", "evt_young"} {
		due, lease, err := f.Ledger.ClaimOne(t.Context(), []string{probed, paused, "unheard-of"}, time.Minute, 0)
		require.NoError(t, err)
		require.Len(t, due, 1)
		require.Equal(t, []string{probed, want}, []string{due[0].SubscriptionID, due[0].EventID})
		require.NotEmpty(t, lease)
	}
	due, _, err := f.Ledger.ClaimOne(t.Context(), []string{probed}, time.Minute, 0)
	require.NoError(t, err)
	require.Empty(t, due, "claimed, or not due yet")
}

func draw(t *testing.T, f LedgerFixture, r relay.QuotaRequest) relay.QuotaGrant {
	t.Helper()
	g, err := f.Ledger.Draw(t.Context(), []relay.QuotaRequest{r})
	require.NoError(t, err)
	require.Len(t, g.Granted, 1)
	require.Positive(t, g.Left)
	require.LessOrEqual(t, g.Left, time.Hour)
	return g
}

func ledgerQuota(t *testing.T, f LedgerFixture) {
	id := f.Subscribe(t)
	other := f.Subscribe(t)
	g, err := f.Ledger.Draw(t.Context(), []relay.QuotaRequest{
		{SubscriptionID: id, Limit: 10, Need: 2, Ahead: 3}, {SubscriptionID: other, Limit: 1, Need: 1},
	})
	require.NoError(t, err)
	require.Equal(t, []int{5, 1}, g.Granted)
	require.Equal(t, []int{1}, draw(t, f, relay.QuotaRequest{SubscriptionID: id, Limit: 10, Need: 1, Ahead: 3}).Granted, "half is used: nothing ahead")
	require.Equal(t, []int{4}, draw(t, f, relay.QuotaRequest{SubscriptionID: id, Limit: 10, Need: 9}).Granted)
	require.Equal(t, []int{0}, draw(t, f, relay.QuotaRequest{SubscriptionID: id, Limit: 10, Need: 1}).Granted)
	require.Equal(t, []int{0}, draw(t, f, relay.QuotaRequest{SubscriptionID: id, Limit: 5, Need: 1}).Granted, "the limit was lowered")
	require.Equal(t, []int{2}, draw(t, f, relay.QuotaRequest{SubscriptionID: id, Limit: 12, Need: 3}).Granted, "the limit was raised")
	require.NoError(t, f.Ledger.PutBack(t.Context(), g.Hour, map[string]int{id: 2, "unheard-of": 1}))
	require.Equal(t, []int{2}, draw(t, f, relay.QuotaRequest{SubscriptionID: id, Limit: 12, Need: 3}).Granted)
}

func ledgerQuotaConcurrently(t *testing.T, f LedgerFixture) {
	id, other := f.Subscribe(t), f.Subscribe(t)
	const drawers, limit = 8, 50
	var drawn atomic.Int64
	var drawing sync.WaitGroup
	failed := make(chan error, drawers)
	for i := range drawers {
		drawing.Go(func() {
			for range 20 {
				// Both rows, in either order: nobody waits for ever.
				requests := []relay.QuotaRequest{
					{SubscriptionID: id, Limit: limit, Need: 1, Ahead: 2}, {SubscriptionID: other, Limit: limit, Need: 1},
				}
				if i%2 == 1 {
					slices.Reverse(requests)
				}
				got, err := f.Ledger.Draw(t.Context(), requests)
				if err != nil {
					failed <- err
					return
				}
				drawn.Add(int64(got.Granted[i%2]))
			}
		})
	}
	drawing.Wait()
	require.Empty(t, failed)
	require.EqualValues(t, limit, drawn.Load())
}

// inOrder is a delivery of a key at a place of the stream.
func inOrder(event, subscription, key string, seq uint64) relay.Outcome {
	d := delivery(event, subscription)
	d.OrderingKey, d.StreamSeq = key, seq
	return outcome(d, 0, relay.Deferred, 0)
}

// claimBelow claims what stands below the floor and names the events, sorted.
func claimBelow(t *testing.T, f LedgerFixture, floor uint64) (events []string, due []relay.Delivery, lease string) {
	t.Helper()
	due, lease, err := f.Ledger.Claim(t.Context(), 100, time.Minute, relay.Busy{Floor: floor})
	require.NoError(t, err)
	for _, d := range due {
		events = append(events, d.EventID)
	}
	slices.Sort(events)
	return events, due, lease
}

func ledgerOrdered(t *testing.T, f LedgerFixture) {
	id, other := f.Subscribe(t), f.Subscribe(t)
	settle(t, f, inOrder("a2", id, "a", 20), inOrder("a1", id, "a", 10), inOrder("a3", id, "a", 30), inOrder("b1", id, "b", 15), inOrder("late", id, "c", 99),
		inOrder("a2", other, "a", 20), outcome(delivery("free", id), 0, relay.Deferred, 0))
	f.Elapse(t, time.Second)
	_, some, err := f.Ledger.NextDue(t.Context(), relay.Busy{All: []string{other}, Floor: 5})
	require.NoError(t, err)
	require.True(t, some, "the one that is not ordered")
	events, due, lease := claimBelow(t, f, 50)
	require.Equal(t, []string{"evt_a1", "evt_a2", "evt_b1", "evt_free"}, events, "the first of each key, and of the other subscription")
	for _, d := range due {
		if d.EventID == "evt_a1" {
			require.Equal(t, "a", d.OrderingKey)
			o := outcome(d, 1, relay.Retry, time.Hour)
			o.Leased = lease
			settle(t, f, o)
		}
		if d.EventID == "evt_b1" {
			require.NoError(t, f.Ledger.Free(t.Context(), lease, []relay.Delivery{d}))
		}
	}
	events, _, _ = claimBelow(t, f, 50)
	require.Equal(t, []string{"evt_b1"}, events, "a head that fails or is held keeps its key")
	f.Elapse(t, 61*time.Minute)
	events, due, lease = claimBelow(t, f, 12)
	require.Contains(t, events, "evt_a1", "the failed one comes first")
	require.NotContains(t, events, "evt_a3")
	for _, d := range due {
		if d.EventID == "evt_a1" {
			o := outcome(d, 2, relay.Dead, 0)
			o.Leased = lease
			settle(t, f, o)
		}
	}
}

func ledgerOrderedProbe(t *testing.T, f LedgerFixture) {
	id := f.Subscribe(t)
	settle(t, f, inOrder("a2", id, "a", 20), inOrder("a1", id, "a", 10))
	f.Elapse(t, time.Second)
	due, _, err := f.Ledger.ClaimOne(t.Context(), []string{id}, time.Minute, 5)
	require.NoError(t, err)
	require.Empty(t, due, "what might be overtaken")
	due, lease, err := f.Ledger.ClaimOne(t.Context(), []string{id}, time.Minute, 20)
	require.NoError(t, err)
	require.Len(t, due, 1)
	require.Equal(t, "evt_a1", due[0].EventID)
	none, _, err := f.Ledger.ClaimOne(t.Context(), []string{id}, time.Minute, 20)
	require.NoError(t, err)
	require.Empty(t, none)
	o := outcome(due[0], 1, relay.Delivered, 0)
	o.Leased = lease
	settle(t, f, o)
	due, _, err = f.Ledger.ClaimOne(t.Context(), []string{id}, time.Minute, 20)
	require.NoError(t, err)
	require.Len(t, due, 1)
	require.Equal(t, "evt_a2", due[0].EventID)
}
