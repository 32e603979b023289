package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// takeoverWithin is the promise, beyond the time that Postgres itself needs to see
// that a reader is gone: none for one that died, the sender timeout for a frozen one.
const takeoverWithin = 2 * time.Second

// TestAStandbyTakesOverInTime kills and freezes one active process after the other,
// and measures from then until the standby streams. The quickest of each kind counts:
// a machine that is busy with something else spoils a round, not all of them.
func TestAStandbyTakesOverInTime(t *testing.T) {
	t.Parallel()
	const senderTimeout = 3 * time.Second
	cluster := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"wal_sender_timeout": fmt.Sprint(senderTimeout.Milliseconds())}})
	s := newStack(t, options{db: cluster.New(t)})
	active, standby := s.start(), s.start()
	quickest := map[syscall.Signal]time.Duration{syscall.SIGKILL: time.Hour, syscall.SIGSTOP: time.Hour}
	rounds := []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGKILL}
	for round, signal := range rounds {
		active.awaitState(readyWithin, "streaming")
		require.Contains(t, standby.awaitState(readyWithin, "standby").Reason, "is held by another process")
		s.insertThings(fmt.Sprintf("before-%d", round))
		s.settleStream(active)

		gone := time.Now()
		active.killed = true
		require.NoError(t, active.cmd.Process.Signal(signal))
		s.insertThings(fmt.Sprintf("after-%d", round))
		standby.awaitState(senderTimeout+arrivesWithin, "streaming")
		took := time.Since(gone)
		quickest[signal] = min(quickest[signal], took)
		s.settleStream(standby)
		t.Logf("%s: streaming after %s, published within %s", signal, took.Round(time.Millisecond), time.Since(gone).Round(time.Millisecond))

		if signal == syscall.SIGSTOP { // a zombie is fenced when it wakes up
			require.NoError(t, active.cmd.Process.Signal(syscall.SIGCONT))
			s.insertThings(fmt.Sprintf("awake-%d", round))
			s.settleStream(standby)
			select {
			case <-active.done:
				require.Equal(t, 4, active.cmd.ProcessState.ExitCode())
			case <-time.After(time.Second):
				active.awaitState(readyWithin, "standby")
			}
		}
		active.kill()
		active, standby = standby, s.start()
	}
	require.Less(t, quickest[syscall.SIGKILL], takeoverWithin)
	require.Less(t, quickest[syscall.SIGSTOP], senderTimeout+takeoverWithin)
	var want []string
	for round, signal := range rounds {
		want = append(want, fmt.Sprintf("thing.created n/before-%d", round), fmt.Sprintf("thing.created n/after-%d", round))
		if signal == syscall.SIGSTOP {
			want = append(want, fmt.Sprintf("thing.created n/awake-%d", round))
		}
	}
	require.Equal(t, want, names(s.stream(active)))
	active.stop()
	standby.awaitState(arrivesWithin, "streaming") // a planned stop gives the slot back
	standby.stop()
}
