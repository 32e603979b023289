package natsstream

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dot-do/relay/internal/failpoint"
	"github.com/dot-do/relay/relay"
)

const (
	window      = 4096     // messages on their way, at most
	windowBytes = 32 << 20 // their size; one larger message may go alone
	nudgeEvery  = time.Second

	// The window begins small, and follows the time that the server needs for half of
	// it. Behind a slow network a large one would keep the library's pings waiting, too,
	// until it takes the connection for dead.
	windowFirst = 128
	windowLeast = 64
	quick       = 250 * time.Millisecond
	slow        = time.Second
)

// flight accounts for the messages that were sent and are not acknowledged yet,
// from one reading of the tail to the next. Each is answered at an inbox of its
// own sequence, or of its place in a batch; the server answers in order.
type flight struct {
	stream  string
	prefix  string // of a plain acknowledgement
	sub     *nats.Subscription
	token   string          // unique to this flight
	inbox   string          // reply subjects begin with it
	lost    <-chan struct{} // the connection broke: answers may be missing
	timeout time.Duration
	stored  func(seq uint64)
	nudge   func() error // asks the server again, when it has been silent for a while; may be nil

	wake chan struct{} // signals that target is reached, or that err is set

	mu       sync.Mutex
	sent     uint64 // last sequence sent
	acked    uint64 // last sequence stored, and all before it
	base     uint64 // last sequence before the fast batch at hand
	batch    string // how answers to it begin
	batched  bool   // messages go in fast batches
	single   bool   // messages are taken one by one
	answered uint64 // of single messages: base plus the answers received, good and bad
	done     bool   // the last message sent was answered: one that is not by then was lost
	limit    int    // messages that may be on their way just now
	bytes    int    // on their way
	sizes    [window]int
	target   uint64 // what the writer waits for
	err      error  // the first refusal

	strayFrom, strayTo uint64 // sequences that were stored after a refusal
}

// takeoff subscribes to the answers. The flight begins behind sequence seq.
func (c *Client) takeoff(ctx context.Context, seq uint64, lost <-chan struct{}, stored func(uint64)) (*flight, error) {
	inbox := c.nc.NewInbox()
	f := &flight{
		stream:  c.cfg.Stream,
		prefix:  `{"stream":"` + c.cfg.Stream + `","seq":`,
		token:   inbox[len(inbox)-inboxToken:],
		inbox:   inbox + ".",
		lost:    lost,
		timeout: c.cfg.AckTimeout,
		stored:  stored,
		wake:    make(chan struct{}, 1),
		sent:    seq, acked: seq, answered: seq, base: seq, limit: windowFirst,
	}
	var err error
	if f.sub, err = c.nc.Subscribe(f.inbox+">", f.answer); err != nil {
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	if err := f.sub.SetPendingLimits(-1, -1); err != nil { // the window bounds them
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	// The server has to know before the first message comes, which does not queue up
	// behind the library's.
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if err := c.nc.FlushWithContext(ctx); err != nil {
		f.land()
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	return f, nil
}

// opened begins the answer to the first message of a fast batch, whatever becomes of it.
const opened = `{"type":"ack","seq":0,`

const inboxToken = 22 // characters of the unique part of an inbox

func (f *flight) land() { _ = f.sub.Unsubscribe() } // fails only without a connection

// answer takes one of the server's answers.
func (f *flight) answer(msg *nats.Msg) {
	if f.batched && bytes.HasPrefix(msg.Data, []byte(opened)) {
		return
	}
	failpoint.Hit(failpoint.BeforeAck)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.batched {
		// The first error is the cause of all that follow. What comes late is about a
		// batch whose messages were all answered in parts, before its end was.
		if f.err == nil && strings.HasPrefix(msg.Subject, f.batch) {
			f.take(f.progressOf(msg))
		}
		return
	}
	after, seq, ok := f.placeOf(msg.Subject)
	if asked, found := strings.CutPrefix(msg.Subject[min(len(f.inbox), len(msg.Subject)):], askPrefix); found {
		if seq, ok := digits(asked); ok && seq > f.acked && f.err == nil {
			f.take(0, fmt.Errorf("stream %s does not have what was to be sequence %d: it lost a message on the way", f.stream, seq))
		}
		return
	}
	if !ok {
		return // not ours
	}
	err := f.verdict(after, seq, msg)
	f.answered++
	f.done = f.done || seq == f.sent
	if f.err != nil {
		f.straggle(seq, err)
		return
	}
	if err == nil && f.acked != after {
		err = fmt.Errorf("stream %s acknowledged sequence %d before %d", f.stream, seq, f.acked+1)
	}
	f.take(seq, err)
}

// reply is where the answer goes to what was sent behind sequence after, up to
// sequence seq: one message, or an atomic batch of them.
func (f *flight) reply(b []byte, after, seq uint64) []byte {
	b = append(b, f.inbox...)
	b = append(strconv.AppendUint(b, after, 10), '.')
	return strconv.AppendUint(b, seq, 10)
}

func (f *flight) placeOf(reply string) (after, seq uint64, ok bool) {
	from, to, _ := strings.Cut(reply[min(len(f.inbox), len(reply)):], ".")
	after, ok1 := digits(from)
	seq, ok2 := digits(to)
	return after, seq, ok1 && ok2
}

// take notes that everything up to seq is stored, or what was refused.
func (f *flight) take(seq uint64, err error) {
	if err != nil {
		f.err = err
		f.signal()
		return
	}
	if seq > f.sent || seq <= f.acked {
		return // said twice
	}
	for ; f.acked < seq; f.acked++ {
		f.bytes -= f.sizes[(f.acked+1)%window]
	}
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

// verdict is nil when what was to follow sequence after is stored, up to seq.
func (f *flight) verdict(after, seq uint64, msg *nats.Msg) error {
	if got, ok := plainAck(msg.Data, f.prefix); ok && got == seq {
		return nil
	}
	if err := f.noAnswer(msg); err != nil {
		return err
	}
	ack, err := parseAck(msg.Data)
	switch {
	case err != nil:
		return fmt.Errorf("stream %s, sequence %d: %w", f.stream, seq, err)
	case ack.Error != nil:
		return refusal(f.stream, after, ack.Error)
	case ack.Duplicate || ack.Seq != seq:
		// The message is in the stream, but not here: another writer put it there.
		return fmt.Errorf("stream %s holds the message for sequence %d at %d: %w", f.stream, seq, ack.Seq, relay.ErrFenced)
	}
	return nil
}

func (f *flight) noAnswer(msg *nats.Msg) error {
	if len(msg.Data) == 0 && msg.Header.Get("Status") == "503" {
		return fmt.Errorf("stream %s does not answer: it is missing, or has no leader just now", f.stream)
	}
	return nil
}

func (f *flight) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// reserve takes the next sequence for a message of the size, when there is room.
func (f *flight) reserve(size int) (seq uint64, ok bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, false, f.err
	}
	pending := f.sent - f.acked
	if pending > 0 && (pending >= uint64(f.limit) || f.bytes+size > windowBytes/window*f.limit) {
		return 0, false, nil
	}
	f.sent++
	f.done = false
	f.sizes[f.sent%window] = size
	f.bytes += size
	return f.sent, true, nil
}

// half is the sequence at which half of what is on its way is stored: to wait for it
// is one wake-up for many messages.
func (f *flight) half() (seq uint64, crowded bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pending := f.sent - f.acked
	return f.acked + (pending+1)/2, pending >= uint64(f.limit)
}

// most is how many messages may be on their way just now.
func (f *flight) most() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.limit
}

// pace waits until seq is stored, and sets the window by how long it took.
func (f *flight) pace(ctx context.Context, seq uint64) error {
	since := time.Now()
	err := f.await(ctx, seq)
	took := time.Since(since)
	f.mu.Lock()
	defer f.mu.Unlock()
	if took < quick {
		f.limit = min(2*f.limit, window)
	} else if took > slow {
		f.limit = max(f.limit/2, windowLeast)
	}
	return err
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
	var patience, again *time.Timer // made only when there is something to wait for
	seen, since := uint64(0), time.Time{}
	for {
		f.mu.Lock()
		acked, err := f.acked, f.err
		f.target = seq
		f.mu.Unlock()
		if err != nil || acked >= seq {
			return err
		}
		if patience == nil {
			patience, again = time.NewTimer(f.timeout), time.NewTimer(nudgeEvery)
			defer patience.Stop()
			defer again.Stop()
		}
		if acked > seen || since.IsZero() {
			seen, since = acked, time.Now()
			patience.Reset(f.timeout)
			again.Reset(nudgeEvery)
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-f.lost:
			return fmt.Errorf("stream %s, after sequence %d: %w", f.stream, acked, errConnectionLost)
		case <-again.C:
			again.Reset(nudgeEvery)
			if f.nudge != nil && f.progress() == seen {
				if err := f.nudge(); err != nil {
					return err
				}
			}
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
// Batches leave nothing behind a refusal.
func (f *flight) drain(ctx context.Context) error {
	patience := time.NewTimer(f.timeout)
	defer patience.Stop()
	for {
		f.mu.Lock()
		err, open := f.err, f.single && f.sent > f.answered && !f.done
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

// begin notes that the next message is the first of a fast batch.
func (f *flight) begin(batch string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.base, f.batch = f.sent, batch
}
