// Package pgoutput decodes what Postgres's built-in logical decoding plugin,
// pgoutput, sends at protocol version 1, logical messages included, and the
// copy-data frames that carry it. It is bytes in, messages out: no connection, no
// relation cache, no clock.
//
// Promises:
//   - No input makes it panic. A count or a length on the wire is checked against the
//     bytes that are there before it is used, so memory follows the size of the
//     input, never what the input claims.
//   - A row message (insert, update, delete) costs no allocation once the Decoder has
//     seen a row as wide. Begin and commit never do.
//   - What it accepts, it accepted whole. The layout of a version 1 message is frozen,
//     so a byte left over after a known message means that something was misread, and
//     is an error rather than a guess.
//   - A kind it does not know is not an error but an [Unknown], to be counted and
//     skipped: servers have been seen to send stream messages nobody asked for.
//
// Errors name the kind of message and the offset of the field at fault, and hold
// nothing of the payload.
package pgoutput

import "errors"

// Decoder decodes one message at a time into memory that it reuses. The zero value is
// ready. A Decoder must not be used by several goroutines at once.
type Decoder struct {
	begin          Begin
	commit         Commit
	origin         Origin
	insert         Insert
	update         Update
	delete         Delete
	logical        LogicalMessage
	unknown        Unknown
	oldRow, newRow Tuple // shared by insert, update and delete; as wide as the widest row seen
}

// Decode decodes the one message that b holds: the payload of an [XLogData], or a row
// of pg_logical_slot_get_binary_changes.
//
// The message and its rows belong to the Decoder and are overwritten by the next call,
// except *[Relation], *[Type] and *[Truncate], which are made anew and may be kept. The
// Data of values and the Content of a logical message alias b, and so change when b does.
// The Decoder itself lets go of b at the next call.
func (d *Decoder) Decode(b []byte) (Message, error) {
	d.release()
	if len(b) == 0 {
		return nil, errors.New("pgoutput: empty message")
	}
	kind := Kind(b[0])
	r := reader{b: b, off: 1}
	m := d.decode(kind, &r)
	if m == nil {
		d.unknown.Tag = kind
		return &d.unknown, nil
	}
	if err := r.finish(); err != nil {
		d.release()
		return nil, kind.fault(err)
	}
	return m, nil
}

// release drops every reference into the previous input, so that an idle Decoder does
// not keep a large row alive.
func (d *Decoder) release() {
	clear(d.oldRow)
	clear(d.newRow)
	d.logical.Content = nil
}

// decode reads the fields of one message; nil means that the kind is unknown. Whether the
// reads fitted is the reader's to tell.
func (d *Decoder) decode(kind Kind, r *reader) Message {
	switch kind {
	case KindInsert:
		return d.decodeInsert(r)
	case KindUpdate:
		return d.decodeUpdate(r)
	case KindDelete:
		return d.decodeDelete(r)
	case KindBegin:
		return d.decodeBegin(r)
	case KindCommit:
		return d.decodeCommit(r)
	case KindLogicalMessage:
		return d.decodeLogicalMessage(r)
	case KindOrigin:
		return d.decodeOrigin(r)
	case KindRelation:
		return decodeRelation(r)
	case KindType:
		return decodeType(r)
	case KindTruncate:
		return decodeTruncate(r)
	}
	return nil
}

func (d *Decoder) decodeBegin(r *reader) Message {
	d.begin = Begin{
		FinalLSN:   r.uint64("final lsn"),
		CommitTime: Timestamp(r.uint64("commit time")),
		XID:        r.uint32("xid"),
	}
	return &d.begin
}

func (d *Decoder) decodeCommit(r *reader) Message {
	d.commit = Commit{
		Flags:      r.uint8("flags"),
		CommitLSN:  r.uint64("commit lsn"),
		EndLSN:     r.uint64("end lsn"),
		CommitTime: Timestamp(r.uint64("commit time")),
	}
	return &d.commit
}

func (d *Decoder) decodeOrigin(r *reader) Message {
	d.origin.CommitLSN = r.uint64("commit lsn")
	d.origin.Name = reuse(d.origin.Name, r.cstring("name"))
	return &d.origin
}

func (d *Decoder) decodeLogicalMessage(r *reader) Message {
	m := &d.logical
	m.Transactional = r.uint8("flags")&1 != 0
	m.LSN = r.uint64("lsn")
	m.Prefix = reuse(m.Prefix, r.cstring("prefix"))
	m.Content = r.sized("content")
	return m
}

// reuse returns b as a string, without an allocation when it equals the previous one: the
// senders of logical messages tend to repeat a prefix, and a link has few origins.
func reuse(previous string, b []byte) string {
	if previous == string(b) {
		return previous
	}
	return string(b)
}

func (d *Decoder) decodeInsert(r *reader) Message {
	d.insert.RelationOID = r.uint32("relation oid")
	if r.uint8("tuple marker") != 'N' {
		r.failBefore("tuple marker is not N")
	}
	d.newRow = r.tuple(d.newRow)
	d.insert.New = d.newRow
	return &d.insert
}

func (d *Decoder) decodeUpdate(r *reader) Message {
	d.update.RelationOID = r.uint32("relation oid")
	d.update.OldKind, d.update.Old = OldNone, nil
	marker := r.uint8("tuple marker")
	if marker == 'K' || marker == 'O' {
		d.oldRow = r.tuple(d.oldRow)
		d.update.OldKind, d.update.Old = OldKind(marker), d.oldRow
		marker = r.uint8("new tuple marker")
	}
	if marker != 'N' {
		r.failBefore("tuple marker is none of K, O, N in that order")
	}
	d.newRow = r.tuple(d.newRow)
	d.update.New = d.newRow
	return &d.update
}

func (d *Decoder) decodeDelete(r *reader) Message {
	d.delete.RelationOID = r.uint32("relation oid")
	marker := r.uint8("tuple marker")
	if marker != 'K' && marker != 'O' {
		r.failBefore("tuple marker is neither K nor O")
	}
	d.oldRow = r.tuple(d.oldRow)
	d.delete.OldKind, d.delete.Old = OldKind(marker), d.oldRow
	return &d.delete
}

// minColumn is the least a column takes in a relation message: flags, the NUL of its
// name, type oid, type modifier.
const minColumn = 1 + 1 + 4 + 4

func decodeRelation(r *reader) Message {
	m := &Relation{
		OID:             r.uint32("oid"),
		Namespace:       r.namespace(),
		Name:            string(r.cstring("name")),
		ReplicaIdentity: ReplicaIdentity(r.uint8("replica identity")),
	}
	n := r.count(uint64(r.uint16("column count")), minColumn, "column count")
	m.Columns = make([]Column, n)
	for i := range m.Columns {
		m.Columns[i] = Column{
			Key:     r.uint8("column flags")&1 != 0,
			Name:    string(r.cstring("column name")),
			TypeOID: r.uint32("column type oid"),
			TypeMod: int32(r.uint32("column type modifier")),
		}
		if r.failed() {
			r.inColumn(i)
			break
		}
	}
	return m
}

func decodeType(r *reader) Message {
	return &Type{
		OID:       r.uint32("oid"),
		Namespace: r.namespace(),
		Name:      string(r.cstring("name")),
	}
}

func decodeTruncate(r *reader) Message {
	count := r.uint32("relation count")
	options := r.uint8("options")
	m := &Truncate{Cascade: options&1 != 0, RestartIdentity: options&2 != 0}
	n := r.count(uint64(count), 4, "relation count")
	m.RelationOIDs = make([]uint32, n)
	for i := range m.RelationOIDs {
		m.RelationOIDs[i] = r.uint32("relation oid")
	}
	return m
}
