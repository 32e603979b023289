package relay

import (
	"context"
	"time"
)

// Slot is what a Source found, or made, before it streams.
type Slot struct {
	Name      string
	SystemID  string // of the cluster
	Timeline  int32
	Confirmed LSN // confirmed_flush_lsn: the server will not send what ended before it
	// Forks tells where each former timeline of the server's history ended.
	Forks map[int32]LSN
	// Created is true when this process made the slot just now. Snapshot is then
	// the exported snapshot of its consistent point, readable until Start.
	Created  bool
	Snapshot string
}

// Source yields committed row changes in commit order, from the slot's confirmed
// position on. It is used by one goroutine, except Confirm.
type Source interface {
	// Slot tells what was found when the Source was opened.
	Slot() Slot
	// Start begins to stream. No snapshot is readable afterwards.
	Start(ctx context.Context) error
	// Next blocks until there is a batch. The caller must Release it. While the
	// caller is busy elsewhere the Source keeps the connection alive by itself.
	Next(ctx context.Context) (*Batch, error)
	// Confirm lets the server forget everything up to lsn. It does not wait for
	// the server, never moves back, and may be called from another goroutine.
	Confirm(lsn LSN)
}

// Tail is the end of a Stream.
type Tail struct {
	Position    Position  // of the relay's last message; zero when the stream holds none
	PositionSeq uint64    // sequence of that message
	Lineage     string    // of the slot whose event it is
	Seq         uint64    // last sequence ever given, also when the messages are gone
	Empty       bool      // no message is left (new, purged, or emptied by retention)
	CreatedAt   time.Time // of the stream: another value means another stream
	MaxBody     int       // largest body, in bytes, that the stream takes just now; 0: no limit
}

// Stream is the ordered log that events are appended to. The relay is its only
// writer.
type Stream interface {
	// Name of the stream.
	Name() string
	// Tail reads the end of the stream from its leader. The next Append follows
	// right behind it.
	Tail(ctx context.Context) (Tail, error)
	// Append stores the events in order, behind those that were sent. A nil error is a
	// promise: all of them are held elsewhere, in this order, with nothing in between.
	// After an error an unknown prefix of them is stored; only Tail tells which.
	// ErrFenced means that somebody else wrote. The bodies are not kept after it returns.
	Append(ctx context.Context, events []Event) error
	// Send is Append without the promise: it returns when the events are on their way,
	// and last is the sequence that the last of them will have. They are stored once
	// Seq says so. The error may be that of events sent before. With more, others
	// follow at once, and the stream may wait for them to store them together.
	Send(ctx context.Context, events []Event, more bool) (last uint64, err error)
	// Seq is the sequence of the last message known to be stored.
	Seq() uint64
}

// Checkpoint is what one slot's capture must know after a restart, beside what
// the stream itself says.
type Checkpoint struct {
	Slot            string
	SystemID        string
	Timeline        int32  // 0 when unknown
	Lineage         string // part of every event id; made with the slot
	Confirmed       LSN    // everything that ended before it is in the stream, and has settled there
	Position        Position
	Stream          string
	StreamSeq       uint64
	SettledSeq      uint64 // of what came behind it in the stream the slot still holds everything
	StreamCreatedAt time.Time
	SavedAt         time.Time // by the database's clock; Load tells it
}

// Checkpoints keeps one Checkpoint per slot.
type Checkpoints interface {
	// Load returns nil when there is none.
	Load(ctx context.Context, slot string) (*Checkpoint, error)
	Save(ctx context.Context, c Checkpoint) error
}

// Registry keeps the event registry and the mappings, now and as they were.
type Registry interface {
	// Current reads the tables, in the exported snapshot when one is named.
	Current(ctx context.Context, snapshot string) (*Catalog, error)
	// AsOf returns the catalog that was in force for commits at the position: the one
	// saved for the last commit before it; nil when there is none.
	AsOf(ctx context.Context, slot string, at LSN) (*Catalog, error)
	// SaveAsOf keeps the catalog that is in force after the given commit. It forgets
	// those saved for later commits, which are yet to come again or belong to a
	// history that was left, and may forget those that no replay from keep on needs.
	SaveAsOf(ctx context.Context, slot string, at LSN, c *Catalog, keep LSN) error
}

// ParkedEvent is an event that is not published because its data violates the schema of
// its type. It is whole: released, it is published as it would have been, with its id.
type ParkedEvent struct {
	ID, Type   string
	Position   Position // where it was parked; behind the one it had, when it was released in vain
	Lineage    string   // of the slot that it was read from
	Table, Key string
	Owner      Owner
	Visibility Visibility
	OccurredAt time.Time
	Body       []byte
	Reason     string
}

// Parking keeps parked events, by slot and event id.
type Parking interface {
	// Park keeps the events and returns when they are safe. Of an event that is kept
	// already from the same place of the same lineage, or from one behind it, nothing
	// changes: the change is read again. From a later place the reason is replaced, and the event is
	// no longer released.
	Park(ctx context.Context, slot string, events []ParkedEvent) error
}

// Observer is told what the engine does. Every func is optional and must return
// at once.
type Observer struct {
	Captured  func(changes int)                        // rows read from the log
	Published func(events int, commit LSN, seq uint64) // a batch is held by the stream; commit is zero inside a transaction
	Confirmed func(lsn LSN)                            // the slot was told
	Started   func(slot Slot)                          // streaming begins
	Refused   func(mapping string, err error)          // a mapping cannot be used; nil error: it can again
	Parked    func(table string, at Position)          // mapping a row change panicked, and its record takes the place of its events
	Registry  func(tables []TableNeed)                 // the mappings changed; these tables must be published
	Violated  func(eventType string, at Position)      // an event was parked because of its type's schema
	Schema    func(eventType string, err error)        // a payload schema cannot be used; nil error: it can again
	Unchecked func(eventType string)                   // an event's data is not whole, and was not held to its schema
	Released  func(eventType string)                   // a parked event is published
}
