package webhook

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dot-do/relay/relay"
)

const (
	// aheadShare and mostAhead say how much of an hour is drawn beyond what is at
	// hand, so that a busy subscription does not cost the ledger a call for every
	// event. Small quotas are drawn one by one.
	aheadShare = 64
	mostAhead  = 1024
	// quotaIdle is how long a subscription keeps what was drawn ahead and not used:
	// then other processes may have it.
	quotaIdle = time.Second
	// quotaSpread is the time after the full hour in which what had to wait comes
	// back.
	quotaSpread = 2 * time.Second
	// askAgain is how soon the ledger is asked again after it had nothing left: other
	// processes put back what they do not use.
	askAgain = 30 * time.Second
)

// quota holds what this process may still begin in the present hour. The ledger
// counts for all processes.
type quota struct {
	ledger Quotas

	mu   sync.Mutex
	hour time.Time // by the ledger's clock
	ends time.Time // by this process' monotonic clock
	of   map[string]*allowance
}

// allowance is the part of one subscription.
type allowance struct {
	left  int
	limit int
	spent time.Time // when the ledger had nothing left
	used  time.Time
}

func newQuota(ledger Quotas) *quota { return &quota{ledger: ledger, of: map[string]*allowance{}} }

// share is what was drawn for one batch of deliveries.
type share struct {
	hour time.Time
	left map[string]int // for subscriptions that have a limit
	next time.Duration  // until the next hour
}

// draw takes what a batch needs, or as much of it as there is. need is keyed by
// subscription, and limit tells the limit of one.
func (q *quota) draw(ctx context.Context, need map[string]int, limit func(id string) int) (share, error) {
	s := share{left: make(map[string]int, len(need))}
	asks := q.takeHeld(&s, need, limit)
	if len(asks) == 0 {
		return s, nil
	}
	g, err := q.ledger.Draw(ctx, asks)
	if err == nil && len(g.Granted) != len(asks) {
		err = fmt.Errorf("ledger answered for %d of %d quotas", len(g.Granted), len(asks))
	}
	if err != nil {
		q.refund(s)
		return share{}, err
	}
	q.granted(&s, asks, g)
	return s, nil
}

// takeHeld uses what is held already and returns what has to be asked for.
func (q *quota) takeHeld(s *share, need map[string]int, limit func(id string) int) []relay.QuotaRequest {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if !now.Before(q.ends) {
		clear(q.of)
	}
	s.hour, s.next = q.hour, q.ends.Sub(now)
	var asks []relay.QuotaRequest
	for id, n := range need {
		most := limit(id)
		a := q.of[id]
		if a == nil {
			a = &allowance{}
			q.of[id] = a
		}
		if a.limit != most {
			a.limit, a.spent = most, time.Time{}
		}
		a.used = now
		held := min(n, a.left)
		a.left -= held
		s.left[id] = held
		if held < n && (a.spent.IsZero() || now.Sub(a.spent) > askAgain) {
			asks = append(asks, relay.QuotaRequest{
				SubscriptionID: id, Limit: most, Need: n - held, Ahead: min(most/aheadShare, mostAhead),
			})
		}
	}
	return asks
}

// granted adds what the ledger gave.
func (q *quota) granted(s *share, asks []relay.QuotaRequest, g relay.QuotaGrant) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if !g.Hour.Equal(q.hour) {
		// A new hour: what is left of the old one is worth nothing, but for the batch
		// at hand.
		clear(q.of)
		q.hour = g.Hour
	}
	q.ends = now.Add(g.Left)
	s.hour, s.next = g.Hour, g.Left
	for i, r := range asks {
		a := q.of[r.SubscriptionID]
		if a == nil {
			a = &allowance{limit: r.Limit}
			q.of[r.SubscriptionID] = a
		}
		a.used, a.spent = now, time.Time{}
		if g.Granted[i] < r.Need {
			a.spent = now
		}
		n := min(g.Granted[i], r.Need)
		s.left[r.SubscriptionID] += n
		a.left += g.Granted[i] - n
	}
}

// take uses one of the share and reports whether there was one.
func (s *share) take(id string) bool {
	if s.left[id] <= 0 {
		return false
	}
	s.left[id]--
	return true
}

// wait is how long what is beyond the quota waits, and why.
func (s *share) wait(limit int) wait {
	spread := time.Duration(rand.Int64N(int64(quotaSpread))) //nolint:gosec // jitter
	return wait{
		max(s.next, 0) + spread,
		fmt.Sprintf("quota: %d deliveries an hour have begun (max_triggers_per_hour), the rest waits for the next full hour", limit),
	}
}

// refund takes back what a share did not use.
func (q *quota) refund(s share) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id, n := range s.left {
		q.returned(id, s.hour, n)
	}
}

// unused takes back one that was not sent after all.
func (q *quota) unused(id string, hour time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.returned(id, hour, 1)
}

func (q *quota) returned(id string, hour time.Time, n int) {
	if n <= 0 || !hour.Equal(q.hour) {
		return
	}
	if a := q.of[id]; a != nil {
		a.left += n
		a.used = time.Now()
	}
}

// spent returns the subscriptions that may begin nothing more in this hour.
func (q *quota) spent() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if !now.Before(q.ends) {
		return nil
	}
	var out []string
	for id, a := range q.of {
		if a.left == 0 && !a.spent.IsZero() && now.Sub(a.spent) <= askAgain {
			out = append(out, id)
		}
	}
	return out
}

// keep puts back what nobody uses here, until ctx ends.
func (q *quota) keep(ctx context.Context) {
	ticker := time.NewTicker(quotaIdle)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			_ = q.putBack(ctx, quotaIdle) // it is lost until the hour's end, and nothing else
		case <-ctx.Done():
			return
		}
	}
}

// putBack returns to the ledger what was not used for a while.
func (q *quota) putBack(ctx context.Context, idle time.Duration) error {
	q.mu.Lock()
	now := time.Now()
	hour, unused := q.hour, map[string]int{}
	for id, a := range q.of {
		if now.Sub(a.used) < idle {
			continue
		}
		if a.left > 0 {
			unused[id] = a.left
			a.left = 0
		}
		if a.spent.IsZero() {
			delete(q.of, id)
		}
	}
	over := !now.Before(q.ends)
	q.mu.Unlock()
	if len(unused) == 0 || over {
		return nil
	}
	return q.ledger.PutBack(ctx, hour, unused)
}

// drawQuota takes from the hour's quotas what first attempts of the deliveries need.
func (e *Engine) drawQuota(ctx context.Context, wanted ...[]relay.Delivery) (s share, err error) {
	var need map[string]int
	for _, of := range wanted {
		for i := range of {
			if of[i].Attempts > 0 || e.limitOf(of[i].SubscriptionID) == 0 {
				continue
			}
			if need == nil {
				need = make(map[string]int, len(of))
			}
			need[of[i].SubscriptionID]++
		}
	}
	if need == nil {
		return s, nil
	}
	err = retry(ctx, e.log, "draw from hourly quotas", func() error {
		s, err = e.quota.draw(ctx, need, e.limitOf)
		return err
	})
	return s, err
}

// limitOf is how many deliveries of a subscription may begin in an hour, 0 for any
// number.
func (e *Engine) limitOf(id string) int {
	if sub := e.dir.get(id); sub != nil {
		return max(sub.MaxPerHour, 0)
	}
	return 0
}

// count counts a first attempt in its subscription's hour. When the hour's quota is
// used up it puts the delivery aside and answers false.
func (e *Engine) count(t *task, s *share) bool {
	id := t.delivery.SubscriptionID
	if _, limited := s.left[id]; !limited || t.delivery.Attempts > 0 {
		return true
	}
	if s.take(id) {
		t.counted = s.hour
		return true
	}
	e.observer.throttled()
	e.defers(t, s.wait(e.limitOf(id)))
	return false
}
