//go:build faults

package faults

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// pause lets a fault last: there is no condition to wait for.
func pause(d time.Duration) { <-time.After(d) }

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
