package e2e

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// TestTwentyKillsUnderLoadLoseNothingAndKeepTheStreamExact kills the relay at
// random moments, of its start too, while several connections write. Then the
// stream must hold what the ledger does, once and in commit order, and every
// endpoint must have it at least once. The receiver itself checks that a repeated
// delivery has the same id and the same bytes.
func TestTwentyKillsUnderLoadLoseNothingAndKeepTheStreamExact(t *testing.T) {
	const rounds = 20
	s := newStack(t, options{})
	s.env["RELAY_RETRY_SCHEDULE"] = "100ms,200ms"
	s.env["RELAY_LOG_LEVEL"] = "info"
	created := s.subscribe(hook{event: "thing.created"})
	updated := s.subscribe(hook{event: "thing.updated"})
	updated.answers(failFirst(1, 503))
	s.start().stop() // what is committed before the first start is before the promise
	load := s.startLoad(3, 40*time.Millisecond)
	seed := rand.Uint64()
	t.Logf("seed of the kills: %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds {
		p := s.launch()
		if round%2 == 1 { // every other one gets to work first
			p.awaitReady()
		}
		select {
		case <-time.After(time.Duration(random.Int64N(int64(1500 * time.Millisecond)))):
		case <-p.done:
			require.FailNow(t, "the relay ended by itself", "%s", p.log())
		}
		p.kill()
	}
	p := s.start()
	load.awaitLoad(10)
	load.stop()
	s.settle(p)

	want := load.expected()
	requireSame(t, want, loadEvents(t, s.stream(p)))
	repeated := load.checkDelivered(created, "thing.created") + load.checkDelivered(updated, "thing.updated")
	t.Logf("%d transactions, %d events, %d deliveries repeated by %d kills", load.written(), len(want), repeated, rounds)
	require.Equal(t, 1, pgtest.One[int](s.db, `select count(*) from pg_replication_slots where database = current_database()`))
	require.Less(t, pgtest.One[int](s.db, `select count(*) from pg_stat_activity where datname = current_database() and application_name like 'relay%'`), 30, "connections of the dead are gone")
	p.stop()
}

func TestAKillInsideALargeTransactionResumesAtTheNextRow(t *testing.T) {
	t.Parallel()
	const rows = 20_000
	s := newStack(t, options{})
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content) select 'big', i, 'Skill', $1 from generate_series(1, $2::int) i`, s.canary, rows)
	kills := 0
	for ; kills < 4; kills++ {
		// Killed a little later each time, while the stream grows.
		require.Eventually(t, func() bool { return s.streamLength(p) > uint64(kills*rows/5) }, arrivesWithin, time.Millisecond)
		p.kill()
		if s.streamLength(p) >= rows {
			break
		}
		p = s.start()
	}
	if kills < 4 {
		p = s.start()
	}
	t.Logf("%d kills before the transaction was through", kills)
	s.settle(p)
	events := s.stream(p)
	require.Len(t, events, rows)
	for i, m := range events {
		require.Equal(t, fmt.Sprintf("thing.created big/%d", i+1), m.Event.name())
		require.Equal(t, events[0].pos.ordinal+uint32(i), m.pos.ordinal)
	}
	p.stop()
}

func TestAKillAfterASuccessRepeatsNothingThatWasRecorded(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	e := s.subscribe(hook{event: "thing.created"})
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content) select 'n', i, 'Skill', $1 from generate_series(1, 200) i`, s.canary)
	e.await(200)
	require.Eventually(t, func() bool {
		return pgtest.One[int](s.db, `select count(*) from zapier_webhook_logs where status = 'success'`) == 200
	}, arrivesWithin, tick)
	p.kill() // the stream's consumer may not have heard of it all
	p = s.start()
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', 'last', 'Skill', $1)`, s.canary)
	s.settle(p)
	require.Len(t, e.requests(), 201)
	p.stop()
}
