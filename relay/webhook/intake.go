package webhook

import (
	"context"
	"errors"
	"fmt"
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
		wanted := e.matchSome(taken)
		err = e.dropSettled(ctx, taken[:len(wanted)], wanted)
		for i := 0; i < len(wanted) && err == nil; i++ {
			err = e.launch(ctx, taken[0], wanted[i])
			taken = taken[1:]
		}
	}
	for _, fl := range taken {
		e.release(fl, true)
	}
	return err
}

// launch puts the deliveries of an event into their lanes. It waits while too
// many deliveries are on their way.
func (e *Engine) launch(ctx context.Context, fl *flight, wanted []relay.Delivery) error {
	e.observer.matched(fl.msg.Seq, len(wanted))
	for _, d := range wanted {
		select {
		case e.budget <- struct{}{}:
		case <-ctx.Done():
			e.release(fl, true)
			return ctx.Err()
		}
		e.flights.expect(fl, 1)
		t := &task{delivery: d, flight: fl}
		if aside, ok := e.lanes.put(t); !ok {
			e.settle(t, relay.Outcome{Delivery: d, Kind: relay.Deferred, Delay: aside})
		}
	}
	e.release(fl, false)
	return nil
}

// dropSettled takes out of wanted what was attempted or put aside before the
// events were handed out again.
func (e *Engine) dropSettled(ctx context.Context, taken []*flight, wanted [][]relay.Delivery) error {
	var ask []relay.Delivery
	for i, fl := range taken {
		if fl.msg.Again {
			ask = append(ask, wanted[i]...)
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
		open := wanted[i][:0]
		for j, d := range wanted[i] {
			if !settled[j] {
				open = append(open, d)
			}
		}
		settled = settled[len(wanted[i]):]
		wanted[i] = open
	}
	return nil
}

// matchedAtOnce is how many deliveries are found before they are put into lanes: a
// batch of events times all subscriptions would not fit into memory.
const matchedAtOnce = 4096

// matchSome finds the deliveries of the first events, of one at least. Filters
// come from users: one that makes the matcher panic costs its own subscription and
// nothing else.
func (e *Engine) matchSome(taken []*flight) [][]relay.Delivery {
	wanted, found := make([][]relay.Delivery, 0, len(taken)), 0
	for len(wanted) < len(taken) && found < matchedAtOnce {
		func() {
			var at *relay.Subscription
			defer func() {
				if r := recover(); r != nil {
					wanted = e.matchPanicked(r, at, taken[len(wanted)], wanted)
				}
			}()
			for len(wanted) < len(taken) && found < matchedAtOnce {
				of := e.match(&taken[len(wanted)].msg, &at)
				wanted, found = append(wanted, of), found+len(of)
			}
		}()
	}
	return wanted
}

// matchPanicked takes the subscription whose filter panicked out of the
// directory, so that the event can be matched again. A panic outside any filter
// leaves an event that cannot be matched at all.
func (e *Engine) matchPanicked(r any, at *relay.Subscription, fl *flight, wanted [][]relay.Delivery) [][]relay.Delivery {
	e.observer.panicked()
	if at == nil {
		e.log.Error("event cannot be matched, it is passed over", "stream_seq", fl.msg.Seq, "panic", panicText(r), "stack", string(debug.Stack()))
		return append(wanted, nil)
	}
	e.log.Error("filter cannot be evaluated, its subscription receives nothing", "subscription_id", at.ID, "panic", panicText(r), "stack", string(debug.Stack()))
	broken := *at
	broken.Broken = errors.New("its filter cannot be evaluated")
	e.dir.apply([]change{{ID: at.ID, Row: &broken}})
	return wanted
}

// match finds the deliveries of one event.
func (e *Engine) match(m *relay.StreamMessage, at **relay.Subscription) []relay.Delivery {
	ev := &m.Event
	yes, unknown := e.dir.match(ev, m.Seq, nil, nil, at)
	if len(unknown) > 0 {
		e.reportUndecided(unknown)
	}
	out := make([]relay.Delivery, len(yes))
	for i, s := range yes {
		out[i] = relay.Delivery{
			EventID: ev.ID, EventType: ev.Type, SubscriptionID: s.ID, Owner: ev.Owner,
			Body: ev.Body, StreamSeq: m.Seq, CommitLSN: ev.Position.CommitLSN,
		}
	}
	return out
}

// reportUndecided counts filters that needed a value the log did not carry, and
// logs each once for every version of its subscription.
func (e *Engine) reportUndecided(unknown []*relay.Subscription) {
	e.observer.undecided(len(unknown))
	if len(e.undecided) > 10_000 {
		clear(e.undecided) // bounded; some are logged again
	}
	for _, s := range unknown {
		if e.undecided[s.ID] != s {
			e.undecided[s.ID] = s
			e.log.Warn("filter needs a column that the log did not carry, not delivered; set REPLICA IDENTITY FULL on the table",
				"subscription_id", s.ID, "event_type", s.EventType)
		}
	}
}
