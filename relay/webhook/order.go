package webhook

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Pace of asking for the floor.
const (
	floorGap   = 5 * time.Millisecond   // between two questions, at least
	floorPoll  = 250 * time.Millisecond // for what other processes acked
	floorIdle  = time.Second            // while no subscription is ordered
	floorBlind = time.Second            // after a question that was not answered
)

// order knows up to which place of the stream every delivery is in the ledger, all
// processes together: an event is acked after that. An ordered delivery from after it
// could overtake one that nobody has recorded yet. A floor that is behind only delays.
type order struct {
	floor   atomic.Uint64
	ordered *atomic.Int64 // subscriptions
	acked   chan struct{} // an event was acked here
	moved   func()        // told when the floor rises and somebody may wait for it
}

func newOrder(ordered *atomic.Int64, moved func()) *order {
	return &order{ordered: ordered, acked: make(chan struct{}, 1), moved: moved}
}

// keep follows the floor until ctx ends.
func (o *order) keep(ctx context.Context, feed Bulletin, log *slog.Logger) {
	for {
		pause := floorGap
		acked, _, err := feed.Bounds(ctx)
		switch {
		case err != nil:
			log.Debug("cannot read how far events are recorded, ordered deliveries wait", "error", err)
			pause = floorBlind
		case o.floor.Swap(acked) < acked && o.ordered.Load() > 0:
			o.moved()
		}
		if !sleepFor(ctx, pause) {
			return
		}
		idle := floorPoll
		if o.ordered.Load() == 0 {
			idle = floorIdle
		}
		timer := time.NewTimer(idle)
		select {
		case <-o.acked:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// told notes that an event was acked here.
func (o *order) told() {
	if o.ordered.Load() > 0 {
		signal(o.acked)
	}
}

// sleepFor is false when ctx ended.
func sleepFor(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
