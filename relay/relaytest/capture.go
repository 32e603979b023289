// Package relaytest holds in-memory twins of the seams that package relay and its
// delivery engine declare, and the conformance suites that a twin and the real
// thing both pass.
package relaytest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dot-do/relay/relay"
)

// Log is a write-ahead log with one slot: the transactions given to it are read
// again by every Source opened on it, from the confirmed position on.
type Log struct {
	mu        sync.Mutex
	name      string
	batches   []relay.Batch
	confirmed relay.LSN
	more      chan struct{} // closed and replaced when batches are added
}

// NewLog returns a log whose slot stands at start.
func NewLog(slot string, start relay.LSN) *Log {
	return &Log{name: slot, confirmed: start, more: make(chan struct{})}
}

// Add appends batches, in commit order. A transaction may span several, all but
// the last with Open set.
func (l *Log) Add(batches ...relay.Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches = append(l.batches, batches...)
	close(l.more)
	l.more = make(chan struct{})
}

// Confirmed returns the slot's position.
func (l *Log) Confirmed() relay.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.confirmed
}

// Open returns a Source at the slot's position, as a new session would get it.
func (l *Log) Open() *Source {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &Source{log: l, slot: relay.Slot{Name: l.name, SystemID: "7000000000000000001", Timeline: 1, Confirmed: l.confirmed}}
	// A transaction is sent again unless its commit ended at or before the
	// confirmed position.
	for s.next < len(l.batches) && l.end(s.next) <= l.confirmed {
		s.next++
	}
	return s
}

// end is where the transaction that batch i closes or belongs to ends.
func (l *Log) end(i int) relay.LSN {
	for ; i < len(l.batches); i++ {
		if !l.batches[i].Open {
			return l.batches[i].Commit
		}
	}
	return ^relay.LSN(0)
}

// Source is one session on a Log.
type Source struct {
	log  *Log
	slot relay.Slot
	next int
}

var _ relay.Source = (*Source)(nil)

// Slot implements relay.Source.
func (s *Source) Slot() relay.Slot { return s.slot }

// Start implements relay.Source.
func (s *Source) Start(context.Context) error { return nil }

// Next implements relay.Source.
func (s *Source) Next(ctx context.Context) (*relay.Batch, error) {
	for {
		s.log.mu.Lock()
		if s.next < len(s.log.batches) {
			b := s.log.batches[s.next]
			s.next++
			s.log.mu.Unlock()
			return &b, ctx.Err()
		}
		more := s.log.more
		s.log.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Confirm implements relay.Source.
func (s *Source) Confirm(lsn relay.LSN) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.confirmed = max(s.log.confirmed, lsn)
}

// Stream is an in-memory relay.Stream that outlives the sessions writing to it. What
// was sent is stored when the next is sent; to read the tail loses it.
type Stream struct {
	mu      sync.Mutex
	events  []relay.Event
	coming  []relay.Event
	seq     uint64 // of the last event ever stored
	foreign int    // events before that are not checked for order
	created time.Time
	// Fail, when set, is asked before every event is stored: an error ends the
	// append there. Stored tells how many the stream holds.
	Fail func(stored int) error
}

var _ relay.Stream = (*Stream)(nil)

// NewStream returns an empty stream.
func NewStream() *Stream {
	return &Stream{created: time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC)}
}

// Name implements relay.Stream.
func (s *Stream) Name() string { return "EVENTS" }

// Tail implements relay.Stream.
func (s *Stream) Tail(context.Context) (relay.Tail, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.coming = nil
	t := relay.Tail{Seq: s.seq, Empty: len(s.events) == 0, CreatedAt: s.created, MaxBody: 1 << 20}
	if !t.Empty {
		last := s.events[len(s.events)-1]
		t.Position, t.PositionSeq, t.Lineage = last.Position, s.seq, last.Lineage
	}
	return t, nil
}

// Send implements relay.Stream.
func (s *Stream) Send(_ context.Context, events []relay.Event, _ bool) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.store()
	for _, e := range events {
		e.Body, e.Data = slices.Clone(e.Body), slices.Clone(e.Data)
		s.coming = append(s.coming, e)
	}
	return s.seq + uint64(len(s.coming)), err
}

// Append implements relay.Stream.
func (s *Stream) Append(ctx context.Context, events []relay.Event) error {
	if _, err := s.Send(ctx, events, false); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store()
}

// store stores what was sent.
func (s *Stream) store() error {
	coming := s.coming
	s.coming = nil
	for _, e := range coming {
		if s.Fail != nil {
			if err := s.Fail(len(s.events)); err != nil {
				return err
			}
		}
		if n := len(s.events); n > s.foreign && e.Position.Compare(s.events[n-1].Position) <= 0 {
			return fmt.Errorf("append %s after %s: out of order", e.Position, s.events[n-1].Position)
		}
		s.events = append(s.events, e)
		s.seq++
	}
	return nil
}

// Seq implements relay.Stream.
func (s *Stream) Seq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}

// Events returns what the stream holds.
func (s *Stream) Events() []relay.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Truncate forgets the newest events, as a server that lost what it had not yet
// written to disk.
func (s *Stream) Truncate(keep int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq -= uint64(len(s.events) - keep)
	s.events = s.events[:keep]
	s.foreign = min(s.foreign, keep)
}

// Intrude stores an event as somebody else would, in no order with ours.
func (s *Stream) Intrude(e relay.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	s.seq++
	s.foreign = len(s.events)
}

// Purge forgets all events but not how many there were, as retention does.
func (s *Stream) Purge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events, s.foreign = nil, 0
}

// Memory is an in-memory relay.Registry, relay.Checkpoints and relay.Parking.
type Memory struct {
	parking
	mu       sync.Mutex
	Present  *relay.Catalog
	versions map[relay.LSN]*relay.Catalog
	saved    *relay.Checkpoint
}

var (
	_ relay.Registry    = (*Memory)(nil)
	_ relay.Checkpoints = (*Memory)(nil)
	_ relay.Parking     = (*Memory)(nil)
)

// NewMemory returns a Memory whose tables hold the catalog.
func NewMemory(present *relay.Catalog) *Memory {
	return &Memory{Present: present, versions: map[relay.LSN]*relay.Catalog{}}
}

// Current implements relay.Registry.
func (m *Memory) Current(context.Context, string) (*relay.Catalog, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Present.Clone(), nil
}

// AsOf implements relay.Registry.
func (m *Memory) AsOf(_ context.Context, _ string, at relay.LSN) (*relay.Catalog, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var best relay.LSN
	var found *relay.Catalog
	for lsn, c := range m.versions {
		if lsn < at && (found == nil || lsn > best) {
			best, found = lsn, c
		}
	}
	if found == nil {
		return nil, nil
	}
	return found.Clone(), nil
}

// SaveAsOf implements relay.Registry.
func (m *Memory) SaveAsOf(_ context.Context, _ string, at relay.LSN, c *relay.Catalog, keep relay.LSN) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.versions[at] = c.Clone()
	var inForce relay.LSN // at keep
	for lsn := range m.versions {
		if lsn < keep {
			inForce = max(inForce, lsn)
		}
	}
	maps.DeleteFunc(m.versions, func(lsn relay.LSN, _ *relay.Catalog) bool { return lsn > at || lsn < inForce })
	return nil
}

// Load implements relay.Checkpoints.
func (m *Memory) Load(context.Context, string) (*relay.Checkpoint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.saved == nil {
		return nil, nil
	}
	c := *m.saved
	return &c, nil
}

// Save implements relay.Checkpoints.
func (m *Memory) Save(_ context.Context, c relay.Checkpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.StreamCreatedAt = c.StreamCreatedAt.Truncate(time.Microsecond) // as Postgres keeps it
	c.SavedAt = time.Now()
	m.saved = &c
	return nil
}
