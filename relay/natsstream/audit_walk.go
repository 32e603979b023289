package natsstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/relay"
)

const (
	// wholeWalks is after how many walks one begins with the first message again: what
	// was sound when it was walked by may be damaged since.
	wholeWalks = 24
	// restShare is how much longer than it works a walk rests: it takes a tenth of a
	// core at most.
	restShare   = 9
	longestRest = time.Second
	walkWait    = 5 * time.Second // for messages that are there
	walkBatch   = 256             // messages in memory at a time, without their bodies
)

// walk follows the chain from where the last walk ended, or from the first message
// on, to the end that the stream has now.
func (a *auditor) walk(ctx context.Context) error {
	info, err := a.info(ctx)
	if err != nil || info.State.Msgs == 0 {
		return err
	}
	from, s := a.audit.Audited, info.State
	if a.whole || from.Seq < s.FirstSeq || from.Seq > s.LastSeq || time.Since(a.audit.Whole) >= wholeWalks*a.cfg.Every {
		from = relay.StreamPlace{}
		a.audit.Audited, a.audit.Whole = from, time.Now().UTC().Truncate(time.Microsecond)
	}
	if from.Seq == s.LastSeq {
		return nil
	}
	begin := max(from.Seq, s.FirstSeq)
	w := &walker{auditor: a, pass: pass{a: a}, anchor: from, created: a.audit.Created, last: s.LastSeq}
	err = w.run(ctx, begin)
	if errors.Is(err, errOtherAnchor) { // the stream lost its end, and was filled again
		a.whole = true
		return nil
	}
	if err == nil && from.Seq == 0 {
		a.whole, a.deleted = false, s.NumDeleted
	}
	err = errors.Join(err, w.pass.end(ctx))
	if a.audit.Created.Equal(w.created) {
		err = errors.Join(err, a.save(ctx))
		a.report()
	}
	return err
}

var errOtherAnchor = errors.New("another message stands where the last walk ended")

// walker is one walk.
type walker struct {
	*auditor
	pass    pass
	anchor  relay.StreamPlace // where the last walk ended; zero when this one begins anew
	created time.Time         // of the stream that it walks along
	last    uint64

	at    uint64            // the last message seen, of anybody
	ours  relay.StreamPlace // the last of ours
	begun bool
	gap   uint64 // sequences without a message since the last of ours
}

func (w *walker) run(ctx context.Context, from uint64) error {
	consumer, pending, err := w.open(ctx, from)
	if err != nil {
		return err
	}
	pull, err := w.c.newPuller(consumer)
	if err != nil {
		return err
	}
	defer func() {
		pull.close()
		w.c.dismiss(context.WithoutCancel(ctx), consumer)
	}()
	for pending > 0 && w.at < w.last {
		began := time.Now()
		msgs, err := w.next(ctx, pull)
		if err != nil || len(msgs) == 0 {
			return err
		}
		for _, msg := range msgs {
			meta, err := msg.Metadata()
			if err != nil {
				return fmt.Errorf("message on %q is not from the consumer: %w", msg.Subject, err)
			}
			if pending = meta.NumPending; meta.Sequence.Stream > w.last {
				pending = 0
				break
			}
			if err := w.step(ctx, meta.Sequence.Stream, msg.Header); err != nil {
				return err
			}
		}
		if w.ours.Seq > 0 {
			w.audit.Audited = w.ours
		}
		if err := w.rest(ctx, restShare*time.Since(began)); err != nil {
			return err
		}
	}
	return nil
}

// rest leaves the processors to others, and looks at the stream when it is time.
func (w *walker) rest(ctx context.Context, d time.Duration) error {
	if err := sleep(ctx, min(d, longestRest)); err != nil {
		return err
	}
	if time.Since(w.looked) < w.every {
		return nil
	}
	if err := w.look(ctx); err != nil {
		return err
	}
	if !w.audit.Created.Equal(w.created) {
		return fmt.Errorf("walk along stream %s: %w", w.c.cfg.Stream, relay.ErrStreamReplaced)
	}
	return nil
}

// step takes the next message of the stream.
func (w *walker) step(ctx context.Context, seq uint64, header nats.Header) error {
	pos, prev, ours := chainOf(header)
	if !w.begun {
		w.begun = true
		if w.anchor.Seq > 0 && (seq != w.anchor.Seq || pos != w.anchor.Position) {
			return errOtherAnchor
		}
	} else {
		w.gap += seq - w.at - 1
	}
	from := w.at + 1
	w.at = seq
	if !ours {
		return nil
	}
	before, gap := w.ours, w.gap
	w.ours, w.gap = relay.StreamPlace{Seq: seq, Position: pos}, 0
	switch {
	case before.Seq == 0: // the first of ours: what stood before it has left
		return nil
	case prev == before.Position:
		if from < seq {
			w.passOver(span{from, seq - 1})
		}
		return nil
	}
	h := relay.Hole{
		Reason: relay.HoleMissing, After: before, Before: w.ours, From: before.Position.CommitLSN, To: pos.CommitLSN, Missing: gap,
	}
	if gap == 0 {
		h.Reason = relay.HoleOrder
	}
	return w.pass.add(ctx, h)
}

// open makes a consumer over the headers of all messages from a sequence on, which the
// server forgets by itself. It returns how many there are.
func (w *walker) open(ctx context.Context, from uint64) (name string, pending uint64, err error) {
	ctx, cancel := w.c.session(ctx)
	defer cancel()
	consumer, err := w.c.js.CreateConsumer(ctx, w.c.cfg.Stream, jetstream.ConsumerConfig{
		Description:       "the relay's audit of the chain of positions",
		AckPolicy:         jetstream.AckNonePolicy,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       from,
		HeadersOnly:       true,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: 3 * apiTimeout,
	})
	if err != nil {
		return "", 0, fmt.Errorf("read headers: %w", w.c.explain(err))
	}
	info := consumer.CachedInfo()
	return info.Name, info.NumPending, nil
}

// next returns messages that are there, and none when all have left by age meanwhile;
// it fails when none comes for a while.
func (w *walker) next(ctx context.Context, pull *puller) ([]*nats.Msg, error) {
	inner, cancel := context.WithTimeout(ctx, walkWait)
	defer cancel()
	msgs, err := pull.next(inner, walkBatch)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		info, err := w.info(ctx)
		if err != nil || info.State.FirstSeq > w.last {
			return nil, err
		}
		return nil, fmt.Errorf("stream %s does not show what stands behind sequence %d: %w", w.c.cfg.Stream, w.at, errSilence)
	}
	return msgs, err
}

// dismiss removes a consumer of ours.
func (c *Client) dismiss(ctx context.Context, consumer string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if c.nc.IsConnected() {
		_ = c.js.DeleteConsumer(ctx, c.cfg.Stream, consumer) // else the server forgets it
	}
}
