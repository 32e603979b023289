package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgproc"
	"github.com/dot-do/relay/internal/pgtest"
)

const (
	noticesWithin  = 10 * time.Second
	recoversWithin = 10 * time.Second
)

func TestANATSServerThatIsKilledAndRestartedLosesNothing(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_RETRY_SCHEDULE"] = "100ms"
	created := s.subscribe(hook{event: "thing.created"})
	p := s.start()
	load := s.startLoad(2, 25*time.Millisecond)
	for range 2 {
		load.awaitLoad(10)
		s.nats.Kill()
		p.awaitState(noticesWithin, "degraded")
		load.awaitLoad(5)
		s.nats.Start()
		p.awaitState(recoversWithin, "streaming")
	}
	s.nats.Restart() // too short to be told of
	load.awaitLoad(10)
	load.stop()
	p.awaitState(recoversWithin, "streaming")
	s.settle(p)
	requireSame(t, load.expected(), loadEvents(t, s.stream(p)))
	require.Zero(t, load.checkDelivered(created, "thing.created"), "the relay itself lived on: it knows what it has sent")
	p.stop()
}

func TestAPostgresThatIsRestartedLosesNothing(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{Durable: true})
	s := newStack(t, options{db: cluster.New(t)})
	s.env["RELAY_RETRY_SCHEDULE"] = "100ms"
	created := s.subscribe(hook{event: "thing.created"})
	p := s.start()
	load := s.startLoad(2, 25*time.Millisecond)
	for _, mode := range []pgproc.StopMode{pgproc.Fast, pgproc.Immediate} {
		load.awaitLoad(10)
		cluster.Stop(mode)
		p.awaitState(noticesWithin, "degraded")
		cluster.Start()
		s.db.Pool.Reset()
		p.awaitState(recoversWithin, "streaming")
	}
	load.awaitLoad(10)
	load.stop()
	s.settle(p)
	requireSame(t, load.expected(), loadEvents(t, s.stream(p)))
	require.Zero(t, load.checkDelivered(created, "thing.created"), "the relay itself lived on: it knows what it has sent")
	p.stop()
}

func TestARelayThatStartsBeforeItsServersWaitsForThem(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	s := newStack(t, options{db: cluster.New(t)})
	e := s.subscribe(hook{event: "thing.created"})
	s.nats.Kill()
	cluster.Stop(pgproc.Fast)
	p := s.launch()
	p.awaitState(readyWithin, "degraded")
	cluster.Start()
	s.db.Pool.Reset()
	s.db.Exec(`insert into users (id, email) values ('u5', 'u5@example.com')`)
	s.nats.Start()
	p.awaitState(recoversWithin, "streaming")
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', '1', 'Skill', $1)`, s.canary)
	require.Len(t, e.await(1), 1)
	p.stop()
}

func TestARelayThatWaitsForItsServersStopsWhenItIsTold(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.nats.Kill()
	p := s.launch()
	p.awaitState(readyWithin, "degraded")
	p.stop()
}
