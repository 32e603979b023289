package pgsource_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay"
)

// story is made of tables and rows, and the events that come of it.
type story struct {
	name  string
	setup string   // before the relay looks at the database
	full  bool     // the rules ask for old rows: the relay sets replica identity full
	late  bool     // the relay reads only after everything has happened, and not after each step
	steps []string // each a transaction of its own, unless it says begin and commit
	want  []string // events, as raised.String shows them
	told  string   // part of what a mapping is refused for; under full that is nothing unless told
}

const things = `create table t (id int primary key, n int, v text);`

// watchedTables are mapped with every operation, whether they exist or not.
func watchedTables() []string {
	return []string{"public.t", "public.u", "public.t_low", "public.t_high", "other.t", "public.done"}
}

func requireStories(t *testing.T, shapes []story) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			requireStory(t, pgtest.New(t), s)
		})
	}
}

func requireStory(t *testing.T, db *pgtest.DB, s story) {
	t.Helper()
	db.Exec(`create table done (id int)`)
	db.Exec(s.setup)
	cfg := config(db)
	for _, name := range watchedTables() {
		cfg.Tables = append(cfg.Tables, relay.TableNeed{Name: name, OldRows: s.full && name != "public.done"})
	}
	w := openWatch(t, cfg, watchedTables()...)
	if !s.late {
		require.NoError(t, w.src.Start(t.Context()))
	}
	var got []string
	for _, sql := range s.steps {
		db.Exec(sql)
		if !s.late {
			db.Exec(`insert into done values (1)`)
			got = append(got, lines(w.until(t, "public.done"))...)
		}
	}
	if s.late {
		db.Exec(`insert into done values (1)`)
		require.NoError(t, w.src.Start(t.Context()))
		got = lines(w.until(t, "public.done"))
	}
	require.Equal(t, strings.Join(s.want, "\n"), strings.Join(got, "\n"))
	require.Zero(t, w.src.Skipped())
	var refused []string
	for _, err := range w.refused {
		if !strings.HasPrefix(err, "mapping public.done ") { // it has no key, and needs none
			refused = append(refused, err)
		}
	}
	if s.full && s.told == "" {
		require.Empty(t, refused)
	}
	require.Contains(t, strings.Join(refused, "\n"), s.told)
}

func TestEachReplicaIdentityGivesTheOldRowItPromises(t *testing.T) {
	t.Parallel()
	const changes = `insert into t values (1, 1, 'a'); update t set n = 2; update t set id = 2; delete from t`
	steps := strings.Split(changes, "; ")
	big := []string{
		`insert into t values (1, 1, repeat('x', 3000))`, `update t set n = 2`, `update t set v = repeat('y', 3000)`, `delete from t`,
	}
	x, y := strings.Repeat("x", 3000), strings.Repeat("y", 3000)
	const external = things + `alter table t alter v set storage external;`
	requireStories(t, []story{
		{
			name: "default", setup: things, steps: steps, told: "ALTER TABLE \"public\".\"t\" REPLICA IDENTITY FULL",
			want: []string{`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `delete t {"id":2} {"id":2} unavailable [n v]`},
		},
		{
			name: "full", setup: things, steps: steps, full: true,
			want: []string{
				`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `update t {"id":1} {"id":1,"n":2,"v":"a"} was {"n":1}`,
				`update t {"id":2} {"id":2,"n":2,"v":"a"} was {"id":1}`, `delete t {"id":2} {"id":2,"n":2,"v":"a"}`,
			},
		},
		{
			name: "full without a primary key", setup: `create table t (id int, n int, v text)`, steps: steps, full: true,
			want: []string{
				`insert t {} {"id":1,"n":1,"v":"a"}`, `update t {} {"id":1,"n":2,"v":"a"} was {"n":1}`,
				`update t {} {"id":2,"n":2,"v":"a"} was {"id":1}`, `delete t {} {"id":2,"n":2,"v":"a"}`,
			},
		},
		{
			name: "index", told: "replica identity index",
			setup: `create table t (id int not null, n int, v text); create unique index i on t (id); alter table t replica identity using index i`, steps: steps,
			want: []string{`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `delete t {"id":2} {"id":2} unavailable [n v]`},
		},
		{
			name: "index beside a primary key", told: "replica identity index",
			setup: `create table t (id int primary key, n int not null, v text); create unique index i on t (n); alter table t replica identity using index i`, steps: steps,
			want: []string{`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `delete t {} {"n":2} unavailable [id v]`},
		},
		{
			name: "nothing", setup: things + `alter table t replica identity nothing`, steps: steps, full: true, // Postgres would refuse the update
			want: []string{
				`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `update t {"id":1} {"id":1,"n":2,"v":"a"} was {"n":1}`,
				`update t {"id":2} {"id":2,"n":2,"v":"a"} was {"id":1}`, `delete t {"id":2} {"id":2,"n":2,"v":"a"}`,
			},
		},
		{
			name: "nothing later on", setup: things, told: "replica identity nothing",
			steps: []string{`alter table t replica identity nothing`, `insert into t values (1, 1, 'a')`, `truncate t`},
			want:  []string{`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `truncate t {} {}`},
		},
		{
			name: "large values under full", setup: external, steps: big, full: true,
			want: []string{
				`insert t {"id":1} {"id":1,"n":1,"v":"` + x + `"}`, `update t {"id":1} {"id":1,"n":2,"v":"` + x + `"} was {"n":1}`,
				`update t {"id":1} {"id":1,"n":2,"v":"` + y + `"} was {"v":"` + x + `"}`, `delete t {"id":1} {"id":1,"n":2,"v":"` + y + `"}`,
			},
		},
		{
			name: "full from the middle on", setup: things, told: "replica identity default",
			steps: []string{
				`insert into t values (1, 1, 'a')`, `update t set n = 2`, `begin; update t set n = 3; alter table t replica identity full; update t set n = 4; commit`,
				`alter table t replica identity default`, `update t set n = 5`,
			},
			want: []string{`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `update t {"id":1} {"id":1,"n":4,"v":"a"} was {"n":3}`},
		},
	})
}

func TestWhatAPublicationLeavesOutIsLeftOut(t *testing.T) {
	t.Parallel()
	partitioned := `create table t (id int, n int, primary key (id, n)) partition by range (n);
		create table t_low partition of t for values from (0) to (10); create table t_high partition of t for values from (10) to (20);`
	moves := []string{`insert into t values (1, 1), (2, 12)`, `update t set id = 3 where n = 12`, `update t set n = 13 where n = 1`, `delete from t where id = 3`, `truncate t`}
	requireStories(t, []story{
		{
			name: "generated columns", full: true,
			setup: `create table t (id int primary key, n int, twice int generated always as (n * 2) stored, v text)`,
			steps: []string{`insert into t values (1, 1, default, 'a')`, `update t set n = 2`, `delete from t`},
			want:  []string{`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `update t {"id":1} {"id":1,"n":2,"v":"a"} was {"n":1}`, `delete t {"id":1} {"id":1,"n":2,"v":"a"}`},
		},
		{
			name: "a column list", told: "replica identity default",
			setup: things + `create publication pub for table t (id, v)`,
			steps: []string{`insert into t values (1, 1, 'a')`, `update t set v = 'b', id = 2`, `delete from t`},
			want:  []string{`insert t {"id":1} {"id":1,"v":"a"}`, `delete t {"id":2} {"id":2} unavailable [v]`},
		},
		{
			name: "a column list changed on the way", told: "replica identity default",
			setup: things + `create publication pub for table t (id, v)`,
			steps: []string{
				`insert into t values (1, 1, 'a')`, `alter publication pub set table t (id, n), done`, `insert into t values (2, 2, 'b')`,
				`alter publication pub set table t, done`, `insert into t values (3, 3, 'c')`,
			},
			want: []string{`insert t {"id":1} {"id":1,"v":"a"}`, `insert t {"id":2} {"id":2,"n":2}`, `insert t {"id":3} {"id":3,"n":3,"v":"c"}`},
		},
		{
			name: "a row filter turns updates that cross it into inserts and deletes", full: true,
			setup: things + `create publication pub for table t where (n > 0)`,
			steps: []string{`insert into t values (1, 0, 'a')`, `update t set n = 1`, `update t set n = 2`, `update t set n = -1`, `delete from t`, `insert into t values (2, 1, 'b')`, `delete from t`},
			want: []string{
				`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `update t {"id":1} {"id":1,"n":2,"v":"a"} was {"n":1}`, `delete t {"id":1} {"id":1,"n":2,"v":"a"}`,
				`insert t {"id":2} {"id":2,"n":1,"v":"b"}`, `delete t {"id":2} {"id":2,"n":1,"v":"b"}`,
			},
		},
		{
			name: "partitions under the name of their table; one that is truncated alone is not reported by Postgres", full: true,
			setup: partitioned, steps: append([]string{`truncate t_low`}, moves...),
			want: []string{
				`insert t {"id":1,"n":1} {"id":1,"n":1}`, `insert t {"id":2,"n":12} {"id":2,"n":12}`, `update t {"id":3,"n":12} {"id":3,"n":12} was {"id":2}`,
				`delete t {"id":1,"n":1} {"id":1,"n":1}`, `insert t {"id":1,"n":13} {"id":1,"n":13}`, `delete t {"id":3,"n":12} {"id":3,"n":12}`, `truncate t {} {}`,
			},
		},
	})
}

func TestPartitionsComeUnderTheirOwnNameWhereThePublicationSaysSo(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(`create table t (id int, n int, primary key (id, n)) partition by range (n);
		create table t_low partition of t for values from (0) to (10); create table t_high partition of t for values from (10) to (20);
		alter table t_low replica identity full; alter table t_high replica identity full;
		create publication pub for table t with (publish_via_partition_root = false)`)
	w := newWatch(t, db, "public.t_low", "public.t_high")
	for _, sql := range []string{`insert into t values (1, 1), (2, 12)`, `update t set id = 3 where n = 12`, `update t set n = 13 where n = 1`, `truncate t_low`, `truncate t`} {
		db.Exec(sql)
	}
	events := lines(w.next(t, 8))
	require.Equal(t, []string{
		`insert t_low {"id":1,"n":1} {"id":1,"n":1}`, `insert t_high {"id":2,"n":12} {"id":2,"n":12}`, `update t_high {"id":3,"n":12} {"id":3,"n":12} was {"id":2}`,
		`delete t_low {"id":1,"n":1} {"id":1,"n":1}`, `insert t_high {"id":1,"n":13} {"id":1,"n":13}`, `truncate t_low {} {}`,
	}, events[:6])
	require.ElementsMatch(t, []string{`truncate t_low {} {}`, `truncate t_high {} {}`}, events[6:])
}

func TestTransactionsOfEveryFormRaiseWhatTheyCommitted(t *testing.T) {
	t.Parallel()
	requireStories(t, []story{
		{
			name: "savepoints", full: true, setup: things,
			steps: []string{`begin; insert into t values (1, 1); savepoint a; update t set n = 2; savepoint b; update t set n = 3; rollback to b;
				update t set n = 4; release a; savepoint c; delete from t; rollback to c; commit`},
			want: []string{`insert t {"id":1} {"id":1,"n":1,"v":null}`, `update t {"id":1} {"id":1,"n":2,"v":null} was {"n":1}`, `update t {"id":1} {"id":1,"n":4,"v":null} was {"n":2}`},
		},
		{
			name: "subtransactions of a procedure", setup: things, told: "replica identity",
			steps: []string{`do $$ begin for i in 1..200 loop begin insert into t values (i / 2 + 1, i); exception when unique_violation then null; end; end loop; delete from t where id > 2; end $$`},
			want:  append(inserts(1, 101), deletes(3, 101)...),
		},
		{
			name: "truncate of several tables", full: true, setup: things + `create table u (id serial primary key, t int references t)`,
			steps: []string{`insert into t values (1)`, `insert into u (t) values (1)`, `truncate t, u`, `insert into u default values`, `truncate u restart identity`, `insert into u default values`, `truncate t cascade`},
			want: []string{
				`insert t {"id":1} {"id":1,"n":null,"v":null}`, `insert u {"id":1} {"id":1,"t":1}`, `truncate t {} {}`, `truncate u {} {}`, `insert u {"id":2} {"id":2,"t":null}`,
				`truncate u {} {}`, `insert u {"id":1} {"id":1,"t":null}`, `truncate t {} {}`, `truncate u {} {}`,
			},
		},
		{
			name: "a truncate that was rolled back", full: true, setup: things,
			steps: []string{`insert into t values (1)`, `begin; truncate t; insert into t values (2); rollback`, `begin; savepoint s; truncate t; rollback to s; delete from t; commit`},
			want:  []string{`insert t {"id":1} {"id":1,"n":null,"v":null}`, `delete t {"id":1} {"id":1,"n":null,"v":null}`},
		},
		{
			name: "rows that came from elsewhere", setup: things,
			steps: []string{
				`select pg_replication_origin_create('up_' || current_database())`,
				`select pg_replication_origin_session_setup('up_' || current_database()); begin; select pg_replication_origin_xact_setup('0/ABCDEF', '2026-01-01');
				 insert into t values (1); commit; select pg_replication_origin_session_reset(); select pg_replication_origin_drop('up_' || current_database())`,
			},
			want: []string{`insert t {"id":1} {"id":1,"n":null,"v":null}`},
		},
		{
			name: "names of every form, and none", full: true,
			setup: `create table t ("select" int primary key, "Ünï ""x"" \\" text, " " int, "` + strings.Repeat("n", 63) + `" int); create table u (); alter table u replica identity full`,
			steps: []string{`insert into t values (1, 'a', 2, 3)`, `update t set "select" = 2, " " = null`, `insert into u default values`, `delete from u`},
			want: []string{
				`insert t {"select":1} {"select":1,"Ünï \"x\" \\\\":"a"," ":2,"` + strings.Repeat("n", 63) + `":3}`,
				`update t {"select":2} {"select":2,"Ünï \"x\" \\\\":"a"," ":null,"` + strings.Repeat("n", 63) + `":3} was {"select":1," ":2}`,
				`insert u {} {}`, `delete u {} {}`,
			},
		},
		{
			name: "a child table has rows of its own name", full: true, setup: things + `create table u (extra int) inherits (t)`,
			steps: []string{`insert into t values (1)`, `insert into u values (2, 2, 'b', 3)`, `update t set n = 9 where id = 2`, `truncate t`},
			want: []string{
				`insert t {"id":1} {"id":1,"n":null,"v":null}`, `insert u {} {"id":2,"n":2,"v":"b","extra":3}`, `update u {} {"id":2,"n":9,"v":"b","extra":3} was {"n":2}`,
				`truncate t {} {}`, `truncate u {} {}`,
			},
		},
		{
			name: "a row written again and again", full: true, setup: things,
			steps: []string{
				`insert into t values (1, 1) on conflict (id) do update set n = excluded.n + 1`, `insert into t values (1, 1) on conflict (id) do update set n = excluded.n + 1`, `update t set n = n`,
				`merge into t using (values (1, 7), (2, 8)) s (id, n) on t.id = s.id when matched then update set n = s.n when not matched then insert values (s.id, s.n)`,
			},
			want: []string{
				`insert t {"id":1} {"id":1,"n":1,"v":null}`, `update t {"id":1} {"id":1,"n":2,"v":null} was {"n":1}`, // nothing is what the third one changed
				`update t {"id":1} {"id":1,"n":7,"v":null} was {"n":2}`, `insert t {"id":2} {"id":2,"n":8,"v":null}`,
			},
		},
		{
			name: "rows written by a foreign key", full: true, setup: things + `create table u (id int primary key, t int references t on delete cascade on update cascade)`,
			steps: []string{`insert into t values (1)`, `insert into u values (1, 1)`, `update t set id = 2`, `delete from t`},
			want: []string{
				`insert t {"id":1} {"id":1,"n":null,"v":null}`, `insert u {"id":1} {"id":1,"t":1}`, `update t {"id":2} {"id":2,"n":null,"v":null} was {"id":1}`,
				`update u {"id":1} {"id":1,"t":2} was {"t":1}`, `delete t {"id":2} {"id":2,"n":null,"v":null}`, `delete u {"id":1} {"id":1,"t":2}`,
			},
		},
	})
}

func inserts(from, to int) (out []string) {
	for i := from; i <= to; i++ {
		n := max(1, 2*i-2)
		out = append(out, fmt.Sprintf(`insert t {"id":%d} {"id":%[1]d,"n":%d,"v":null}`, i, n))
	}
	return out
}

func deletes(from, to int) (out []string) {
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprintf(`delete t {"id":%d} {"id":%[1]d} unavailable [n v]`, i))
	}
	return out
}

func TestCopiedRowsAreNumberedOneByOne(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(`create table t (id int primary key, v text)`)
	w := newWatch(t, db, "public.t")
	db.Exec(`copy t from program 'for i in 1 2 3 4 5; do printf "%s\t\\N\n" $i; done'`)
	db.Exec(`copy (select 1) to program 'cat > /dev/null'`)
	for i, e := range w.next(t, 5) {
		require.Equal(t, fmt.Sprintf(`insert t {"id":%d} {"id":%[1]d,"v":null}`, i+1), e.String())
		require.EqualValues(t, i, e.Position.Ordinal)
	}
}

func TestAPreparedTransactionIsReadWhenItIsCommitted(t *testing.T) {
	cluster := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "10"}})
	requireStory(t, cluster.New(t), story{
		full: true, setup: things,
		steps: []string{
			`begin; insert into t values (1, 1, 'prepared'); savepoint s; insert into t values (9); rollback to s; prepare transaction 'one'`,
			`insert into t values (2, 2, 'before')`,
			`begin; insert into t values (3); prepare transaction 'two'`,
			`commit prepared 'one'`, `rollback prepared 'two'`,
			`insert into t values (4, 4, 'after')`,
		},
		want: []string{
			`insert t {"id":2} {"id":2,"n":2,"v":"before"}`, `insert t {"id":1} {"id":1,"n":1,"v":"prepared"}`, `insert t {"id":4} {"id":4,"n":4,"v":"after"}`,
		},
	})
}
