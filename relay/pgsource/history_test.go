package pgsource

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

func TestTheHistoryOfATimelineTellsWhereEachAncestorEnded(t *testing.T) {
	got, err := parseHistory([]byte("1\t0/3000000\tno recovery target specified\n\n# a comment\n2\t1/A0\tbefore 2026-01-01\n"))
	require.NoError(t, err)
	require.Equal(t, map[int32]relay.LSN{1: 0x3000000, 2: 0x1_000000A0}, got)
	for _, bad := range []string{"1", "x\t0/1", "1\tx"} {
		_, err := parseHistory([]byte(bad))
		require.Error(t, err, bad)
	}
}
