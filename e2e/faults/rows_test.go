//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// rule is one mapping of a test's own table.
type rule struct{ table, op, matchNew string }

// mapTables makes mappings before the relay starts: events are <table>.<op>.
func (s *stack) mapTables(rules ...rule) {
	s.t.Helper()
	for _, r := range rules {
		if r.matchNew == "" {
			r.matchNew = "{}"
		}
		event := strings.ReplaceAll(r.table, `"`, "") + "." + r.op
		s.db.Exec(`insert into zapier_webhook_events (event_type, category, description) values ($1, 'test', 'Test.') on conflict do nothing`, event)
		s.db.Exec(`insert into event_mappings (event_type, source_table, operation, match_new, audience) values ($1, $2, $3, $4, 'everyone')`, event, r.table, r.op, r.matchNew)
	}
}

// awaitPublished waits until the table is in the publication.
func (s *stack) awaitPublished(table string) {
	s.t.Helper()
	s.eventually(arrivesWithin, func() bool {
		return pgtest.One[bool](s.db, `select exists (select from pg_publication_tables where pubname = $1 and tablename = $2)`, s.env["RELAY_PUBLICATION"], table)
	}, table+" is not published")
}

// event is a body as these tests read it.
type event struct {
	Type        string                     `json:"type"`
	Data        map[string]json.RawMessage `json:"data"`
	Previous    map[string]json.RawMessage `json:"previous"`
	Unavailable []string                   `json:"unavailable"`
}

// events returns the bodies of a type, or of all types with the prefix.
func events(t *testing.T, all []message, prefix string) (out []event) {
	t.Helper()
	for i := range all {
		if !strings.HasPrefix(all[i].subject, "events."+prefix) {
			continue
		}
		var e event
		require.NoError(t, json.Unmarshal(all[i].body, &e), "%s", all[i].body)
		out = append(out, e)
	}
	return out
}

// compact renders the data of events, keys in order.
func compact(t *testing.T, list []event) []string {
	t.Helper()
	out := []string{}
	for _, e := range list {
		out = append(out, e.Type+" "+string(must(json.Marshal(e.Data))(t)))
	}
	return out
}

// TestColumnsThatComeAndGoAreFollowed changes a table between transactions and inside
// one, kills the relay behind it all, and reads it again.
func TestColumnsThatComeAndGoAreFollowed(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.db.Exec(`create table shapes (id int primary key, a text)`)
	s.mapTables(rule{table: "shapes", op: "insert"})
	p := s.start()
	s.awaitPublished("shapes")
	p.stop() // all of it is read at once, by the catalog of its own time
	s.db.Exec(`insert into shapes values (1, 'x')`)
	s.db.Exec(`alter table shapes add b int default 7`)
	s.db.Exec(`insert into shapes values (2, 'x', 8)`)
	s.db.Exec(`begin; insert into shapes values (3, 'x', 9); alter table shapes rename b to c; insert into shapes values (4, 'x', 10);
		alter table shapes drop a; insert into shapes values (5, 11); alter table shapes alter c type text using 't' || c; insert into shapes values (6, 'eleven'); commit`)
	s.db.Exec(`alter table shapes add a jsonb; insert into shapes values (7, 'y', '{"k": [1.50]}')`)
	want := []string{
		`shapes.insert {"a":"x","id":1}`,
		`shapes.insert {"a":"x","b":8,"id":2}`,
		`shapes.insert {"a":"x","b":9,"id":3}`,
		`shapes.insert {"a":"x","c":10,"id":4}`,
		`shapes.insert {"c":11,"id":5}`,
		`shapes.insert {"c":"eleven","id":6}`,
		`shapes.insert {"a":{"k":[1.50]},"c":"y","id":7}`,
	}
	p = s.launch("RELAY_FAILPOINTS=publish.ack=kill@4")
	require.Equal(t, -1, p.exited(arrivesWithin), p.log())
	p = s.start()
	s.settle()
	require.Equal(t, want, compact(t, events(t, s.read(), "shapes.")))
	p.stop()
}

// TestAMappingThatItsTableNoLongerAnswersIsRefusedByNameUntilItDoes loses the column
// that a mapping's audience or filter needs.
func TestAMappingThatItsTableNoLongerAnswersIsRefusedByNameUntilItDoes(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.db.Exec(`create table shapes (id int primary key, kind text)`)
	s.mapTables(rule{table: "shapes", op: "insert", matchNew: `{"kind": "round"}`})
	s.db.Exec(`create table others (id int primary key)`)
	s.mapTables(rule{table: "others", op: "insert"})
	p := s.start()
	s.awaitPublished("others")
	s.db.Exec(`insert into shapes values (1, 'round'), (2, 'flat')`)
	s.db.Exec(`alter table shapes rename kind to sort`)
	s.db.Exec(`insert into shapes values (3, 'round'); insert into others values (1)`)
	s.settle()
	s.eventually(arrivesWithin, func() bool { return p.metric("relay_mapping_refused") == 1 }, "the mapping is not refused")
	s.db.Exec(`alter table shapes rename sort to kind`)
	s.db.Exec(`insert into shapes values (4, 'round')`)
	s.settle()
	require.Equal(t, []string{
		`shapes.insert {"id":1,"kind":"round"}`, `others.insert {"id":1}`, `shapes.insert {"id":4,"kind":"round"}`,
	}, compact(t, append(events(t, s.read(), "shapes.")[:1:1], append(events(t, s.read(), "others."), events(t, s.read(), "shapes.")[1:]...)...)))
	s.eventually(arrivesWithin, func() bool { return p.metric("relay_mapping_refused") == 0 }, "the mapping stays refused")
	p.stop()
}

// TestATableThatIsRenamedOrMadeAnewIsMatchedByItsName: mappings are about names, and
// a table under another name is another table.
func TestATableThatIsRenamedOrMadeAnewIsMatchedByItsName(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.db.Exec(`create table parcels (id int primary key, note text)`)
	s.mapTables(rule{table: "parcels", op: "insert"})
	p := s.start()
	s.awaitPublished("parcels")
	s.db.Exec(`insert into parcels values (1)`)
	s.db.Exec(`alter table parcels rename to boxes`) // stays in the publication, under a name nobody maps
	s.db.Exec(`insert into boxes values (2)`)
	s.db.Exec(`alter table boxes rename to parcels`)
	s.db.Exec(`insert into parcels values (3)`)
	s.settle()
	s.db.Exec(`drop table parcels; create table parcels (note text, id bigint primary key)`) // another OID
	s.awaitPublished("parcels")
	s.db.Exec(`insert into parcels (id) values (4)`)
	s.settle()
	require.Equal(t, []string{
		`parcels.insert {"id":1,"note":null}`, `parcels.insert {"id":3,"note":null}`, `parcels.insert {"id":4,"note":null}`,
	}, compact(t, events(t, s.read(), "parcels.")))
	p.stop()
}

func TestPartitionsThatAreAttachedSpeakForTheirTable(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.db.Exec(`create table meters (id int, at int, primary key (id, at)) partition by range (at); create table meters_1 partition of meters for values from (0) to (10)`)
	s.mapTables(rule{table: "meters", op: "insert"})
	p := s.start()
	s.awaitPublished("meters")
	s.db.Exec(`insert into meters values (1, 1)`)
	s.db.Exec(`create table meters_2 (id int not null, at int not null, primary key (id, at)); alter table meters attach partition meters_2 for values from (10) to (20)`)
	s.db.Exec(`insert into meters values (2, 11)`)
	s.db.Exec(`alter table meters detach partition meters_1; insert into meters values (3, 12)`)
	s.settle()
	require.Equal(t, []string{
		`meters.insert {"at":1,"id":1}`, `meters.insert {"at":11,"id":2}`, `meters.insert {"at":12,"id":3}`,
	}, compact(t, events(t, s.read(), "meters.")))
	p.stop()
}

// TestALargeValueThatDidNotChangeIsExactOrItsRuleIsRefused is about values that the
// log leaves out, in the payload and in a filter, with and without the old row.
func TestALargeValueThatDidNotChangeIsExactOrItsRuleIsRefused(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.db.Exec(`create table papers (id int primary key, n int, doc jsonb); create table sheets (id int primary key, n int, doc jsonb)`)
	s.mapTables(rule{table: "papers", op: "update"}, rule{table: "sheets", op: "update", matchNew: `{"doc": {"kind": "big"}}`})
	p := s.start()
	s.awaitPublished("papers")
	s.awaitPublished("sheets")
	const doc = `jsonb_build_object('kind', 'big', 'text', (select string_agg(md5(i::text), '') from generate_series(1, 6000) i))`
	s.db.Exec(`alter table papers replica identity default; alter table sheets replica identity default`) // not the relay's wish
	s.db.Exec(`insert into papers values (1, 1, ` + doc + `); insert into sheets values (1, 1, ` + doc + `)`)
	s.db.Exec(`update papers set n = 2; update sheets set n = 2`)
	s.settle()
	s.eventually(arrivesWithin, func() bool { return p.metric("relay_mapping_refused") == 2 }, "rules that cannot be decided are not refused")
	require.Contains(t, p.log(), "REPLICA IDENTITY FULL")
	s.db.Exec(`alter table papers replica identity full; alter table sheets replica identity full`)
	s.db.Exec(`update papers set n = 3; update sheets set n = 3`)
	s.settle()
	s.eventually(arrivesWithin, func() bool { return p.metric("relay_mapping_refused") == 0 }, "rules stay refused")
	all := s.read()
	for _, table := range []string{"papers.", "sheets."} {
		got := events(t, all, table)
		require.Len(t, got, 1)
		require.Empty(t, got[0].Unavailable)
		require.JSONEq(t, `3`, string(got[0].Data["n"]))
		require.JSONEq(t, `2`, string(got[0].Previous["n"]))
		require.Greater(t, len(got[0].Data["doc"]), 100_000, "taken from the old row")
		require.NotContains(t, got[0].Previous, "doc")
	}
	p.stop()
}

// TestATableThatLeavesThePublicationIsPutBackWithTheRange: rows written meanwhile are not
// in the log, those after it are. While it cannot be put back, the relay says so; then it
// names a range that holds what is missing, also when the relay was not up.
func TestATableThatLeavesThePublicationIsPutBackWithTheRange(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	p := s.start()
	s.insert("1")
	s.settle()
	position := func() string { return pgtest.One[string](s.db, `select pg_current_wal_insert_lsn()::text`) }
	leave := `alter publication ` + s.env["RELAY_PUBLICATION"] + ` drop table things`
	// The lock that putting it back needs is given to another from hand to hand.
	leaver, holder := must(s.db.Pool.Begin(t.Context()))(t), must(s.db.Pool.Begin(t.Context()))(t)
	must(leaver.Exec(t.Context(), leave))(t)
	locked := make(chan error, 1)
	go func() {
		_, err := holder.Exec(t.Context(), `lock table things in share update exclusive mode`)
		locked <- err
	}()
	s.eventually(arrivesWithin, func() bool {
		return pgtest.One[bool](s.db, `select exists (select from pg_locks where relation = 'things'::regclass and not granted)`)
	}, "nobody waits for the lock")
	require.NoError(t, leaver.Commit(t.Context()))
	require.NoError(t, <-locked)
	from := position()
	s.insert("lost")
	to := position()
	s.eventually(arrivesWithin, func() bool { return p.metric("relay_tables_unpublished") == 1 }, "nobody noticed")
	r := p.awaitState(readyWithin, "streaming")
	require.Contains(t, r.Parts["publication"].Reason, "public.things")
	require.Contains(t, p.log(), "a mapped table is not in the publication")
	s.settle() // other tables flow
	require.NoError(t, holder.Commit(t.Context()))
	s.awaitPublished("things")
	s.eventually(arrivesWithin, func() bool { return p.metric("relay_tables_unpublished") == 0 }, "it is back")
	s.insert("2")
	s.settle()
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2"}, names(s.read(), "n"))
	require.InDelta(t, 1, p.metric("relay_tables_left_publication_total"), 0)
	r, _ = p.readyz()
	require.Empty(t, r.Parts["publication"].Reason)
	s.requireAbsent(p, from, to)
	p.stop()

	s.db.Exec(leave)
	from = position()
	s.insert("lost too")
	to = position()
	p = s.start()
	s.insert("3")
	s.settle()
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2", "thing.created n/3"}, names(s.read(), "n"))
	s.requireAbsent(p, from, to)
	require.InDelta(t, 1, p.metric("relay_tables_left_publication_total"), 0)
	p.stop()
	p = s.start()
	s.insert("4")
	s.settle()
	require.Zero(t, p.metric("relay_tables_left_publication_total"), "it is told once")
	p.stop()
}

// requireAbsent demands that the relay named a range that holds the one given.
func (s *stack) requireAbsent(p *process, from, to string) {
	s.t.Helper()
	var told struct {
		Relation string
		From     string `json:"from_lsn"`
		To       string `json:"to_lsn"`
	}
	s.eventually(arrivesWithin, func() bool {
		for line := range strings.Lines(p.log()) {
			if strings.Contains(line, "table was not in the publication and is again") {
				return json.Unmarshal([]byte(line), &told) == nil
			}
		}
		return false
	}, "no range is named")
	require.Equal(s.t, "public.things", told.Relation)
	require.True(s.t, pgtest.One[bool](s.db, `select $1::pg_lsn <= $2::pg_lsn and $3::pg_lsn <= $4::pg_lsn`, told.From, from, to, told.To), "%+v holds %s to %s", told, from, to)
}

// TestRowsThatAreHardToSayPassWithTheirNeighbours is a corpus of poison: each row is
// published or told by its key, and what comes behind it arrives.
func TestRowsThatAreHardToSayPassWithTheirNeighbours(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.db.Exec(`create table odd (id int primary key, f float8, n numeric, at timestamptz, t text, j jsonb, raw json, b bytea, l text[])`)
	wide := make([]string, 1500)
	for i := range wide {
		wide[i] = fmt.Sprintf("c%d int default %d", i, i)
	}
	s.db.Exec(`create table wide (id int primary key, ` + strings.Join(wide, ", ") + `)`)
	s.mapTables(rule{table: "odd", op: "insert"}, rule{table: "wide", op: "insert"})
	p := s.start()
	s.awaitPublished("odd")
	s.awaitPublished("wide")
	poison := []string{
		`f = 'NaN'`, `f = '-infinity'`, `n = 'NaN'`, `n = 1e-400`, `n = repeat('9', 5000)::numeric`, `at = 'infinity'`, `at = '-infinity'`, `at = '4713-01-01 BC'`, `at = '294276-12-31'`,
		`t = E'\x01\x1f\x7f\u2028"\\\\'`, `t = E'\U0001F600'`, `raw = '{"a": "\u0000", "a": 1}'`, `raw = '"\ud800"'`, `raw = '  [1e400, -0.0]  '`,
		`j = (repeat('[', 1000) || repeat(']', 1000))::jsonb`, `j = 'null'`, `b = '\x00ff'`, `l = '{{a,NULL},{"","\""}}'`, `l = '[2:3]={a,b}'`, `t = ''`,
	}
	for i, set := range poison {
		s.db.Exec(fmt.Sprintf(`with x as (select) insert into odd (id) values (%d)`, 1000+i))
		column, value, _ := strings.Cut(set, " = ")
		s.db.Exec(fmt.Sprintf(`insert into odd (id, %s) values (%d, %s)`, column, i, value))
	}
	s.db.Exec(`insert into wide (id) values (1)`)
	s.settle()
	all := s.read()
	odd := events(t, all, "odd.")
	require.Len(t, odd, 2*len(poison), "every one, and its neighbour")
	for i := range poison {
		require.JSONEq(t, fmt.Sprint(1000+i), string(odd[2*i].Data["id"]))
		require.JSONEq(t, fmt.Sprint(i), string(odd[2*i+1].Data["id"]), poison[i])
	}
	require.Len(t, events(t, all, "wide.")[0].Data, 1501)
	require.Zero(t, p.metric("relay_session_restarts_total"))
	p.stop()
}

// TestNothingThatWasTakenBackAppears is about everything that is in the log and is no
// committed row change, and about commits of an unusual kind.
func TestNothingThatWasTakenBackAppears(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{settings: map[string]string{"max_prepared_transactions": "4"}})
	s.db.Exec(`create table acts (id int primary key)`)
	s.mapTables(rule{table: "acts", op: "insert"}, rule{table: "acts", op: "truncate"})
	p := s.start()
	s.awaitPublished("acts")
	p.stop()
	conn := s.db.Connect()
	script := func(statements ...string) {
		for _, sql := range statements {
			_ = must(conn.Exec(t.Context(), sql))(t)
		}
	}
	script(`begin`, `insert into acts values (100)`, `rollback`)
	script(`begin`, `insert into acts values (1)`, `savepoint a`, `insert into acts values (101)`, `savepoint b`, `insert into acts values (102)`,
		`rollback to a`, `insert into acts values (2)`, `release a`, `commit`)
	script(`begin`, `insert into acts values (103)`, `prepare transaction 'given up'`, `rollback prepared 'given up'`)
	script(`begin`, `insert into acts values (4)`, `prepare transaction 'kept'`, `insert into acts values (3)`, `commit prepared 'kept'`)
	script(`select pg_logical_emit_message(true, 'other', 'hello')`, `select pg_logical_emit_message(false, 'other', 'hello')`)
	script(`begin`, `truncate acts`, `rollback`)
	_ = must(conn.PgConn().CopyFrom(t.Context(), strings.NewReader("5\n6\n7\n"), `copy acts from stdin`))(t)
	script(`begin`, `select pg_logical_emit_message(true, 'other', 'in between')`, `truncate acts`, `insert into acts values (8)`, `commit`)
	want := []string{}
	for i := 1; i <= 7; i++ {
		want = append(want, fmt.Sprintf(`acts.insert {"id":%d}`, i))
	}
	// Killed in the middle: what is numbered anew is numbered alike.
	p = s.launch("RELAY_FAILPOINTS=publish.ack=kill@3")
	require.Equal(t, -1, p.exited(arrivesWithin), p.log())
	p = s.start()
	s.settle()
	got := events(t, s.read(), "acts.")
	require.Equal(t, want, compact(t, got[:7]))
	require.Equal(t, []string{"acts.truncate", "acts.insert"}, []string{got[7].Type, got[8].Type})
	require.Len(t, got, 9)
	p.stop()
}

// TestThreeHundredThousandRowsInOneTransactionPassInBoundedMemory kills the relay in
// the middle; the walsender must hear from it in time throughout.
func TestThreeHundredThousandRowsInOneTransactionPassInBoundedMemory(t *testing.T) {
	t.Parallel()
	const rows = 300_000
	s := newStack(t, options{settings: map[string]string{"wal_sender_timeout": "5s"}})
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content) select 'big', i, 'Skill', $1 from generate_series(1, $2::int) i`, s.canary, rows)
	s.eventually(arrivesWithin, func() bool { return s.length() > 50_000 }, "the transaction does not arrive")
	before := s.length()
	p.kill()
	require.Less(t, before, uint64(rows))
	p = s.start()
	s.settleWithin(50 * time.Second)
	all := s.read()
	n := 0
	for i := range all {
		if strings.HasPrefix(all[i].header.Get("ce-subject"), "big/") {
			n++
			require.Equal(t, fmt.Sprintf("big/%d", n), all[i].header.Get("ce-subject"))
		}
	}
	require.Equal(t, rows, n)
	require.Zero(t, p.metric("relay_session_restarts_total"))
	t.Logf("killed at %d, peak memory %d MiB", before, p.peak())
	require.Less(t, p.peak(), 320, "MiB, of a binary with the race detector")
	p.stop()
}

// TestATransactionThatStaysOpenHoldsNoOthersBack: the slot's confirmed position moves
// on although its restart position cannot.
func TestATransactionThatStaysOpenHoldsNoOthersBack(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	p := s.start()
	tx := must(s.db.Connect().Begin(t.Context()))(t)
	_ = must(tx.Exec(t.Context(), `insert into things (ns, id, type, content) values ('n', 'late', 'Skill', $1)`, s.canary))(t)
	at := s.confirmed()
	s.insert(numbered("", 3)...)
	s.settle()
	s.eventually(arrivesWithin, func() bool {
		return pgtest.One[bool](s.db, `select $1::pg_lsn > $2::pg_lsn`, s.confirmed(), at)
	}, "the slot does not move")
	require.NoError(t, tx.Commit(t.Context()))
	s.settle()
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2", "thing.created n/3", "thing.created n/late"}, names(s.read(), "n"))
	p.stop()
}
