package webhook

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/dot-do/relay/relay"
)

// brokenPause is how long a delivery waits for a person to repair its
// subscription before it is looked at again.
const brokenPause = time.Minute

// run takes one delivery through its attempt. The subscription is looked up
// again: it may have changed while the delivery waited. It reports what was seen of
// the endpoint.
func (e *Engine) run(t *task) (seen answer) {
	sub := e.dir.get(t.delivery.SubscriptionID)
	defer func() {
		if r := recover(); r != nil {
			e.runPanicked(r, t, sub)
		}
	}()
	switch {
	case sub == nil: // deleted: silence
		e.drop(t, false)
		return answer{}
	case !sub.Active:
		e.defers(t, wait{delay: pollIdle})
		return answer{}
	case sub.Broken != nil:
		e.defers(t, wait{delay: brokenPause})
		return answer{}
	}
	a := e.sender.Send(e.attempts, t.delivery, sub)
	if a == nil { // cut off by the end of the drain: nothing is known
		e.drop(t, true)
		return answer{}
	}
	e.observer.attempted(FailureClass(a.Error), a.Duration)
	o := e.policy.outcome(t.delivery, sub, a, rand.Float64()) //nolint:gosec // jitter
	seen = answerOf(&o)
	e.settle(t, o)
	return seen
}

// targetOf is where a subscription points to, empty for one that is not known.
func (e *Engine) targetOf(id string) string {
	if sub := e.dir.get(id); sub != nil {
		return sub.TargetURL
	}
	return ""
}

// breakerTurned tells of an endpoint that is only probed from now on, or not any
// more.
func (e *Engine) breakerTurned(id string, opened bool, failures int) {
	if opened {
		e.log.Warn("endpoint fails, its deliveries wait while it is probed", "subscription_id", id, "failures", failures)
		return
	}
	e.log.Info("endpoint works again", "subscription_id", id)
}

// runPanicked makes a panic a failed attempt of the one delivery.
func (e *Engine) runPanicked(r any, t *task, sub *relay.Subscription) {
	e.observer.panicked()
	e.log.Error("delivery panicked", "subscription_id", t.delivery.SubscriptionID, "event_id", t.delivery.EventID,
		"panic", panicText(r), "stack", string(debug.Stack()))
	if sub == nil {
		e.drop(t, true)
		return
	}
	a := &relay.Attempt{
		Number: t.delivery.Attempts + 1, StartedAt: time.Now(), TargetURL: sub.TargetURL,
		Error: classInternal + ": the relay failed while it made this attempt",
	}
	e.settle(t, e.policy.outcome(t.delivery, sub, a, rand.Float64())) //nolint:gosec // jitter
}

// panicText is what a log may hold of a panic: its own words when the runtime
// chose them, else only the type, since the value may hold data.
func panicText(r any) string {
	if err, ok := r.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", r)
}

// defers puts a task aside without an attempt.
func (e *Engine) defers(t *task, w wait) {
	e.uncount(t)
	e.settle(t, relay.Outcome{Delivery: t.delivery, Kind: relay.Deferred, Delay: w.delay, Reason: w.reason})
}

// uncount gives back the quota of a task that was not attempted.
func (e *Engine) uncount(t *task) {
	if !t.counted.IsZero() {
		e.quota.unused(t.delivery.SubscriptionID, t.counted)
		t.counted = time.Time{}
	}
}

// settle gives the outcome of a task to the ledger.
func (e *Engine) settle(t *task, o relay.Outcome) {
	o.Leased = t.lease
	e.settler.add(t, o)
}

// committed is called for outcomes in a committed batch.
func (e *Engine) committed(batch []settlement) {
	var kinds [relay.Skipped + 1]int
	begun := 0
	soonest := time.Duration(-1)
	for _, s := range batch {
		kinds[s.outcome.Kind]++
		if s.task.begun {
			begun++
		}
		later := s.outcome.Kind == relay.Retry || s.outcome.Kind == relay.Deferred
		if s.outcome.Delivery.OrderingKey != "" && !later {
			soonest = 0 // the next of its key may go
		}
		if later && (soonest < 0 || s.outcome.Delay < soonest) {
			soonest = s.outcome.Delay
		}
	}
	e.lanes.settled(begun)
	for _, s := range batch {
		e.done(s.task, false)
	}
	if soonest >= 0 {
		e.claims.wrote(soonest)
	}
	for kind, n := range kinds {
		if n > 0 {
			e.observer.settled(relay.OutcomeKind(kind), n)
		}
	}
}

// drop ends a task that leaves no outcome: its subscription was deleted, or it
// was not attempted and must come again.
func (e *Engine) drop(t *task, again bool) {
	e.uncount(t)
	if t.begun {
		e.lanes.settled(1)
	}
	if t.lease != "" {
		e.claims.missed(t.delivery.SubscriptionID)
		e.free(e.attempts, t.lease, []relay.Delivery{t.delivery})
		return
	}
	e.done(t, again)
}

// giveBack ends tasks that were never begun.
func (e *Engine) giveBack(ctx context.Context, tasks []*task) {
	leased := map[string][]relay.Delivery{}
	for _, t := range tasks {
		e.uncount(t)
		if t.lease == "" {
			e.done(t, true)
			continue
		}
		leased[t.lease] = append(leased[t.lease], t.delivery)
	}
	// All within one timeout: a ledger that does not answer must not hold up the
	// drain once for every lease.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
	defer cancel()
	for lease, deliveries := range leased {
		e.freeWithin(ctx, lease, deliveries)
	}
}

// done ends a task.
func (e *Engine) done(t *task, again bool) {
	if t.lease != "" {
		e.claims.end(t.lease, 1)
		return
	}
	<-e.budget
	e.release(t.flight, again)
}

// release takes one delivery off an event; the last one lets the feed be answered.
func (e *Engine) release(fl *flight, again bool) {
	if e.flights.settle(fl, again) {
		e.answers <- fl
	}
}

// answer tells the feed about finished events until answers is closed.
func (e *Engine) answer() {
	for fl := range e.answers {
		m, again := e.flights.message(fl)
		if again {
			if err := e.cfg.Feed.Return(m); err != nil {
				e.log.Debug("event cannot be returned, it comes again later", "stream_seq", m.Seq, "error", err)
			}
		} else if err := e.ack(m); err != nil {
			// It comes again after AckWait, and everything is found settled.
			e.log.Debug("event cannot be acked, it comes again later", "stream_seq", m.Seq, "error", err)
		} else {
			e.order.told()
		}
		e.flights.end(fl)
	}
}

func (e *Engine) ack(m relay.StreamMessage) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	return e.cfg.Feed.Ack(ctx, m)
}

// extend keeps an event from being handed out again.
func (e *Engine) extend(m relay.StreamMessage) {
	if err := e.cfg.Feed.Extend(m); err != nil {
		e.log.Debug("event cannot be extended", "stream_seq", m.Seq, "error", err)
	}
}
