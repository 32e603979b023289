//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/failpoint"
	"github.com/dot-do/relay/internal/pgtest"
)

const parkedSubject = "relay.control.parked"

// parked is a record of a row that could not be mapped.
type parked struct {
	Slot, Table, Op, Position, Reason, Remedy string
	Key                                       map[string]any
}

// parkedRows returns the records in the stream.
func (s *stack) parkedRows(all []message) (out []parked) {
	s.t.Helper()
	for i := range all {
		if all[i].subject != parkedSubject {
			continue
		}
		var r parked
		require.NoError(s.t, json.Unmarshal(all[i].body, &r))
		require.Equal(s.t, s.env["RELAY_SLOT"], r.Slot)
		require.Equal(s.t, all[i].header.Get("Relay-Pos"), r.Position)
		require.NotContains(s.t, string(all[i].body), s.canary)
		out = append(out, r)
	}
	return out
}

// TestARowWhoseMappingPanicsIsParkedAndItsNeighboursFlow panics at one row of many, while
// others write: the stream holds all but that row, and its record once.
func TestARowWhoseMappingPanicsIsParkedAndItsNeighboursFlow(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.start().stop()
	load := s.startLoad(2, 10*time.Millisecond)
	p := s.start("RELAY_FAILPOINTS=" + failpoint.Mapping + "=panic@30")
	s.eventually(arrivesWithin, func() bool { return p.metric("relay_rows_parked_total") == 1 }, "no row was parked")
	load.await(20)
	load.stop()
	s.settle()
	require.True(t, p.alive())
	require.Zero(t, p.metric("relay_session_restarts_total"), "not even the session ends")
	r := p.awaitState(readyWithin, "streaming")
	require.Contains(t, r.Parts["parked"].Reason, "1 row change raised no event")
	require.Contains(t, r.Parts["parked"].Reason, "public.things")
	require.Equal(t, 1, strings.Count(p.log(), "row change parked"))
	require.Contains(t, p.log(), `"stack":"goroutine`)

	all := s.read()
	records := s.parkedRows(all)
	require.Len(t, records, 1)
	require.Equal(t, "public.things", records[0].Table)
	require.Contains(t, records[0].Remedy, "report it")
	want := pgtest.All[string](s.db, `select e from ledger, unnest(events) with ordinality as u (e, i) order by n, i`)
	got := names(all, loadNS)
	at := 0
	for at < len(got) && got[at] == want[at] {
		at++
	}
	event := map[string]string{"insert": "thing.created", "update": "thing.updated"}[records[0].Op]
	lost := fmt.Sprintf("%s %s/%s", event, records[0].Key["ns"], records[0].Key["id"])
	require.True(t, strings.HasPrefix(want[at], lost), "%s is missing, the record says %s", want[at], lost)
	requireSame(s, slices.Delete(want, at, at+1), got)
	p.stop()
}

// TestAParkedRowIsToldOnceOverAKill kills the relay when the record is the end of the
// stream and no checkpoint names it. The next relay reads the row again, and would not
// panic: the record stands for all of its events.
func TestAParkedRowIsToldOnceOverAKill(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.mapTables(rule{table: "things", op: "insert"}) // a second event of each row
	s.start().stop()
	s.db.Exec(`insert into things (ns, id, type, content) select 'n', i, 'Skill', $1 from generate_series(1, 3) i`, s.canary)
	rules := failpoint.Mapping + "=panic@%d " + failpoint.BeforeCheckpoint + "=kill@1"
	p := s.launch("RELAY_FAILPOINTS=" + fmt.Sprintf(rules, 3))
	require.Equal(t, -1, p.exited(arrivesWithin), "it kills itself: %s", p.log())
	want := []string{"thing.created n/1", "things.insert n/1", "thing.created n/2", "things.insert n/2"}
	first := s.read()
	require.Equal(t, want, names(first, "n"))
	require.Equal(t, parkedSubject, first[len(first)-1].subject)

	p = s.start()
	s.insert("4")
	s.settle()
	all := s.read()
	require.Equal(t, append(want, "thing.created n/4", "things.insert n/4"), names(all, "n"), "the neighbours once, and nothing of the row")
	require.Len(t, s.parkedRows(all), 1)
	require.Zero(t, p.metric("relay_rows_parked_total"), "it is not mapped again")
	p.stop()
}

// TestABackfillGoesOnBehindARowThatPanics: the remedy for a parked row does not bring the
// relay down where it does not help yet.
func TestABackfillGoesOnBehindARowThatPanics(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.insert(numbered("old", 20)...)
	p := s.start("RELAY_FAILPOINTS=" + failpoint.Mapping + "=panic@7")
	out := s.command("backfill", "public.things", "--where", "ns = 'n'")
	require.Contains(t, out, "20")
	s.settle()
	all := s.read()
	require.Len(t, names(all, "n"), 19)
	records := s.parkedRows(all)
	require.Len(t, records, 1)
	require.Equal(t, "read", records[0].Op)
	require.NotContains(t, names(all, "n"), "thing.created n/"+records[0].Key["id"].(string))
	require.Zero(t, p.metric("relay_session_restarts_total"))
	p.stop()
}
