package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// BackfillState is where a Backfill stands.
type BackfillState string

// The states of a Backfill. The last three are final.
const (
	BackfillQueued    BackfillState = "queued"
	BackfillRunning   BackfillState = "running"
	BackfillDone      BackfillState = "done"
	BackfillCancelled BackfillState = "cancelled"
	BackfillFailed    BackfillState = "failed"
)

// Backfill is a request to publish the rows that a table has already, as events
// with op "read", and how far it is.
type Backfill struct {
	ID        string
	Slot      string
	Table     string // schema.table
	Where     string // SQL condition; empty: every row
	EventType string // empty: every event that the mappings raise
	Rate      int    // rows a second at most; 0: no limit
	State     BackfillState
	Note      string // what it waits for, or why it failed

	Key       []string // the columns that it walks along; nil before it began
	Cursor    RowKey   // of the last row that was taken into a chunk; nil: none
	Chunk     int64    // number of the last chunk
	Estimated int64    // rows in all, as the planner guesses
	Progress
}

// Progress counts the work of a Backfill.
type Progress struct {
	Rows      int64 // taken from the table, each once
	Published int64 // rows that raised at least one event
	Overtaken int64 // rows left to their own change events
	Events    int64
}

func (p *Progress) add(q Progress) {
	p.Rows += q.Rows
	p.Published += q.Published
	p.Overtaken += q.Overtaken
	p.Events += q.Events
}

// RowKey is the text form of a row's key columns, in the order of the key.
type RowKey []string

// joined returns the key as one string; different keys give different strings.
func (k RowKey) joined() string {
	if len(k) == 1 {
		return k[0]
	}
	var b strings.Builder
	for _, part := range k {
		fmt.Fprintf(&b, "%d:%s", len(part), part)
	}
	return b.String()
}

// ChunkRow is a row of a chunk, by its key.
type ChunkRow struct {
	Key   RowKey `json:"k"`           // nil: the row has gone to another chunk, or was left to its own events
	Skip  uint32 `json:"s,omitempty"` // so many of its events are in the stream already
	Tries int    `json:"t,omitempty"` // it changed so many times while it was read
}

// Chunk is what is durable of a run of rows that were read together: which rows
// are published at its watermark, and which must be read again. A row that the
// watermark's place in the stream does not reach is lost with the process that read
// it, and known from here.
type Chunk struct {
	Number int64
	Rows   []ChunkRow // by ordinal behind the watermark
	Redo   []ChunkRow
}

// RowChunk is a chunk as it was read.
type RowChunk struct {
	Relation *Relation
	Key      []string // names of the key columns
	Snapshot Snapshot
	Keys     []RowKey
	Rows     []Tuple
	More     bool // there may be rows behind the last one
}

// ChunkQuery says which rows are read.
type ChunkQuery struct {
	Table string
	Where string
	After RowKey   // rows behind it, in the order of the key
	Only  []RowKey // or exactly these, when not nil
	Limit int
	Bytes int // the row that reaches it is the last one
}

// Tables reads the tables themselves, beside the log, in the form in which the log
// would carry the rows.
type Tables interface {
	// Check reports what stands in the way of a backfill as a *SetupError, and
	// returns the key columns and a guess at the number of rows.
	Check(ctx context.Context, table, where string) (key []string, rows int64, err error)
	Read(ctx context.Context, q ChunkQuery) (RowChunk, error)
	// Snapshot tells which transactions have ended by now.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Writers lists the transactions that have written the table, or may have, and
	// are not over.
	Writers(ctx context.Context, table string) ([]Writer, error)
	Close()
}

// Writer is a transaction that holds a lock for writing on a table.
type Writer struct {
	ID  string // for as long as it runs
	PID int32  // of its session; 0 for a prepared transaction
}

// BackfillRequests keeps what was asked for.
type BackfillRequests interface {
	// NextBackfill returns the one that is running, or one that is done and has chunks
	// left, or else the oldest that is queued, or nil; none of the ids given.
	NextBackfill(ctx context.Context, slot string, except []string) (*Backfill, error)
	// ClaimBackfill makes owner the only one who may work on it, notes key and
	// estimate, and commits an empty chunk, whose number it returns. Whoever sees that chunk in the log has
	// seen all of the former owner's.
	ClaimBackfill(ctx context.Context, b *Backfill, owner string) (barrier int64, err error)
	// FinishBackfill ends it. The note tells why, when it failed. When it is done its
	// chunks stay, and NextBackfill returns it until they are forgotten.
	FinishBackfill(ctx context.Context, id, owner string, state BackfillState, note string, last Progress) error
	// NoteBackfill tells what it waits for. ErrBackfillStopped: it is not running.
	NoteBackfill(ctx context.Context, id, note string) error
	// FailBackfills ends all that are running for the slot, or done with chunks left.
	FailBackfills(ctx context.Context, slot, note string) error
}

// Backfills keeps requests and chunks for a Backfiller.
type Backfills interface {
	BackfillRequests
	// Chunks returns all that are kept, by number.
	Chunks(ctx context.Context, id string) ([]Chunk, error)
	// ForgetChunks lets go of chunks of the owner's backfill that are safe in the stream.
	ForgetChunks(ctx context.Context, id, owner string, numbers []int64) error
	// AdvanceBackfill does all of a Step or nothing. The new chunk's row comes last
	// in its transaction.
	AdvanceBackfill(ctx context.Context, id, owner string, s Step) error
}

// BackfillLog is what Capture notes of backfills.
type BackfillLog interface {
	// SaveChunk replaces what is kept of a chunk. ErrBackfillStopped: the backfill is
	// no longer the owner's, and the chunk not to be published.
	SaveChunk(ctx context.Context, id, owner string, c Chunk) error
	// SplitChunk lets split change what is kept of a chunk, if it is kept. A change
	// takes the backfill from its owner, who could not know of it.
	SplitChunk(ctx context.Context, id string, number int64, split func(*Chunk) (changed bool)) error
	// RequestSnapshot queues a backfill of each table that exists, once for a slot.
	RequestSnapshot(ctx context.Context, slot string, tables []string) error
}

// Step is one transaction of a backfill.
type Step struct {
	Take    *Chunk   // a new chunk; its Redo is empty
	Cursor  RowKey   // where the table was read up to; nil: unchanged
	Redo    *Chunk   // of this chunk, that many rows are left to be read again
	Settled []int64  // chunks that are safe in the stream
	Done    Progress // to add
}

// ErrBackfillStopped means that the backfill is no longer ours: it was cancelled,
// or another session goes on with it.
var ErrBackfillStopped = errors.New("the backfill was stopped")

// CheckBackfill reports what the mappings have to say against a backfill of the
// table: nothing would come of it.
func CheckBackfill(c *Catalog, table, eventType string) error {
	mappings, refused := c.Compile()
	var tables, types []string
	for i := range mappings {
		if mappings[i].Op != OpInsert {
			continue
		}
		tables = append(tables, mappings[i].Table)
		if mappings[i].Table == table {
			types = append(types, mappings[i].EventType)
		}
	}
	slices.Sort(tables)
	slices.Sort(types)
	tables, types = slices.Compact(tables), slices.Compact(types)
	switch {
	case len(types) == 0:
		for _, r := range refused {
			if m, err := ParseMapping(c.Mappings[r.Mapping]); err != nil && m.Table == table {
				return &SetupError{Err: fmt.Errorf("table %s has only mappings that cannot be used: %w", table, r), Remedy: "correct the row of event_mappings"}
			}
		}
		return &SetupError{
			Err:    fmt.Errorf("no mapping raises an event when a row of %s is new", table),
			Remedy: "add an enabled row for operation insert to event_mappings, or name one of the mapped tables: " + listed(tables),
		}
	case eventType != "" && !slices.Contains(types, eventType):
		return &SetupError{
			Err:    fmt.Errorf("no mapping of table %s for operation insert raises %s", table, eventType),
			Remedy: "add the mapping, or name one of the types that it raises: " + listed(types),
		}
	}
	return nil
}

func listed(names []string) string {
	if len(names) == 0 {
		return "there are none"
	}
	return strings.Join(names, ", ")
}

// SnapshotTables lists the tables that an initial snapshot reads.
func (c *Catalog) SnapshotTables() []string {
	mappings, _ := c.Compile()
	var tables []string
	for i := range mappings {
		if mappings[i].Op == OpInsert {
			tables = append(tables, mappings[i].Table)
		}
	}
	slices.Sort(tables)
	return slices.Compact(tables)
}
