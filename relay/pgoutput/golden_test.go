package pgoutput_test

import (
	"encoding/binary"
	"fmt"

	"github.com/dot-do/relay/relay/pgoutput"
)

// wire builds a message by hand: integers big-endian in their own width, strings with
// their NUL, byte slices as they are.
func wire(parts ...any) []byte {
	var b []byte
	for _, part := range parts {
		switch p := part.(type) {
		case rune:
			b = append(b, byte(p))
		case uint8:
			b = append(b, p)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, p)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, p)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, p)
		case string:
			b = append(append(b, p...), 0)
		case []byte:
			b = append(b, p...)
		default:
			panic(fmt.Sprintf("wire: no encoding for %T", part))
		}
	}
	return b
}

// text is a text value as it travels in a tuple.
func text(s string) []byte { return wire('t', uint32(len(s)), []byte(s)) }

func value(kind pgoutput.ValueKind, data string) pgoutput.Value {
	return pgoutput.Value{Kind: kind, Data: []byte(data)}
}

type golden struct {
	name string
	wire []byte
	want pgoutput.Message
}

// goldens has every kind of message, and every form of old row and value.
func goldens() []golden {
	return append(frameOfTransaction(), append(descriptions(), rows()...)...)
}

func frameOfTransaction() []golden {
	return []golden{
		{
			"begin",
			wire('B', uint64(0x16B3748), uint64(849_009_600_123_456), uint32(747)),
			&pgoutput.Begin{FinalLSN: 0x16B3748, CommitTime: 849_009_600_123_456, XID: 747},
		},
		{
			"commit",
			wire('C', uint8(0), uint64(0x16B3748), uint64(0x16B3778), uint64(849_009_600_123_456)),
			&pgoutput.Commit{CommitLSN: 0x16B3748, EndLSN: 0x16B3778, CommitTime: 849_009_600_123_456},
		},
		{
			"origin",
			wire('O', uint64(0xABCDEF), "upstream"),
			&pgoutput.Origin{CommitLSN: 0xABCDEF, Name: "upstream"},
		},
		{
			"logical message in a transaction",
			wire('M', uint8(1), uint64(0x16B3700), "relay", uint32(5), []byte("hello")),
			&pgoutput.LogicalMessage{Transactional: true, LSN: 0x16B3700, Prefix: "relay", Content: []byte("hello")},
		},
		{
			"logical message outside of any transaction, empty",
			wire('M', uint8(0), uint64(0x16B3700), "", uint32(0)),
			&pgoutput.LogicalMessage{LSN: 0x16B3700, Content: []byte{}},
		},
	}
}

func descriptions() []golden {
	return []golden{
		{
			"relation",
			wire('R', uint32(16385), "public", "things", 'd', uint16(2),
				uint8(1), "id", uint32(20), uint32(0xFFFFFFFF),
				uint8(0), "title", uint32(1043), uint32(104)),
			&pgoutput.Relation{
				OID: 16385, Namespace: "public", Name: "things", ReplicaIdentity: pgoutput.IdentityDefault,
				Columns: []pgoutput.Column{
					{Key: true, Name: "id", TypeOID: 20, TypeMod: -1},
					{Name: "title", TypeOID: 1043, TypeMod: 104},
				},
			},
		},
		{
			"relation of pg_catalog without columns",
			wire('R', uint32(1259), "", "pg_class", 'n', uint16(0)),
			&pgoutput.Relation{
				OID: 1259, Namespace: "pg_catalog", Name: "pg_class",
				ReplicaIdentity: pgoutput.IdentityNothing, Columns: []pgoutput.Column{},
			},
		},
		{
			"type",
			wire('Y', uint32(16390), "public", "mood"),
			&pgoutput.Type{OID: 16390, Namespace: "public", Name: "mood"},
		},
		{
			"truncate",
			wire('T', uint32(2), uint8(3), uint32(16385), uint32(16391)),
			&pgoutput.Truncate{Cascade: true, RestartIdentity: true, RelationOIDs: []uint32{16385, 16391}},
		},
	}
}

func rows() []golden {
	const oid = uint32(16385)
	return []golden{
		{
			"insert",
			wire('I', oid, 'N', uint16(4), text("7"), 'n', text(""), 'b', uint32(2), uint16(0xCAFE)),
			&pgoutput.Insert{RelationOID: oid, New: pgoutput.Tuple{
				value(pgoutput.Text, "7"), {Kind: pgoutput.Null}, value(pgoutput.Text, ""), value(pgoutput.Binary, "\xCA\xFE"),
			}},
		},
		{
			"insert into a table without columns",
			wire('I', oid, 'N', uint16(0)),
			&pgoutput.Insert{RelationOID: oid, New: pgoutput.Tuple{}},
		},
		{
			"update with the new row only",
			wire('U', oid, 'N', uint16(2), text("7"), 'u'),
			&pgoutput.Update{RelationOID: oid, New: pgoutput.Tuple{
				value(pgoutput.Text, "7"), {Kind: pgoutput.Unchanged},
			}},
		},
		{
			"update of the key",
			wire('U', oid, 'K', uint16(2), text("7"), 'n', 'N', uint16(2), text("8"), text("x")),
			&pgoutput.Update{
				RelationOID: oid,
				OldKind:     pgoutput.OldKey,
				Old:         pgoutput.Tuple{value(pgoutput.Text, "7"), {Kind: pgoutput.Null}},
				New:         pgoutput.Tuple{value(pgoutput.Text, "8"), value(pgoutput.Text, "x")},
			},
		},
		{
			"update under replica identity full",
			wire('U', oid, 'O', uint16(1), text("before"), 'N', uint16(1), text("after")),
			&pgoutput.Update{
				RelationOID: oid,
				OldKind:     pgoutput.OldFull,
				Old:         pgoutput.Tuple{value(pgoutput.Text, "before")},
				New:         pgoutput.Tuple{value(pgoutput.Text, "after")},
			},
		},
		{
			"delete by key",
			wire('D', oid, 'K', uint16(2), text("7"), 'n'),
			&pgoutput.Delete{RelationOID: oid, OldKind: pgoutput.OldKey, Old: pgoutput.Tuple{
				value(pgoutput.Text, "7"), {Kind: pgoutput.Null},
			}},
		},
		{
			"delete under replica identity full",
			wire('D', oid, 'O', uint16(1), text("gone")),
			&pgoutput.Delete{RelationOID: oid, OldKind: pgoutput.OldFull, Old: pgoutput.Tuple{value(pgoutput.Text, "gone")}},
		},
	}
}
