package pgstore

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"time"

	"github.com/dot-do/relay/relay"
)

// key is one delivery.
type key struct{ event, subscription string }

func keyOf(d *relay.Delivery) key { return key{d.EventID, d.SubscriptionID} }

// entry is an outcome and what is known about its log row beforehand.
type entry struct {
	*relay.Outcome
	logID   string // empty for Deferred, which has no log row
	payload []byte
	age     time.Duration // since the attempt ended
}

// batch is the outcomes of one Settle. The ids of its log rows are derived from
// the attempts, so that a batch which was committed without our knowing is
// recognised when it is settled again.
type batch struct {
	rules   *redactor
	entries []entry
	logIDs  []string
	subs    []string // distinct, sorted
	leased  []int    // entries that came from a claim
}

func newBatch(outcomes []relay.Outcome, rules *redactor) *batch {
	b := &batch{rules: rules, entries: make([]entry, 0, len(outcomes))}
	seen := make(map[string]bool, len(outcomes))
	payloads := map[string][]byte{} // an event's body is checked once for all its subscribers
	for i := range outcomes {
		o := &outcomes[i]
		e := entry{Outcome: o}
		if o.Kind != relay.Deferred {
			if e.logID = logID(o); seen[e.logID] {
				continue
			}
			seen[e.logID] = true
			b.logIDs = append(b.logIDs, e.logID)
			if e.payload = payloads[o.Delivery.EventID]; e.payload == nil {
				e.payload = rules.payload(o.Delivery.Body)
				payloads[o.Delivery.EventID] = e.payload
			}
			e.age = age(o.Attempt)
		}
		if o.Leased != "" {
			b.leased = append(b.leased, len(b.entries))
		}
		b.entries = append(b.entries, e)
		b.subs = append(b.subs, o.Delivery.SubscriptionID)
	}
	slices.Sort(b.subs)
	b.subs = slices.Compact(b.subs)
	return b
}

// logID is the id of an outcome's log row: a UUID (version 8) made of the
// attempt's start and a hash of what it was. Rows of one time lie side by side in
// the index.
func logID(o *relay.Outcome) string {
	var buf [256]byte
	b := append(buf[:0], "relay/log/1"...)
	for _, s := range []string{o.Delivery.EventID, o.Delivery.SubscriptionID} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	var started time.Time
	if o.Attempt != nil {
		started = o.Attempt.StartedAt
	}
	b = binary.BigEndian.AppendUint32(b, uint32(attemptNumber(o)))
	var at uint64
	if !started.IsZero() {
		at = uint64(started.UnixNano())
	}
	b = binary.BigEndian.AppendUint64(b, at)
	sum := sha256.Sum256(b)

	var id [16]byte
	if !started.IsZero() {
		binary.BigEndian.PutUint64(id[:8], uint64(started.UnixMilli())<<16)
	}
	copy(id[6:], sum[:10])
	id[6] = id[6]&0x0F | 0x80
	id[8] = id[8]&0x3F | 0x80
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// attemptNumber counts from 1, as the log does.
func attemptNumber(o *relay.Outcome) int32 {
	n := o.Delivery.Attempts
	if o.Attempt != nil {
		n = o.Attempt.Number
	}
	return int32(min(max(n, 1), math.MaxInt32))
}

// attempted reports whether the endpoint was tried.
func attempted(o *relay.Outcome) bool {
	return o.Attempt != nil && o.Kind != relay.Skipped && o.Kind != relay.Deferred
}

// age is how long ago an attempt ended. It turns our time into the database's.
func age(a *relay.Attempt) time.Duration {
	if a == nil || a.StartedAt.IsZero() {
		return 0
	}
	since := time.Since(a.StartedAt.Add(a.Duration))
	if since < 0 || since > time.Hour {
		return 0 // a clock that was set meanwhile
	}
	return since
}

// view is what a settling transaction found when it began.
type view struct {
	now       time.Time       // the database's
	present   map[string]bool // subscriptions that exist, though perhaps being deleted
	linkable  map[string]bool // those that rows may point to without waiting
	countable map[string]bool // those whose row is ours until the end of the transaction
	recorded  map[string]bool // log rows that are there already
	owned     map[key]bool    // claimed deliveries whose lease is still the outcome's
	held      map[key]bool    // those of them whose row is ours until the end of the transaction
}

// stale reports whether the delivery was settled by somebody else, or claimed
// again, after the lease of the outcome had run out.
func (v *view) stale(e *entry) bool {
	return e.Leased != "" && v.present[e.Delivery.SubscriptionID] && !v.owned[keyOf(&e.Delivery)]
}

// busy reports whether a claimed delivery's row could not be locked although its
// subscription could.
func (v *view) busy(b *batch) bool {
	for _, n := range b.leased {
		d := &b.entries[n].Delivery
		if k := keyOf(d); v.owned[k] && !v.held[k] && v.linkable[d.SubscriptionID] {
			return true
		}
	}
	return false
}

// link is the subscription that a row may point to; nil for none.
func (v *view) link(id string) *string {
	if v.linkable[id] {
		return &id
	}
	return nil
}
