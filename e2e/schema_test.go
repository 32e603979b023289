package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// parkedRecords are the records of parked events, in the order of the stream.
func (s *stack) parkedRecords(p *process) (out []map[string]any) {
	s.t.Helper()
	for _, m := range s.readStream(p) {
		if m.Subject == "relay.control.parked" {
			var r map[string]any
			require.NoError(s.t, json.Unmarshal(m.Body, &r))
			out = append(out, r)
		}
	}
	return out
}

// notes makes a table with a mapping of its own, whose events are held to the schema.
func (s *stack) notes(schema string) {
	s.t.Helper()
	s.db.Exec(`create table notes (id int primary key, status text, owner text not null default 'u1', body text)`)
	s.db.Exec(`alter table notes alter body set storage external`)
	s.db.Exec(`insert into zapier_webhook_events (event_type, category, description, payload_schema) values ('note.added', 'note', 'Added.', $1)`, schema)
	s.db.Exec(`insert into event_mappings (event_type, source_table, operation, audience, user_column) values ('note.added', 'public.notes', 'insert', 'owner', 'owner')`)
}

const strictNote = `{"required": ["id", "status"], "properties": {"status": {"enum": ["open", "done"]}}}`

func TestAnEventThatViolatesItsSchemaWaitsAndIsPublishedWithItsIDOnceThatIsMended(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.notes(strictNote)
	hook := s.subscribe(hook{event: "note.added"})
	p := s.start()
	s.db.Exec(`insert into notes values (1, 'open', 'u1', $1), (2, $1, 'u1', repeat('long ', 20000)), (3, 'done', 'u1', '')`, s.canary)
	s.db.Exec(`insert into things (ns, id, type) values ('n', '1', 'Skill')`)
	s.settle(p)
	require.Equal(t, []string{"note.added 1", "note.added 3", "thing.created n/1"}, names(s.stream(p)), "the others flow")
	records := s.parkedRecords(p)
	require.Len(t, records, 1)
	id := records[0]["event_id"].(string)
	require.Equal(t, "data/status does not satisfy #/properties/status/enum", records[0]["reason"])
	require.Equal(t, map[string]any{"id": 2.0}, records[0]["key"])

	// It is seen wherever one looks; its values are only where they are asked for.
	_, metrics, err := p.get("/metrics")
	require.NoError(t, err)
	require.Contains(t, string(metrics), "\n"+`relay_events_parked_total{event_type="note.added"} 1`+"\n")
	_, ready, err := p.get("/readyz")
	require.NoError(t, err)
	require.Contains(t, string(ready), "1 event parked since the start because the data violates the schema")
	doctor, _, code := s.relay("doctor")
	require.Zero(t, code)
	require.Regexp(t, `warning +schemas +1 event of note\.added violate its schema`, doctor)
	require.Contains(t, s.command("parked", "list"), id)
	require.NotContains(t, s.command("parked", "list"), s.canary)
	asked, _, _ := s.relay("parked", "list", "--json", id)
	require.Contains(t, asked, s.canary)

	// As long as nothing is mended it stays, also when somebody releases it by hand.
	require.Contains(t, s.command("parked", "retry", "--yes"), "note.added: 1 event would not be published: data/status does not satisfy")
	s.db.Exec(`update relay_parked_events set released_at = now(), released_by = 'ada'`)
	require.Eventually(t, func() bool { return len(s.parkedRecords(p)) == 2 }, arrivesWithin, tick)
	require.Equal(t, 1, pgtest.One[int](s.db, `select count(*) from relay_parked_events where released_at is null and released_by is null`))

	// Over a kill and a restart nothing is parked or published twice.
	p.kill()
	s.db.Exec(`update zapier_webhook_events set payload_schema = '{"required": ["id"]}' where event_type = 'note.added'`)
	p = s.start()
	s.settle(p)
	require.Len(t, s.parkedRecords(p), 2)
	require.Equal(t, "1 of 1 parked events satisfy their schema; nothing was done: --yes publishes them, with the same ids and bytes\n", s.command("parked", "retry"))
	s.settle(p)
	require.Len(t, hook.received(), 2)
	require.Equal(t, "1 of 1 parked events released; the running relay publishes them\n", s.command("parked", "retry", "--yes"))
	s.settle(p)

	events := s.stream(p)
	require.Equal(t, []string{"note.added 1", "note.added 3", "thing.created n/1", "note.added 2"}, names(events))
	last := events[3]
	require.Equal(t, id, last.Event.ID, "the id that it had")
	require.Contains(t, string(last.Body), strings.Repeat("long ", 20000))
	require.Equal(t, events[0].Event.Source.LSN, last.Event.Source.LSN, "it tells of its own transaction")
	requireSameSet(t, []string{"note.added 1", "note.added 3", "note.added 2"}, hook.names())
	require.Equal(t, string(last.Body), string(hook.requests()[2].Body))
	require.Equal(t, "no event is parked\n", s.command("parked", "retry", "--yes"))
	require.Equal(t, "no event is parked\n", s.command("parked", "list"))
	p.stop()
}

func TestASchemaThatCannotBeUsedLosesNothing(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	remote := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer remote.Close()
	s := newStack(t, options{})
	s.notes(`{"$ref": "` + remote.URL + `/note.json"}`)
	p := s.start()
	s.db.Exec(`insert into notes select n, 'open' from generate_series(1, 250) n`)
	id := pgtest.One[string](s.db, `select emit_event('note.added', '{"id": 251}', 'u1')`)
	s.settle(p)
	require.Empty(t, s.stream(p))
	require.Len(t, s.parkedRecords(p), 251)
	require.Zero(t, asked.Load(), "nobody follows the reference")
	_, metrics, err := p.get("/metrics")
	require.NoError(t, err)
	require.Contains(t, string(metrics), "\n"+`relay_schema_refused{event_type="note.added"} 1`+"\n")
	require.NotEmpty(t, p.logged(func(l logLine) bool { return l["msg"] == "payload schema refused" }))
	doctor, _, code := s.relay("doctor")
	require.Equal(t, 1, code)
	require.Regexp(t, `error +schemas +payload_schema of note\.added cannot be used: it refers to `, doctor)

	s.db.Exec(`update zapier_webhook_events set payload_schema = '{"required": ["id"]}' where event_type = 'note.added'`)
	require.Contains(t, s.command("parked", "retry", "--yes", "--event-type", "note.added"), "251 of 251 parked events released")
	s.settle(p)
	events := s.stream(p)
	require.Len(t, events, 251)
	require.Equal(t, id, events[250].Event.ID)
	for i, e := range events[:250] {
		require.Equal(t, fmt.Sprintf("note.added %d", i+1), e.Event.name(), "in the order of their commits")
	}
	_, metrics, err = p.get("/metrics")
	require.NoError(t, err)
	require.NotContains(t, string(metrics), `relay_schema_refused{event_type="note.added"}`)
	require.Contains(t, string(metrics), "\nrelay_events_released_total 251\n")
	p.stop()
}

func TestABackfillGoesOnBehindRowsThatViolateTheSchema(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.notes(strictNote)
	s.db.Exec(`insert into notes select n, case when n % 7 = 0 then 'odd' else 'open' end from generate_series(1, 700) n`)
	p := s.start()
	s.awaitBackfill(p, s.requestBackfill("notes"))
	s.settle(p)
	require.Len(t, s.stream(p), 600)
	require.Len(t, s.parkedRecords(p), 100)
	require.Equal(t, 600, pgtest.One[int](s.db, `select events from relay_backfills`))

	s.db.Exec(`update zapier_webhook_events set payload_schema = '{}' where event_type = 'note.added'`)
	s.command("parked", "retry", "--yes")
	s.settle(p)
	read := map[string]int{}
	for _, e := range s.stream(p) {
		require.Equal(t, "read", e.Event.Source.Op)
		read[e.Event.key()]++
	}
	require.Len(t, read, 700)
	for key, n := range read {
		require.Equal(t, 1, n, key)
	}
	p.stop()
}

// TestTheDefaultsSatisfyTheirOwnSchemas raises every event of the default mappings, from
// rows with nothing that may be left out, and with everything.
func TestTheDefaultsSatisfyTheirOwnSchemas(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	for _, statement := range []string{
		`insert into agents (id, name) values ('bare', 'n')`,
		`insert into agents values ('full', 'u', 't', 'n', 'chat', 'i', 'm', 'active', now(), now())`,
		`insert into workflow_runs (id, status) values ('bare', 'running')`,
		`insert into workflow_runs values ('full', 'w', 'u', 't', 'pending', '[1]', '"x"', 'e', now(), now())`,
		`insert into things (ns, id, type, data) select 'bare', t, t, null from unnest(array['Agent', 'Function', 'Service', 'Skill']) t`,
		`insert into things select 'full', t, t, 'c', 'c', '{"a": [1.50]}', 'private', now(), now() from unnest(array['Agent', 'Function', 'Service', 'Skill']) t`,
		`insert into relationships (ns, id, type, from_ns, from_id, to_ns, to_id, data) values ('bare', '1', 'installs', 'a', 'b', 'c', 'd', null)`,
		`insert into relationships values ('full', '1', 'installs', 'a', 'b', 'c', 'd', '{"a": 1}', 'c', 'unlisted', now(), now())`,
	} {
		s.db.Exec(statement)
	}
	p := s.start()
	for _, table := range []string{"agents", "workflow_runs", "things", "relationships"} {
		s.awaitBackfill(p, s.requestBackfill(table))
	}
	s.db.Exec(`insert into agents (id, name, created_at, updated_at) values ('new', 'n', 'infinity', '-infinity')`)
	s.db.Exec(`insert into agents (id, name) values ('newer', 'n')`)
	s.db.Exec(`insert into things select 'new', t, t from unnest(array['Agent', 'Function', 'Service']) t`)
	s.db.Exec(`insert into relationships (ns, id, type, from_ns, from_id, to_ns, to_id) values ('new', '1', 'installs', 'a', 'b', 'c', 'd')`)
	s.db.Exec(`update agents set name = 'm'`)
	s.db.Exec(`update things set content = 'm', visibility = 'public'`)
	for _, status := range []string{"pending", "running", "completed", "running", "failed"} {
		s.db.Exec(`update workflow_runs set status = $1`, status)
	}
	s.db.Exec(`delete from agents`)
	s.db.Exec(`select emit_event('function.called', '{"id": "f"}'), emit_event('function.called', '{"ns": "n", "id": "f", "input": [1], "output": null, "error": "e"}')`)
	gone := s.subscribe(hook{event: "thing.created"})
	gone.answers(failFirst(1, http.StatusGone))
	s.db.Exec(`insert into things (ns, id, type) values ('n', 'last', 'Skill')`)
	require.Eventually(t, func() bool {
		return pgtest.One[int](s.db, `select count(*) from outbox_events where event_type = 'webhook.disabled'`) == 1
	}, arrivesWithin, tick)
	s.settle(p)

	require.Empty(t, s.parkedRecords(p))
	require.Zero(t, pgtest.One[int](s.db, `select count(*) from relay_parked_events`))
	seen := map[string]bool{}
	for _, e := range s.stream(p) {
		seen[e.Event.Type] = true
	}
	for _, eventType := range pgtest.All[string](s.db, `select event_type from zapier_webhook_events`) {
		require.True(t, seen[eventType], "no %s was raised", eventType)
	}
	doctor, _, _ := s.relay("doctor")
	require.Regexp(t, `ok +schemas +events of 13 types are held to a schema`, doctor)
	require.NotContains(t, slices.Collect(strings.Lines(doctor)), "payload_schema")
	p.stop()
}
