package relay

import "time"

// Op is what a transaction did to a row.
type Op uint8

// The operations a Change can carry. OpRead marks a row that a backfill read.
const (
	OpInsert Op = iota + 1
	OpUpdate
	OpDelete
	OpTruncate
	OpRead
)

// String returns the name used in mappings and in source.op of an event.
func (o Op) String() string {
	switch o {
	case OpInsert:
		return "insert"
	case OpUpdate:
		return "update"
	case OpDelete:
		return "delete"
	case OpTruncate:
		return "truncate"
	case OpRead:
		return "read"
	}
	return "unknown"
}

// ValueKind tells what the log said about a column.
type ValueKind uint8

// A column is NULL, has a text value, or was not sent: an unchanged TOASTed
// value, or a column outside the replica identity in an old row. "Not sent" is
// never the same as NULL.
const (
	Null ValueKind = iota
	Text
	Unavailable
)

// Value is one column of a Tuple. Data is the value's Postgres text form and
// aliases the Batch it came with.
type Value struct {
	Kind ValueKind
	Data []byte
}

// Tuple is a row image, one Value for each column of its Relation. A nil Tuple
// means that the log carried no such image.
type Tuple []Value

// TypeKind says how a Type's text form is built.
type TypeKind uint8

// Kinds of types. Enums and ranges are scalars: their text form is a string. A
// domain is resolved to its base type by the Source.
const (
	Scalar TypeKind = iota
	Array
	Composite
)

// Type describes a column type as far as rendering needs it.
type Type struct {
	OID    uint32 // of the type itself, or of a domain's base type
	Kind   TypeKind
	Elem   *Type   // of an Array
	Delim  byte    // of an Array; ',' for all built-in types but box
	Fields []Field // of a Composite, in order, dropped attributes left out

	// Unsure: the type is what the catalog says today, and may have been another when
	// the value was written. JSON of such a type is checked before it is embedded.
	Unsure bool
}

// Field is an attribute of a composite Type.
type Field struct {
	Name string
	Type *Type
}

// Column is a published column of a Relation.
type Column struct {
	Name string
	Type *Type
	Key  bool // part of the primary key, or of the replica identity index where there is none
}

// Replica identities as pg_class.relreplident spells them.
const (
	IdentityDefault = 'd'
	IdentityFull    = 'f'
	IdentityIndex   = 'i'
	IdentityNothing = 'n'
)

// Relation is a table as it was described in the log before the changes that
// point to it. A Relation never changes; a new description is a new Relation.
type Relation struct {
	OID             uint32
	Schema, Name    string
	ReplicaIdentity byte
	Columns         []Column
}

// FullName returns schema.table, unquoted: the form of event_mappings.source_table.
func (r *Relation) FullName() string { return r.Schema + "." + r.Name }

// Column returns the index of the named column, or -1.
func (r *Relation) Column(name string) int {
	for i := range r.Columns {
		if r.Columns[i].Name == name {
			return i
		}
	}
	return -1
}

// Change is one row change of a committed transaction. Its Position's Index is
// always 0; the Mapper numbers the events that one Change raises.
type Change struct {
	Position   Position
	XID        uint32
	CommitTime time.Time
	Op         Op
	Relation   *Relation
	Old        Tuple // update and delete, when the replica identity let Postgres send it
	New        Tuple // insert, update and read
}

// Batch is a bounded run of changes in commit order. It may hold several
// transactions, or a part of a large one. The memory behind it belongs to the
// Source and is used again after Release.
type Batch struct {
	Changes []Change

	// Commit is the end of the last transaction that is complete with this
	// batch, or the log position an idle server reported: once this batch and all
	// before it are held elsewhere, the slot may be confirmed up to it. Zero when
	// the batch completes no transaction.
	Commit LSN

	// Open is true when the last change's transaction goes on in the next batch.
	Open bool

	// More is true when the next batch follows at once.
	More bool

	// Recycle, when set by the Source, takes the batch back.
	Recycle func(*Batch)
}

// Release gives the batch's memory back to its Source. The changes must not be
// used afterwards.
func (b *Batch) Release() {
	if b.Recycle != nil {
		b.Recycle(b)
	}
}
