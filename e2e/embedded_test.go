package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheEmbeddedServerKeepsTheStreamOverRestartsAndKills(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{embedded: true})
	e := s.subscribe(hook{event: "thing.created"})
	p := s.start()
	require.NotEmpty(t, p.ports().NATS)
	insert := `insert into things (ns, id, type, content) values ('n', $1, 'Skill', '` + s.canary + `')`
	s.db.Exec(insert, "1")
	s.settle(p)
	require.Equal(t, []string{"thing.created n/1"}, names(s.stream(p)))
	first := s.stream(p)[0]
	require.Eventually(t, func() bool { // it syncs every second
		now := p.position()
		return must(parseLSN(now.Confirmed))(t) >= must(parseLSN(now.Published))(t)
	}, arrivesWithin, tick, "the slot follows the embedded server within seconds, whatever confirm_lag is by default")
	p.stop()

	s.db.Exec(insert, "2")
	p = s.start()
	s.db.Exec(insert, "3")
	s.settle(p)
	events := s.stream(p)
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2", "thing.created n/3"}, names(events))
	require.Equal(t, first.Body, events[0].Body)
	p.kill()

	p = s.start()
	s.db.Exec(insert, "4")
	s.settle(p)
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2", "thing.created n/3", "thing.created n/4"}, names(s.stream(p)))
	require.Equal(t, names(s.stream(p)), e.names())
	require.Len(t, e.requests(), 4)
	p.stop()
}

func TestTheEmbeddedServerNeedsNoListener(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{embedded: true})
	s.env["RELAY_NATS_LISTEN"] = "-"
	e := s.subscribe(hook{event: "thing.created"})
	p := s.start()
	require.Empty(t, p.ports().NATS)
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', '1', 'Skill', $1)`, s.canary)
	e.await(1)
	p.stop()
}
