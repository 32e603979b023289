package pgoutput_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay/pgoutput"
)

// requireOracleAgrees checks what our decoder made of b against pglogrepl. The oracle trusts
// the wire: it panics on bad input and allocates what a length claims, so it may only be
// asked about input that our decoder accepted.
func requireOracleAgrees(t *testing.T, b []byte, got pgoutput.Message) {
	t.Helper()
	if _, ok := got.(*pgoutput.Unknown); ok {
		return
	}
	m, err := oracleParse(b)
	if err != nil && oracleRefuses(got) {
		return
	}
	require.NoError(t, err, "%s % x", got.Kind(), b)
	require.Equal(t, fromOracle(b, m), withOracleTime(got))
}

func oracleParse(b []byte) (m pglogrepl.Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("pglogrepl panicked: %v", r)
		}
	}()
	return pglogrepl.Parse(b)
}

// oracleRefuses names the valid messages that pglogrepl takes for too short.
func oracleRefuses(m pgoutput.Message) bool {
	switch m := m.(type) {
	case *pgoutput.Insert:
		return len(m.New) == 0
	case *pgoutput.Truncate:
		return len(m.RelationOIDs) == 0
	}
	return false
}

// y2k is Timestamp 0 in microseconds since 1970.
const y2k = 946_684_800_000_000

// withOracleTime bends a commit time the way pglogrepl does: it goes through nanoseconds
// since 1970, which overflow beyond the year 2262.
func withOracleTime(m pgoutput.Message) pgoutput.Message {
	bend := func(ts pgoutput.Timestamp) pgoutput.Timestamp { return (ts+y2k)*1000/1000 - y2k }
	switch m := m.(type) {
	case *pgoutput.Begin:
		bent := *m
		bent.CommitTime = bend(m.CommitTime)
		return &bent
	case *pgoutput.Commit:
		bent := *m
		bent.CommitTime = bend(m.CommitTime)
		return &bent
	}
	return m
}

// fromOracle translates a message of pglogrepl, as parsed from b, into ours.
func fromOracle(b []byte, m pglogrepl.Message) pgoutput.Message {
	switch m := m.(type) {
	case *pglogrepl.BeginMessage:
		return &pgoutput.Begin{
			FinalLSN: uint64(m.FinalLSN), XID: m.Xid,
			CommitTime: pgoutput.Timestamp(m.CommitTime.UnixNano()/1000 - y2k),
		}
	case *pglogrepl.CommitMessage:
		return &pgoutput.Commit{
			Flags: m.Flags, CommitLSN: uint64(m.CommitLSN), EndLSN: uint64(m.TransactionEndLSN),
			CommitTime: pgoutput.Timestamp(m.CommitTime.UnixNano()/1000 - y2k),
		}
	case *pglogrepl.OriginMessage:
		return &pgoutput.Origin{CommitLSN: uint64(m.CommitLSN), Name: m.Name}
	case *pglogrepl.RelationMessage:
		return relationFromOracle(m)
	case *pglogrepl.TypeMessage:
		return &pgoutput.Type{OID: m.DataType, Namespace: namespace(m.Namespace), Name: m.Name}
	case *pglogrepl.InsertMessage:
		return &pgoutput.Insert{RelationOID: m.RelationID, New: tupleFromOracle(m.Tuple)}
	case *pglogrepl.UpdateMessage:
		return &pgoutput.Update{
			RelationOID: m.RelationID, OldKind: pgoutput.OldKind(m.OldTupleType),
			Old: tupleFromOracle(m.OldTuple), New: tupleFromOracle(m.NewTuple),
		}
	case *pglogrepl.DeleteMessage:
		return &pgoutput.Delete{
			RelationOID: m.RelationID, OldKind: pgoutput.OldKind(m.OldTupleType), Old: tupleFromOracle(m.OldTuple),
		}
	case *pglogrepl.TruncateMessage:
		return &pgoutput.Truncate{
			Cascade:         m.Option&pglogrepl.TruncateOptionCascade != 0,
			RestartIdentity: m.Option&pglogrepl.TruncateOptionRestartIdentity != 0,
			RelationOIDs:    m.RelationIDs,
		}
	case *pglogrepl.LogicalDecodingMessage:
		return &pgoutput.LogicalMessage{
			// pglogrepl compares the whole flags byte with 1; the protocol uses its lowest bit.
			Transactional: m.Transactional || b[1]&1 != 0,
			LSN:           uint64(m.LSN), Prefix: m.Prefix, Content: m.Content,
		}
	}
	return nil
}

func namespace(s string) string {
	if s == "" {
		return "pg_catalog"
	}
	return s
}

func relationFromOracle(m *pglogrepl.RelationMessage) *pgoutput.Relation {
	columns := make([]pgoutput.Column, 0, len(m.Columns))
	for _, c := range m.Columns {
		columns = append(columns, pgoutput.Column{
			Key: c.Flags&1 != 0, Name: c.Name, TypeOID: c.DataType, TypeMod: c.TypeModifier,
		})
	}
	return &pgoutput.Relation{
		OID: m.RelationID, Namespace: namespace(m.Namespace), Name: m.RelationName,
		ReplicaIdentity: pgoutput.ReplicaIdentity(m.ReplicaIdentity), Columns: columns,
	}
}

func tupleFromOracle(m *pglogrepl.TupleData) pgoutput.Tuple {
	if m == nil {
		return nil
	}
	tuple := make(pgoutput.Tuple, 0, len(m.Columns))
	for _, c := range m.Columns {
		tuple = append(tuple, pgoutput.Value{Kind: pgoutput.ValueKind(c.DataType), Data: c.Data})
	}
	return tuple
}
