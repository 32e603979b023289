package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPlannedRestartsUnderLoadLoseAndRepeatNothing(t *testing.T) {
	s := newStack(t, options{})
	s.env["RELAY_RETRY_SCHEDULE"] = "100ms"
	created := s.subscribe(hook{event: "thing.created"})
	updated := s.subscribe(hook{event: "thing.updated"})
	slow := s.subscribe(hook{event: "thing.updated"})
	slow.answers(func(delivery) answer { return answer{status: 200, wait: 50 * time.Millisecond} })
	failing := s.subscribe(hook{event: "thing.updated"})
	failing.answers(failFirst(1, 503))
	p := s.start()
	load := s.startLoad(3, 20*time.Millisecond)
	for range 3 {
		load.awaitLoad(20)
		p.stop()
		load.awaitLoad(5) // written while nobody reads
		p = s.start()
	}
	load.awaitLoad(20)
	load.stop()
	s.settle(p)

	requireSame(t, load.expected(), loadEvents(t, s.stream(p)))
	require.Zero(t, load.checkDelivered(created, "thing.created"), "deliveries of thing.created came twice")
	for _, e := range []*endpoint{updated, slow, failing} {
		require.Zero(t, load.checkDelivered(e, "thing.updated"), "deliveries of thing.updated came twice")
	}
	p.stop()
}

func TestEverythingDueArrivesWithinFifteenSecondsOfARestart(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_RETRY_SCHEDULE"] = "300ms"
	e := s.subscribe(hook{event: "thing.created"})
	e.answers(func(delivery) answer { return answer{status: 503} })
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content) select 'n', i, 'Skill', $1 from generate_series(1, 50) i`, s.canary)
	e.await(50)
	p.stop()
	s.db.Exec(`insert into things (ns, id, type, content) select 'n', i, 'Skill', $1 from generate_series(51, 100) i`, s.canary)
	e.answers(nil)
	restarted := time.Now()
	p = s.start()
	require.Eventually(t, func() bool {
		accepted := 0
		for _, d := range e.requests() {
			if d.Status == 200 {
				accepted++
			}
		}
		return accepted == 100
	}, 15*time.Second-time.Since(restarted), 5*tick)
	s.settle(p)
	p.stop()
}
