package pgsource_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay"
)

func TestEveryRowChangeIsYieldedWithItsImages(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key, v text); create table other (id int)")
	src := start(t, config(db, "public.t"))

	before := time.Now().Add(-time.Minute)
	db.Exec(`insert into t values (1, 'one'), (2, null), (3, '')`)
	db.Exec(`insert into other values (1)`)
	db.Exec(`update t set v = 'two' where id = 2`)
	db.Exec(`begin; delete from t where id = 3; update t set id = 4 where id = 1; commit`)
	db.Exec(`truncate t`)

	rows := read(t, src, 7)
	require.Equal(t, []string{
		"insert t new(1,one)", "insert t new(2,NULL)", "insert t new(3,)",
		"update t old(2,NULL) new(2,two)",
		"delete t old(3,)", "update t old(1,one) new(4,one)",
		"truncate t",
	}, texts(rows))

	var ordinals []uint32
	for i, r := range rows {
		ordinals = append(ordinals, r.Position.Ordinal)
		require.Zero(t, r.Position.Index)
		require.NotZero(t, r.XID)
		require.WithinRange(t, r.CommitTime, before, time.Now().Add(time.Minute))
		require.Equal(t, time.UTC, r.CommitTime.Location())
		require.Greater(t, r.Commit, r.Position.CommitLSN)
		if i > 0 {
			require.Positive(t, r.Position.Compare(rows[i-1].Position))
		}
	}
	require.Equal(t, []uint32{0, 1, 2, 0, 0, 1, 0}, ordinals)

	rel := rows[0].Relation
	require.Equal(t, "public.t", rel.FullName())
	require.EqualValues(t, relay.IdentityFull, rel.ReplicaIdentity)
	require.Equal(t, []string{"id", "v"}, []string{rel.Columns[0].Name, rel.Columns[1].Name})
	require.True(t, rel.Columns[0].Key, "under FULL the primary key is still the key")
	require.False(t, rel.Columns[1].Key)
}

func TestARolledBackSavepointTakesNoOrdinal(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	src := start(t, config(db, "public.t"))
	db.Exec(`begin; insert into t values (1); rollback`)
	db.Exec(`begin; insert into t values (2); savepoint s; insert into t values (3); rollback to s; insert into t values (4); release s; commit`)
	rows := read(t, src, 2)
	require.Equal(t, []string{"insert t new(2)", "insert t new(4)"}, texts(rows))
	require.Equal(t, []uint32{0, 1}, []uint32{rows[0].Position.Ordinal, rows[1].Position.Ordinal})
	require.Equal(t, rows[0].XID, rows[1].XID)
}

func TestATruncateOfSeveralTablesIsOneChangeForEach(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table a (id int primary key); create table b (id int primary key)")
	src := start(t, config(db, "public.a", "public.b"))
	db.Exec("begin; truncate a, b; insert into a values (1); commit")
	rows := read(t, src, 3)
	require.ElementsMatch(t, []string{"truncate a", "truncate b"}, texts(rows[:2]))
	require.Equal(t, "insert a new(1)", text(rows[2].Change))
	require.EqualValues(t, 2, rows[2].Position.Ordinal)
}

func TestLogicalMessagesAreSkippedAndTakeNoOrdinal(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	src := start(t, config(db, "public.t"))
	db.Exec(`begin; select pg_logical_emit_message(true, 'p', 'in'); insert into t values (1);
		select pg_logical_emit_message(false, 'p', 'beside'); select pg_logical_emit_message(true, 'p', 'in'); insert into t values (2); commit`)
	db.Exec(`select pg_logical_emit_message(false, 'p', 'alone')`)
	db.Exec(`select pg_logical_emit_message(true, 'p', 'alone')`)
	db.Exec(`insert into t values (3)`)
	rows := read(t, src, 3)
	require.Equal(t, []uint32{0, 1, 0}, []uint32{rows[0].Position.Ordinal, rows[1].Position.Ordinal, rows[2].Position.Ordinal})
	require.Zero(t, src.Skipped())
}

func TestAnUntouchedLargeValueIsTakenFromTheOldRowOrUnknown(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(`create table f (id int primary key, n int, big text); create table d (id int primary key, n int, big text);
		alter table f alter big set storage external; alter table d alter big set storage external`)
	cfg := config(db, "public.f")
	cfg.Tables = append(cfg.Tables, relay.TableNeed{Name: "public.d"})
	src := start(t, cfg)
	for _, name := range []string{"f", "d"} {
		db.Exec(fmt.Sprintf(`insert into %[1]s values (1, 1, repeat('x', 9000)); `, name))
		db.Exec(fmt.Sprintf(`update %s set n = 2`, name))
		db.Exec(fmt.Sprintf(`update %s set big = null`, name))
	}
	require.Equal(t, []string{
		"insert f new(1,1,9000 bytes)",
		"update f old(1,1,9000 bytes) new(1,2,9000 bytes)",
		"update f old(1,2,9000 bytes) new(1,2,NULL)",
		"insert d new(1,1,9000 bytes)",
		"update d new(1,2,?)",
		"update d new(1,2,NULL)",
	}, texts(read(t, src, 6)))
}

func TestUnderTheDefaultIdentityOldRowsKnowOnlyTheKey(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (a int, b int, c text, d text, primary key (b, a))")
	cfg := config(db)
	cfg.Tables = []relay.TableNeed{{Name: "public.t"}}
	src := start(t, cfg)
	db.Exec("insert into t values (1, 2, null, 'd')")
	db.Exec("update t set c = 'c'")
	db.Exec("update t set b = 3")
	db.Exec("delete from t")
	rows := read(t, src, 4)
	require.Equal(t, []string{
		"insert t new(1,2,NULL,d)", "update t new(1,2,c,d)", "update t old(1,2,?,?) new(1,3,c,d)", "delete t old(1,3,?,?)",
	}, texts(rows))
	require.EqualValues(t, relay.IdentityDefault, rows[0].Relation.ReplicaIdentity)
	var keys []bool
	for _, c := range rows[0].Relation.Columns {
		keys = append(keys, c.Key)
	}
	require.Equal(t, []bool{true, true, false, false}, keys)
}

func TestTheKeyOfATableWithoutPrimaryKeyIsItsIdentityIndex(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(`create table t (a int, b int not null, c int); create unique index i on t (b) include (c); alter table t replica identity using index i`)
	cfg := config(db)
	cfg.Tables = []relay.TableNeed{{Name: "public.t"}}
	src := start(t, cfg)
	db.Exec("insert into t values (1, 2, 3)")
	db.Exec("delete from t")
	rows := read(t, src, 2)
	require.Equal(t, []string{"insert t new(1,2,3)", "delete t old(?,2,?)"}, texts(rows))
	require.EqualValues(t, relay.IdentityIndex, rows[0].Relation.ReplicaIdentity)
	require.Equal(t, []bool{false, true, false}, []bool{rows[0].Relation.Columns[0].Key, rows[0].Relation.Columns[1].Key, rows[0].Relation.Columns[2].Key})
}

func TestTypesAreResolvedDownToScalars(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(`create type mood as enum ('sad', 'ok');
		create domain percent as int check (value between 0 and 100);
		create domain tags as text[];
		create type point3 as (x int, "Y y" numeric, gone int, m mood[]);
		alter type point3 drop attribute gone;
		create type segment as (a point3, b point3[]);
		create table t (id int primary key, m mood, p percent, ps percent[], g tags, l segment, b box[], v int2vector, r int4range, aa int[][])`)
	src := start(t, config(db, "public.t"))
	db.Exec(`insert into t values (1, 'ok', 5, '{1,2}', '{a,b}', row(row(1, 2.5, '{sad}'), array[row(3, 4, null)::point3])::segment, '{(1,1),(0,0);(2,2),(1,1)}', '1 2', '[1,3)', '{{1,2}}')`)
	r := read(t, src, 1)[0]
	require.Contains(t, text(r.Change), `insert t new(1,ok,5,{1,2},{a,b},("(1,2.5,{sad})",`)

	var shapes []string
	for _, c := range r.Relation.Columns[1:] {
		shapes = append(shapes, c.Name+" "+shape(c.Type))
	}
	require.Equal(t, []string{
		"m scalar", "p scalar", "ps [scalar,]", "g [scalar,]",
		"l (a (x scalar Y y scalar m [scalar,]) b [(x scalar Y y scalar m [scalar,]),])",
		"b [scalar;]", "v scalar", "r scalar", "aa [scalar,]",
	}, shapes)
	require.EqualValues(t, 23, r.Relation.Columns[2].Type.OID, "a domain is its base type")
	require.EqualValues(t, 23, r.Relation.Columns[3].Type.Elem.OID)
	require.EqualValues(t, 1007, r.Relation.Columns[9].Type.OID)
}

func shape(t *relay.Type) string {
	switch t.Kind {
	case relay.Array:
		return "[" + shape(t.Elem) + string(t.Delim) + "]"
	case relay.Composite:
		var fs []string
		for _, f := range t.Fields {
			fs = append(fs, f.Name+" "+shape(f.Type))
		}
		return "(" + strings.Join(fs, " ") + ")"
	}
	return "scalar"
}

func TestTheTextFormOfValuesDoesNotDependOnTheRole(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(fmt.Sprintf(`alter database %s set datestyle = 'German'; alter database %[1]s set timezone = 'Asia/Tokyo';
		alter database %[1]s set intervalstyle = 'sql_standard'; alter database %[1]s set bytea_output = 'escape';
		alter database %[1]s set extra_float_digits = -5`, db.Name))
	db.Exec(`create table t (id int primary key, ts timestamptz, d date, i interval, b bytea, f float8)`)
	src := start(t, config(db, "public.t"))
	db.Exec(`insert into t values (1, '2026-11-23 10:00:00.5+00', '2026-11-23', '1 day 02:03:04', '\x00ff', 0.1::float8 + 0.2)`)
	require.Equal(t, `insert t new(1,2026-11-23 10:00:00.5+00,2026-11-23,1 day 02:03:04,\x00ff,0.30000000000000004)`, text(read(t, src, 1)[0].Change))
}

func TestColumnsAddedAndDroppedMidStreamDescribeTheRelationAnew(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key, a text)")
	src := start(t, config(db, "public.t"))
	db.Exec("insert into t values (1, 'a')")
	first := read(t, src, 1)[0]
	db.Exec("alter table t add column n int default 7")
	db.Exec("update t set a = 'b'")
	db.Exec("alter table t drop column a")
	db.Exec("delete from t")
	db.Exec("drop table t")
	rows := read(t, src, 2)
	require.Equal(t, []string{"update t old(1,a,7) new(1,b,7)", "delete t old(1,7)"}, texts(rows))
	require.Len(t, first.Relation.Columns, 2, "a relation that was handed out never changes")
	require.Len(t, rows[0].Relation.Columns, 3)
	require.Equal(t, "n", rows[1].Relation.Columns[1].Name)
}

func TestPartitionsAppearUnderTheNameOfTheirTable(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(`create table t (id int, k int, v text, primary key (id, k)) partition by range (k);
		create table t_low partition of t for values from (0) to (10);
		create table t_high (v text, k int not null, id int not null);
		alter table t attach partition t_high for values from (10) to (20)`)
	src := start(t, config(db, "public.t"))
	db.Exec("insert into t values (1, 1, 'a'), (2, 12, 'b')")
	db.Exec("update t set v = 'c' where k = 12")
	db.Exec("delete from t where k = 1")
	rows := read(t, src, 4)
	require.Equal(t, []string{"insert t new(1,1,a)", "insert t new(2,12,b)", "update t old(2,12,b) new(2,12,c)", "delete t old(1,1,a)"}, texts(rows))

	// A partition that came later has an identity of its own.
	db.Exec("create table t_new partition of t for values from (20) to (30)")
	db.Exec("insert into t values (3, 21, 'x')")
	db.Exec("delete from t where k = 21")
	rows = read(t, src, 2)
	require.Equal(t, "delete t old(3,21,?)", text(rows[1].Change), "a column outside the key is unknown, not null")
	dormant, err := src.EnsureTables(t.Context(), []relay.TableNeed{{Name: "public.t", OldRows: true}})
	require.NoError(t, err)
	require.Empty(t, dormant)
	db.Exec("insert into t values (3, 21, 'x')")
	db.Exec("delete from t where k = 21")
	require.Equal(t, "delete t old(3,21,x)", text(read(t, src, 2)[1].Change))
}

func TestNullsOfAPartitionsKeyOnlyRowAreNotTakenForValues(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(`create table t (id int, a text, b text) partition by list (id);
		create table t_full partition of t for values in (1);
		create table t_key partition of t for values in (2);
		alter table t_key add primary key (id)`)
	src := start(t, config(db, "public.t"))
	db.Exec("alter table t_key replica identity default; alter table t add column c int") // described anew
	db.Exec("insert into t values (1, 'a'), (2, 'a')")
	db.Exec("update t set id = 2 where id = 3")
	db.Exec("delete from t where id = 1")
	db.Exec("delete from t where id = 2")
	rows := read(t, src, 4)
	require.Equal(t, []string{"delete t old(1,a,?,?)", "delete t old(2,?,?,?)"}, texts(rows[2:]))

	db.Exec("alter table t_key replica identity full; alter table t add column d int")
	db.Exec("insert into t values (2, 'a')")
	db.Exec("delete from t where id = 2")
	require.Equal(t, "delete t old(2,a,NULL,NULL,NULL)", text(read(t, src, 2)[1].Change))
}

func TestALargeTransactionComesInBoundedBatches(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key, v text)")
	cfg := config(db, "public.t")
	cfg.BatchChanges, cfg.BatchBytes = 100, 64<<10
	src := start(t, cfg)
	const n = 20_000
	db.Exec(`insert into t select i, repeat('x', 100) from generate_series(1, $1) i`, n)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var next uint32
	for next < n {
		b, err := src.Next(ctx)
		require.NoError(t, err)
		require.LessOrEqual(t, len(b.Changes), 100)
		for _, c := range b.Changes {
			require.Equal(t, next, c.Position.Ordinal)
			require.Equal(t, fmt.Sprint(next+1), string(c.New[0].Data))
			next++
		}
		if len(b.Changes) > 0 && next < n {
			require.True(t, b.Open)
			require.True(t, b.More)
			// What an idle server reported before may come along.
			require.Less(t, b.Commit, b.Changes[0].Position.CommitLSN, "only a transaction's last batch carries its commit")
		}
		if next == n && b.Open {
			b.Release()
			b, err = src.Next(ctx)
			require.NoError(t, err)
			require.Empty(t, b.Changes)
		}
		if next == n {
			require.False(t, b.Open)
			require.NotZero(t, b.Commit)
		}
		b.Release()
	}
}

func TestARowLargerThanABatchTravelsInOne(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key, v text)")
	cfg := config(db, "public.t")
	cfg.BatchBytes = 64 << 10
	src := start(t, cfg)
	db.Exec(`insert into t select i, repeat(i::text, 5000000) from generate_series(1, 5) i`)
	db.Exec(`update t set v = 'small' where id = 3`)
	rows := read(t, src, 6)
	for i, r := range rows[:5] {
		require.Equal(t, strings.Repeat(fmt.Sprint(i+1), 5000000), string(r.New[1].Data))
	}
	require.Equal(t, "update t old(3,5000000 bytes) new(3,small)", text(rows[5].Change))
}

func TestABacklogOfSmallTransactionsIsCoalesced(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	src := open(t, config(db, "public.t"))
	db.Exec(`do $$ begin for i in 1..3000 loop insert into t values (i); commit; end loop; end $$`)
	require.NoError(t, src.Start(t.Context()))

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	work := time.NewTicker(5 * time.Millisecond)
	defer work.Stop()
	batches, rows := 0, 0
	for rows < 3000 {
		b, err := src.Next(ctx)
		require.NoError(t, err)
		if len(b.Changes) > 0 {
			batches++
		}
		rows += len(b.Changes)
		last := len(b.Changes) - 1
		require.True(t, b.Open || b.Commit > b.Changes[last].Position.CommitLSN)
		b.Release()
		<-work.C // a consumer with something to do
	}
	require.Less(t, batches, 100)
}

func TestASingleChangeArrivesPromptly(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	src := start(t, config(db, "public.t"))
	best := time.Hour
	for i := range 10 {
		began := time.Now()
		db.Exec("insert into t values ($1)", i)
		read(t, src, 1)
		best = min(best, time.Since(began))
	}
	require.Less(t, best, 100*time.Millisecond)
}
