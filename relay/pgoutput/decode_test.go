package pgoutput_test

import (
	"bytes"
	"math"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay/pgoutput"
)

func TestDecodeReadsEveryFieldOfEveryKind(t *testing.T) {
	var d pgoutput.Decoder // one for all: nothing may leak from one message into the next
	for range 2 {
		for _, g := range goldens() {
			got, err := d.Decode(g.wire)
			require.NoError(t, err, g.name)
			require.Equal(t, g.want, got, g.name)
			require.Equal(t, pgoutput.Kind(g.wire[0]), got.Kind(), g.name)
		}
	}
}

func TestDecodeRefusesEveryTruncation(t *testing.T) {
	var d pgoutput.Decoder
	for _, g := range goldens() {
		for n := range g.wire {
			got, err := d.Decode(g.wire[:n:n])
			require.Errorf(t, err, "%s cut to %d bytes", g.name, n)
			require.Nil(t, got)
		}
	}
}

func TestDecodeRefusesBytesBehindAMessage(t *testing.T) {
	var d pgoutput.Decoder
	for _, g := range goldens() {
		_, err := d.Decode(append(bytes.Clone(g.wire), 0))
		require.ErrorContains(t, err, "1 bytes too many at offset", g.name)
	}
}

func TestDecodeNamesTheKindAndTheOffsetOfAFault(t *testing.T) {
	const oid, most = uint32(16385), uint32(math.MaxUint32)
	tests := []struct {
		wire []byte
		want string
	}{
		{nil, "pgoutput: empty message"},
		{wire('B', uint64(1), uint32(2)), "pgoutput: decode begin: commit time is cut short at offset 9"},
		{wire('O', uint64(1), []byte("no end")), "pgoutput: decode origin: name has no terminating NUL at offset 9"},
		{wire('I', oid, 'K', uint16(0)), "pgoutput: decode insert: tuple marker is not N at offset 5"},
		{wire('I', oid, 'N', uint16(3), 'n', 'n'), "pgoutput: decode insert: column count exceeds what the message can hold at offset 8"},
		{wire('I', oid, 'N', uint16(1), 'x'), "pgoutput: decode insert: column 0: marker is none of n, u, t, b at offset 8"},
		{wire('I', oid, 'N', uint16(2), 'n', 't', most, 'a'), "pgoutput: decode insert: column 1: value exceeds what the message can hold at offset 14"},
		{wire('I', oid, 'N', uint16(1), 't', uint16(0)), "pgoutput: decode insert: column 0: value is cut short at offset 9"},
		{wire('U', oid, 'K', uint16(1), 'n', 'K', uint16(0)), "pgoutput: decode update: tuple marker is none of K, O, N in that order at offset 9"},
		{wire('U', oid, 'X', uint16(0)), "pgoutput: decode update: tuple marker is none of K, O, N in that order at offset 5"},
		{wire('D', oid, 'N', uint16(0)), "pgoutput: decode delete: tuple marker is neither K nor O at offset 5"},
		{wire('R', oid, "public", "t", 'd', uint16(9), "", uint64(0)), "pgoutput: decode relation: column count exceeds what the message can hold at offset 17"},
		{wire('R', oid, "public", "t", 'd', uint16(1), uint8(0), []byte("nine byte")), "pgoutput: decode relation: column 0: column name has no terminating NUL at offset 18"},
		{wire('T', most, uint8(0), oid), "pgoutput: decode truncate: relation count exceeds what the message can hold at offset 6"},
		{wire('M', uint8(0), uint64(1), "p", most, 'a'), "pgoutput: decode logical message: content exceeds what the message can hold at offset 16"},
	}
	var d pgoutput.Decoder
	for _, tt := range tests {
		got, err := d.Decode(tt.wire)
		require.EqualError(t, err, tt.want)
		require.Nil(t, got)
	}
}

func TestDecodeHandsOverUnknownKindsWithoutAnError(t *testing.T) {
	const known = "BCORYIUDTM"
	var d pgoutput.Decoder
	for k := range 256 {
		if bytes.IndexByte([]byte(known), byte(k)) >= 0 {
			continue
		}
		for _, b := range [][]byte{{byte(k)}, {byte(k), 0, 0, 0, 9}} {
			got, err := d.Decode(b)
			require.NoError(t, err)
			require.Equal(t, &pgoutput.Unknown{Tag: pgoutput.Kind(k)}, got)
			require.Equal(t, pgoutput.Kind(k), got.Kind())
		}
	}
}

func TestDecodeToleratesFlagBitsOfNewerServers(t *testing.T) {
	var d pgoutput.Decoder
	got, err := d.Decode(wire('R', uint32(1), "s", "t", 'z', uint16(1), uint8(0b110), "c", uint32(20), uint32(0)))
	require.NoError(t, err)
	require.Equal(t, pgoutput.ReplicaIdentity('z'), got.(*pgoutput.Relation).ReplicaIdentity)
	require.False(t, got.(*pgoutput.Relation).Columns[0].Key)

	got, err = d.Decode(wire('T', uint32(1), uint8(0b101), uint32(7)))
	require.NoError(t, err)
	require.Equal(t, &pgoutput.Truncate{Cascade: true, RelationOIDs: []uint32{7}}, got)
}

func TestRowMessagesAreDecodedWithoutAllocating(t *testing.T) {
	var d pgoutput.Decoder
	for _, g := range goldens() {
		switch g.want.Kind() {
		case pgoutput.KindRelation, pgoutput.KindType, pgoutput.KindTruncate:
			continue
		}
		allocs := testing.AllocsPerRun(100, func() {
			if _, err := d.Decode(g.wire); err != nil {
				panic(err)
			}
		})
		require.Zero(t, allocs, g.name)
	}
}

// allocated measures the bytes that fn allocates. Whoever else runs in this process is
// counted too, so the least of a few runs is taken, the first of which is enough mostly.
func allocated(limit uint64, fn func()) uint64 {
	least := uint64(math.MaxUint64)
	for range 10 {
		sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
		metrics.Read(sample)
		before := sample[0].Value.Uint64()
		fn()
		metrics.Read(sample)
		if least = min(least, sample[0].Value.Uint64()-before); least <= limit {
			break
		}
	}
	return least
}

// allocLimit is what decoding may allocate for n bytes of input: a column takes a byte on
// the wire at least and 32 in memory. The rest is for whoever else runs in this process.
func allocLimit(n int) uint64 { return 64*uint64(n) + 64<<10 }

func TestHostileCountsDoNotAllocateWhatTheyClaim(t *testing.T) {
	const oid, most = uint32(1), uint32(math.MaxUint32)
	hostile := [][]byte{
		wire('T', most, uint8(0), oid),
		wire('T', uint32(1<<28), uint8(0), oid),
		wire('I', oid, 'N', uint16(math.MaxUint16)),
		wire('I', oid, 'N', uint16(1), 't', most),
		wire('I', oid, 'N', uint16(1), 'b', uint32(math.MaxInt32)),
		wire('U', oid, 'O', uint16(math.MaxUint16), 'n', 'N', uint16(math.MaxUint16)),
		wire('D', oid, 'K', uint16(math.MaxUint16)),
		wire('R', oid, "", "", 'd', uint16(math.MaxUint16)),
		wire('M', uint8(0), uint64(0), "", most),
	}
	for _, b := range hostile {
		var err error
		require.LessOrEqual(t, allocated(allocLimit(len(b)), func() {
			var d pgoutput.Decoder
			_, err = d.Decode(b)
		}), allocLimit(len(b)), "% x", b)
		require.Error(t, err)
	}
}

func TestRelationsTypesAndTruncatesMayBeKept(t *testing.T) {
	var d pgoutput.Decoder
	for _, g := range descriptions() {
		b := bytes.Clone(g.wire)
		kept, err := d.Decode(b)
		require.NoError(t, err)
		for _, other := range descriptions() {
			_, err = d.Decode(other.wire)
			require.NoError(t, err)
		}
		clear(b)
		require.Equal(t, g.want, kept, g.name)
	}
}

func TestNoValueCanBeAppendedIntoTheNextOne(t *testing.T) {
	var d pgoutput.Decoder
	b := wire('I', uint32(1), 'N', uint16(2), text("one"), text("two"))
	m, err := d.Decode(b)
	require.NoError(t, err)
	row := m.(*pgoutput.Insert).New
	_ = append(row[0].Data, "overwritten"...)
	require.Equal(t, "two", string(row[1].Data))
}

func TestDecodeLetsGoOfThePreviousInput(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 1<<16)
	inputs := map[string][]byte{
		"insert":                wire('I', uint32(1), 'N', uint16(2), 'n', text(string(big))),
		"update":                wire('U', uint32(1), 'O', uint16(1), text(string(big)), 'N', uint16(1), 'u'),
		"logical":               wire('M', uint8(0), uint64(0), "p", uint32(len(big)), big),
		"fails after its value": wire('I', uint32(1), 'N', uint16(2), text(string(big)), 'x'),
	}
	for name, b := range inputs {
		var d pgoutput.Decoder
		_, err := d.Decode(b)
		require.Equal(t, name == "fails after its value", err != nil, name)
		gone := weak.Make(&b[0])
		b, inputs[name] = nil, nil

		if err == nil {
			_, err = d.Decode(wire('B', uint64(1), uint64(2), uint32(3)))
			require.NoError(t, err)
		}
		runtime.GC()
		require.Nil(t, gone.Value(), name)
		runtime.KeepAlive(&d)
	}
}

func TestTimestampsAreExactOverTheirWholeRange(t *testing.T) {
	y2k := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	require.Equal(t, y2k, pgoutput.Timestamp(0).Time())
	require.Equal(t, y2k.Add(-time.Microsecond), pgoutput.Timestamp(-1).Time())
	require.Equal(t, time.Date(2026, 11, 23, 10, 0, 0, 123456000, time.UTC), pgoutput.Timestamp(848_743_200_123_456).Time())
	for _, ts := range []int64{math.MinInt64, math.MinInt64 + 1, -1_000_001, 999_999, math.MaxInt64} {
		got := pgoutput.Timestamp(ts).Time()
		seconds := got.Unix() - y2k.Unix()
		require.Equal(t, ts, seconds*1e6+int64(got.Nanosecond())/1e3)
	}
}

func TestKindsPrintInWords(t *testing.T) {
	words := map[string]bool{}
	for _, g := range goldens() {
		words[g.want.Kind().String()] = true
	}
	require.Equal(t, map[string]bool{
		"begin": true, "commit": true, "origin": true, "relation": true, "type": true, "insert": true,
		"update": true, "delete": true, "truncate": true, "logical message": true,
	}, words)
	require.Equal(t, "'A'", pgoutput.Kind('A').String())
	require.Equal(t, `'\u00ff'`, pgoutput.Kind(0xFF).String())
}
