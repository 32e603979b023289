package pgsource_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

func TestTablesAlteredMidStreamAreReadAsTheyWereThen(t *testing.T) {
	t.Parallel()
	requireStories(t, []story{
		{
			name: "columns added, dropped, renamed and retyped between transactions", full: true, setup: things,
			steps: []string{
				`insert into t values (1, 1, 'a')`,
				`alter table t add column at timestamptz default '2026-01-01 00:00:00+00'`, `update t set n = 2`,
				`alter table t drop column v`, `update t set n = 3`,
				`alter table t rename column n to amount`, `update t set amount = 4`,
				`alter table t alter column amount type numeric(6, 2)`, `update t set amount = amount * 2`,
				`alter table t alter column amount type text using 'n' || amount, alter column at type date`, `update t set amount = 'x'`,
				`alter table t rename column id to key`, `delete from t`,
			},
			want: []string{
				`insert t {"id":1} {"id":1,"n":1,"v":"a"}`,
				`update t {"id":1} {"id":1,"n":2,"v":"a","at":"2026-01-01T00:00:00Z"} was {"n":1}`,
				`update t {"id":1} {"id":1,"n":3,"at":"2026-01-01T00:00:00Z"} was {"n":2}`,
				`update t {"id":1} {"id":1,"amount":4,"at":"2026-01-01T00:00:00Z"} was {"amount":3}`,
				`update t {"id":1} {"id":1,"amount":8.00,"at":"2026-01-01T00:00:00Z"} was {"amount":4.00}`,
				`update t {"id":1} {"id":1,"amount":"x","at":"2026-01-01"} was {"amount":"n8.00"}`,
				`delete t {"key":1} {"key":1,"amount":"x","at":"2026-01-01"}`,
			},
		},
		{
			name: "and all of it inside one", full: true, setup: things,
			steps: []string{`begin; insert into t values (1, 1, 'a');
				alter table t add column w int default 5; update t set n = 2;
				alter table t rename column n to amount; savepoint s; alter table t drop column v; update t set amount = 99; rollback to s;
				update t set amount = 3; alter table t alter column amount type text; update t set amount = 'x';
				alter table t drop column w; delete from t; commit`},
			want: []string{
				`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `update t {"id":1} {"id":1,"n":2,"v":"a","w":5} was {"n":1}`,
				`update t {"id":1} {"id":1,"amount":3,"v":"a","w":5} was {"amount":2}`,
				`update t {"id":1} {"id":1,"amount":"x","v":"a","w":5} was {"amount":"3"}`, `delete t {"id":1} {"id":1,"amount":"x","v":"a"}`,
			},
		},
		{
			name: "a table made, filled, altered and dropped in one transaction", setup: `create publication pub for all tables with (publish_via_partition_root = true)`,
			steps: []string{`begin; create table t (id int primary key, n numeric); insert into t values (1, 1.50); alter table t add v text; insert into t values (2, 2, 'b'); drop table t; commit`},
			want:  []string{`insert t {"id":1} {"id":1,"n":1.50}`, `insert t {"id":2} {"id":2,"n":2,"v":"b"}`},
		},
		{
			name: "a table renamed, moved, and another put in its place", setup: things + `create schema other; create publication pub for all tables`,
			steps: []string{
				`insert into t values (1, 1, 'a')`,
				`alter table t rename to u`, `insert into u values (2, 2, 'b')`,
				`create table t (key text primary key)`, `insert into t values ('c')`,
				`alter table u rename to w`, `insert into w values (3, 3, 'nobody maps it')`,
				`drop table t`, `alter table w rename to t`, `alter table t set schema other`, `insert into other.t values (4, 4, 'd')`,
			},
			want: []string{`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `insert u {"id":2} {"id":2,"n":2,"v":"b"}`, `insert t {"key":"c"} {"key":"c"}`, `insert other.t {"id":4} {"id":4,"n":4,"v":"d"}`},
		},
		{
			name: "a table dropped and made again under the same name", setup: things + `create publication pub for all tables`, full: true,
			steps: []string{
				`insert into t values (1, 1, 'a')`, `drop table t`, `create table t (id text primary key, n boolean)`, `alter table t replica identity full`,
				`insert into t values ('x', true)`, `begin; update t set n = false; drop table t; create table t (x int); insert into t values (7); commit`,
			},
			want: []string{`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `insert t {"id":"x"} {"id":"x","n":true}`, `update t {"id":"x"} {"id":"x","n":false} was {"n":true}`, `insert t {} {"x":7}`},
			told: `replica identity default`,
		},
		{
			name: "another primary key", setup: things, told: "replica identity default",
			steps: []string{
				`insert into t values (1, 1, 'a')`, `alter table t drop constraint t_pkey, add primary key (n)`, `insert into t values (2, 2, 'b')`,
				`begin; insert into t values (3, 3, 'c'); alter table t drop constraint t_pkey, add primary key (v, id); insert into t values (4, 4, 'd'); commit`,
				`alter table t drop constraint t_pkey`, `insert into t values (5, 5, 'e')`,
			},
			want: []string{
				`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `insert t {"n":2} {"id":2,"n":2,"v":"b"}`, `insert t {"n":3} {"id":3,"n":3,"v":"c"}`,
				`insert t {"id":4,"v":"d"} {"id":4,"n":4,"v":"d"}`, `insert t {} {"id":5,"n":5,"v":"e"}`,
			},
		},
		{
			name: "a table rewritten, clustered and vacuumed", full: true, setup: things,
			steps: []string{`insert into t values (1, 1, 'a')`, `vacuum full t`, `update t set n = 2`, `cluster t using t_pkey`, `alter table t alter n type bigint`, `delete from t`},
			want:  []string{`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `update t {"id":1} {"id":1,"n":2,"v":"a"} was {"n":1}`, `delete t {"id":1} {"id":1,"n":2,"v":"a"}`},
		},
		{
			name: "partitions attached and detached", full: true,
			setup: `create table t (id int, n int, primary key (id, n)) partition by range (n); create table t_low partition of t for values from (0) to (10);
				create table t_high (n int, id int, gone text, primary key (id, n)); alter table t_high drop column gone; alter table t_high replica identity full`,
			steps: []string{
				`insert into t values (1, 1)`, `alter table t attach partition t_high for values from (10) to (20)`, `insert into t values (2, 12)`,
				`alter table t detach partition t_low`, `update t set id = 3`, `insert into t_high values (13, 4)`, `delete from t where id = 3`,
			},
			want: []string{
				`insert t {"id":1,"n":1} {"id":1,"n":1}`, `insert t {"id":2,"n":12} {"id":2,"n":12}`, `update t {"id":3,"n":12} {"id":3,"n":12} was {"id":2}`,
				`insert t {"id":4,"n":13} {"id":4,"n":13}`, `delete t {"id":3,"n":12} {"id":3,"n":12}`,
			},
		},
	})
}

const composite = `create type pair as (n int, s text); create table t (id int primary key, v pair, w pair[]);`

func TestAlteredTypesAreReadAsTheyWereThen(t *testing.T) {
	t.Parallel()
	requireStories(t, []story{
		{
			name: "an enum that grows and is renamed", setup: `create type mood as enum ('calm'); create table t (id int primary key, v mood, w mood[])`,
			steps: []string{
				`insert into t values (1, 'calm', '{calm}')`, `alter type mood add value 'busy'`, `insert into t values (2, 'busy', '{calm,busy}')`,
				`alter type mood rename value 'calm' to 'still'`, `alter type mood rename to spirit`, `insert into t values (3, 'still', '{still}')`,
				`begin; alter table t add x text; insert into t values (4, 'busy', '{NULL}'); commit`,
			},
			want: []string{
				`insert t {"id":1} {"id":1,"v":"calm","w":["calm"]}`, `insert t {"id":2} {"id":2,"v":"busy","w":["calm","busy"]}`,
				`insert t {"id":3} {"id":3,"v":"still","w":["still"]}`, `insert t {"id":4} {"id":4,"v":"busy","w":[null],"x":null}`,
			},
		},
		{
			name: "a composite whose attributes are added and dropped", setup: composite,
			steps: []string{
				`insert into t values (1, (1, 'a'), array[(2, 'b')]::pair[])`,
				`alter type pair add attribute x boolean`, `insert into t values (2, (1, 'a', true), array[(2, 'b', null)]::pair[])`,
				`alter type pair drop attribute n`, `insert into t values (3, ('a', true), array[('b', false)]::pair[])`,
				`begin; alter type pair add attribute y jsonb; insert into t values (4, ('a', true, '{"k": 1}'), null); commit`,
			},
			want: []string{
				`insert t {"id":1} {"id":1,"v":{"n":1,"s":"a"},"w":[{"n":2,"s":"b"}]}`, `insert t {"id":2} {"id":2,"v":{"n":1,"s":"a","x":true},"w":[{"n":2,"s":"b","x":null}]}`,
				`insert t {"id":3} {"id":3,"v":{"s":"a","x":true},"w":[{"s":"b","x":false}]}`, `insert t {"id":4} {"id":4,"v":{"s":"a","x":true,"y":{"k": 1}},"w":null}`,
			},
		},
		{
			name: "another type under the same name", setup: composite + `create domain d as int; create table u (id int primary key, v d)`,
			steps: []string{
				`insert into t values (1, (1, 'a'))`, `insert into u values (1, 5)`,
				`drop table t, u; drop type pair; drop domain d; create type pair as enum ('x'); create domain d as text[];
				 create table t (id int primary key, v pair); create table u (id int primary key, v d); alter publication pub add table t, u`,
				`insert into t values (2, 'x')`, `insert into u values (2, '{y}')`,
			},
			want: []string{`insert t {"id":1} {"id":1,"v":{"n":1,"s":"a"},"w":null}`, `insert u {"id":1} {"id":1,"v":5}`, `insert t {"id":2} {"id":2,"v":"x"}`, `insert u {"id":2} {"id":2,"v":["y"]}`},
		},
	})
}

func TestARenamedAttributeIsNoticedWithoutAWordFromTheStream(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(composite)
	w := newWatch(t, db, "public.t")
	db.Exec(`insert into t values (0, (1, 'a'))`)
	require.Equal(t, `insert t {"id":0} {"id":0,"v":{"n":1,"s":"a"},"w":null}`, w.next(t, 1)[0].String())
	db.Exec(`alter type pair rename attribute n to number`)
	id := 0
	require.Eventually(t, func() bool {
		id++
		db.Exec(`insert into t values ($1, (1, 'a'))`, id)
		return w.next(t, 1)[0].String() == fmt.Sprintf(`insert t {"id":%d} {"id":%[1]d,"v":{"number":1,"s":"a"},"w":null}`, id)
	}, patience, 10*time.Millisecond)
}

// What happened while nobody read is told by the stream as far as it goes; the rest is
// asked of a catalog that has moved on.
func TestWhatTheCatalogHasForgottenDegradesToText(t *testing.T) {
	t.Parallel()
	requireStories(t, []story{
		{
			name: "a dropped table", setup: things, late: true,
			steps: []string{`insert into t values (1, 1, 'a')`, `drop table t`},
			want:  []string{`insert t {"id":1} {"id":1,"n":1,"v":"a"}`},
		},
		{
			name: "a dropped table under full, whose key nobody knows any more", setup: things, late: true, full: true,
			steps: []string{`insert into t values (1, 1, 'a')`, `update t set n = 2`, `drop table t`},
			want:  []string{`insert t {} {"id":1,"n":1,"v":"a"}`, `update t {} {"id":1,"n":2,"v":"a"} was {"n":1}`},
		},
		{
			name: "a primary key that became another", setup: things, late: true,
			steps: []string{`insert into t values (1, 1, 'a')`, `alter table t drop constraint t_pkey, add primary key (n)`, `insert into t values (2, 2, 'b')`, `delete from t where n = 1`},
			want:  []string{`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `insert t {"n":2} {"id":2,"n":2,"v":"b"}`, `delete t {"n":1} {"n":1} unavailable [id v]`},
			told:  "replica identity default",
		},
		{
			name: "a key that became another, under full", setup: things, late: true, full: true,
			steps: []string{`insert into t values (1, 1, 'a')`, `alter table t drop constraint t_pkey, add primary key (n)`, `insert into t values (2, 2, 'b')`},
			want:  []string{`insert t {"n":1} {"id":1,"n":1,"v":"a"}`, `insert t {"n":2} {"id":2,"n":2,"v":"b"}`},
		},
		{
			name: "a key column that was renamed, under full", setup: things, late: true, full: true,
			steps: []string{`insert into t values (1, 1, 'a')`, `alter table t rename column id to key`, `insert into t values (2, 2, 'b')`, `alter table t drop column n`, `delete from t where key = 1`},
			want:  []string{`insert t {} {"id":1,"n":1,"v":"a"}`, `insert t {"key":2} {"key":2,"n":2,"v":"b"}`, `delete t {"key":1} {"key":1,"v":"a"}`},
		},
		{
			name: "a key column that was renamed and nothing else, under full", setup: things, late: true, full: true,
			steps: []string{`insert into t values (1, 1, 'a')`, `alter table t rename column id to key`, `insert into t values (2, 2, 'b')`},
			want:  []string{`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `insert t {"key":2} {"key":2,"n":2,"v":"b"}`},
		},
		{
			name: "columns that are gone or have another type", setup: things, late: true, full: true,
			steps: []string{
				`insert into t values (1, 1, 'a')`, `alter table t alter n type text using n || '!'`, `update t set v = 'b'`,
				`alter table t drop column v, alter n type boolean using true`, `update t set n = false`, `alter table t add column v jsonb`,
			},
			want: []string{
				`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `update t {"id":1} {"id":1,"n":"1!","v":"b"} was {"v":"a"}`, `update t {"id":1} {"id":1,"n":false} was {"n":true}`,
			},
		},
		{
			name: "dropped domains over what is built in lose nothing", late: true,
			setup: `create domain price as numeric(8, 2); create domain price_again as price; create domain doc as json; create domain labels as text[]; create domain flag as bool; create domain at as timestamptz;
				create table t (id int primary key, a price, b price_again, c doc, d labels, e flag, f at)`,
			steps: []string{`insert into t values (1, 1.5, 2, '{"a":1,"a":2}', '{x,NULL}', true, '2026-01-01 00:00:00+00')`, `drop table t; drop domain price_again, price, doc, labels, flag, at`},
			want:  []string{`insert t {"id":1} {"id":1,"a":1.50,"b":2.00,"c":{"a":1,"a":2},"d":["x",null],"e":true,"f":"2026-01-01T00:00:00Z"}`},
		},
		{
			name: "a domain over a type that is still there", setup: composite + `create domain d as pair; create table u (id int primary key, v d)`, late: true,
			steps: []string{`insert into u values (1, row(1, 'a')::pair)`, `drop table u; drop domain d`},
			want:  []string{`insert u {"id":1} {"id":1,"v":{"n":1,"s":"a"}}`},
		},
		{
			name: "dropped enums, composites and their arrays are text", late: true,
			setup: `create type mood as enum ('calm'); create type pair as (n int, s text); create domain m as mood; create type r as range (subtype = int);
				create table t (id int primary key, a mood, b mood[], c pair, d pair[], e m, f r, g r[])`,
			steps: []string{`insert into t values (1, 'calm', '{calm}', (1, 'x "y"'), array[(1, 'a')]::pair[], 'calm', '[1,2]', '{"[1,2]"}')`, `drop table t; drop domain m; drop type mood, pair, r`},
			want:  []string{`insert t {"id":1} {"id":1,"a":"calm","b":"{calm}","c":"(1,\"x \"\"y\"\"\")","d":"{\"(1,a)\"}","e":"calm","f":"[1,2]","g":"{\"[1,2]\"}"}`},
		},
		{
			name: "a composite that has more attributes today has those of then", setup: composite, late: true,
			steps: []string{
				`insert into t values (1, (1, 'a'))`, `alter type pair add attribute x boolean`, `insert into t values (2, (1, 'a', true))`,
				`alter type pair add attribute y int`, `insert into t values (3, (1, 'a', true, 4))`,
			},
			want: []string{
				`insert t {"id":1} {"id":1,"v":{"n":1,"s":"a"},"w":null}`, `insert t {"id":2} {"id":2,"v":{"n":1,"s":"a","x":true},"w":null}`,
				`insert t {"id":3} {"id":3,"v":{"n":1,"s":"a","x":true,"y":4},"w":null}`,
			},
		},
		{
			name: "a composite that lost an attribute, or had one renamed, is text up to there", setup: composite, late: true,
			steps: []string{
				`insert into t values (1, (1, 'a'), array[(2, 'b')]::pair[])`, `alter type pair rename attribute n to number`, `insert into t values (2, (1, 'a'), array[(2, 'b')]::pair[])`,
				`alter type pair add attribute x boolean, drop attribute s`, `insert into t values (3, (1, true))`,
			},
			want: []string{
				`insert t {"id":1} {"id":1,"v":"(1,a)","w":["(2,b)"]}`, `insert t {"id":2} {"id":2,"v":"(1,a)","w":["(2,b)"]}`,
				`insert t {"id":3} {"id":3,"v":{"number":1,"x":true},"w":null}`,
			},
		},
		{
			name: "a composite whose attributes became of other types does not break the body", setup: composite, late: true,
			steps: []string{`insert into t values (1, (1, '{not json'))`, `drop table t`, `alter type pair alter attribute s type jsonb, alter attribute n type boolean`},
			want:  []string{`insert t {"id":1} {"id":1,"v":"(1,\"{not json\")","w":null}`},
		},
		{
			name: "a dropped table and another under its name", setup: things + `create publication pub for all tables`, late: true,
			steps: []string{`insert into t values (1, 1, 'a')`, `drop table t; create table t (v jsonb, n text primary key)`, `insert into t values ('{"k": 1}', 'x')`},
			want:  []string{`insert t {"id":1} {"id":1,"n":1,"v":"a"}`, `insert t {"n":"x"} {"v":{"k": 1},"n":"x"}`},
		},
	})
}
