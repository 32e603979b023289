package natsstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/internal/failpoint"
	"github.com/dot-do/relay/relay"
)

const tailRetry = 10 * time.Millisecond

// Writer appends to the stream as its sole writer. It fulfils relay.Stream.
//
// Tail, Send and Append take turns; Name, Seq and MaxBody may be called at any time.
type Writer struct {
	c   *Client
	env *envelope

	seq     atomic.Uint64
	maxSize atomic.Int64 // of the stream; 0 for no limit of its own

	mu      sync.Mutex
	flight  *flight // nil: the tail has to be read first
	frames  frames
	mode    mode
	at      place
	replyTo []byte

	asked uint64 // sequence of the last message that is answered by itself, or for others

	batch     fastBatch
	group     group
	groupMost int // messages that the server takes in an atomic batch
}

var _ relay.Stream = (*Writer)(nil)

// Writer returns a writer; its first call must be Tail. Two writers of one stream
// fence each other.
func (c *Client) Writer() *Writer {
	return &Writer{c: c, env: newEnvelope(c.cfg.Source), groupMost: groupMost}
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
		err = w.begin(ctx, t, lost)
		t.MaxBody = w.MaxBody()
		return t.Tail, err
	}
}

// begin starts a flight behind the tail.
func (w *Writer) begin(ctx context.Context, t tail, lost <-chan struct{}) error {
	w.maxSize.Store(int64(t.maxSize))
	w.seq.Store(t.Seq)
	conn := w.c.tap.present()
	f, err := w.c.takeoff(ctx, t.Seq, lost, w.seq.Store)
	if err != nil {
		return err
	}
	if conn != w.c.tap.present() {
		f.land()
		return errConnectionLost
	}
	if w.c.wrapped() {
		conn = nil
	}
	w.mode = t.mode(w.c.cfg.Batches)
	w.at = place{after: t.Seq, prev: t.Position, control: t.control, first: true, byID: t.replicas == 1 && w.mode == modeSingle, ids: w.c.cfg.MessageIDs || w.mode == modeSingle}
	w.flight, w.frames = f, frames{conn: conn, nc: w.c.nc, buf: w.frames.buf[:0]}
	w.batch, w.asked = fastBatch{}, t.Seq
	w.group.made, w.group.n = 0, 0
	switch w.mode {
	case modeFast:
		f.batched, f.nudge = true, w.ask
	case modeAtomic:
		f.limit = 2 * groupMost // one is stored while the next travels
	case modeSingle:
		f.single = true
	}
	if w.mode != modeFast && t.replicas == 1 {
		f.nudge = w.probe
	}
	return nil
}

// Send sends the events behind those that were sent before, and returns the sequence
// of the last when they are on their way. It waits only where too much is. With more,
// others follow at once, and may be stored together with these.
func (w *Writer) Send(ctx context.Context, events []relay.Event, more bool) (last uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err = w.do(ctx, func() error {
		if err := w.send(ctx, events); err != nil || more || !w.groupIsDue() {
			return err
		}
		return w.endGroup(ctx)
	})
	return w.at.after, err
}

// Append sends the events, and returns when they and all that were sent before are
// stored. ErrFenced: the stream holds messages of another writer.
func (w *Writer) Append(ctx context.Context, events []relay.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.do(ctx, func() error {
		if err := w.send(ctx, events); err != nil {
			return err
		}
		if err := w.endBatch(); err != nil {
			return err
		}
		if err := w.endGroup(ctx); err != nil {
			return err
		}
		return w.flight.all(ctx)
	})
}

// do ends the flight when something fails: an unknown prefix is stored, and only the
// tail tells.
func (w *Writer) do(ctx context.Context, what func() error) error {
	if w.flight == nil {
		return fmt.Errorf("append to stream %s: %w", w.c.cfg.Stream, errNoTail)
	}
	err := what()
	if err == nil {
		return nil
	}
	if w.flight.refused() {
		err = w.flight.drain(ctx)
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.ErrorCode == codeBatchTooLarge {
		w.groupMost = max(1, w.groupMost/2)
	}
	w.end()
	return fmt.Errorf("append to stream %s: %w", w.c.cfg.Stream, w.c.explain(err))
}

var errNoTail = errors.New("the tail must be read first")

func (w *Writer) send(ctx context.Context, events []relay.Event) error {
	select {
	case <-w.flight.lost:
		return errConnectionLost
	default:
	}
	for i := range events {
		if err := w.message(ctx, &events[i]); err != nil {
			return err
		}
	}
	return w.frames.push()
}

// message sends one event, or makes it part of an atomic batch.
func (w *Writer) message(ctx context.Context, ev *relay.Event) error {
	if limit := w.MaxBody(); len(ev.Body) > limit {
		return fmt.Errorf("event %s (%s) has %d bytes, the stream takes %d: raise max_payload of the NATS server", ev.ID, ev.Type, len(ev.Body), limit)
	}
	subj, err := w.env.subjectOf(ev)
	if err != nil {
		return err
	}
	switch w.mode {
	case modeAtomic:
		return w.gather(ctx, ev, subj)
	case modeFast:
		if err := w.join(ctx); err != nil {
			return err
		}
	case modeSingle:
	}
	seq, err := w.reserve(ctx, len(ev.Body)+headerRoom/16)
	if err != nil {
		return err
	}
	if w.mode == modeFast {
		w.batch.n++
		op := opNext
		if w.batch.n == 1 {
			op = opFirst
		}
		w.replyTo = w.batch.reply(w.flight, w.replyTo[:0], w.batch.n, op)
	} else {
		w.replyTo = w.flight.reply(w.replyTo[:0], w.at.after, seq)
	}
	if err := w.put(subj, w.env.fill(ev, &w.at), ev.Body); err != nil {
		return err
	}
	w.at.follow(ev, seq)
	w.asked = seq
	return nil
}

// put sends a message, which is answered at replyTo.
func (w *Writer) put(subject string, head, body []byte) error {
	if failpoint.Drop(failpoint.Lost) {
		return nil
	}
	if err := w.frames.put(subject, w.replyTo, head, body); err != nil || !failpoint.Enabled {
		return err
	}
	err := w.frames.push()
	failpoint.Hit(failpoint.Sent)
	return err
}

// probe asks what became of the last message, with one that is always refused. A single
// server answers in order: without an answer to the one before, that one was lost.
func (w *Writer) probe() error {
	w.replyTo = strconv.AppendUint(append(append(w.replyTo[:0], w.flight.inbox...), askPrefix...), w.asked, 10)
	head := append(strconv.AppendUint(header([]byte("NATS/1.0\r\n"), headerAfter), neverASeq, 10), "\r\n\r\n"...)
	if err := w.frames.put(probeSubject, w.replyTo, head, nil); err != nil {
		return err
	}
	return w.frames.push()
}

const askPrefix = "ask." // of the place of an answer to it

// reserve waits for room on the way for one more message, and returns its sequence.
func (w *Writer) reserve(ctx context.Context, size int) (uint64, error) {
	for {
		seq, ok, err := w.flight.reserve(size)
		if ok || err != nil {
			return seq, err
		}
		if err := w.frames.push(); err != nil { // what is not sent is not answered
			return 0, err
		}
		if w.mode == modeAtomic { // what waits for its group to end is not answered either
			if err := w.endGroup(ctx); err != nil {
				return 0, err
			}
		}
		half, crowded := w.flight.half()
		if w.mode == modeFast && (!crowded || w.batch.flow > w.flight.most()/2) {
			// So few messages may not be answered before the batch ends.
			if err := w.endBatch(); err != nil {
				return 0, err
			}
			if err := w.join(ctx); err != nil {
				return 0, err
			}
			continue
		}
		if err := w.flight.pace(ctx, half); err != nil {
			return 0, err
		}
	}
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
