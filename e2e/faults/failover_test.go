//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgproc"
	"github.com/dot-do/relay/internal/pgtest"
)

// TestAFailoverToAServerThatLacksWhatIsPublishedHaltsAndKeepsItsOwnChanges promotes a
// standby that has a copy of the slot, and lacks transactions whose events are published:
// its own changes have the log positions of theirs.
func TestAFailoverToAServerThatLacksWhatIsPublishedHaltsAndKeepsItsOwnChanges(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"wal_keep_size": "256MB"}})
	s := newStack(t, options{db: primary.New(t)})
	standby := primary.Standby(t)
	copied := standby.Database(t, s.db)
	p := s.start()
	s.insert("1")
	s.settle()
	p.stop()
	s.db.Exec(`checkpoint`) // it writes the slot down
	end := pgtest.One[string](s.db, `select pg_current_wal_lsn()::text`)
	s.eventually(arrivesWithin, func() bool {
		return pgtest.One[bool](copied, `select coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false)`, end)
	}, "the standby does not follow")
	standby.Stop(pgproc.Fast)
	standby.CopySlot(primary, s.env["RELAY_SLOT"])

	p = s.start()
	ahead := numbered("ahead", 200)
	s.insert(ahead...)
	s.settle()
	p.stop()
	before := s.read()
	published := before[len(before)-1]
	primary.Stop(pgproc.Immediate)
	standby.Start()
	copied.Pool.Reset()
	standby.Promote(copied)
	s.db, s.env["RELAY_DATABASE_URL"] = copied, copied.URL
	s.insert("new1", "new2")
	require.Zero(t, pgtest.One[int](s.db, `select count(*) from things where id like 'ahead%'`))

	p = s.launch()
	require.Equal(t, 3, p.exited(arrivesWithin), p.log())
	require.Contains(t, p.log(), "halted (diverged)")
	require.Contains(t, p.log(), "events from there to "+published.header.Get("Relay-Pos")+" are in the stream, but their changes are not in the database")
	require.Len(t, s.readAny(), len(before), "nothing is published on the way")

	p = s.run([]string{"--role=capture", "--accept-gap"})
	p.awaitState(readyWithin, "streaming")
	s.settle()
	p.kill()
	p = s.start() // and not again
	s.insert("new3")
	s.settle()
	all := s.readAny()
	want := []string{"thing.created n/1"}
	for _, id := range append(ahead, "new1", "new2", "new3") {
		want = append(want, "thing.created n/"+id)
	}
	requireSame(s, want, names(all, "n"))
	s.requireDivergence(all, before)
	p.stop()
}

// requireDivergence demands one record behind what was published before, with a range
// that holds exactly what the new server never had, and no id twice.
func (s *stack) requireDivergence(all, before []message) {
	s.t.Helper()
	record := all[len(before)]
	require.Equal(s.t, "relay.control.gap", record.subject)
	var gap struct{ Reason, From, To string }
	require.NoError(s.t, json.Unmarshal(record.body, &gap))
	require.Equal(s.t, "diverged", gap.Reason)
	lsn := func(text string) [2]uint64 {
		var out [2]uint64
		_, err := fmt.Sscanf(text, "%X/%X", &out[0], &out[1])
		require.NoError(s.t, err)
		return out
	}
	from, to := lsn(gap.From), lsn(gap.To)
	ids, within, overlap := map[string]bool{}, []message{}, 0
	for i := range all {
		require.False(s.t, ids[all[i].header.Get("ce-id")])
		ids[all[i].header.Get("ce-id")] = true
		at := lsn(all[i].header.Get("Relay-Pos"))
		inside := slices.Compare(at[:], from[:]) >= 0 && slices.Compare(at[:], to[:]) <= 0
		switch {
		case i < len(before) && inside:
			within = append(within, all[i])
		case i > len(before):
			require.NotEqual(s.t, record.subject, all[i].subject, "the record is there once")
			if inside {
				overlap++
			}
		}
	}
	require.Equal(s.t, names(before, "n")[1:], names(within, "n"), "%s to %s", gap.From, gap.To)
	require.Positive(s.t, overlap, "changes of the new server had positions that were published")
}
