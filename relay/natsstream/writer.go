package natsstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dot-do/relay/internal/failpoint"
	"github.com/dot-do/relay/relay"
)

const tailRetry = 10 * time.Millisecond

// Writer appends to the stream as its sole writer. It fulfils relay.Stream.
//
// Tail and Append take turns; Name, Seq and MaxBody may be called at any time.
type Writer struct {
	c   *Client
	env *envelope

	seq     atomic.Uint64
	maxSize atomic.Int64 // of the stream; 0 for no limit of its own

	mu     sync.Mutex
	flight *flight // nil: the tail has to be read first
	at     place
}

var _ relay.Stream = (*Writer)(nil)

// Writer returns a writer; its first call must be Tail. Two writers of one stream
// fence each other.
func (c *Client) Writer() *Writer {
	return &Writer{c: c, env: newEnvelope(c.cfg.Source)}
}

// Name returns the name of the stream.
func (w *Writer) Name() string { return w.c.cfg.Stream }

// Seq returns the sequence of the last message known to be stored.
func (w *Writer) Seq() uint64 { return w.seq.Load() }

// MaxBody returns the largest body that Append accepts, in bytes: the server's
// largest payload, or the stream's, less room for the headers.
func (w *Writer) MaxBody() int {
	size := w.c.nc.MaxPayload()
	if own := w.maxSize.Load(); own > 0 {
		size = min(size, own)
	}
	return max(0, int(size)-headerRoom)
}

// Tail reads the end of the stream from its leader, after everything this process
// sent before was dealt with. While the connection is down it waits for it, for
// some seconds. A last message that is not the relay's is a *relay.HaltError.
func (w *Writer) Tail(ctx context.Context) (relay.Tail, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end()
	deadline := time.Now().Add(apiTimeout)
	for {
		if err := w.c.awaitConnection(ctx, time.Until(deadline)); err != nil {
			return relay.Tail{}, err
		}
		t, lost, err := w.c.tail(ctx)
		if errors.Is(err, errConnectionLost) || errors.Is(err, errDisconnected) {
			if err := sleep(ctx, tailRetry); err != nil {
				return relay.Tail{}, err
			}
			continue // it broke meanwhile; waiting ends at the deadline
		}
		if err != nil {
			return relay.Tail{}, err
		}
		return t.Tail, w.begin(t, lost)
	}
}

// begin starts a flight behind the tail.
func (w *Writer) begin(t tail, lost <-chan struct{}) (err error) {
	w.maxSize.Store(int64(t.maxSize))
	w.seq.Store(t.Seq)
	w.at = place{after: t.Seq, prev: t.Position, control: t.control, first: true, byID: t.replicas == 1}
	w.flight, err = w.c.takeoff(t.Seq, lost, w.seq.Store)
	return err
}

// Append stores the events behind the tail, in order, and returns when all are
// acknowledged. After an error an unknown prefix is stored and Append refuses to
// go on until Tail was read again. ErrFenced: the stream holds messages of another
// writer.
func (w *Writer) Append(ctx context.Context, events []relay.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flight == nil {
		return fmt.Errorf("append to stream %s: %w", w.c.cfg.Stream, errNoTail)
	}
	if err := w.append(ctx, events); err != nil {
		if w.flight.refused() {
			err = w.flight.drain(ctx)
		}
		w.end()
		return fmt.Errorf("append to stream %s: %w", w.c.cfg.Stream, w.c.explain(err))
	}
	return nil
}

var errNoTail = errors.New("the tail must be read first")

func (w *Writer) append(ctx context.Context, events []relay.Event) error {
	select {
	case <-w.flight.lost:
		return errConnectionLost
	default:
	}
	limit := w.MaxBody()
	for i := range events {
		ev := &events[i]
		if len(ev.Body) > limit {
			return fmt.Errorf("event %s (%s) has %d bytes, the stream takes %d: raise max_payload of the NATS server", ev.ID, ev.Type, len(ev.Body), limit)
		}
		subj, err := subject(ev.Type)
		if err != nil {
			return err
		}
		seq, err := w.flight.reserve(ctx, len(ev.Body)+headerRoom/16)
		if err != nil {
			return err
		}
		msg := w.env.fill(ev, w.at)
		msg.Subject = subj
		msg.Reply = w.flight.reply(seq)
		if !failpoint.Drop(failpoint.Lost) {
			if err := w.c.nc.PublishMsg(msg); err != nil {
				return err
			}
		}
		failpoint.Hit(failpoint.Sent)
		w.at.after, w.at.prev, w.at.first = seq, ev.Position, false
		if ev.IsControl() {
			w.at.control = seq
		}
	}
	return w.flight.all(ctx)
}

// end stops to listen for acknowledgements: what comes late belongs to nobody.
func (w *Writer) end() {
	if w.flight != nil {
		w.flight.land()
		w.flight = nil
	}
}

// Close ends the writer; the client stays open.
func (w *Writer) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end()
}
