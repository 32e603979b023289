package relaytest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/webhook"
)

var (
	_ webhook.Subscriptions = (*Subscriptions)(nil)
	_ webhook.Ledger        = (*Ledger)(nil)
)

// Subscriptions is the table of subscriptions in memory.
type Subscriptions struct {
	mu   sync.Mutex
	rows map[string]relay.Subscription
}

// NewSubscriptions returns a table with the given rows.
func NewSubscriptions(rows ...relay.Subscription) *Subscriptions {
	s := &Subscriptions{rows: map[string]relay.Subscription{}}
	for _, r := range rows {
		s.Put(r)
	}
	return s
}

// Put inserts or replaces a row.
func (s *Subscriptions) Put(row relay.Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[row.ID] = row
}

// Delete removes a row.
func (s *Subscriptions) Delete(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rows, id)
}

// SetActive changes the status of a row.
func (s *Subscriptions) SetActive(id string, active bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if row, ok := s.rows[id]; ok {
		row.Active = active
		s.rows[id] = row
	}
}

// All calls fn for every row.
func (s *Subscriptions) All(_ context.Context, fn func(relay.Subscription) error) error {
	s.mu.Lock()
	rows := make([]relay.Subscription, 0, len(s.rows))
	for _, r := range s.rows {
		rows = append(rows, r)
	}
	s.mu.Unlock()
	for _, r := range rows {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// Ended returns at once: a change is seen when it is made.
func (s *Subscriptions) Ended(context.Context, []uint32) error { return nil }

// Read returns the named rows.
func (s *Subscriptions) Read(_ context.Context, ids []string) ([]relay.Subscription, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []relay.Subscription
	for _, id := range ids {
		if r, ok := s.rows[id]; ok {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

func (s *Subscriptions) state(id string) (active, exists bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.rows[id]
	return r.Active, ok
}

// Ledger is a webhook.Ledger in memory.
type Ledger struct {
	subs *Subscriptions

	mu      sync.Mutex
	refuse  error
	shifted time.Duration
	serial  int
	waiting map[deliveryKey]*waitingRow
	log     []relay.Outcome
	dead    []relay.Outcome
	used    map[quotaKey]int
}

type quotaKey struct {
	subscription string
	hour         time.Time
}

type deliveryKey struct{ event, subscription string }

type waitingRow struct {
	delivery relay.Delivery
	due      time.Time
	lease    string
	until    time.Time
	reason   string
}

// NewLedger returns an empty ledger over the subscriptions.
func NewLedger(subs *Subscriptions) *Ledger {
	return &Ledger{subs: subs, waiting: map[deliveryKey]*waitingRow{}, used: map[quotaKey]int{}}
}

// Refuse makes every call fail with err, as a database that is away; nil ends it.
func (l *Ledger) Refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = err
}

// Elapse moves the ledger's clock forward.
func (l *Ledger) Elapse(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shifted += d
}

// Log returns the outcomes with a log row, in order; of one subscription, or of
// all when it is empty.
func (l *Ledger) Log(subscription string) []relay.Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	return ofSubscription(l.log, subscription)
}

// Dead returns the dead letters.
func (l *Ledger) Dead(subscription string) []relay.Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	return ofSubscription(l.dead, subscription)
}

// Waiting is how many deliveries are due now or later.
func (l *Ledger) Waiting(subscription string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for k := range l.waiting {
		if subscription == "" || k.subscription == subscription {
			n++
		}
	}
	return n
}

// Used is how much of the present hour's quota was drawn and not put back.
func (l *Ledger) Used(subscription string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used[quotaKey{subscription, l.now().Truncate(time.Hour)}]
}

// Reasons are what is told of the deliveries that wait.
func (l *Ledger) Reasons(subscription string) map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]int{}
	for k, r := range l.waiting {
		if k.subscription == subscription {
			out[r.reason]++
		}
	}
	return out
}

func ofSubscription(all []relay.Outcome, id string) []relay.Outcome {
	var out []relay.Outcome
	for _, o := range all {
		if id == "" || o.Delivery.SubscriptionID == id {
			out = append(out, o)
		}
	}
	return out
}

func keyOf(d relay.Delivery) deliveryKey { return deliveryKey{d.EventID, d.SubscriptionID} }

func (l *Ledger) now() time.Time { return time.Now().Add(l.shifted) }

// Settle records the outcomes.
func (l *Ledger) Settle(_ context.Context, outcomes []relay.Outcome) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return l.refuse
	}
	for _, o := range outcomes {
		row := l.waiting[keyOf(o.Delivery)]
		if o.Leased != "" && (row == nil || row.lease != o.Leased) {
			continue
		}
		if _, exists := l.subs.state(o.Delivery.SubscriptionID); exists {
			l.record(o)
		}
	}
	return nil
}

func (l *Ledger) record(o relay.Outcome) {
	if o.Attempt != nil {
		l.log = append(l.log, o)
	}
	switch o.Kind {
	case relay.Retry, relay.Deferred:
		l.waiting[keyOf(o.Delivery)] = &waitingRow{delivery: o.Delivery, due: l.now().Add(o.Delay), reason: o.Reason}
		return
	case relay.Dead, relay.Gone:
		l.dead = append(l.dead, o)
	case relay.Delivered, relay.Skipped:
	}
	delete(l.waiting, keyOf(o.Delivery))
	if o.Kind == relay.Gone {
		l.subs.SetActive(o.Delivery.SubscriptionID, false)
	}
}

// Settled tells which deliveries are known.
func (l *Ledger) Settled(_ context.Context, deliveries []relay.Delivery) ([]bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return nil, l.refuse
	}
	known := map[deliveryKey]bool{}
	for _, o := range slices.Concat(l.log, l.dead) {
		known[keyOf(o.Delivery)] = true
	}
	out := make([]bool, len(deliveries))
	for i, d := range deliveries {
		out[i] = known[keyOf(d)] || l.waiting[keyOf(d)] != nil
	}
	return out, nil
}

// Claim takes due deliveries.
func (l *Ledger) Claim(_ context.Context, limit int, hold time.Duration, busy relay.Busy) (due []relay.Delivery, lease string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return nil, "", l.refuse
	}
	l.serial++
	lease = fmt.Sprintf("lease-%d", l.serial)
	now := l.now()
	free := l.heads(l.free(busy), busy.Floor)
	slices.SortFunc(free, func(a, b *waitingRow) int { return a.due.Compare(b.due) })
	for _, r := range free {
		if len(due) == limit || r.due.After(now) {
			break
		}
		r.lease, r.until = lease, now.Add(hold)
		due = append(due, r.delivery)
	}
	return due, lease, nil
}

// ClaimOne takes one due delivery of each subscription.
func (l *Ledger) ClaimOne(_ context.Context, subs []string, hold time.Duration, floor uint64) (due []relay.Delivery, lease string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return nil, "", l.refuse
	}
	l.serial++
	lease = fmt.Sprintf("lease-%d", l.serial)
	now := l.now()
	oldest := map[string]*waitingRow{}
	for _, r := range l.heads(l.free(relay.Busy{}), floor) {
		id := r.delivery.SubscriptionID
		if slices.Contains(subs, id) && !r.due.After(now) && (oldest[id] == nil || r.due.Before(oldest[id].due)) {
			oldest[id] = r
		}
	}
	for _, r := range oldest {
		r.lease, r.until = lease, now.Add(hold)
		due = append(due, r.delivery)
	}
	return due, lease, nil
}

// free returns the waiting deliveries that nobody holds.
func (l *Ledger) free(busy relay.Busy) []*waitingRow {
	now := l.now()
	var out []*waitingRow
	for k, r := range l.waiting {
		active, _ := l.subs.state(k.subscription)
		if active && !now.Before(r.until) && !slices.Contains(busy.All, k.subscription) &&
			(r.delivery.Attempts > 0 || !slices.Contains(busy.Fresh, k.subscription)) {
			out = append(out, r)
		}
	}
	return out
}

// heads leaves out the ordered deliveries whose turn it is not.
func (l *Ledger) heads(free []*waitingRow, floor uint64) []*waitingRow {
	return slices.DeleteFunc(free, func(r *waitingRow) bool {
		if r.delivery.OrderingKey == "" {
			return false
		}
		for k, other := range l.waiting {
			o := &other.delivery
			if k.subscription == r.delivery.SubscriptionID && o.OrderingKey == r.delivery.OrderingKey && o.StreamSeq < r.delivery.StreamSeq {
				return true
			}
		}
		return r.delivery.StreamSeq > floor
	})
}

// Renew prolongs leases.
func (l *Ledger) Renew(_ context.Context, leases []string, hold time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.waiting {
		if slices.Contains(leases, r.lease) {
			r.until = l.now().Add(hold)
		}
	}
	return l.refuse
}

// Free gives claimed deliveries back.
func (l *Ledger) Free(_ context.Context, lease string, deliveries []relay.Delivery) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range deliveries {
		if r := l.waiting[keyOf(d)]; r != nil && r.lease == lease {
			r.lease, r.until, r.due = "", time.Time{}, l.now()
		}
	}
	return l.refuse
}

// NextDue looks for the next delivery that nobody holds.
func (l *Ledger) NextDue(_ context.Context, busy relay.Busy) (time.Duration, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return 0, false, l.refuse
	}
	free := l.heads(l.free(busy), busy.Floor)
	if len(free) == 0 {
		return 0, false, nil
	}
	first := slices.MinFunc(free, func(a, b *waitingRow) int { return a.due.Compare(b.due) })
	return max(first.due.Sub(l.now()), 0), true, nil
}

// Draw grants what is left of the hour.
func (l *Ledger) Draw(_ context.Context, requests []relay.QuotaRequest) (relay.QuotaGrant, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return relay.QuotaGrant{}, l.refuse
	}
	now := l.now()
	g := relay.QuotaGrant{Hour: now.Truncate(time.Hour)}
	g.Left = g.Hour.Add(time.Hour).Sub(now)
	for _, r := range requests {
		k := quotaKey{r.SubscriptionID, g.Hour}
		left := max(r.Limit-l.used[k], 0)
		n := min(r.Need, left)
		if 2*left > r.Limit {
			n = min(r.Need+r.Ahead, left)
		}
		l.used[k] += n
		g.Granted = append(g.Granted, n)
	}
	return g, nil
}

// PutBack returns what was not used.
func (l *Ledger) PutBack(_ context.Context, hour time.Time, unused map[string]int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return l.refuse
	}
	for id, n := range unused {
		k := quotaKey{id, hour}
		l.used[k] = max(l.used[k]-n, 0)
	}
	return nil
}
