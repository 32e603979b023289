package pgstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
)

func key(parts ...string) relay.ChunkRow { return relay.ChunkRow{Key: parts} }

func requested(t *testing.T, s *pgstore.Store) *relay.Backfill {
	t.Helper()
	_, err := s.RequestBackfill(t.Context(), relay.Backfill{Slot: "relay", Table: "public.things", Where: "a > 1", EventType: "thing.created", Rate: 5})
	require.NoError(t, err)
	b, err := s.NextBackfill(t.Context(), "relay", nil)
	require.NoError(t, err)
	return b
}

func TestABackfillComesBackAsItWasLeft(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	b := requested(t, s)
	require.Equal(t, relay.BackfillQueued, b.State)
	require.Equal(t, "a > 1", b.Where)
	none, err := s.NextBackfill(t.Context(), "other", nil)
	require.NoError(t, err)
	require.Nil(t, none)

	b.Key, b.Estimated = []string{"ns", "id"}, 77
	barrier, err := s.ClaimBackfill(t.Context(), b, "me")
	require.NoError(t, err)
	take := relay.Chunk{Number: barrier + 1, Rows: []relay.ChunkRow{key("a", `"\`), key("", "ü")}}
	require.NoError(t, s.AdvanceBackfill(t.Context(), b.ID, "me", relay.Step{Take: &take, Cursor: relay.RowKey{"", "ü"}, Done: relay.Progress{Rows: 2}}))
	take.Redo, take.Rows[0] = []relay.ChunkRow{{Key: take.Rows[0].Key, Tries: 1}}, relay.ChunkRow{}
	require.NoError(t, s.SaveChunk(t.Context(), b.ID, "me", take))
	chunks, err := s.Chunks(t.Context(), b.ID)
	require.NoError(t, err)
	require.Equal(t, []relay.Chunk{{Number: barrier, Rows: []relay.ChunkRow{}, Redo: []relay.ChunkRow{}}, take}, chunks)

	again := relay.Chunk{Number: barrier + 2, Rows: take.Redo}
	step := relay.Step{Take: &again, Redo: &relay.Chunk{Number: take.Number}, Settled: []int64{barrier}, Done: relay.Progress{Published: 1, Overtaken: 2, Events: 3}}
	require.NoError(t, s.AdvanceBackfill(t.Context(), b.ID, "me", step))
	chunks, err = s.Chunks(t.Context(), b.ID)
	require.NoError(t, err)
	require.Len(t, chunks, 2)
	require.Empty(t, chunks[0].Redo)
	require.Equal(t, again.Rows, chunks[1].Rows)

	other, err := s.NextBackfill(t.Context(), "relay", []string{b.ID})
	require.NoError(t, err)
	require.Nil(t, other, "there is no other one")
	got, err := s.NextBackfill(t.Context(), "relay", nil)
	require.NoError(t, err)
	require.Equal(t, relay.RowKey{"", "ü"}, got.Cursor)
	require.Equal(t, []string{"ns", "id"}, got.Key)
	require.Equal(t, again.Number, got.Chunk)
	require.Equal(t, relay.Progress{Rows: 2, Published: 1, Overtaken: 2, Events: 3}, got.Progress)
	require.NoError(t, s.FinishBackfill(t.Context(), b.ID, "me", relay.BackfillDone, "", relay.Progress{Events: 1}))
	left, err := s.NextBackfill(t.Context(), "relay", nil)
	require.NoError(t, err)
	require.Equal(t, relay.BackfillDone, left.State, "until its chunks are forgotten")
	require.NoError(t, s.ForgetChunks(t.Context(), b.ID, "somebody else", []int64{take.Number, again.Number}))
	require.Equal(t, 2, pgtest.One[int](db, `select count(*) from relay_backfill_chunks`))
	require.NoError(t, s.ForgetChunks(t.Context(), b.ID, "me", []int64{take.Number, again.Number}))
	left, err = s.NextBackfill(t.Context(), "relay", nil)
	require.NoError(t, err)
	require.Nil(t, left)
	require.Equal(t, 4, pgtest.One[int](db, `select events from relay_backfills where state = 'done' and finished_at is not null`))
}

func TestOnlyTheOwnerOfARunningBackfillAdvancesIt(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	b := requested(t, s)
	number, err := s.ClaimBackfill(t.Context(), b, "first")
	require.NoError(t, err)
	step := func(n int64) relay.Step {
		return relay.Step{Take: &relay.Chunk{Number: n, Rows: []relay.ChunkRow{key("1"), key("2")}}}
	}
	require.NoError(t, s.AdvanceBackfill(t.Context(), b.ID, "first", step(number+1)))
	second, err := s.ClaimBackfill(t.Context(), b, "second")
	require.NoError(t, err)
	require.Equal(t, number+2, second)
	require.ErrorIs(t, s.AdvanceBackfill(t.Context(), b.ID, "first", step(second+1)), relay.ErrBackfillStopped)
	require.ErrorIs(t, s.FinishBackfill(t.Context(), b.ID, "first", relay.BackfillDone, "", relay.Progress{}), relay.ErrBackfillStopped)
	require.NoError(t, s.AdvanceBackfill(t.Context(), b.ID, "second", step(second+1)))

	// A chunk that is found to be whole costs nobody anything; one that is not, does.
	require.NoError(t, s.SplitChunk(t.Context(), b.ID, number+1, func(*relay.Chunk) bool { return false }))
	require.NoError(t, s.SplitChunk(t.Context(), b.ID, 999, func(*relay.Chunk) bool { panic("there is none") }))
	require.NoError(t, s.AdvanceBackfill(t.Context(), b.ID, "second", step(second+2)))
	require.NoError(t, s.SplitChunk(t.Context(), b.ID, number+1, func(c *relay.Chunk) bool {
		c.Redo, c.Rows = c.Rows[1:], c.Rows[:1]
		return true
	}))
	require.ErrorIs(t, s.AdvanceBackfill(t.Context(), b.ID, "second", step(second+3)), relay.ErrBackfillStopped)

	require.ErrorIs(t, s.SaveChunk(t.Context(), b.ID, "second", relay.Chunk{Number: number + 1}), relay.ErrBackfillStopped)

	row, err := s.CancelBackfill(t.Context(), "relay", b.ID)
	require.NoError(t, err)
	require.Equal(t, relay.BackfillCancelled, row.State)
	_, err = s.ClaimBackfill(t.Context(), b, "third")
	require.ErrorIs(t, err, relay.ErrBackfillStopped)
	require.ErrorIs(t, s.NoteBackfill(t.Context(), b.ID, "x"), relay.ErrBackfillStopped)
	require.Zero(t, pgtest.One[int](db, `select count(*) from relay_backfill_chunks`))
}

func TestAnInitialSnapshotIsRequestedOnceForEveryTableThatExists(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	for range 2 {
		require.NoError(t, s.RequestSnapshot(t.Context(), "relay", []string{"public.users", "public.nothing", "public.accounts"}))
	}
	require.Equal(t, []string{"public.accounts", "public.users"}, pgtest.All[string](db, `select source_table from relay_backfills order by 1`))
	b, err := s.NextBackfill(t.Context(), "relay", nil)
	require.NoError(t, err)
	_, err = s.ClaimBackfill(t.Context(), b, "me")
	require.NoError(t, err)
	require.NoError(t, s.FailBackfills(t.Context(), "relay", "a gap"))
	require.Equal(t, []string{"failed", "queued"}, pgtest.All[string](db, `select state from relay_backfills order by 1`))
}
