package pgoutput_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay/pgoutput"
)

func TestParseXLogDataReadsTheHeaderAndLeavesTheMessage(t *testing.T) {
	b := wire('w', uint64(0x16B3748), uint64(0x16B3749), uint64(849_009_600_123_456), []byte("message"))
	x, err := pgoutput.ParseXLogData(b)
	require.NoError(t, err)
	require.Equal(t, pgoutput.XLogData{
		WALStart: 0x16B3748, WALEnd: 0x16B3749, SendTime: 849_009_600_123_456, Data: []byte("message"),
	}, x)

	const header = 1 + 8 + 8 + 8
	for n := range header {
		_, err := pgoutput.ParseXLogData(b[:n:n])
		require.Error(t, err, n)
	}
	x, err = pgoutput.ParseXLogData(b[:header])
	require.NoError(t, err)
	require.Empty(t, x.Data)
}

func TestParseKeepaliveTakesExactlyOneKeepalive(t *testing.T) {
	b := wire('k', uint64(0x16B3748), uint64(849_009_600_123_456), uint8(1))
	k, err := pgoutput.ParseKeepalive(b)
	require.NoError(t, err)
	require.Equal(t, pgoutput.Keepalive{WALEnd: 0x16B3748, SendTime: 849_009_600_123_456, ReplyRequested: true}, k)

	for n := range b {
		_, err := pgoutput.ParseKeepalive(b[:n:n])
		require.Error(t, err, n)
	}
	_, err = pgoutput.ParseKeepalive(append(b, 0))
	require.EqualError(t, err, "pgoutput: parse keepalive: 1 bytes too many at offset 18")
}

func TestFramesAreNotTakenForOneAnother(t *testing.T) {
	_, err := pgoutput.ParseXLogData(wire('k', uint64(1), uint64(2), uint64(3)))
	require.EqualError(t, err, "pgoutput: parse xlog data: tag at offset 0 is not w")
	_, err = pgoutput.ParseKeepalive(wire('w', uint64(1), uint64(2), uint8(0)))
	require.EqualError(t, err, "pgoutput: parse keepalive: tag at offset 0 is not k")
}

func TestStandbyStatusSendsAllThreePositionsAsGiven(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 123_456_789, time.UTC)
	const stamp = uint64(848_743_200_123_456)

	prefix := []byte("kept")
	got := pgoutput.AppendStandbyStatus(prefix, 0x30, 0x20, 0x10, now, true)
	require.Equal(t, wire([]byte("kept"), 'r', uint64(0x30), uint64(0x20), uint64(0x10), stamp, uint8(1)), got)

	// A position of 0 must stay 0: filling it in from another would confirm what is not safe.
	got = pgoutput.AppendStandbyStatus(nil, 0x30, 0, 0, now, false)
	require.Equal(t, wire('r', uint64(0x30), uint64(0), uint64(0), stamp, uint8(0)), got)

	before := time.Date(1999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	got = pgoutput.AppendStandbyStatus(nil, 0, 0, 0, before, false)
	require.Equal(t, wire('r', uint64(0), uint64(0), uint64(0), ^uint64(0), uint8(0)), got)
}

func TestStandbyStatusFitsACallersBuffer(t *testing.T) {
	buf := make([]byte, 0, 34)
	now := time.Now()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		buf = pgoutput.AppendStandbyStatus(buf[:0], 1, 2, 3, now, true)
	}))
}
