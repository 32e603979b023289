package pgstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
	"github.com/dot-do/relay/relay/relaytest"
)

func TestParkedEventsAreKeptAsEveryParkingPromises(t *testing.T) {
	relaytest.ParkingSuite(t, func(t *testing.T) relaytest.ParkingFixture {
		s := open(t, newDB(t))
		read := func(q pgstore.ParkedQuery) []pgstore.Parked {
			rows, err := s.ParkedEvents(t.Context(), q, relay.Position{}, 100)
			require.NoError(t, err)
			return rows
		}
		return relaytest.ParkingFixture{
			Parking: s,
			Parked: func(slot string) (out []relay.ParkedEvent) {
				for _, row := range read(pgstore.ParkedQuery{Slot: slot}) {
					out = append(out, row.ParkedEvent)
				}
				return out
			},
			Release: func(slot, id string) {
				n, err := s.Release(t.Context(), slot, read(pgstore.ParkedQuery{Slot: slot, IDs: []string{id}}), "ada")
				require.NoError(t, err)
				require.EqualValues(t, 1, n)
			},
		}
	})
}

func TestParkedEventsAreFoundByTypeAndIDAndPageByPage(t *testing.T) {
	db := newDB(t)
	s, ctx := open(t, db), t.Context()
	event := func(id, eventType string, commit relay.LSN) relay.ParkedEvent {
		return relay.ParkedEvent{ID: id, Type: eventType, Position: relay.Position{CommitLSN: commit}, Lineage: "l", Table: "public.t", Body: []byte(`{}`), Reason: "r"}
	}
	require.NoError(t, s.Park(ctx, "relay", []relay.ParkedEvent{event("e1", "a.b", 1), event("e2", "a.c", 2), event("e3", "a.b", 3), event("e4", "a.b", 4)}))
	ids := func(q pgstore.ParkedQuery, after relay.LSN, limit int) (out []string) {
		q.Slot = "relay"
		rows, err := s.ParkedEvents(ctx, q, relay.Position{CommitLSN: after}, limit)
		require.NoError(t, err)
		for _, row := range rows {
			require.False(t, row.ParkedAt.IsZero())
			out = append(out, row.ID)
		}
		return out
	}
	require.Equal(t, []string{"e1", "e2"}, ids(pgstore.ParkedQuery{}, 0, 2))
	require.Equal(t, []string{"e3", "e4"}, ids(pgstore.ParkedQuery{}, 2, 2))
	require.Equal(t, []string{"e1", "e3", "e4"}, ids(pgstore.ParkedQuery{EventType: "a.b"}, 0, 9))
	require.Equal(t, []string{"e2", "e4"}, ids(pgstore.ParkedQuery{IDs: []string{"e4", "e2", "e9"}}, 0, 9))
	counts, err := s.CountParked(ctx, pgstore.ParkedQuery{Slot: "relay"})
	require.NoError(t, err)
	require.Len(t, counts, 2)
	require.Equal(t, [2]any{"a.b", int64(3)}, [2]any{counts[0].EventType, counts[0].Events})

	all, err := s.ParkedEvents(ctx, pgstore.ParkedQuery{Slot: "relay"}, relay.Position{}, 9)
	require.NoError(t, err)
	n, err := s.Release(ctx, "relay", all[1:3], "ada")
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
	n, err = s.Release(ctx, "relay", all, "bea")
	require.NoError(t, err)
	require.EqualValues(t, 2, n, "those that wait")
	require.Equal(t, []string{"e1 bea", "e2 ada", "e3 ada", "e4 bea"}, pgtest.All[string](db, `select event_id || ' ' || released_by from relay_parked_events order by 1`))
}

func TestASweepTakesReleasedEventsAndLeavesThoseThatWait(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	db.Exec(`insert into relay_parked_events (slot_name, event_id, event_type, commit_lsn, ordinal, event_index, lineage, source_table, occurred_at, body, reason, parked_at, released_at)
		select 'relay', id, 'a.b', '0/1', 0, 0, 'l', 't', now(), '{}', 'r', now() - interval '9 days', released
		from (values ('waits', null::timestamptz), ('old', now() - interval '8 days'), ('new', now() - interval '6 days')) as v (id, released)`)
	did, err := s.SweepLogs(t.Context(), 0)
	require.NoError(t, err)
	require.Zero(t, did.Released)
	did, err = s.SweepLogs(t.Context(), 7)
	require.NoError(t, err)
	require.EqualValues(t, 1, did.Released)
	require.Equal(t, []string{"new", "waits"}, pgtest.All[string](db, `select event_id from relay_parked_events order by 1`))
}
