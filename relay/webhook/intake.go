package webhook

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"

	"github.com/dot-do/relay/relay"
)

// intake takes events from the feed, finds their subscriptions and puts their
// deliveries into the lanes, until ctx ends.
func (e *Engine) intake(ctx context.Context) error {
	for {
		limit, err := e.flights.room(ctx)
		if err != nil {
			return nil //nolint:nilerr // only ctx ends the wait
		}
		var batch []relay.StreamMessage
		err = retry(ctx, e.log, "read events", func() (err error) {
			batch, err = e.cfg.Feed.Next(ctx, limit)
			e.feedFailed(err)
			return err
		})
		if err != nil {
			return stopped(ctx, err)
		}
		if err := e.take(ctx, batch); err != nil {
			return stopped(ctx, err)
		}
	}
}

// take brings one batch on its way. When ctx ends meanwhile, what was not put
// into a lane goes back to the feed.
func (e *Engine) take(ctx context.Context, batch []relay.StreamMessage) error {
	taken := make([]*flight, 0, len(batch))
	control := uint64(0)
	for _, m := range batch {
		fl, fresh := e.flights.begin(m)
		switch {
		case !fresh:
			e.extend(m)
		case m.Err != nil:
			e.observer.unreadable()
			e.log.Error("message of the stream is no usable event, it is passed over", "stream_seq", m.Seq, "error", m.Err)
			e.release(fl, false)
		case m.Event.IsControl():
			e.release(fl, false)
		default:
			taken = append(taken, fl)
			control = max(control, m.Control)
		}
	}
	err := e.watcher.waitApplied(ctx, control)
	for len(taken) > 0 && err == nil {
		found := e.matchSome(taken)
		err = e.dropSettled(ctx, taken[:len(found)], found)
		var s share
		if err == nil {
			s, err = e.drawQuota(ctx, wantedOf(found)...)
		}
		for i := 0; i < len(found) && err == nil; i++ {
			err = e.launch(ctx, taken[0], found[i], &s)
			taken = taken[1:]
		}
		e.quota.refund(s)
	}
	for _, fl := range taken {
		e.release(fl, true)
	}
	return err
}

// found are the deliveries of one event: those to make at once, those that are ordered,
// then those to inactive subscriptions.
type found struct {
	deliveries []relay.Delivery
	wanted     int // of them are to be made at once
	ordered    int // of them come next
}

func wantedOf(all []found) [][]relay.Delivery {
	out := make([][]relay.Delivery, len(all))
	for i, f := range all {
		out[i] = f.deliveries[:f.wanted]
	}
	return out
}

// reasonInactive is why a delivery is skipped.
const reasonInactive = "inactive: the webhook was not active when the event came"

// launch puts the deliveries of an event into their lanes, and records those that
// meet an inactive subscription. It waits while too many are on their way.
func (e *Engine) launch(ctx context.Context, fl *flight, f found, s *share) error {
	e.observer.matched(fl.msg.Seq, f.wanted+f.ordered)
	for i, d := range f.deliveries {
		select {
		case e.budget <- struct{}{}:
		case <-ctx.Done():
			e.release(fl, true)
			return ctx.Err()
		}
		e.flights.expect(fl, 1)
		t := &task{delivery: d, flight: fl}
		switch {
		case i >= f.wanted+f.ordered:
			e.settle(t, relay.Outcome{Delivery: d, Kind: relay.Skipped, Attempt: &relay.Attempt{
				Number: 1, StartedAt: fl.msg.Event.CommittedAt, Error: reasonInactive,
			}})
			continue
		case i >= f.wanted: // its turn comes when the ledger has everything before it
			e.settle(t, relay.Outcome{Delivery: d, Kind: relay.Deferred})
			continue
		}
		if !e.count(t, s) {
			continue
		}
		if aside, ok := e.lanes.put(t); !ok {
			e.defers(t, aside)
		}
	}
	e.release(fl, false)
	return nil
}

// dropSettled takes out of what was found what was attempted, put aside or skipped
// before the events were handed out again.
func (e *Engine) dropSettled(ctx context.Context, taken []*flight, all []found) error {
	var ask []relay.Delivery
	for i, fl := range taken {
		if fl.msg.Again {
			ask = append(ask, all[i].deliveries...)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	var settled []bool
	err := retry(ctx, e.log, "read earlier outcomes", func() (err error) {
		settled, err = e.cfg.Ledger.Settled(ctx, ask)
		if err == nil && len(settled) != len(ask) {
			err = fmt.Errorf("ledger answered for %d of %d deliveries", len(settled), len(ask))
		}
		return err
	})
	if err != nil {
		return err
	}
	for i, fl := range taken {
		if !fl.msg.Again {
			continue
		}
		f := all[i]
		open := found{deliveries: f.deliveries[:0]}
		for j, d := range f.deliveries {
			if settled[j] {
				continue
			}
			open.deliveries = append(open.deliveries, d)
			switch {
			case j < f.wanted:
				open.wanted++
			case j < f.wanted+f.ordered:
				open.ordered++
			}
		}
		settled = settled[len(f.deliveries):]
		all[i] = open
	}
	return nil
}

// matchedAtOnce is how many deliveries are found before they are put into lanes: a
// batch of events times all subscriptions would not fit into memory.
const matchedAtOnce = 4096

// matchSome finds the deliveries of the first events, of one at least.
func (e *Engine) matchSome(taken []*flight) []found {
	all, n := make([]found, 0, len(taken)), 0
	for len(all) < len(taken) && n < matchedAtOnce {
		f := e.match(&taken[len(all)].msg)
		all, n = append(all, f), n+len(f.deliveries)
	}
	return all
}

// match finds the deliveries of one event.
func (e *Engine) match(m *relay.StreamMessage) found {
	ev := &m.Event
	if ev.Unlisted || !e.matchAtOnce(m) {
		e.matchEach(m)
	}
	if unknown := e.matches.Unknown; len(unknown) > 0 {
		e.reportUndecided(ev, unknown)
	}
	yes := e.matches.Yes
	f := found{deliveries: make([]relay.Delivery, 0, len(yes)+len(e.matches.missed))}
	add := func(s *relay.Subscription, key string) {
		f.deliveries = append(f.deliveries, relay.Delivery{
			EventID: ev.ID, EventType: ev.Type, SubscriptionID: s.ID, Owner: ev.Owner,
			Body: ev.Body, StreamSeq: m.Seq, CommitLSN: ev.Position.CommitLSN, OrderingKey: key,
		})
	}
	for _, s := range yes {
		if !s.Ordered {
			add(s, "")
		}
	}
	if f.wanted = len(f.deliveries); f.wanted < len(yes) {
		key := orderingKey(ev)
		for _, s := range yes {
			if s.Ordered {
				add(s, key)
			}
		}
		f.ordered = len(yes) - f.wanted
	}
	for _, s := range e.matches.missed {
		add(s, "")
	}
	return f
}

// orderingKey is what events in order have in common: they are about the same row.
func orderingKey(ev *relay.Event) string { return ev.Table + " " + ev.Key }

// matchAtOnce asks the index. Filters come from users: should one of them make it
// panic, the answer is false.
func (e *Engine) matchAtOnce(m *relay.StreamMessage) (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			ok, e.matches = false, matches{}
			e.observer.panicked()
			e.log.Error("event cannot be matched by the index, its filters are asked one by one",
				"stream_seq", m.Seq, "panic", panicText(r), "stack", string(debug.Stack()))
		}
	}()
	e.dir.match(&e.matches, &m.Event, m.Seq)
	return true
}

// matchEach asks every filter by itself. One that panics costs its own subscription
// and nothing else.
func (e *Engine) matchEach(m *relay.StreamMessage) {
	culprits := e.dir.matchEach(&e.matches, &m.Event, m.Seq)
	for _, c := range culprits {
		e.observer.panicked()
		e.log.Error("filter cannot be evaluated, its subscription receives nothing",
			"subscription_id", c.row.ID, "stream_seq", m.Seq, "panic", c.reason, "stack", c.stack)
		e.dir.quarantine(c.row, &relay.FilterError{Code: "panicked"})
	}
	if len(culprits) > 0 {
		e.watcher.report()
	}
}

// minUndecided is how many logged rows are remembered before those that are none any
// more are forgotten.
const minUndecided = 10_000

// reportUndecided counts filters that an event could not decide, and logs each once
// for every version of its subscription.
func (e *Engine) reportUndecided(ev *relay.Event, unknown []*relay.Subscription) {
	e.observer.undecided(len(unknown))
	if len(e.undecided) >= max(e.forgetAt, minUndecided) {
		maps.DeleteFunc(e.undecided, func(id string, s *relay.Subscription) bool { return e.dir.get(id) != s })
		e.forgetAt = 2 * len(e.undecided)
	}
	for _, s := range unknown {
		if e.undecided[s.ID] != s {
			e.undecided[s.ID] = s
			e.log.Warn("filter could not be decided, not delivered: the event lacks a value that it needs, see unavailable and previous_unavailable in its body; if the log did not carry it, REPLICA IDENTITY FULL on the table helps",
				"subscription_id", s.ID, "event_type", s.EventType, "event_id", ev.ID)
		}
	}
}
