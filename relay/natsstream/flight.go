package natsstream

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dot-do/relay/internal/failpoint"
	"github.com/dot-do/relay/relay"
)

const (
	window      = 4096     // messages on their way
	windowBytes = 32 << 20 // their size; one larger message may go alone
)

// flight accounts for the messages that were sent and are not acknowledged yet,
// from one reading of the tail to the next. Each is answered at an inbox of its
// own sequence; the server answers in order.
type flight struct {
	stream  string
	prefix  string // of a plain acknowledgement
	sub     *nats.Subscription
	inbox   string          // reply subjects are inbox + sequence
	lost    <-chan struct{} // the connection broke: answers may be missing
	timeout time.Duration
	stored  func(seq uint64)

	wake chan struct{} // signals that target is reached, or that err is set

	mu       sync.Mutex
	sent     uint64 // last sequence sent
	acked    uint64 // last sequence stored, and all before it
	answered uint64 // base plus the answers received, good and bad
	done     bool   // the last message sent was answered: one that is not by then was lost
	bytes    int    // on their way
	sizes    [window]int
	target   uint64 // what the writer waits for
	err      error  // the first refusal

	strayFrom, strayTo uint64 // sequences that were stored after a refusal
}

// takeoff subscribes to the answers. The flight begins behind sequence seq.
func (c *Client) takeoff(seq uint64, lost <-chan struct{}, stored func(uint64)) (*flight, error) {
	f := &flight{
		stream:  c.cfg.Stream,
		prefix:  `{"stream":"` + c.cfg.Stream + `","seq":`,
		inbox:   c.nc.NewInbox() + ".",
		lost:    lost,
		timeout: c.cfg.AckTimeout,
		stored:  stored,
		wake:    make(chan struct{}, 1),
		sent:    seq, acked: seq, answered: seq,
	}
	var err error
	if f.sub, err = c.nc.Subscribe(f.inbox+"*", f.answer); err != nil {
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	return f, f.sub.SetPendingLimits(-1, -1) // the window bounds them
}

func (f *flight) land() { _ = f.sub.Unsubscribe() } // fails only without a connection

// reply is where the answer to message seq goes.
func (f *flight) reply(seq uint64) string { return f.inbox + strconv.FormatUint(seq, 10) }

// answer takes the server's answer to one message.
func (f *flight) answer(msg *nats.Msg) {
	seq, ok := digits(msg.Subject[min(len(f.inbox), len(msg.Subject)):])
	if !ok {
		return // not ours
	}
	failpoint.Hit(failpoint.BeforeAck)
	err := f.verdict(seq, msg)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answered++
	f.done = f.done || seq == f.sent
	if f.err != nil { // the first error is the cause of all that follow
		f.straggle(seq, err)
		return
	}
	if err == nil && seq != f.acked+1 {
		err = fmt.Errorf("stream %s acknowledged sequence %d before %d", f.stream, seq, f.acked+1)
	}
	if err != nil {
		f.err = err
		f.signal()
		return
	}
	f.acked = seq
	f.bytes -= f.sizes[seq%window]
	f.stored(seq)
	if f.acked >= f.target {
		f.signal()
	}
}

// straggle takes the answer to a message behind a refused one. It should be
// refused too; it is stored when another writer filled the place before it.
func (f *flight) straggle(seq uint64, err error) {
	if err == nil {
		if f.strayFrom == 0 {
			f.strayFrom = seq
		}
		f.strayTo = seq
	}
	if f.answered == f.sent || seq == f.sent {
		f.signal()
	}
}

// verdict is nil when the message is stored as sequence seq.
func (f *flight) verdict(seq uint64, msg *nats.Msg) error {
	if got, ok := plainAck(msg.Data, f.prefix); ok && got == seq {
		return nil
	}
	if len(msg.Data) == 0 && msg.Header.Get("Status") == "503" {
		return fmt.Errorf("stream %s does not answer: it is missing, or has no leader just now", f.stream)
	}
	ack, err := parseAck(msg.Data)
	switch {
	case err != nil:
		return fmt.Errorf("stream %s, sequence %d: %w", f.stream, seq, err)
	case ack.Error != nil:
		return refusal(f.stream, seq-1, ack.Error)
	case ack.Duplicate || ack.Seq != seq:
		// The message is in the stream, but not here: another writer put it there.
		return fmt.Errorf("stream %s holds the message for sequence %d at %d: %w", f.stream, seq, ack.Seq, relay.ErrFenced)
	}
	return nil
}

func (f *flight) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// reserve waits until there is room for one more message, and returns its
// sequence. When the window is full it waits until half of it is free: one wake-up
// for many messages.
func (f *flight) reserve(ctx context.Context, size int) (uint64, error) {
	for {
		f.mu.Lock()
		if f.err != nil {
			defer f.mu.Unlock()
			return 0, f.err
		}
		pending := f.sent - f.acked
		if pending == 0 || (pending < window && f.bytes+size <= windowBytes) {
			defer f.mu.Unlock()
			f.sent++
			f.done = false
			f.sizes[f.sent%window] = size
			f.bytes += size
			return f.sent, nil
		}
		half := f.acked + (pending+1)/2
		f.mu.Unlock()
		if err := f.await(ctx, half); err != nil {
			return 0, err
		}
	}
}

// all waits until everything sent is stored.
func (f *flight) all(ctx context.Context) error {
	f.mu.Lock()
	sent := f.sent
	f.mu.Unlock()
	return f.await(ctx, sent)
}

// await waits until seq is stored. It gives up when the connection breaks, and
// when the server acknowledges nothing at all for the timeout.
func (f *flight) await(ctx context.Context, seq uint64) error {
	patience := time.NewTimer(f.timeout)
	defer patience.Stop()
	var seen uint64
	for {
		f.mu.Lock()
		acked, err := f.acked, f.err
		f.target = seq
		f.mu.Unlock()
		if err != nil || acked >= seq {
			return err
		}
		if acked > seen {
			seen = acked
			patience.Reset(f.timeout)
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-f.lost:
			return fmt.Errorf("stream %s, after sequence %d: %w", f.stream, acked, errConnectionLost)
		case <-patience.C:
			if f.progress() > seen {
				continue
			}
			return fmt.Errorf("stream %s acknowledges nothing after sequence %d for %s: %w", f.stream, acked, f.timeout, errSilence)
		}
	}
}

// drain waits, after a refusal, until everything sent is answered, but for what was
// lost on the way, and returns the refusal with what was stored behind it all the same.
func (f *flight) drain(ctx context.Context) error {
	patience := time.NewTimer(f.timeout)
	defer patience.Stop()
	for {
		f.mu.Lock()
		err, open := f.err, f.sent > f.answered && !f.done
		if f.strayFrom > 0 {
			err = fmt.Errorf("%w; sequences %d to %d of this writer stand among the other's", err, f.strayFrom, f.strayTo)
		}
		f.mu.Unlock()
		if !open {
			return err
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return err
		case <-f.lost:
			return err
		case <-patience.C:
			return err
		}
	}
}

// refused reports whether the server refused a message.
func (f *flight) refused() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err != nil
}

func (f *flight) progress() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.acked
}
