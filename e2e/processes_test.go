package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAStandbyTakesOverAndDeliveriesAreSharedWithoutDuplicates(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	e := s.subscribe(hook{event: "thing.created"})
	first := s.start()
	require.Equal(t, "streaming", first.awaitState(readyWithin, "streaming").State)
	second := s.start()
	require.Equal(t, "standby", second.awaitState(readyWithin, "standby").State)
	load := s.startLoad(2, 20*time.Millisecond)
	load.awaitLoad(40)
	load.stop()
	s.settle(first)
	require.Zero(t, load.checkDelivered(e, "thing.created"), "two processes share the deliveries")

	first.kill()
	second.awaitState(arrivesWithin, "streaming")
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', 'last', 'Skill', $1)`, s.canary)
	s.settle(second)
	events := s.stream(second)
	requireSame(t, load.expected(), loadEvents(t, events))
	require.Equal(t, "thing.created n/last", events[len(events)-1].Event.name())
	require.Equal(t, "thing.created n/last", e.received()[len(e.received())-1].Event.name())

	// The first one comes back as the standby, and takes over from one that stops.
	third := s.start()
	require.Equal(t, "standby", third.awaitState(readyWithin, "standby").State)
	second.stop()
	third.awaitState(readyWithin, "streaming")
	third.stop()
}

func TestCaptureAndDeliveryWorkInProcessesOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	e := s.subscribe(hook{event: "thing.created"})
	capture := s.start("--role=capture")
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', '1', 'Skill', $1)`, s.canary)
	s.settleStream(capture)
	require.Len(t, s.stream(capture), 1)
	require.Empty(t, e.requests(), "nobody delivers yet")

	deliver := s.start("--role=deliver")
	late := s.subscribe(hook{event: "thing.created"})
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', '2', 'Skill', $1)`, s.canary)
	s.settle(deliver)
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2"}, e.names())
	require.Equal(t, []string{"thing.created n/2"}, late.names())

	capture.stop()
	require.Equal(t, "streaming", deliver.awaitState(readyWithin, "streaming").State, "delivery does not need capture")
	deliver.stop()
}
