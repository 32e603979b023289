package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// TestEachChangeRaisesExactlyItsEventsAndWebhooksGetTheBytesOfTheStream walks
// through the twelve events of the platform, and through what raises none.
func TestEachChangeRaisesExactlyItsEventsAndWebhooksGetTheBytesOfTheStream(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	endpoints := map[string]*endpoint{}
	for _, eventType := range pgtest.All[string](s.db, `select event_type from zapier_webhook_events where category <> 'webhook'`) {
		endpoints[eventType] = s.subscribe(hook{event: eventType})
	}
	require.Len(t, endpoints, 12)
	p := s.start()

	var want []string
	for _, step := range []struct {
		sql  string
		want string // separated by commas
	}{
		{`insert into agents (id, user_id, name, instructions) values ('a1', 'u1', 'one', $1)`, "agent.created a1"},
		{`update agents set name = 'two' where id = 'a1' and $1 <> ''`, "agent.updated a1"},
		{`update agents set updated_at = now() + interval '1 s' where id = 'a1' and $1 <> ''`, ""},
		{`update agents set name = name where id = 'a1' and $1 <> ''`, ""},
		{`delete from agents where id = 'a1' and $1 <> ''`, "agent.deleted a1"},

		{`insert into workflow_runs (id, user_id, error) values ('r1', 'u1', $1)`, ""},
		{`update workflow_runs set status = 'running', started_at = now() where id = 'r1' and $1 <> ''`, "workflow.started r1"},
		{`update workflow_runs set input = '{"n": 1}' where id = 'r1' and $1 <> ''`, ""},
		{`update workflow_runs set status = 'completed' where id = 'r1' and $1 <> ''`, "workflow.completed r1"},
		{`update workflow_runs set status = 'completed', completed_at = now() where id = 'r1' and $1 <> ''`, ""},
		{`insert into workflow_runs (id, user_id, status, error) values ('r2', 'u1', 'running', $1)`, "workflow.started r2"},
		{`update workflow_runs set status = 'failed', error = 'late ' || $1 where id = 'r2'`, "workflow.failed r2"},
		{`delete from workflow_runs where id = 'r2' and $1 <> ''`, ""},

		{`insert into things (ns, id, type, content) values ('onet', 't1', 'Function', $1)`, "function.created onet/t1,thing.created onet/t1"},
		{`insert into things (ns, id, type, content) values ('onet', 't2', 'Agent', $1)`, "agent.created onet/t2,thing.created onet/t2"},
		{`insert into things (ns, id, type, content) values ('onet', 't3', 'Service', $1)`, "service.created onet/t3,thing.created onet/t3"},
		{`insert into things (ns, id, type, content) values ('onet', 't4', 'Skill', $1)`, "thing.created onet/t4"},
		{`insert into things (ns, id, type, content) values ('onet', 't5', 'function', $1)`, "thing.created onet/t5"},
		{`update things set data = '{"title": "new", "n": 12345678901234567890.10}' where id = 't4' and $1 <> ''`, "thing.updated onet/t4"},
		{`update things set updated_at = now() + interval '1 s' where id = 't4' and $1 <> ''`, ""},
		{`update things set code = $1 where id = 'nobody'`, ""},
		{`delete from things where id = 't4' and $1 <> ''`, ""},

		{`insert into relationships (ns, id, type, from_ns, from_id, to_ns, to_id, code) values ('app', 'i1', 'installs', 'a', 'b', 'c', 'd', $1)`, "app.installed app/i1"},
		{`insert into relationships (ns, id, type, from_ns, from_id, to_ns, to_id, code) values ('app', 'i2', 'isA', 'a', 'b', 'c', 'd', $1)`, ""},
		{`select emit_event('function.called', jsonb_build_object('id', 'f', 'canary', $1::text), 'u1')`, "function.called "},
	} {
		s.db.Exec(step.sql, s.canary)
		if step.want != "" {
			want = append(want, strings.Split(step.want, ",")...)
		}
	}
	s.settle(p)

	events := s.stream(p)
	require.Equal(t, want, names(events))
	sent := map[string][]byte{}
	byType := map[string][]string{}
	for _, m := range events {
		sent[m.Event.ID] = m.Body
		if m.Event.Type != "app.installed" || m.Event.Source.Key["ns"] != markerNS {
			byType[m.Event.Type] = append(byType[m.Event.Type], m.Event.name())
		}
	}
	require.Len(t, byType, 12, "every event of the platform was raised")
	for eventType, e := range endpoints {
		requireSameSet(t, byType[eventType], e.names())
		for _, d := range e.requests() {
			require.Equal(t, 1, d.Attempt)
			require.True(t, bytes.Equal(sent[d.Event.ID], d.Body), "the webhook's bytes are those of the stream")
		}
	}
	p.stop()
}

func TestBodiesTellTheRowTheOldValuesAndTheCommit(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	p := s.start()
	// A large value that an update leaves alone is not in the log by default.
	large := pgtest.One[string](s.db, `select string_agg(md5(i::text || $1), '') from generate_series(1, 500) i`, s.canary)
	require.Greater(t, len(large), 10_000)

	type step struct{ sql, row, previous string }
	steps := []step{
		{
			`insert into things (ns, id, type, content, code, data) values ('onet', '15-1252.00', 'Function', $1, E'tab\t"quote" \\ é ☃ \u2028', '{"n": 12345678901234567890.1230, "deep": [1, {"a": null}], "html": "<&>"}')`,
			`select to_jsonb(r) from things r where id = '15-1252.00'`, ``,
		},
		{
			`update things set data = '{"title": "é"}', code = null, updated_at = now() where id = '15-1252.00' and $1 <> ''`,
			`select to_jsonb(r) from things r where id = '15-1252.00'`,
			`{"data": {"n": 12345678901234567890.1230, "deep": [1, {"a": null}], "html": "<&>"}, "code": "tab\t\"quote\" \\ é ☃ \u2028", "updated_at": "*"}`,
		},
		{
			`insert into agents (id, user_id, name, instructions) values ('a1', 'u1', 'one', $1)`,
			`select to_jsonb(r) from agents r where id = 'a1'`, ``,
		},
		{
			`update agents set model = 'm', status = 'paused' where id = 'a1' and $1 <> ''`,
			`select to_jsonb(r) from agents r where id = 'a1'`, `{"model": null, "status": "active"}`,
		},
		{ // the old row was not for the new owner's eyes
			`update agents set tenant_id = 't1' where id = 'a1' and $1 <> ''`,
			`select to_jsonb(r) from agents r where id = 'a1'`, `{}`,
		},
	}
	type span struct{ before, after lsn }
	var spans []span
	var rows []string
	here := func() lsn {
		return must(parseLSN(pgtest.One[string](s.db, `select pg_current_wal_insert_lsn()::text`)))(t)
	}
	for _, step := range steps {
		before := here()
		s.db.Exec(step.sql, large)
		spans = append(spans, span{before, here()})
		rows = append(rows, pgtest.One[string](s.db, step.row))
	}
	rows = append(rows, rows[len(rows)-1]) // a deleted row is told as it was
	before := here()
	s.db.Exec(`delete from agents where id = 'a1'`)
	spans = append(spans, span{before, here()})
	s.settleStream(p)

	events := s.stream(p)
	require.Equal(t, []string{
		"function.created onet/15-1252.00", "thing.created onet/15-1252.00", "thing.updated onet/15-1252.00",
		"agent.created a1", "agent.updated a1", "agent.updated a1", "agent.deleted a1",
	}, names(events))
	for i, m := range events {
		n := max(0, i-1) // the first row raised two events
		require.Equal(t, plain(t, rows[n]), plain(t, string(m.Event.Data)), m.Event.name())
		require.Empty(t, m.Event.Unavailable)
		require.True(t, spans[n].before <= m.Event.lsn && m.Event.lsn < spans[n].after, "%s lies within its transaction", m.Event.Source.LSN)
		if n < len(steps) && steps[n].previous != "" {
			require.Equal(t, plain(t, steps[n].previous), plain(t, string(m.Event.Previous)), m.Event.name())
		}
	}
	require.Equal(t, events[0].pos.ordinal, events[1].pos.ordinal)
	require.Contains(t, string(events[0].Body), `12345678901234567890.1230`, "numbers keep every digit")
	require.Equal(t, "public.things", events[0].Event.Source.Table)
	require.Equal(t, []string{"insert", "update", "delete"}, []string{events[0].Event.Source.Op, events[2].Event.Source.Op, events[6].Event.Source.Op})
	p.stop()
}

// plain decodes JSON without loss. Times become one form, and a "*" stands for any.
func plain(t *testing.T, text string) map[string]any {
	t.Helper()
	var out map[string]any
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&out), text)
	for name, v := range out {
		if text, ok := v.(string); ok && strings.HasSuffix(name, "_at") {
			if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
				v = at.UTC().Format(time.RFC3339Nano)
			}
			if name == "updated_at" {
				v = "*"
			}
			out[name] = v
		}
	}
	return out
}

func TestTransactionsArriveAsTheyWereCommitted(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	everything := s.subscribe(hook{event: "thing.created"})
	p := s.start()
	insert := `insert into things (ns, id, type, content) values ('n', $1, 'Skill', '` + s.canary + `')`
	transact := func(f func(tx pgx.Tx)) {
		require.NoError(t, pgx.BeginFunc(t.Context(), s.db.Pool, func(tx pgx.Tx) error { f(tx); return nil }))
	}
	exec := func(tx pgx.Tx, sql string, args ...any) {
		_, err := tx.Exec(t.Context(), sql, args...)
		require.NoError(t, err, sql)
	}

	transact(func(tx pgx.Tx) { // rolled back as a whole
		exec(tx, insert, "gone")
		exec(tx, `rollback and chain`)
	})
	transact(func(tx pgx.Tx) { // a savepoint within a savepoint, one of them taken back
		exec(tx, insert, "before")
		exec(tx, `savepoint one`)
		exec(tx, insert, "taken back")
		exec(tx, `savepoint two`)
		exec(tx, insert, "taken back too")
		exec(tx, `release two`)
		exec(tx, `rollback to one`)
		exec(tx, `savepoint three`)
		exec(tx, insert, "kept")
		exec(tx, `release three`)
		exec(tx, insert, "after")
	})
	transact(func(tx pgx.Tx) { // several tables, several statements
		exec(tx, `insert into agents (id, user_id, name) values ('a1', 'u1', 'one')`)
		exec(tx, `insert into things (ns, id, type) select 'n', 'many-' || i, 'Skill' from generate_series(1, 3) i`)
		exec(tx, `update agents set name = 'two' where id = 'a1'`)
		exec(tx, `insert into workflow_runs (id, user_id, status) values ('r1', 'u1', 'running')`)
		exec(tx, `update things set code = 'x' where id like 'many-%' and id <> 'many-2'`)
		exec(tx, `delete from agents where id = 'a1'`)
		exec(tx, `delete from things where id = 'many-3'`)
	})
	s.db.Exec(`do $$ begin
		insert into things (ns, id, type) values ('n', 'block', 'Skill');
		begin
			insert into things (ns, id, type) values ('n', 'caught', 'Skill');
			perform 1 / 0;
		exception when division_by_zero then null;
		end;
	end $$`)
	copyRows := [][]any{{"n", "copied-1", "Skill"}, {"n", "copied-2", "Skill"}}
	_, err := s.db.Pool.CopyFrom(t.Context(), pgx.Identifier{"things"}, []string{"ns", "id", "type"}, pgx.CopyFromRows(copyRows))
	require.NoError(t, err)
	s.db.Exec(`insert into things (ns, id, type) values ('n', 'block', 'Skill') on conflict (ns, id) do update set code = 'merged'`)
	s.db.Exec(`insert into things (ns, id, type) values ('n', 'block', 'Skill') on conflict do nothing`)
	s.settle(p)

	events := s.stream(p)
	require.Equal(t, []string{
		"thing.created n/before", "thing.created n/kept", "thing.created n/after",
		"agent.created a1", "thing.created n/many-1", "thing.created n/many-2", "thing.created n/many-3",
		"agent.updated a1", "workflow.started r1", "thing.updated n/many-1", "thing.updated n/many-3", "agent.deleted a1",
		"thing.created n/block", "thing.created n/copied-1", "thing.created n/copied-2", "thing.updated n/block",
	}, names(events))
	for i := 4; i < 12; i++ {
		require.Equal(t, events[3].pos.commit, events[i].pos.commit, "one transaction, one commit")
	}
	require.Len(t, everything.received(), 9)
	p.stop()
}

func TestATransactionOfTwentyThousandRowsArrivesWholeAndInOrder(t *testing.T) {
	t.Parallel()
	const rows = 20_000
	s := newStack(t, options{})
	some := s.subscribe(hook{event: "thing.created", filter: `{"data": {"late": true}}`})
	p := s.start()
	s.db.Exec(fmt.Sprintf(`
		insert into things (ns, id, type, content, data)
		select 'big', i, 'Skill', '%s', jsonb_build_object('late', i > 19500) from generate_series(1, %d) i`, s.canary, rows))
	s.settle(p)

	events := s.stream(p)
	require.Len(t, events, rows)
	for i, m := range events {
		require.Equal(t, fmt.Sprintf("thing.created big/%d", i+1), m.Event.name())
		require.Equal(t, events[0].pos.commit, m.pos.commit)
	}
	require.Len(t, some.received(), 500)
	p.stop()
}

func TestARowLargerThanAMessageIsToldByItsKey(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	e := s.subscribe(hook{event: "thing.created"})
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', 'large', 'Skill', repeat($1, 100000))`, s.canary)
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', 'next', 'Skill', $1)`, s.canary)
	s.settle(p)
	events := s.stream(p)
	require.Equal(t, []string{"thing.created n/large", "thing.created n/next"}, names(events))
	large := events[0].Event
	require.True(t, large.Oversize)
	require.JSONEq(t, `{"ns": "n", "id": "large"}`, string(large.Data))
	require.Contains(t, large.Unavailable, "content")
	require.False(t, events[1].Event.Oversize)
	require.Len(t, e.received(), 2)
	p.stop()
}
