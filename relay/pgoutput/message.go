package pgoutput

import (
	"fmt"
	"strconv"
	"time"
)

// Kind is the first byte of a message.
type Kind byte

// The kinds of protocol version 1.
const (
	KindBegin          Kind = 'B'
	KindCommit         Kind = 'C'
	KindOrigin         Kind = 'O'
	KindRelation       Kind = 'R'
	KindType           Kind = 'Y'
	KindInsert         Kind = 'I'
	KindUpdate         Kind = 'U'
	KindDelete         Kind = 'D'
	KindTruncate       Kind = 'T'
	KindLogicalMessage Kind = 'M'
)

// String is the kind in words, such as "insert", or its quoted byte when the kind is unknown.
func (k Kind) String() string {
	switch k {
	case KindBegin:
		return "begin"
	case KindCommit:
		return "commit"
	case KindOrigin:
		return "origin"
	case KindRelation:
		return "relation"
	case KindType:
		return "type"
	case KindInsert:
		return "insert"
	case KindUpdate:
		return "update"
	case KindDelete:
		return "delete"
	case KindTruncate:
		return "truncate"
	case KindLogicalMessage:
		return "logical message"
	}
	return strconv.QuoteRuneToASCII(rune(k))
}

func (k Kind) fault(err error) error { return fmt.Errorf("pgoutput: decode %s: %w", k, err) }

// Message is one of *Begin, *Commit, *Origin, *Relation, *Type, *Insert, *Update, *Delete,
// *Truncate, *LogicalMessage and *Unknown.
type Message interface {
	Kind() Kind
}

// Timestamp is a server time in microseconds since 2000-01-01 00:00 UTC.
type Timestamp int64

// epoch is Timestamp 0 in Unix seconds.
const epoch = 946_684_800

// Time is t in UTC. It is exact for every t.
func (t Timestamp) Time() time.Time {
	return time.Unix(epoch+int64(t)/1e6, int64(t)%1e6*1e3).UTC()
}

// timestampOf is the inverse of [Timestamp.Time], cut to microseconds.
func timestampOf(t time.Time) Timestamp {
	return Timestamp((t.Unix()-epoch)*1e6 + int64(t.Nanosecond())/1e3)
}

// Begin opens a transaction. Every message up to the next [Commit] belongs to it, except
// a [LogicalMessage] that is not transactional.
type Begin struct {
	FinalLSN   uint64 // where the commit record starts: equals the CommitLSN to come
	CommitTime Timestamp
	XID        uint32
}

// Commit closes a transaction.
type Commit struct {
	Flags      uint8  // unused by every server up to 18
	CommitLSN  uint64 // where the commit record starts
	EndLSN     uint64 // where it ends: the position to confirm once the transaction is safe elsewhere
	CommitTime Timestamp
}

// Origin follows a Begin when the transaction was replayed from elsewhere.
type Origin struct {
	CommitLSN uint64 // on the origin server
	Name      string
}

// ReplicaIdentity is what an old row of a relation consists of, as in pg_class.relreplident.
// A byte that a newer server might add is passed on as it is.
type ReplicaIdentity byte

// The replica identities.
const (
	IdentityDefault ReplicaIdentity = 'd' // the primary key
	IdentityNothing ReplicaIdentity = 'n' // there is none
	IdentityFull    ReplicaIdentity = 'f' // the whole row
	IdentityIndex   ReplicaIdentity = 'i' // the columns of a chosen index
)

// Relation describes a table. The server sends it before the first row of that table in a
// session, and again after it changed; rows are to be read with the latest one.
type Relation struct {
	OID             uint32
	Namespace       string // never empty
	Name            string
	ReplicaIdentity ReplicaIdentity
	Columns         []Column // the published ones, in the order of the values of a Tuple
}

// Column is one column of a Relation.
type Column struct {
	Key     bool // part of the replica identity; under IdentityFull every column is
	Name    string
	TypeOID uint32
	TypeMod int32 // pg_attribute.atttypmod, -1 for none
}

// Type names a type that is not built in, ahead of a Relation that uses it.
type Type struct {
	OID       uint32
	Namespace string // never empty
	Name      string
}

// ValueKind tells how a value was sent.
type ValueKind byte

// The ways to send a value.
const (
	Null      ValueKind = 'n'
	Unchanged ValueKind = 'u' // stored out of line and not touched by the update: not sent, hence unknown
	Text      ValueKind = 't' // in the output format of its type
	Binary    ValueKind = 'b' // in the send format of its type; only when asked for
)

// Value is one column of a row.
type Value struct {
	Kind ValueKind
	Data []byte // of Text and Binary, not nil even when empty; aliases the input of Decode
}

// Tuple is a row: one value for each column of the relation that was current when it was
// sent. Nothing here compares the two lengths.
type Tuple []Value

// OldKind tells what is known of the row as it was before.
type OldKind byte

// The forms of an old row.
const (
	OldNone OldKind = 0   // nothing; of an update, the replica identity did not change
	OldKey  OldKind = 'K' // the replica identity; every other column is Null and means nothing
	OldFull OldKind = 'O' // the whole row
)

// Insert is a new row.
type Insert struct {
	RelationOID uint32
	New         Tuple
}

// Update is a changed row.
type Update struct {
	RelationOID uint32
	OldKind     OldKind
	Old         Tuple // nil under OldNone
	New         Tuple
}

// Delete is a removed row.
type Delete struct {
	RelationOID uint32
	OldKind     OldKind // OldKey or OldFull
	Old         Tuple
}

// Truncate empties several relations at once.
type Truncate struct {
	Cascade         bool
	RestartIdentity bool
	RelationOIDs    []uint32
}

// LogicalMessage is what pg_logical_emit_message wrote. One that is not transactional
// comes outside of any Begin and Commit, even ahead of transactions that started earlier.
type LogicalMessage struct {
	Transactional bool
	LSN           uint64
	Prefix        string
	Content       []byte // not nil even when empty; aliases the input of Decode
}

// Unknown is a message of a kind that protocol version 1 does not have, such as the
// stream and two-phase messages of later versions. It may be counted and skipped.
type Unknown struct {
	Tag Kind
}

// Kind is KindBegin.
func (*Begin) Kind() Kind { return KindBegin }

// Kind is KindCommit.
func (*Commit) Kind() Kind { return KindCommit }

// Kind is KindOrigin.
func (*Origin) Kind() Kind { return KindOrigin }

// Kind is KindRelation.
func (*Relation) Kind() Kind { return KindRelation }

// Kind is KindType.
func (*Type) Kind() Kind { return KindType }

// Kind is KindInsert.
func (*Insert) Kind() Kind { return KindInsert }

// Kind is KindUpdate.
func (*Update) Kind() Kind { return KindUpdate }

// Kind is KindDelete.
func (*Delete) Kind() Kind { return KindDelete }

// Kind is KindTruncate.
func (*Truncate) Kind() Kind { return KindTruncate }

// Kind is KindLogicalMessage.
func (*LogicalMessage) Kind() Kind { return KindLogicalMessage }

// Kind is the byte that was received.
func (u *Unknown) Kind() Kind { return u.Tag }
