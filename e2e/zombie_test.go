package e2e

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// TestAFrozenRelayThatWakesUpLateWritesNothing freezes the active process for so
// long that Postgres gives its slot to the standby. Awake again, it must not write
// into a stream that has gone on without it.
func TestAFrozenRelayThatWakesUpLateWritesNothing(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"wal_sender_timeout": "2s"}})
	s := newStack(t, options{db: cluster.New(t)})
	e := s.subscribe(hook{event: "thing.created"})
	frozen := s.start()
	standby := s.start()
	standby.awaitState(readyWithin, "standby")
	load := s.startLoad(2, 25*time.Millisecond)
	load.awaitLoad(10)

	require.NoError(t, frozen.cmd.Process.Signal(syscall.SIGSTOP))
	standby.awaitState(arrivesWithin, "streaming")
	load.awaitLoad(20)
	require.NoError(t, frozen.cmd.Process.Signal(syscall.SIGCONT))
	load.awaitLoad(20)
	load.stop()
	s.settle(standby)

	requireSame(t, load.expected(), loadEvents(t, s.stream(standby)))
	t.Logf("%d deliveries repeated", load.checkDelivered(e, "thing.created"))
	select {
	case <-frozen.done:
		require.Equal(t, 4, frozen.cmd.ProcessState.ExitCode(), "a process that was fenced says so")
	default:
		require.Equal(t, "standby", frozen.awaitState(readyWithin, "standby").State)
		frozen.stop()
	}
	standby.stop()
}

func TestARelayStopsInTimeThoughEndpointsHang(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_DRAIN_TIMEOUT"] = "5s"
	e := s.subscribe(hook{event: "thing.created"})
	e.answers(func(delivery) answer { return answer{status: 200, wait: time.Minute} })
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content) select 'n', i, 'Skill', $1 from generate_series(1, 50) i`, s.canary)
	e.await(4)
	asked := time.Now()
	p.stop()
	require.Less(t, time.Since(asked), 8*time.Second)
	e.answers(nil)
	p = s.start()
	s.settle(p)
	require.Len(t, e.received(), 50)
	p.stop()
}

func TestASecondSignalEndsTheRelayAtOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	e := s.subscribe(hook{event: "thing.created"})
	e.answers(func(delivery) answer { return answer{status: 200, wait: time.Minute} })
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', '1', 'Skill', $1)`, s.canary)
	e.await(1)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { return p.position().Received != "" && !p.ready() }, readyWithin, tick, "it drains, and answers meanwhile")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	require.NotZero(t, p.exited(2*time.Second))
}
