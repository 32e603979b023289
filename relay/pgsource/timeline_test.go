package pgsource_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgproc"
	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgsource"
)

func TestAServerThatRecoveredTellsItsForks(t *testing.T) {
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	db := cluster.New(t)
	open := func() relay.Slot {
		s, err := pgsource.Open(t.Context(), config(db))
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close(t.Context())) }()
		return s.Slot()
	}
	require.Empty(t, open().Forks)
	data := pgtest.One[string](db, "show data_directory")
	cluster.Stop(pgproc.Fast)

	// A recovery from an archive that holds nothing ends at once, on a new timeline.
	signal := filepath.Join(data, "recovery.signal")
	require.NoError(t, os.WriteFile(signal, nil, 0o600))
	var owner syscall.Stat_t
	require.NoError(t, syscall.Stat(data, &owner))
	require.NoError(t, os.Chown(signal, int(owner.Uid), int(owner.Gid)))
	cluster.Set(map[string]string{"restore_command": "false"})
	cluster.Start()
	db.Pool.Reset()
	require.Eventually(t, func() bool { return !pgtest.One[bool](db, "select pg_is_in_recovery()") }, patience, 20*time.Millisecond)

	slot := open()
	require.EqualValues(t, 2, slot.Timeline)
	require.Len(t, slot.Forks, 1)
	require.NotZero(t, slot.Forks[1])
}
