package pgsource

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgoutput"
)

const (
	txLinger  = 5 * time.Millisecond   // how long the rest of a transaction is waited for
	lagLinger = time.Millisecond       // how long more is waited for while there is a backlog
	idleEvery = 250 * time.Millisecond // between two batches that only move the position

	// When transactions arrive later than lagging after their commit, the reader
	// rests before it reads. The server then finds many messages to send at once,
	// which costs it half of the time. Large transactions do not gain by it.
	lagging   = 20 * time.Millisecond
	rest      = 300 * time.Microsecond
	restRows  = 1000
	restBytes = 64 << 10
	maxAsking = 10 // a healthy server does not ask that often without a word in between
)

// reader turns the stream into batches.
type reader struct {
	s    *Source
	wire *wire
	out  *handoff
	pool pool
	dec  pgoutput.Decoder
	rels map[uint32]*relation

	dead    []uint32 // tables that were gone at deadAt
	deadAt  relay.LSN
	pruneAt int // so many relations are too many

	cur   *batch
	heard heard

	tx     transaction
	commit relay.LSN // the highest that any batch has carried
	urgent bool      // cur has to be handed over although it has no rows
	idled  time.Time // when the last batch without rows was handed over
	behind bool
	pause  *time.Timer
	told   uint64 // received position, as OnReceived knows it

	asks   int // requests for a reply, with nothing new in between
	warned bool
}

// transaction is the one that is being received.
type transaction struct {
	open    bool
	xid     uint32
	final   relay.LSN
	time    time.Time
	ordinal uint32 // of the next row
}

// heard knows when the server spoke last, and whether anybody listens.
type heard struct {
	at   atomic.Int64 // Unix nanoseconds
	deaf atomic.Bool  // the reader waits for the consumer
}

func (h *heard) silence() time.Duration {
	if h.deaf.Load() {
		return 0
	}
	return time.Since(time.Unix(0, h.at.Load()))
}

func newReader(s *Source) *reader {
	r := &reader{
		s: s, wire: s.wire, out: s.out, rels: map[uint32]*relation{},
		pool:    pool{maxChanges: s.cfg.BatchChanges, maxBytes: s.cfg.BatchBytes},
		pruneAt: maxKept, commit: s.slot.Confirmed, pause: time.NewTimer(0),
	}
	r.cur = r.pool.get()
	r.heard.at.Store(time.Now().UnixNano())
	return r
}

// run reads until something breaks; it never returns nil. What cur holds then is
// dropped: it will be sent again.
func (r *reader) run(ctx context.Context) error {
	for {
		if !r.wire.buffered() {
			if err := r.await(ctx); err != nil {
				return r.broken(err)
			}
		}
		kind, body, kept, err := r.wire.next()
		if err != nil {
			return r.broken(err)
		}
		if err := r.message(ctx, kind, body, kept); err != nil {
			return err
		}
		if r.cur.full() {
			if err := r.push(ctx); err != nil {
				return err
			}
		}
	}
}

func (r *reader) broken(err error) error {
	if timedOut(err) {
		err = errors.New("the connection to the server is dead")
	}
	return fmt.Errorf("stream from slot %q: %w", r.s.cfg.Slot, err)
}

func (r *reader) push(ctx context.Context) error {
	r.seal()
	r.heard.deaf.Store(true)
	err := r.out.push(ctx, r.cur)
	r.heard.at.Store(time.Now().UnixNano())
	r.heard.deaf.Store(false)
	r.cur, r.urgent = r.pool.get(), false
	return err
}

// seal completes cur for the consumer.
func (r *reader) seal() {
	n := len(r.cur.Changes)
	r.cur.Open = r.tx.open && n > 0 && r.cur.Changes[n-1].Position.CommitLSN == r.tx.final
	r.cur.More = r.cur.Open || r.behind || r.wire.buffered()
	r.tellReceived()
}

func (r *reader) tellReceived() {
	if got := r.s.received.Load(); got != r.told && r.s.cfg.OnReceived != nil {
		r.told = got
		r.s.cfg.OnReceived(relay.LSN(got))
	}
}

// await offers what was read, and waits for more.
func (r *reader) await(ctx context.Context) error {
	r.tellReceived()
	if r.resting() {
		r.pause.Reset(rest)
		hush(r.wire.conn, restBytes)
		select {
		case <-r.pause.C:
		case <-ctx.Done():
		}
		hush(r.wire.conn, 1)
	}
	for now, due := time.Now(), false; ; now, due = time.Now(), true {
		parked, until := r.offer(now, due)
		err := r.wire.wait(until)
		r.heard.at.Store(time.Now().UnixNano())
		if parked && !r.out.takeBack(r.cur) {
			r.cur, r.urgent = r.pool.get(), false
		}
		if until.IsZero() || !timedOut(err) || r.wire.isStopped() {
			return err
		}
	}
}

func (r *reader) resting() bool { return r.behind && r.tx.ordinal < restRows }

// offer parks cur when it is worth the consumer's attention, or due. Otherwise it
// tells until when more may be waited for; the zero time means for ever.
func (r *reader) offer(now time.Time, due bool) (parked bool, until time.Time) {
	rows := len(r.cur.Changes) > 0
	switch {
	case !rows && r.cur.Commit == 0:
		return false, time.Time{}
	case due:
	case r.tx.open:
		return false, now.Add(txLinger)
	case r.resting():
		return false, now.Add(lagLinger)
	case !rows && !r.urgent:
		if next := r.idled.Add(idleEvery); now.Before(next) {
			return false, next
		}
	}
	if !rows {
		r.idled = now
	}
	r.seal()
	r.out.park(r.cur)
	return true, time.Time{}
}

// message handles one protocol message.
func (r *reader) message(ctx context.Context, kind byte, body []byte, kept bool) error {
	switch kind {
	case 'd': // CopyData
		if len(body) == 0 {
			return r.broken(errors.New("empty frame"))
		}
		switch body[0] {
		case pgoutput.TagXLogData:
			return r.xlogData(ctx, body, kept)
		case pgoutput.TagKeepalive:
			return r.keepalive(body)
		}
		r.unknown("frame", body[0])
	case 'E': // ErrorResponse
		pg, err := serverError(body)
		if err != nil {
			return r.broken(err)
		}
		return r.s.streamError(pg)
	case 'N': // NoticeResponse
		notice, err := serverError(body)
		if err != nil {
			return r.broken(err)
		}
		return r.s.noticeError(notice)
	case 'c', 'C': // CopyDone, CommandComplete
		return r.broken(errStopping)
	case 'S', passedOver: // ParameterStatus
	default:
		r.unknown("message", kind)
	}
	return nil
}

// unknown counts what is left out. A server has been seen to send messages of a
// later protocol version; they carry no row that this version would not.
func (r *reader) unknown(what string, kind byte) {
	r.s.skipped.Add(1)
	if !r.warned {
		r.warned = true
		r.s.log.Warn("stream holds messages of an unknown kind", "what", what, "kind", string(rune(kind)))
	}
}

func (r *reader) keepalive(body []byte) error {
	k, err := pgoutput.ParseKeepalive(body)
	if err != nil {
		return r.broken(err)
	}
	r.behind = false
	raise(&r.s.received, k.WALEnd)
	if end := relay.LSN(k.WALEnd); !r.tx.open && end > r.commit {
		// Everything before it was sent, and is in cur or in an earlier batch.
		r.commit, r.cur.Commit = end, end
		r.urgent = r.urgent || k.ReplyRequested
		r.asks = 0
	}
	if !k.ReplyRequested {
		return nil
	}
	// A server that stops asks again after every answer until it hears that
	// everything is confirmed, which may take us minutes. It must not wait for that:
	// the slot keeps what is not confirmed.
	if r.asks++; r.asks >= maxAsking {
		return r.broken(errStopping)
	}
	signal(r.s.asked)
	return nil
}

func (r *reader) xlogData(ctx context.Context, body []byte, kept bool) error {
	x, err := pgoutput.ParseXLogData(body)
	if err != nil {
		return r.broken(err)
	}
	r.asks = 0
	raise(&r.s.received, x.WALStart)
	data := x.Data
	if len(data) > 0 && !kept && isRow(data[0]) {
		data = r.cur.keep(data)
	} else if kept {
		r.cur.size += len(data)
	}
	m, err := r.dec.Decode(data)
	if err != nil {
		return r.broken(err)
	}
	if err := r.decoded(ctx, m, x.SendTime); err != nil {
		return r.broken(err)
	}
	return nil
}

// raise moves a position forward, never back; it reports whether it moved.
func raise(position *atomic.Uint64, to uint64) bool {
	for {
		now := position.Load()
		if to <= now {
			return false
		}
		if position.CompareAndSwap(now, to) {
			return true
		}
	}
}
