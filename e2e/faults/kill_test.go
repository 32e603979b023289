package faults

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/failpoint"
	"github.com/dot-do/relay/internal/pgtest"
)

// TestAKillAtAnyPlaceLosesAndDoublesNothing lets the relay kill itself at each place
// of the way to the stream and back to the slot, some passages after its start, and
// starts it again, while others write.
func TestAKillAtAnyPlaceLosesAndDoublesNothing(t *testing.T) {
	for _, tc := range []struct {
		place  string
		rounds int
		within int // passages until the kill, at most
	}{
		{failpoint.BeforePublish, 4, 20},
		{failpoint.Sent, 5, 120},
		{failpoint.BeforeAck, 6, 120},
		{failpoint.BeforeCheckpoint, 4, 2},
		{failpoint.BeforeConfirm, 4, 2},
		{failpoint.BeforeFeedback, 4, 3},
	} {
		t.Run(tc.place, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, options{})
			s.start().stop() // what is committed before the first start is before the promise
			load := s.startLoad(2, 10*time.Millisecond)
			for range tc.rounds {
				at := 1 + rand.IntN(tc.within)
				p := s.launch(fmt.Sprintf("RELAY_FAILPOINTS=%s=kill@%d", tc.place, at))
				require.Equal(t, -1, p.exited(arrivesWithin), "it kills itself: %s", p.log())
			}
			p := s.start()
			load.await(5)
			load.check()
			p.stop()
		})
	}
}

// TestAKillInsideATransactionGoesOnAtTheNextRow is about one transaction of many
// batches, killed three times where it hurts: messages are stored that no checkpoint
// names.
func TestAKillInsideATransactionGoesOnAtTheNextRow(t *testing.T) {
	t.Parallel()
	const rows = 5000
	s := newStack(t, options{})
	s.start().stop()
	s.db.Exec(`insert into things (ns, id, type, content) select 'big', i, 'Skill', $1 from generate_series(1, $2::int) i`, s.canary, rows)
	for _, rule := range []string{failpoint.Sent + "=kill@700", failpoint.BeforeAck + "=kill@1100", failpoint.Sent + "=kill@2900"} {
		p := s.launch("RELAY_FAILPOINTS=" + rule)
		require.Equal(t, -1, p.exited(arrivesWithin), p.log())
	}
	require.Positive(t, s.length())
	require.Less(t, s.length(), uint64(rows), "the kills were inside the transaction")
	p := s.start()
	s.settle()
	want := make([]string, rows)
	for i := range want {
		want[i] = fmt.Sprintf("thing.created big/%d", i+1)
	}
	requireSame(s, want, names(s.read(), "big"))
	p.stop()
}

// TestTenKillsInTenSecondsLeaveNothingBehind is a crash loop: slots and connections
// of the dead are gone, and the last start is as quick as the first.
func TestTenKillsInTenSecondsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.start().stop()
	load := s.startLoad(1, 20*time.Millisecond)
	from := time.Now()
	for range 10 {
		p := s.launch()
		select {
		case <-p.done:
			require.FailNow(t, "the relay ended by itself", "%s", p.log())
		case <-time.After(time.Duration(200+rand.IntN(800)) * time.Millisecond):
		}
		p.kill()
	}
	t.Logf("ten kills in %s", time.Since(from).Round(time.Millisecond))
	p := s.start()
	load.await(5)
	load.check()
	require.Equal(t, 1, pgtest.One[int](s.db, `select count(*) from pg_replication_slots where database = current_database()`))
	s.eventually(readyWithin, func() bool {
		return pgtest.One[int](s.db, `select count(*) from pg_stat_activity where datname = current_database() and application_name like 'relay%'`) < 15
	}, "connections of the dead are still there")
	require.Zero(t, p.metric("relay_session_restarts_total"), "the survivor had nothing to repeat")
	p.stop()
}
