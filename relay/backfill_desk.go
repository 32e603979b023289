package relay

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
)

// BackfillDesk is where one session of Capture and its Backfiller meet. The
// Backfiller lays the rows of a chunk on it and commits the chunk's watermark; when
// the watermark comes along in the log, Capture takes the rows and publishes them
// there, less those that the log has changed since they were read.
type BackfillDesk struct {
	slot     string
	open     atomic.Bool // a window is
	started  chan struct{}
	landings chan struct{} // something has landed, or was confirmed; one waits

	mu        sync.Mutex
	window    window
	laid      *laidChunk
	landed    map[chunkID]landing
	confirmed LSN
	broken    string // why what ran before cannot go on
}

type chunkID struct {
	backfill string
	number   int64
}

// laidChunk is a chunk whose watermark is on its way.
type laidChunk struct {
	chunkID
	eventType string
	rows      RowChunk
	kept      []ChunkRow // the same rows, as they are kept
	owner     string     // who read them
}

// landing is what came of a chunk when its watermark was reached.
type landing struct {
	mark LSN
	// orphan: the rows were not there. They died with the session that had read them.
	orphan  bool
	events  Progress
	redo    []ChunkRow
	flooded bool // the window had overflowed
}

// NewBackfillDesk returns the desk of one session.
func NewBackfillDesk(slot string) *BackfillDesk {
	return &BackfillDesk{
		slot: slot, started: make(chan struct{}), landings: make(chan struct{}, 1), landed: map[chunkID]landing{},
	}
}

func (d *BackfillDesk) signal() {
	select {
	case d.landings <- struct{}{}:
	default:
	}
}

// begin is called by Capture when the log begins to come.
func (d *BackfillDesk) begin(confirmed LSN, broken string) {
	if d == nil {
		return
	}
	d.mu.Lock()
	d.confirmed, d.broken = confirmed, broken
	d.mu.Unlock()
	close(d.started)
}

// confirm is called by Capture when everything before lsn is safe.
func (d *BackfillDesk) confirm(lsn LSN) {
	if d == nil {
		return
	}
	d.mu.Lock()
	d.confirmed = max(d.confirmed, lsn)
	d.mu.Unlock()
	d.signal()
}

// saw is called by Capture with every change, in order.
func (d *BackfillDesk) saw(c *Change, table string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if table == d.window.table {
		d.window.saw(c)
	}
}

// watch opens a window. What the log changed before is not in it.
func (d *BackfillDesk) watch(table string, key []string, s Snapshot) {
	d.mu.Lock()
	d.window = window{table: table, key: key, snapshot: s}
	d.mu.Unlock()
	d.open.Store(true)
}

// unwatch closes the window and withdraws what was laid.
func (d *BackfillDesk) unwatch() {
	d.open.Store(false)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.window, d.laid = window{}, nil
}

// lay offers a chunk whose watermark will be committed next.
func (d *BackfillDesk) lay(c *laidChunk) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.window.renew(c.rows.Snapshot)
	d.laid = c
}

// take returns the chunk that was laid for this watermark, or nil, and the test for
// its stale rows.
func (d *BackfillDesk) take(id chunkID) (c *laidChunk, stale func(RowKey) bool, flooded bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.laid == nil || d.laid.chunkID != id {
		return nil, nil, false
	}
	c, d.laid = d.laid, nil
	return c, d.window.stale(), d.window.overflow
}

func (d *BackfillDesk) land(id chunkID, l landing) {
	d.mu.Lock()
	d.landed[id] = l
	d.mu.Unlock()
	d.signal()
}

// landing returns what came of a chunk, once it is known.
func (d *BackfillDesk) landing(id chunkID) (landing, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, ok := d.landed[id]
	return l, ok
}

// forget drops what is no longer asked for.
func (d *BackfillDesk) forget(id chunkID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.landed, id)
}

// settled reports whether all that was published at the mark is safe.
func (d *BackfillDesk) settled(mark LSN) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.confirmed > mark
}

// await waits until the chunk has landed.
func (d *BackfillDesk) await(ctx context.Context, id chunkID) (landing, error) {
	for {
		if l, ok := d.landing(id); ok {
			return l, nil
		}
		select {
		case <-d.landings:
		case <-ctx.Done():
			return landing{}, ctx.Err()
		}
	}
}

// land publishes a chunk at its watermark, an insert into relay_backfill_chunks.
func (m *mapping) land(ctx context.Context, mark *Change, out *mappedBatch) error {
	d := m.cfg.Backfill
	if d == nil || mark.Op != OpInsert || textOf(mark.New, mark.Relation.Column("slot_name")) != d.slot {
		return nil
	}
	number, err := strconv.ParseInt(textOf(mark.New, mark.Relation.Column("number")), 10, 64)
	if err != nil {
		return Halt("registry_changed", fmt.Errorf("table %s: number: %w", mark.Relation.FullName(), err), "restore the table as the migrations made it")
	}
	id := chunkID{backfill: textOf(mark.New, mark.Relation.Column("backfill_id")), number: number}
	chunk, stale, flooded := d.take(id)
	if chunk == nil {
		return m.orphan(ctx, id, mark)
	}
	l := landing{mark: mark.Position.CommitLSN, flooded: flooded}
	kept := Chunk{Number: number, Rows: chunk.kept}
	for i, row := range chunk.rows.Rows {
		if stale(chunk.rows.Keys[i]) {
			again := kept.Rows[i]
			again.Tries++
			kept.Rows[i] = ChunkRow{}
			l.redo = append(l.redo, again)
			continue
		}
		if n := m.read(ctx, mark, chunk, i, row, out); n > 0 {
			l.events.Published++
			l.events.Events += int64(n)
		}
	}
	if len(l.redo) > 0 {
		// Before anything of the chunk is published: whoever goes on must not take a
		// row that was left out for one that is in the stream.
		kept.Redo = l.redo
		if err := m.cfg.Backfills.SaveChunk(ctx, id.backfill, chunk.owner, kept); err != nil {
			return fmt.Errorf("save chunk %d of backfill %s: %w", number, id.backfill, err)
		}
	}
	d.land(id, l)
	return nil
}

// orphan handles a watermark whose rows died with the process that had read them, or
// sleep in it. Where the stream does not reach to the chunk's end, a message of our own
// takes the place of the next row: now that process can publish none. Then, and
// before anything behind it is published and the end of the stream no longer tells
// how far the chunk had come, the rows that are missing are noted to be read again.
func (m *mapping) orphan(ctx context.Context, id chunkID, mark *Change) error {
	through, fence := through(m.skip, mark.Position)
	whole := through.Ordinal == math.MaxUint32 || textOf(mark.New, mark.Relation.Column("keys")) == "[]"
	if whole {
		m.cfg.Backfill.land(id, landing{mark: mark.Position.CommitLSN, orphan: true})
		return nil
	}
	if fence.Compare(m.skip) > 0 {
		m.at.events = append(m.at.events, Event{
			Type: ControlBackfill, Position: fence, Table: mark.Relation.FullName(), Key: id.backfill, Lineage: m.cp.Lineage,
			Body: m.at.bodies.keep(append(m.at.bodies.begin(), "{}"...)), OccurredAt: mark.CommitTime, CommittedAt: mark.CommitTime,
		})
	}
	at := mark.Position.CommitLSN
	return m.cut(ctx, func(ctx context.Context) error {
		err := m.cfg.Backfills.SplitChunk(ctx, id.backfill, id.number, func(c *Chunk) bool { return c.unpublished(through) })
		if err != nil {
			return fmt.Errorf("split chunk %d of backfill %s: %w", id.number, id.backfill, err)
		}
		m.cfg.Backfill.land(id, landing{mark: at, orphan: true})
		return nil
	})
}

// read maps row i of a chunk, at its place behind the watermark.
func (m *mapping) read(ctx context.Context, mark *Change, chunk *laidChunk, i int, row Tuple, out *mappedBatch) int {
	from := len(out.events)
	c := &Change{
		Position: place(mark.Position, i),
		XID:      mark.XID, CommitTime: mark.CommitTime, Op: OpRead, Relation: chunk.rows.Relation, New: row,
	}
	if m.mapRow(ctx, c, out) == 0 { // the row is parked, or raised nothing
		return 0
	}
	kept := out.events[:from]
	for _, e := range out.events[from:] {
		if (chunk.eventType == "" || e.Type == chunk.eventType) && e.Position.Index >= chunk.kept[i].Skip {
			e.Lineage = m.cp.Lineage
			kept = append(kept, e)
		}
	}
	clear(out.events[len(kept):])
	out.events = kept
	return len(kept) - from - m.parkViolations(ctx, c, out, from)
}

// Behind its watermark, row i of a chunk has the ordinal 2i + 1, with one index for
// each of its events, and 2i + 2 is for the fence of a later process behind it, with
// the index of the row's last event that is published. The watermark's own ordinal is
// for the fence where no row is.

// place is the position of row i.
func place(mark Position, i int) Position {
	return Position{CommitLSN: mark.CommitLSN, Ordinal: mark.Ordinal + 2*uint32(i) + 1}
}

// through tells how far a stream that ends at tail reaches into the chunk of a
// watermark, as a position in it: Ordinal counts its rows, Index the events of the
// last of these. All of them: the largest of both. The fence is the place of the
// message behind it.
func through(tail, mark Position) (in, fence Position) {
	switch {
	case tail.CommitLSN > mark.CommitLSN:
		return Position{Ordinal: math.MaxUint32, Index: math.MaxUint32}, fence
	case tail.CommitLSN < mark.CommitLSN, tail.Ordinal <= mark.Ordinal:
		return Position{}, Position{CommitLSN: mark.CommitLSN, Ordinal: mark.Ordinal}
	}
	rows := (tail.Ordinal - mark.Ordinal + 1) / 2
	return Position{Ordinal: rows, Index: tail.Index}, Position{CommitLSN: mark.CommitLSN, Ordinal: mark.Ordinal + 2*rows, Index: tail.Index}
}

// unpublished splits a chunk whose process died: what the stream has stays, the
// rest is to be read again.
func (c *Chunk) unpublished(through Position) (changed bool) {
	for i := range c.Rows {
		row := c.Rows[i]
		ordinal := uint32(i) + 1
		told := ordinal == through.Ordinal
		if row.Key == nil || ordinal < through.Ordinal || (told && through.Index == math.MaxUint32) { // which is where parked ones stand
			continue
		}
		if told {
			row.Skip = through.Index + 1
		}
		c.Redo = append(c.Redo, row)
		c.Rows[i] = ChunkRow{}
		changed = true
	}
	return changed
}
