package pgstore_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay"
)

func TestACheckpointComesBackAsItWasSaved(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	none, err := s.Load(t.Context(), "relay")
	require.NoError(t, err)
	require.Nil(t, none)

	first := relay.Checkpoint{Slot: "relay", Lineage: "abc"}
	require.NoError(t, s.Save(t.Context(), first))
	got, err := s.Load(t.Context(), "relay")
	require.NoError(t, err)
	require.WithinDuration(t, pgtest.One[time.Time](db, `select now()`), got.SavedAt, time.Minute)
	got.SavedAt = time.Time{}
	require.Equal(t, &first, got)

	full := relay.Checkpoint{
		Slot: "relay", SystemID: "7000000000000000001", Timeline: 3, Lineage: "abc", Confirmed: 0xFFFFFFFF_FFFFFF00,
		Position: relay.Position{CommitLSN: 0x1_16B3748, Ordinal: 4_000_000_000, Index: 2}, Stream: "EVENTS", StreamSeq: 1 << 40, SettledSeq: 1<<40 - 7,
		StreamCreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 678_901_999, time.FixedZone("", 3600)),
	}
	require.NoError(t, s.Save(t.Context(), full))
	require.NoError(t, s.Save(t.Context(), relay.Checkpoint{Slot: "other", Lineage: "xyz"}))
	got, err = s.Load(t.Context(), "relay")
	require.NoError(t, err)
	full.StreamCreatedAt = time.Date(2026, 1, 2, 2, 4, 5, 678_901_000, time.UTC)
	got.SavedAt = time.Time{}
	require.Equal(t, &full, got, "times are kept to the microsecond")

	// A relay that does not know settled_seq moves on and leaves it as it was.
	db.Exec(`update relay_checkpoints set confirmed_lsn = confirmed_lsn + 1, last_seq = last_seq + 5 where slot_name = 'relay'`)
	got, err = s.Load(t.Context(), "relay")
	require.NoError(t, err)
	require.Equal(t, full.StreamSeq+5, got.SettledSeq)
}

func TestCurrentReadsRowsThatCompile(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	c, err := s.Current(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, c.Events, pgtest.One[int](db, `select count(*) from zapier_webhook_events`))
	require.Len(t, c.Mappings, pgtest.One[int](db, `select count(*) from event_mappings`))
	mappings, errs := c.Compile()
	require.Empty(t, errs)
	require.NotEmpty(t, mappings)
}

func TestCurrentReadsInAnExportedSnapshot(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	conn := db.Connect()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Exec(t.Context(), `set transaction isolation level repeatable read`)
	require.NoError(t, err)
	var snapshot string
	require.NoError(t, tx.QueryRow(t.Context(), `select pg_export_snapshot()`).Scan(&snapshot))

	db.Exec(`insert into zapier_webhook_events (event_type, category, description) values ('thing.moved', 'thing', 'Later.')`)
	then, err := s.Current(t.Context(), snapshot)
	require.NoError(t, err)
	require.NotContains(t, then.Events, "thing.moved")
	now, err := s.Current(t.Context(), "")
	require.NoError(t, err)
	require.Contains(t, now.Events, "thing.moved")

	for _, bad := range []string{"' ; drop table x", "00000003-0000001B-1'", "no"} {
		_, err := s.Current(t.Context(), bad)
		require.Error(t, err)
	}
}

func catalog(name string) *relay.Catalog {
	c := relay.NewCatalog()
	c.Events["thing.updated"] = json.RawMessage(`{"event_type": "thing.updated", "description": "` + name + `"}`)
	return c
}

func TestAsOfReturnsTheVersionInForceForACommit(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	none, err := s.AsOf(t.Context(), "relay", 100)
	require.NoError(t, err)
	require.Nil(t, none)

	for _, at := range []relay.LSN{100, 200, 300} {
		require.NoError(t, s.SaveAsOf(t.Context(), "relay", at, catalog(at.String()), 0))
		require.NoError(t, s.SaveAsOf(t.Context(), "other", at+1, catalog("other"), 0))
	}
	for at, want := range map[relay.LSN]relay.LSN{101: 100, 200: 100, 201: 200, 300: 200, 301: 300, 1 << 40: 300} {
		got, err := s.AsOf(t.Context(), "relay", at)
		require.NoError(t, err)
		require.Equal(t, catalog(want.String()), got, "at %s", at)
	}
	none, err = s.AsOf(t.Context(), "relay", 100)
	require.NoError(t, err)
	require.Nil(t, none, "a version is in force after its own commit only")
}

func TestSaveAsOfForgetsTheVersionsOfLaterCommits(t *testing.T) {
	s := open(t, newDB(t))
	for _, at := range []relay.LSN{100, 200, 300} {
		require.NoError(t, s.SaveAsOf(t.Context(), "relay", at, catalog(at.String()), 0))
	}
	require.NoError(t, s.SaveAsOf(t.Context(), "relay", 150, catalog("anew"), 0))
	got, err := s.AsOf(t.Context(), "relay", 1000)
	require.NoError(t, err)
	require.Equal(t, catalog("anew"), got)
}

func TestSaveAsOfForgetsOnlyWhatNoReplayNeeds(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	for _, at := range []relay.LSN{100, 200, 300} {
		require.NoError(t, s.SaveAsOf(t.Context(), "relay", at, catalog(at.String()), 0))
	}
	require.NoError(t, s.SaveAsOf(t.Context(), "other", 50, catalog("other"), 0))
	left := func() []string {
		return pgtest.All[string](db, `select v.lsn::text from relay_catalog_versions v where slot_name = 'relay' order by v.lsn`)
	}
	require.NoError(t, s.SaveAsOf(t.Context(), "relay", 400, catalog("400"), 200))
	require.Equal(t, []string{"0/64", "0/C8", "0/12C", "0/190"}, left(), "commits from 200 on are mapped by the version of 100")
	require.NoError(t, s.SaveAsOf(t.Context(), "relay", 400, catalog("again"), 301))
	require.Equal(t, []string{"0/12C", "0/190"}, left())
	got, err := s.AsOf(t.Context(), "relay", 500)
	require.NoError(t, err)
	require.Equal(t, catalog("again"), got)
	require.Equal(t, 1, pgtest.One[int](db, `select count(*) from relay_catalog_versions where slot_name = 'other'`))
}

func TestUnpublishedAreTablesThatCouldBeAndAreNot(t *testing.T) {
	db := newDB(t)
	store := open(t, db)
	db.Exec(`create table a (id int); create table b (id int) partition by range (id); create table b1 partition of b for values from (0) to (9);
		create view v as select 1; create unlogged table u (id int); create schema "S p"; create table "S p"."T.t" (id int);
		create table a_child (id int); create materialized view m as select 1`)
	tables := []string{"public.a", "public.b", "public.b1", "public.v", "public.u", "public.m", "S p.T.t", "public.none", "pg_catalog.pg_class"}
	unpublished := func() []string {
		found, err := store.Unpublished(t.Context(), "pub", tables)
		require.NoError(t, err)
		return found
	}
	require.ElementsMatch(t, []string{"public.a", "public.b", "public.b1", "S p.T.t"}, unpublished(), "there is no publication")
	db.Exec(`create publication pub for table a, b; create publication other for all tables`)
	require.ElementsMatch(t, []string{"S p.T.t"}, unpublished(), "a partition is in with its table")
	db.Exec(`drop table a; create table a (id int)`)
	require.ElementsMatch(t, []string{"public.a", "S p.T.t"}, unpublished())
	db.Exec(`drop publication pub; create publication pub for tables in schema "S p", public`)
	require.Empty(t, unpublished())
	db.Exec(`drop publication pub; create publication pub for all tables`)
	require.Empty(t, unpublished())
}

func TestWhatIsCommittedAfterAPositionWasReadStandsBehindIt(t *testing.T) {
	db := newDB(t)
	store := open(t, db)
	before, err := store.WALPosition(t.Context())
	require.NoError(t, err)
	db.Exec(`create table a (id int)`)
	after, err := store.WALPosition(t.Context())
	require.NoError(t, err)
	require.Less(t, before, after)
	require.True(t, pgtest.One[bool](db, `select $1::pg_lsn <= pg_current_wal_insert_lsn()`, after.String()))
}
