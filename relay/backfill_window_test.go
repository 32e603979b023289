package relay

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func snapshotOf(t *testing.T, text string) Snapshot {
	t.Helper()
	s, err := ParseSnapshot(text)
	require.NoError(t, err)
	return s
}

func TestASnapshotSeesWhatWasOverWhenItWasTaken(t *testing.T) {
	s := snapshotOf(t, "100:110:100,105")
	for xid, want := range map[uint32]bool{99: true, 100: false, 101: true, 105: false, 109: true, 110: false, 111: false} {
		require.Equal(t, want, s.sees(xid), xid)
	}
	// The log has the lower half of the ids, which wraps around.
	s = snapshotOf(t, "4294967290:4294967301:4294967295,4294967298")
	for xid, want := range map[uint32]bool{4294967289: true, 4294967290: true, 4294967295: false, 0: true, 2: false, 4: true, 5: false} {
		require.Equal(t, want, s.sees(xid), xid)
	}
	for _, bad := range []string{"", "1:2", "a:2:", "1:2:x", "1:2:3,"} {
		_, err := ParseSnapshot(bad)
		require.Error(t, err, bad)
	}
}

func value(s string) Value { return Value{Kind: Text, Data: []byte(s)} }

func things() *Relation {
	return &Relation{Schema: "public", Name: "t", Columns: []Column{{Name: "v"}, {Name: "a"}, {Name: "b"}}}
}

func TestARowIsStaleThatAnUnseenTransactionChanged(t *testing.T) {
	rel := things()
	row := func(a, b string) Tuple { return Tuple{value("x"), value(a), value(b)} }
	keyOnly := func(a, b string) Tuple { return Tuple{{Kind: Unavailable}, value(a), value(b)} }
	w := &window{table: "public.t", key: []string{"b", "a"}, snapshot: snapshotOf(t, "10:10:")}
	for _, c := range []Change{
		{XID: 9, Op: OpUpdate, New: row("seen", "1")},
		{XID: 10, Op: OpUpdate, New: row("updated", "1")},
		{XID: 11, Op: OpUpdate, Old: keyOnly("from", "1"), New: row("to", "1")},
		{XID: 12, Op: OpDelete, Old: keyOnly("deleted", "1")},
		{XID: 13, Op: OpInsert, New: row("inserted", "1")},
	} {
		c.Relation = rel
		w.saw(&c)
	}
	stale := w.stale()
	for key, want := range map[string]bool{"seen": false, "other": false, "updated": true, "from": true, "to": true, "deleted": true, "inserted": true} {
		require.Equal(t, want, stale(RowKey{"1", key}), key)
	}
	require.False(t, stale(RowKey{"updated", "1"}), "the parts have their places")

	w.renew(snapshotOf(t, "11:13:11"))
	stale = w.stale()
	for key, want := range map[string]bool{"updated": false, "from": true, "to": true, "deleted": false, "inserted": true} {
		require.Equal(t, want, stale(RowKey{"1", key}), key)
	}
}

func TestEveryRowIsStaleWhenTheLogDoesNotTellWhich(t *testing.T) {
	for name, c := range map[string]Change{
		"a truncate":             {Op: OpTruncate},
		"a delete without a key": {Op: OpDelete, Old: Tuple{value("x"), {Kind: Unavailable}, value("1")}},
		"a row without a key":    {Op: OpUpdate, New: Tuple{value("x"), {Kind: Unavailable}, value("1")}},
	} {
		w := &window{key: []string{"a"}, snapshot: snapshotOf(t, "10:10:")}
		c.Relation, c.XID = things(), 9
		w.saw(&c)
		require.False(t, w.stale()(RowKey{"1"}), name)
		c.XID = 10
		w.saw(&c)
		require.True(t, w.stale()(RowKey{"1"}), name)
		w.renew(snapshotOf(t, "11:11:"))
		require.False(t, w.stale()(RowKey{"1"}), name)
	}
}

func TestAWindowIsBoundedAndThenEveryRowIsStale(t *testing.T) {
	w := &window{key: []string{"a"}, snapshot: snapshotOf(t, "10:10:")}
	for i := range maxTouched + 1 {
		w.saw(&Change{XID: 10, Op: OpInsert, Relation: things(), New: Tuple{value("x"), value(fmt.Sprint(i)), value("1")}})
	}
	require.True(t, w.overflow)
	require.Empty(t, w.touched)
	require.True(t, w.stale()(RowKey{"no such row"}))
}

func TestKeysOfOneTableAreToldApart(t *testing.T) {
	seen := map[string]RowKey{}
	for _, key := range []RowKey{{"a", "b"}, {"ab", ""}, {"", "ab"}, {"1:a", "b"}, {"1", ":a1:b"}, {"a1:b", ""}, {"", ""}} {
		require.Empty(t, seen[key.joined()], key)
		seen[key.joined()] = key
	}
}

func TestTheEndOfTheStreamSplitsAChunk(t *testing.T) {
	all := func() *Chunk {
		return &Chunk{Rows: []ChunkRow{{Key: RowKey{"1"}}, {}, {Key: RowKey{"3"}}, {Key: RowKey{"4"}, Skip: 1}}, Redo: []ChunkRow{{Key: RowKey{"2"}, Tries: 1}}}
	}
	for _, c := range []struct {
		name    string
		through Position
		redo    string
	}{
		{"nothing is there", Position{}, "[{[2] 0 1} {[1] 0 0} {[3] 0 0} {[4] 1 0}]"},
		{"the first event of the first row", Position{Ordinal: 1}, "[{[2] 0 1} {[1] 1 0} {[3] 0 0} {[4] 1 0}]"},
		{"two events of the third", Position{Ordinal: 3, Index: 1}, "[{[2] 0 1} {[3] 2 0} {[4] 1 0}]"},
		{"the first is parked", Position{Ordinal: 1, Index: math.MaxUint32}, "[{[2] 0 1} {[3] 0 0} {[4] 1 0}]"},
		{"all", Position{Ordinal: math.MaxUint32, Index: math.MaxUint32}, "[{[2] 0 1}]"},
	} {
		chunk := all()
		require.Equal(t, c.redo != "[{[2] 0 1}]", chunk.unpublished(c.through), c.name)
		require.Equal(t, c.redo, fmt.Sprint(chunk.Redo), c.name)
		left := fmt.Sprint(chunk)
		require.False(t, chunk.unpublished(c.through), "%s: a second time changes nothing", c.name)
		require.Equal(t, left, fmt.Sprint(chunk))
	}
}

// Wherever the stream ends in a chunk, the fence comes next, and tells the same.
func TestAFenceTellsHowFarAChunkWasPublished(t *testing.T) {
	mark := Position{CommitLSN: 0x100, Ordinal: 3}
	before := Position{CommitLSN: 0xFF, Ordinal: 900, Index: 2}
	in, fence := through(before, mark)
	require.Zero(t, in)
	require.Positive(t, fence.Compare(before))
	require.Negative(t, fence.Compare(place(mark, 0)))
	again, same := through(fence, mark)
	require.Equal(t, in, again)
	require.Equal(t, fence, same)
	for row := range 3 {
		for index := range uint32(3) {
			tail := place(mark, row)
			tail.Index = index
			in, fence := through(tail, mark)
			require.Equal(t, Position{Ordinal: uint32(row) + 1, Index: index}, in)
			require.Positive(t, fence.Compare(tail))
			require.Negative(t, fence.Compare(place(mark, row+1)))
			again, same := through(fence, mark)
			require.Equal(t, in, again)
			require.Equal(t, fence, same)
		}
	}
	in, _ = through(Position{CommitLSN: 0x101}, mark)
	require.EqualValues(t, math.MaxUint32, in.Ordinal)
}
