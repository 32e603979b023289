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

// The stream acknowledges by itself only every so many events. It is asked for the
// others when they have been on their way for askAfter and none follow, and are so few
// that to wait for the answer holds nothing up; or when it acknowledged nothing in that
// time.
const (
	askAfter = 10 * time.Millisecond
	askMost  = 512
)

// publisher state of one session, owned by the publishing goroutine.
type publisher struct {
	*Capture
	cp        Checkpoint  // the next to be saved; shadows the one the session began with
	held      LSN         // everything that ended before it is held by the stream
	sent      []sentBatch // on their way to the stream, in order
	settling  settling    // what of it may not be on the stream's disk yet
	published bool        // events went out since the last checkpoint
	settled   bool        // or some of them settled
	last      time.Time   // of the last checkpoint
	stored    uint64      // sequence that was stored when the stream was last asked
	hole      *HoleNotice // that waits for its place in the stream
}

// sentBatch is what the publisher remembers of a batch until it is stored.
type sentBatch struct {
	before, last uint64 // sequences of the stream: before its events, and of its last
	events       int
	position     Position // of the last
	commit       LSN      // everything that ended before it is held once the batch is; zero inside a transaction
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
	ask := time.NewTimer(askAfter)
	defer ask.Stop()
	asked := true
	for {
		select {
		case mb, ok := <-in:
			if !ok {
				if err := p.flush(ctx); err != nil {
					return err
				}
				return p.checkpoint(ctx)
			}
			if err := p.publish(ctx, mb, len(in) > 0); err != nil {
				return err
			}
			free <- mb
		case <-ask.C:
			asked = true
			if err := p.ask(ctx, len(in) == 0); err != nil {
				return err
			}
		case notice := <-p.holes():
			p.hole = &notice
		case <-ticker.C:
		}
		p.landed()
		if err := p.recordHole(ctx); err != nil {
			return err
		}
		if asked && len(p.sent) > 0 {
			ask.Reset(askAfter)
			asked = false
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

// publish sends a batch on its way, which more follow.
func (p *publisher) publish(ctx context.Context, mb *mappedBatch, more bool) error {
	b := sentBatch{events: len(mb.events), commit: mb.commit}
	if n := len(p.sent); n > 0 {
		b.before = p.sent[n-1].last
	} else {
		b.before = p.cfg.Stream.Seq()
	}
	b.last = b.before
	if b.events > 0 {
		b.position = mb.events[b.events-1].Position
		failpoint.Hit(failpoint.BeforePublish)
		var err error
		if b.last, err = p.cfg.Stream.Send(ctx, mb.events, more || mb.more); err != nil {
			return fmt.Errorf("publish %d events up to %s: %w", b.events, b.position, err)
		}
	}
	if n := len(p.sent); n > 0 && b.events == 0 { // an idle stream of them is bounded so
		p.sent[n-1].commit = max(p.sent[n-1].commit, b.commit)
	} else {
		p.sent = append(p.sent, b)
	}
	if mb.after == nil {
		return nil
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	return mb.after(ctx)
}

// ask lets the stream acknowledge what it did not by itself.
func (p *publisher) ask(ctx context.Context, idle bool) error {
	stored := p.cfg.Stream.Seq()
	stuck := stored == p.stored
	p.stored = stored
	if n := len(p.sent); n == 0 || !idle || (!stuck && p.sent[n-1].last-stored > askMost) {
		return nil
	}
	return p.flush(ctx)
}

// flush waits until everything sent is stored.
func (p *publisher) flush(ctx context.Context) error {
	if n := len(p.sent); n > 0 && p.sent[n-1].last > p.cfg.Stream.Seq() {
		if err := p.cfg.Stream.Append(ctx, nil); err != nil {
			return fmt.Errorf("publish up to %s: %w", p.sent[n-1].position, err)
		}
	}
	p.landed()
	return nil
}

// landed takes note of the batches that are stored by now.
func (p *publisher) landed() {
	stored := p.cfg.Stream.Seq()
	n := 0
	for ; n < len(p.sent) && p.sent[n].last <= stored; n++ {
		b := &p.sent[n]
		if b.events > 0 {
			p.settling.stored(time.Now(), p.held, b.before)
			p.published = true
			p.cp.Position, p.cp.StreamSeq = b.position, b.last
		}
		p.held = max(p.held, b.commit)
		if p.cfg.Observer.Published != nil {
			p.cfg.Observer.Published(b.events, b.commit, b.last)
		}
	}
	p.sent = append(p.sent[:0], p.sent[n:]...)
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
