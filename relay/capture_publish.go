package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/dot-do/relay/internal/failpoint"
)

// How long a stopping session may take for its last appends and checkpoint.
const stopTimeout = 10 * time.Second

// An idle slot moves because other tables or databases write. Such moves are
// checkpointed often only when they free a worthwhile amount of log; the
// checkpoint itself writes log, and must not keep itself going.
const (
	idleWorthwhile = 64 << 10 // bytes
	idleEvery      = 30 * time.Second
)

// publisher state of one session, owned by the publishing goroutine.
type publisher struct {
	*Capture
	cp        Checkpoint  // the next to be saved; shadows the one the session began with
	held      LSN         // everything that ended before it is held by the stream
	settling  settling    // what of it may not be on the stream's disk yet
	published bool        // events went out since the last checkpoint
	settled   bool        // or some of them settled
	last      time.Time   // of the last checkpoint
	hole      *HoleNotice // that waits for its place in the stream
}

// publishBatches appends what was mapped until the channel is closed. It does not
// stop in the middle: what was taken from the source goes into the stream, then
// into the checkpoint, then the slot is told.
func (c *Capture) publishBatches(ctx context.Context, in <-chan *mappedBatch, free chan<- *mappedBatch) error {
	ctx, cancel := grace(ctx)
	defer cancel()
	p := &publisher{Capture: c, cp: c.cp, held: c.cp.Confirmed, last: time.Now(), settling: settling{lag: c.cfg.ConfirmLag}}
	if c.cp.SettledSeq < c.cp.StreamSeq {
		p.settling.stored(p.last, c.cp.Confirmed, c.cp.SettledSeq) // by an earlier session, nobody knows when
	}
	ticker := time.NewTicker(max(c.cfg.CheckpointEvery/4, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case mb, ok := <-in:
			if !ok {
				return p.checkpoint(ctx)
			}
			if err := p.publish(ctx, mb); err != nil {
				return err
			}
			free <- mb
		case notice := <-p.holes():
			p.hole = &notice
		case <-ticker.C:
		}
		if err := p.recordHole(ctx); err != nil {
			return err
		}
		if err := p.settle(ctx); err != nil {
			return err
		}
		if !p.due() {
			continue
		}
		if err := p.checkpoint(ctx); err != nil {
			return err
		}
	}
}

func (p *publisher) publish(ctx context.Context, mb *mappedBatch) error {
	if len(mb.events) > 0 {
		before := p.cfg.Stream.Seq()
		failpoint.Hit(failpoint.BeforePublish)
		if err := p.cfg.Stream.Append(ctx, mb.events); err != nil {
			return fmt.Errorf("publish %d events up to %s: %w", len(mb.events), mb.events[len(mb.events)-1].Position, err)
		}
		p.settling.stored(time.Now(), p.held, before)
		p.published = true
		p.cp.Position = mb.events[len(mb.events)-1].Position
		p.cp.StreamSeq = p.cfg.Stream.Seq()
	}
	if mb.after != nil {
		if err := mb.after(ctx); err != nil {
			return err
		}
	}
	p.held = max(p.held, mb.commit)
	if p.cfg.Observer.Published != nil {
		p.cfg.Observer.Published(len(mb.events), mb.commit, p.cfg.Stream.Seq())
	}
	return nil
}

func (p *publisher) due() bool {
	since := time.Since(p.last)
	bound, _ := p.settling.bound(p.held, p.cp.StreamSeq)
	if p.published || p.settled || bound >= p.cp.Confirmed+idleWorthwhile {
		return since >= p.cfg.CheckpointEvery
	}
	return bound > p.cp.Confirmed && since >= idleEvery
}

// checkpoint saves what is held and then lets the slot move, as far as it has
// settled. In this order: a slot that is ahead of the checkpoint could only mean that
// somebody else moved it. In a transaction that spans many batches only the position
// moves.
func (p *publisher) checkpoint(ctx context.Context) error {
	bound, settled := p.settling.bound(p.held, p.cp.StreamSeq)
	moves := bound > p.cp.Confirmed
	p.settled = false
	if !moves && !p.published {
		return nil
	}
	next := p.cp
	next.Confirmed, next.SettledSeq = max(bound, next.Confirmed), settled
	failpoint.Hit(failpoint.BeforeCheckpoint)
	if err := p.cfg.Checkpoints.Save(ctx, next); err != nil {
		return fmt.Errorf("save the checkpoint at %s: %w", next.Confirmed, err)
	}
	p.cp, p.published, p.last = next, false, time.Now()
	if !moves {
		return nil
	}
	failpoint.Hit(failpoint.BeforeConfirm)
	p.cfg.Source.Confirm(bound)
	p.cfg.Backfill.confirm(bound)
	if p.cfg.Observer.Confirmed != nil {
		p.cfg.Observer.Confirmed(bound)
	}
	return nil
}

// grace returns a context that ends stopTimeout after ctx, so that a stopping
// session finishes what is on its way, in bounded time.
func grace(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(stopTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-out.Done():
		}
	})
	return out, func() { stop(); cancel() }
}
