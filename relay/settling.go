package relay

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// What was stored within a part of the confirm lag settles together: so memory is
// bounded, and the slot moves in steps of a part.
const (
	settlingParts = 64 // at most
	// shortPart bounds how often the tail is read. NATS keeps the block of 8 MB that
	// a message was read from in memory for ten seconds; asked for the last message
	// often enough, it keeps everything that is written.
	shortPart = 5 * time.Second
)

// settling keeps the slot behind what the stream acknowledged but may not have on
// disk yet: a power cut takes it from the stream, and only the slot can give it
// back. What raised no event needs no such care.
type settling struct {
	lag   time.Duration
	parts []settlingPart // in the order in which they were stored
}

// settlingPart is what the stream acknowledged within some time.
type settlingPart struct {
	floor       LSN    // the slot may stand here until the part has settled: nothing of it ended before
	seq         uint64 // last of the stream before the part
	opened, end time.Time
}

// part is how long a part is.
func (s *settling) part() time.Duration {
	return max(s.lag/settlingParts, min(s.lag, shortPart))
}

// stored notes that events behind seq were acknowledged just now; before them the
// stream held everything that ended before floor.
func (s *settling) stored(now time.Time, floor LSN, seq uint64) {
	if s.lag <= 0 {
		return
	}
	if n := len(s.parts); n > 0 && now.Sub(s.parts[n-1].opened) < s.part() {
		s.parts[n-1].end = now
		return
	}
	s.parts = append(s.parts, settlingPart{floor: floor, seq: seq, opened: now, end: now})
}

// ripe reports whether a part is old enough to be taken for settled.
func (s *settling) ripe(now time.Time) bool {
	return len(s.parts) > 0 && now.Sub(s.parts[0].end) >= s.lag
}

// drop takes the ripe parts for settled.
func (s *settling) drop(now time.Time) {
	for s.ripe(now) {
		s.parts = append(s.parts[:0], s.parts[1:]...)
	}
}

// bound is how far the slot may be confirmed, and up to which sequence the stream
// is settled, when it holds everything that ended before held, up to seq.
func (s *settling) bound(held LSN, seq uint64) (LSN, uint64) {
	if len(s.parts) == 0 {
		return held, seq
	}
	return min(held, s.parts[0].floor), min(seq, s.parts[0].seq)
}

var errShorter = errors.New("the stream is shorter than what it acknowledged")

// settle lets the slot move past what was stored long enough ago, once the stream
// was seen to hold it still: a server may have lost its memory and come back
// without our noticing, for want of anything to publish.
func (p *publisher) settle(ctx context.Context) error {
	now := time.Now()
	if !p.settling.ripe(now) {
		return nil
	}
	if err := p.flush(ctx); err != nil { // what is on its way when the tail is read is lost sight of
		return err
	}
	tail, err := p.cfg.Stream.Tail(ctx)
	if err != nil {
		return fmt.Errorf("read the tail of stream %s: %w", p.cfg.Stream.Name(), err)
	}
	if tail.Seq < p.cp.StreamSeq || (tail.PositionSeq > 0 && tail.Position.Compare(p.cp.Position) < 0) {
		return fmt.Errorf("stream %s ends at %s, sequence %d, and not at %s, sequence %d: %w",
			p.cfg.Stream.Name(), tail.Position, tail.Seq, p.cp.Position, p.cp.StreamSeq, errShorter)
	}
	if !sameStream(&p.cp, tail, p.cfg.Stream.Name()) {
		return fmt.Errorf("stream %s was made anew at %s", p.cfg.Stream.Name(), tail.CreatedAt.UTC().Format(time.RFC3339))
	}
	p.settling.drop(now)
	p.settled = true
	return nil
}
