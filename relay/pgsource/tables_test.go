package pgsource_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgsource"
)

func tables(t *testing.T, cfg pgsource.Config) *pgsource.Tables {
	t.Helper()
	out, err := pgsource.OpenTables(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(out.Close)
	return out
}

// walk reads a table in chunks of n rows to its end.
func walk(t *testing.T, from *pgsource.Tables, q relay.ChunkQuery) (all []relay.Tuple, keys []relay.RowKey, rel *relay.Relation) {
	t.Helper()
	for {
		chunk, err := from.Read(t.Context(), q)
		require.NoError(t, err)
		all, keys = append(all, chunk.Rows...), append(keys, chunk.Keys...)
		if rel = chunk.Relation; !chunk.More {
			return all, keys, rel
		}
		require.NotEmpty(t, chunk.Rows)
		q.After = chunk.Keys[len(chunk.Keys)-1]
	}
}

// The rows are written, read back, and written again without a change: the log then
// carries what was read.
func TestARowIsReadInTheFormInWhichTheLogCarriesIt(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]string{
		"scalars": `
			create table t (id bigint primary key, b bool, n numeric, r real, d float8, m money, c char(5), v varchar(5), x bytea,
			    da date, ti time, tz timestamptz, ts timestamp, i interval, u uuid, j json, jb jsonb, ip inet, po point, tv tsvector, xm xml, bi bit(3));
			insert into t values
			    (1, true, 'NaN', 1.1, 0.1, 12.5, 'a', 'b', '\x00ff', 'infinity', '12:00', 'infinity', '-infinity', '1 year 2 days -3 hours',
			     'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a" : 1.50}', '{"a" : 1.50}', '10.0.0.1/8', '(1,2)', 'a b', '<a/>', '101'),
			    (2, null, 12345678901234567890.12345678901234567890, 3.4e38, 1e-307, null, null, '', '', '2020-02-29', null,
			     '2020-01-01 12:00+02', '2020-01-01', '0', null, 'null', '[]', null, null, null, null, null)`,
		"nested": `
			create type mood as enum ('ok', 'so so'); create type pair as (a int, b text); create domain small as int check (value < 100);
			create table t (id mood primary key, a int[], b text[][], p pair, ps pair[], s small, r int4range);
			insert into t values ('so so', '{1,null}', '{{a,"b c"},{"\"",null}}', '(1,"x y")', '{"(1,a)",null}', 5, '[1,5)'), ('ok', '{}', null, null, null, null, 'empty')`,
		"a key of several types, out of the columns' order": `
			create table t (v text, at timestamptz, f float8, name text, c char(8), u uuid, primary key (c, f, at, name));
			insert into t select i, '2020-01-01'::timestamptz + i % 3 * interval '1.5 s', i / 3.0, case i % 4 when 0 then '' when 1 then '"\' else 'ö,{' || i end,
			    'k' || i % 2, gen_random_uuid() from generate_series(1, 40) i`,
		"an identity index in the place of a primary key": `
			create table t (a int not null, b text not null, id serial primary key);
			create unique index t_ab on t (b, a); alter table t replica identity using index t_ab;
			insert into t select i, 'x' || i % 5 from generate_series(1, 20) i`,
		"a unique index where old rows are whole": `
			create table t (a int, b bytea not null unique); insert into t select i, decode(lpad(to_hex(i * 97), 8, '0'), 'hex') from generate_series(1, 20) i`,
		"a partitioned table": `
			create table t (id int, k text, v text, primary key (k, id)) partition by list (k);
			create table t_a partition of t for values in ('a'); create table t_b (v text, k text not null, id int not null);
			alter table t attach partition t_b for values in ('b');
			insert into t select i, case when i % 2 = 0 then 'a' else 'b' end, repeat('x', i) from generate_series(1, 20) i`,
		"generated and dropped columns": `
			create table t (id int primary key, gone int, v int, g int generated always as (v * 2) stored, "odd ""name" text);
			alter table t drop column gone; insert into t (id, v) select i, i from generate_series(1, 5) i`,
		"names of other things": `
			create table t (id int primary key, rel regclass, typ regtype, fn regprocedure);
			create type mood as enum ('ok'); insert into t values (1, 't', 'mood', 'lower(text)'), (2, 'pg_class', 'int', null)`,
		"large values": `create table t (id int primary key, v text); insert into t select i, repeat(md5(i::text), 200000 / i) from generate_series(1, 6) i`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			db.Exec(setup)
			cfg := config(db, "public.t")
			src := start(t, cfg)
			rows, keys, rel := walk(t, tables(t, cfg), relay.ChunkQuery{Table: "public.t", Limit: 3, Bytes: 300_000})
			n := pgtest.One[int](db, `select count(*) from t`)
			require.Len(t, rows, n)

			const column = `select attname::text from pg_attribute where attrelid = 't'::regclass and attnum > 0 and not attisdropped and attgenerated = '' limit 1`
			same := pgtest.One[string](db, column)
			db.Exec(fmt.Sprintf("update t set %[1]q = %[1]q", same))
			logged := map[string]relay.Tuple{}
			var described *relay.Relation
			for _, c := range read(t, src, n) {
				described = c.Relation
				logged[keyText(c.Relation, c.New)] = c.New
			}
			described.OID = rel.OID
			require.Equal(t, described, rel)
			for i, row := range rows {
				require.Equal(t, tuple(logged[keyText(rel, row)]), tuple(row))
				require.Len(t, row, len(logged[keyText(rel, row)]))
				require.Contains(t, keyText(rel, row), keys[i][0])
			}

			again, _, _ := walk(t, tables(t, cfg), relay.ChunkQuery{Table: "public.t", Only: []relay.RowKey{keys[n-1], keys[0]}, Limit: 10, Bytes: 1 << 30})
			require.Equal(t, []relay.Tuple{rows[n-1], rows[0]}, again, "in the order in which they were asked for")
		})
	}
}

func keyText(rel *relay.Relation, row relay.Tuple) string {
	var parts []string
	for i, c := range rel.Columns {
		if c.Key || c.Name == "b" { // the unique index of a table without a primary key
			parts = append(parts, string(row[i].Data))
		}
	}
	return strings.Join(parts, "\x00")
}

func TestWhatThePublicationLeavesOutIsNotRead(t *testing.T) {
	db := pgtest.New(t)
	if pgtest.One[int](db, `select current_setting('server_version_num')::int`) < 150000 {
		return // column lists and row filters came with 15
	}
	db.Exec(`create table t (id int primary key, open bool not null, hidden text, shown text);
		insert into t select i, i % 2 = 0, 'h', 's' from generate_series(1, 10) i;
		create publication pub for table t (id, shown) where (id > 4)`)
	rows, keys, rel := walk(t, tables(t, config(db)), relay.ChunkQuery{Table: "public.t", Where: "open -- only", Limit: 2, Bytes: 1 << 20})
	require.Equal(t, []relay.RowKey{{"6"}, {"8"}, {"10"}}, keys)
	require.Len(t, rows, 3)
	require.Len(t, rel.Columns, 2)
	require.Equal(t, "(6,s)", tuple(rows[0]))
}

func TestAChunkEndsAtItsRowsOrItsBytes(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(`create table t (id int primary key, v text); insert into t select i, repeat('x', 1000) from generate_series(1, 10) i; create publication pub for table t`)
	from := tables(t, config(db))
	for _, c := range []struct {
		limit, bytes, rows int
		more               bool
	}{{4, 1 << 20, 4, true}, {10, 1 << 20, 10, true}, {11, 1 << 20, 10, false}, {100, 2500, 3, true}, {100, 1, 1, true}} {
		chunk, err := from.Read(t.Context(), relay.ChunkQuery{Table: "public.t", Limit: c.limit, Bytes: c.bytes})
		require.NoError(t, err)
		require.Len(t, chunk.Rows, c.rows)
		require.Equal(t, c.more, chunk.More)
	}
}

func TestWhatStandsInTheWayOfABackfillIsSaidWithItsRemedy(t *testing.T) {
	db := pgtest.New(t)
	role := "reader_" + db.Name
	db.Exec(`create table t (id int primary key, status text, n text); insert into t values (1, 'a', 'x');
		create table keyless (id int); create table parted (id int primary key) partition by range (id);
		create table part partition of parted for values from (1) to (9); create view v as select 1 as id;
		create table elsewhere (id int primary key); create table guarded (id int primary key); alter table guarded enable row level security;
		create publication pub for table t, keyless, parted, guarded with (publish_via_partition_root = true)`)
	db.Exec(`create role ` + role + ` login password 'x'`)
	t.Cleanup(func() { db.Exec(`drop owned by ` + role + `; drop role ` + role) })
	db.Exec(`grant select on t, guarded to ` + role)
	mine := tables(t, config(db))
	cfg := config(db)
	cfg.URL = secret.New(strings.Replace(db.URL, "postgres://"+strings.SplitN(strings.TrimPrefix(db.URL, "postgres://"), "@", 2)[0]+"@", "postgres://"+role+":x@", 1))
	theirs := tables(t, cfg)
	for _, c := range []struct {
		from                       *pgsource.Tables
		table, where, says, remedy string
	}{
		{mine, "public.nothing", "", "does not exist", "schema.table"},
		{mine, "nowhere.t", "", "does not exist", "schema.table"},
		{mine, "t", "", `table name "t"`, "schema.table"},
		{mine, "public.v", "", "is not a table", "rows come from"},
		{mine, "public.keyless", "", "has no key", "REPLICA IDENTITY USING INDEX"},
		{mine, "public.part", "", "of which it is a partition", "backfill public.parted"},
		{mine, "public.elsewhere", "", `not in publication "pub"`, `ADD TABLE "public"."elsewhere"`},
		{mine, "public.t", "state = 'a'", `column "state" does not exist`, "correct it"},
		{mine, "public.t", "status = ", "syntax error", "correct it"},
		{mine, "public.t", "true); drop table t; --", "syntax error", "correct it"},
		{mine, "public.t", "status", "argument of WHERE must be type boolean", "correct it"},
		{mine, "public.t", "status = $1", "has a parameter", "write the value itself"},
		{theirs, "public.parted", "", "may not read public.parted", `GRANT SELECT ON "public"."parted" TO "` + role + `"`},
		{theirs, "public.guarded", "", "row-level security", "BYPASSRLS"},
	} {
		_, _, err := c.from.Check(t.Context(), c.table, c.where)
		var setup *relay.SetupError
		require.ErrorAs(t, err, &setup, "%s %s", c.table, c.where)
		require.Contains(t, setup.Err.Error(), c.says)
		require.Contains(t, setup.Remedy, c.remedy)
	}
	key, _, err := theirs.Check(t.Context(), "public.t", "status = 'a'")
	require.NoError(t, err)
	require.Equal(t, []string{"id"}, key)
	_, err = mine.Read(t.Context(), relay.ChunkQuery{Table: "public.t", Where: "n::int > 0", Limit: 1, Bytes: 1})
	var setup *relay.SetupError
	require.ErrorAs(t, err, &setup, "a value that the condition cannot take")
}

func TestOnlyTransactionsThatWriteTheTableAreWaitedFor(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(`create table t (id int primary key) partition by range (id); create table t_1 partition of t for values from (0) to (9); create table other (id int)`)
	from := tables(t, config(db))
	writer, reader := db.Connect(), db.Connect()
	for _, sql := range []string{"begin", "insert into t_1 values (1)"} {
		_, err := writer.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	for _, sql := range []string{"begin", "select from t", "insert into other values (1)"} {
		_, err := reader.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	writers, err := from.Writers(t.Context(), "public.t")
	require.NoError(t, err)
	require.Len(t, writers, 1)
	require.EqualValues(t, writer.PgConn().PID(), writers[0].PID)
	_, err = writer.Exec(t.Context(), "commit")
	require.NoError(t, err)
	writers, err = from.Writers(t.Context(), "public.t")
	require.NoError(t, err)
	require.Empty(t, writers)
}
