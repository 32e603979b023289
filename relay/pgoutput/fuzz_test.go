package pgoutput_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay/pgoutput"
)

// FuzzDecode holds the decoder to its promises on any bytes: it does not panic, does not
// allocate more than the input warrants, and agrees with pglogrepl about all it accepts.
// The corpus in testdata holds messages of a real server; see TestRecordedStreamsDecodeAsPglogreplDecodesThem.
func FuzzDecode(f *testing.F) {
	for _, g := range goldens() {
		f.Add(g.wire)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var (
			m   pgoutput.Message
			err error
		)
		limit := allocLimit(len(b))
		require.LessOrEqual(t, allocated(limit, func() {
			var d pgoutput.Decoder
			m, err = d.Decode(b)
		}), limit)
		if err != nil {
			require.Nil(t, m)
			return
		}
		require.Equal(t, pgoutput.Kind(b[0]), m.Kind())
		requireOracleAgrees(t, b, m)

		// A decoder that has seen other messages reads the same.
		used := usedDecoder(t)
		again, err := used.Decode(b)
		require.NoError(t, err)
		require.Equal(t, m, again)
	})
}

func usedDecoder(t *testing.T) *pgoutput.Decoder {
	var d pgoutput.Decoder
	for _, g := range goldens() {
		_, err := d.Decode(g.wire)
		require.NoError(t, err)
	}
	return &d
}

// FuzzFrames holds both frame parsers to the same.
func FuzzFrames(f *testing.F) {
	f.Add(wire('w', uint64(1), uint64(2), uint64(3), 'B'))
	f.Add(wire('k', uint64(1), uint64(2), uint8(1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := pgoutput.ParseXLogData(b)
		if err == nil {
			require.Equal(t, b, wire('w', x.WALStart, x.WALEnd, uint64(x.SendTime), x.Data))
		}
		k, err := pgoutput.ParseKeepalive(b)
		if err == nil {
			require.Equal(t, b[:17], wire('k', k.WALEnd, uint64(k.SendTime)))
			require.Equal(t, b[17] != 0, k.ReplyRequested)
			require.Len(t, b, 18)
		}
	})
}
