package pgsource_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgsource"
)

func TestTheFactsAreThoseOfTheServer(t *testing.T) {
	c := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"wal_sender_timeout": "7s", "max_slot_wal_keep_size": "96MB"}})
	db := c.New(t)
	db.Exec(`create table a (id text primary key, doc jsonb, n int, twice int generated always as (n * 2) stored);
		create table b (id int, note text); alter table b replica identity full;
		create table p (id int not null, v text) partition by range (id);
		create table p1 partition of p for values from (0) to (10); alter table p1 replica identity full;
		create table p2 partition of p for values from (10) to (20); alter table p2 replica identity nothing;
		create table other (id int)`)
	cfg := config(db)
	cfg.Tables = []relay.TableNeed{{Name: "public.a", OldRows: true}, {Name: "public.b"}, {Name: "public.p", OldRows: true}, {Name: "public.none"}}

	f, err := pgsource.Examine(t.Context(), cfg)
	require.NoError(t, err)
	require.Nil(t, f.Slot)
	require.Nil(t, f.Oldest)
	require.Empty(t, f.Extra)
	require.Equal(t, pgtest.One[int](db, "select current_setting('server_version_num')::int"), f.Version)
	require.Equal(t, []any{"logical", false, "UTF8", 7 * time.Second, int64(96 << 20), time.Duration(0)},
		[]any{f.WALLevel, f.InRecovery, f.Encoding, f.SenderTimeout, f.SlotLimit, f.IdleTimeout})
	require.True(t, f.Superuser && f.Replication && f.SeesAll)
	require.Equal(t, []pgsource.TableFacts{
		{Name: "public.a", OldRows: true, Identity: "d", Key: true, Unlisted: []string{}, Large: []string{"doc"}, Generated: []string{"twice"}},
		{Name: "public.b", Identity: "f", Unlisted: []string{}, Large: []string{"note"}, Generated: []string{}},
		{Name: "public.p", OldRows: true, Identity: "n", Unlisted: []string{}, Large: []string{"v"}, Generated: []string{}},
	}, f.Tables)

	db.Exec("create publication pub for table a (id, doc) , b where (id > 5), other")
	db.Exec("select pg_create_logical_replication_slot($1, 'pgoutput')", cfg.Slot)
	f, err = pgsource.Examine(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, []string{"public.other"}, f.Extra)
	require.Equal(t, 1, f.Slots)
	require.False(t, f.Slot.Active)
	require.Equal(t, "reserved", f.Slot.Status)
	require.Positive(t, f.Slot.Safe)
	require.NotZero(t, f.Slot.Confirmed)
	require.True(t, f.Tables[0].Published && f.Tables[1].Published && !f.Tables[2].Published)
	require.Equal(t, []string{"n"}, f.Tables[0].Unlisted)
	require.True(t, f.Tables[1].Filtered && !f.Tables[0].Filtered)
}

func TestTheFactsNeedNoRights(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	cfg := role(t, db, config(db, "public.t"))
	f, err := pgsource.Examine(t.Context(), cfg)
	require.NoError(t, err)
	require.False(t, f.Superuser || f.Replication || f.SeesAll)
	require.Len(t, f.Tables, 1)
}
