package webhook

import (
	"time"

	"github.com/dot-do/relay/relay"
)

// Observer is told what the engine does. Every func is optional, may be called
// from several goroutines and must return at once.
type Observer struct {
	// Attempted is called after each HTTP attempt; class is FailureClass of its
	// error, empty for success.
	Attempted func(class string, took time.Duration)
	// Settled is called for outcomes in a committed ledger batch.
	Settled func(kind relay.OutcomeKind, n int)
	// Matched is called after each event: its sequence, and how many deliveries it
	// raised here.
	Matched func(seq uint64, deliveries int)
	// Undecided counts filters that needed a value which the event does not show.
	Undecided func(n int)
	// Unreadable counts messages of the stream that are no usable event.
	Unreadable func()
	// Subscriptions tells how many are known, how many of these are broken, and how
	// many of those because of their filter.
	Subscriptions func(known, broken, quarantined int)
	// Load tells, a few times a second, what is held in memory.
	Load func(Load)
	// Throttled counts deliveries put aside because their subscription's hour is used
	// up.
	Throttled func()
	// Panicked counts panics that cost one delivery or one filter, not the process.
	Panicked func()
}

// Load is what an engine holds at one moment.
type Load struct {
	Events    int // taken from the feed and not acked
	Lanes     int // endpoints with work or with recent work
	Slow      int // of these, endpoints that take long to answer
	Open      int // of these, endpoints that asked for a pause, or fail and are only probed
	Waiting   int // deliveries queued in lanes
	Running   int // attempts under way
	Unsettled int // outcomes not yet in a committed ledger batch
	Claimed   int // due deliveries held under a lease
}

func (o *Observer) attempted(class string, took time.Duration) {
	if o.Attempted != nil {
		o.Attempted(class, took)
	}
}

func (o *Observer) settled(kind relay.OutcomeKind, n int) {
	if o.Settled != nil {
		o.Settled(kind, n)
	}
}

func (o *Observer) matched(seq uint64, deliveries int) {
	if o.Matched != nil {
		o.Matched(seq, deliveries)
	}
}

func (o *Observer) undecided(n int) {
	if o.Undecided != nil {
		o.Undecided(n)
	}
}

func (o *Observer) unreadable() {
	if o.Unreadable != nil {
		o.Unreadable()
	}
}

func (o *Observer) subscriptions(known, broken, quarantined int) {
	if o.Subscriptions != nil {
		o.Subscriptions(known, broken, quarantined)
	}
}

func (o *Observer) load(l Load) {
	if o.Load != nil {
		o.Load(l)
	}
}

func (o *Observer) throttled() {
	if o.Throttled != nil {
		o.Throttled()
	}
}

func (o *Observer) panicked() {
	if o.Panicked != nil {
		o.Panicked()
	}
}
