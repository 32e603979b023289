package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
)

// What a Hole is, as Reason says it, also in its GapRecord.
const (
	HoleMissing = "stream_hole"   // messages between two others are gone, or cannot be read
	HolePurged  = "stream_purged" // messages at the stream's front are gone before their time
	HoleOrder   = "stream_order"  // a message names another predecessor than the one that it follows
)

// StreamPlace is one message's place in the stream.
type StreamPlace struct {
	Seq      uint64
	Position Position // zero where it is not known
}

// String returns sequence and position.
func (p StreamPlace) String() string {
	if p.Position.IsZero() {
		return fmt.Sprintf("%d", p.Seq)
	}
	return fmt.Sprintf("%d (%s)", p.Seq, p.Position)
}

// Hole is a range of the stream that does not hold what it held, or is not in
// order. Sequences tell it apart from others.
type Hole struct {
	Stream  string
	Created time.Time // of the stream
	Reason  string
	After   StreamPlace // in front of the range; of a purge its position is not known
	Before  StreamPlace // behind the range; no message may stand there yet
	From    LSN         // what is gone was committed from here, zero where it is not known
	To      LSN         // to here
	Missing uint64      // messages
	Parts   int         // ranges that were put together; 0 is 1
	Found   time.Time

	Recorded uint64 // sequence of its GapRecord in the stream; 0: none yet
	Settled  bool   // an operator has dealt with it
}

// Within reports whether h lies inside of another hole.
func (h *Hole) Within(other *Hole) bool {
	return h.Reason == other.Reason && other.After.Seq <= h.After.Seq && h.Before.Seq <= other.Before.Seq
}

// String tells what was found.
func (h *Hole) String() string {
	messages := "messages are"
	if h.Missing == 1 {
		messages = "message is"
	}
	switch {
	case h.Reason == HoleOrder:
		return fmt.Sprintf("message %s of stream %s names another predecessor than the message before it, %s", h.Before, h.Stream, h.After)
	case h.Reason == HolePurged:
		return fmt.Sprintf("%d %s gone from the front of stream %s before their time, purged or lost by the server: from sequence %d to %d", h.Missing, messages, h.Stream, h.After.Seq+1, h.Before.Seq-1)
	case h.Parts > 1:
		return fmt.Sprintf("%d %s missing in stream %s, in %d places between %s and %s", h.Missing, messages, h.Stream, h.Parts, h.After, h.Before)
	}
	return fmt.Sprintf("%d %s missing in stream %s between %s and %s", h.Missing, messages, h.Stream, h.After, h.Before)
}

// Remedy is what an operator can do. JetStream takes no message into its middle, and
// one put at the end would break the order: so the relay does not put them back.
func (h *Hole) Remedy() string {
	const settle = "update relay_stream_holes set settled_at = now()"
	if h.Reason == HoleOrder {
		return "compare what the two messages say with the tables; then: " + settle
	}
	return "relay backfill TABLE sends the rows of a table again, as they are now; then: " + settle
}

// Mark says that no message of the stream from a sequence on was stored before a time.
type Mark struct {
	Seq    uint64    `json:"seq"`
	Time   time.Time `json:"time"`
	Commit LSN       `json:"commit,omitempty"` // what stands from there on was committed here or later; zero when not known
}

// Audit is what the auditor of a slot's stream must know after a restart.
type Audit struct {
	Stream  string
	Created time.Time // of the stream
	First   Mark      // the first message when it was last looked at
	Marks   []Mark    // oldest first
	Audited StreamPlace
	Whole   time.Time // when the chain was last begun to be followed from the first message
}

// HoleNotice asks a Capture to tell subscribers of a hole.
type HoleNotice struct {
	Hole   Hole
	Stored chan<- uint64 // gets the sequence of the record; must have room
}

// holes is where the next notice comes from: nil while one waits for its place.
func (p *publisher) holes() <-chan HoleNotice {
	if p.hole != nil {
		return nil
	}
	return p.cfg.Holes
}

// recordHole puts the record of a hole that waits into the stream. It is called
// between two batches, by the only goroutine that appends, and waits until what was
// sent is stored.
//
// The record stands between two transactions, right behind the last message: a
// session that begins there anew skips everything up to the record's position, and
// no change that is still to come has a lower one. Inside a transaction there is no
// such place, so the record waits for its end.
func (p *publisher) recordHole(ctx context.Context) error {
	if p.hole == nil {
		return nil
	}
	if n := len(p.sent); n > 0 && p.sent[n-1].commit == 0 { // inside a transaction
		return nil
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	at, ok := p.placeOfRecord()
	if !ok {
		return nil
	}
	h := &p.hole.Hole
	if h.To == 0 && h.Reason == HolePurged { // all of it is gone
		h.To = p.lastStored().CommitLSN
	}
	ev, err := p.holeEvent(h, at)
	if err != nil {
		return err
	}
	before := p.cfg.Stream.Seq()
	if err := p.cfg.Stream.Append(ctx, []Event{ev}); err != nil {
		return fmt.Errorf("publish the record of a hole: %w", err)
	}
	p.settling.stored(time.Now(), p.held, before)
	p.published = true
	p.cp.Position, p.cp.StreamSeq = at, p.cfg.Stream.Seq()
	if p.cfg.Observer.Published != nil {
		p.cfg.Observer.Published(1, 0, p.cp.StreamSeq)
	}
	p.hole.Stored <- p.cp.StreamSeq
	p.hole = nil
	return nil
}

// lastStored is the position of the stream's last message that is ours.
func (p *publisher) lastStored() Position {
	if p.cp.Position.Compare(p.end) < 0 {
		return p.end
	}
	return p.cp.Position
}

// placeOfRecord is a position behind the last message and before every change that
// is still to come. There is none inside a transaction, and for a moment behind
// another record.
func (p *publisher) placeOfRecord() (Position, bool) {
	last := p.lastStored()
	switch {
	case last.CommitLSN >= p.held && !last.IsZero(): // its transaction may go on
		return Position{}, false
	case last.IsZero():
		return Position{CommitLSN: max(p.held, 1) - 1, Ordinal: math.MaxUint32}, true
	case last.Ordinal < math.MaxUint32:
		return Position{CommitLSN: last.CommitLSN, Ordinal: math.MaxUint32}, true
	case last.Index < math.MaxUint32:
		last.Index++
		return last, true
	}
	at := Position{CommitLSN: p.held - 1, Ordinal: math.MaxUint32}
	return at, last.Compare(at) < 0
}

// holeEvent is the record of a hole as a message.
func (p *publisher) holeEvent(h *Hole, at Position) (Event, error) {
	record := GapRecord{Slot: p.slot.Name, Reason: h.Reason, Found: h.String(), FoundAt: h.Found.UTC().Truncate(time.Microsecond), Missing: h.Missing}
	record.After, record.Before = gapSide(h.After), gapSide(h.Before)
	if h.From > 0 {
		record.From = h.From.String()
	}
	if h.To > 0 {
		record.To = h.To.String()
	}
	body, err := json.Marshal(record)
	if err != nil {
		return Event{}, fmt.Errorf("write the record of a hole: %w", err)
	}
	return Event{
		ID: "gap_" + newLineage(), Type: ControlGap, Position: at, Body: body, Lineage: p.cp.Lineage, OccurredAt: record.FoundAt, CommittedAt: record.FoundAt,
	}, nil
}

func gapSide(p StreamPlace) *GapSide {
	side := &GapSide{Seq: p.Seq}
	if !p.Position.IsZero() {
		side.Position = p.Position.String()
	}
	return side
}

// Tells reports whether the record is the one of the hole.
func (r *GapRecord) Tells(h *Hole) bool {
	return strings.HasPrefix(r.Reason, "stream_") && r.Reason == h.Reason && r.After != nil && r.Before != nil &&
		r.After.Seq == h.After.Seq && r.Before.Seq == h.Before.Seq
}
