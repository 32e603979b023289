package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAMappingOfOnesOwnTableWorksWhileRunning(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	p := s.start()
	s.db.Exec(`create table orders (
		id bigint primary key, owner text, status text not null, total numeric, tags text[], raw bytea,
		paid boolean, due date, at timestamp, secret text, meta jsonb)`)
	s.db.Exec(`insert into zapier_webhook_events (event_type, category, description) values
		('order.placed', 'order', 'Placed.'), ('order.paid', 'order', 'Paid.'), ('order.removed', 'order', 'Removed.')`)
	s.db.Exec(`insert into event_mappings (id, event_type, source_table, operation, audience, user_column, redact_columns) values
		('placed', 'order.placed', 'orders', 'insert', 'owner', 'owner', '{secret}'),
		('removed', 'order.removed', 'orders', 'delete', 'owner', 'owner', '{secret}')`)
	s.db.Exec(`insert into event_mappings (id, event_type, source_table, operation, match_old, match_new, changed_columns, audience, user_column, payload_columns) values
		('paid', 'order.paid', 'orders', 'update', '{"status": "open"}', '{"status": "paid"}', '{status}', 'owner', 'owner', '{id,total}')`)
	mine, others := s.subscribe(hook{event: "order.placed"}), s.subscribe(hook{user: "u2", event: "order.placed"})
	paid := s.subscribe(hook{event: "order.paid", filter: `{"total": 12.50}`})
	// The table is published a moment after the mapping was committed.
	require.Eventually(t, func() bool {
		var published bool
		err := s.db.Pool.QueryRow(t.Context(), `
			select exists (select from pg_publication_tables where pubname = $1 and tablename = 'orders')
			   and (select relreplident = 'f' from pg_class where oid = 'orders'::regclass)`, s.env["RELAY_PUBLICATION"]).Scan(&published)
		return err == nil && published
	}, arrivesWithin, tick)
	s.db.Exec(`insert into orders values (1, 'u1', 'open', 12.50, '{a,"b c",NULL}', '\xdeadbeef', true, '2026-01-31', '2026-01-31 12:00:00', $1, '{"k": [1.0]}')`, s.canary)
	s.db.Exec(`update orders set total = 12.5 where id = 1`)
	s.db.Exec(`update orders set status = 'paid' where id = 1`)
	s.db.Exec(`update orders set status = 'closed' where id = 1`)
	s.db.Exec(`delete from orders where id = 1`)
	s.settle(p)

	events := s.stream(p)
	require.Equal(t, []string{"order.placed 1", "order.paid 1", "order.removed 1"}, names(events))
	require.JSONEq(t, `{"id": 1, "owner": "u1", "status": "open", "total": 12.50, "tags": ["a", "b c", null], "raw": "3q2+7w==",
		"paid": true, "due": "2026-01-31", "at": "2026-01-31T12:00:00Z", "meta": {"k": [1.0]}}`, string(events[0].Event.Data))
	require.Contains(t, string(events[0].Body), `12.50`)
	require.JSONEq(t, `{"id": 1, "total": 12.5}`, string(events[1].Event.Data))
	require.JSONEq(t, `{}`, string(events[1].Event.Previous), "status is not in the payload")
	require.Equal(t, []string{"order.placed 1"}, mine.names())
	require.Empty(t, others.names())
	require.Equal(t, []string{"order.paid 1"}, paid.names())

	// Switched off, it raises nothing from there on; its other rules go on.
	s.db.Exec(`update event_mappings set enabled = false where id = 'placed'`)
	s.db.Exec(`insert into orders (id, owner, status) values (2, 'u1', 'open')`)
	s.db.Exec(`delete from orders where id = 2`)
	s.settle(p)
	require.Equal(t, []string{"order.removed 2"}, names(s.stream(p))[3:])
	p.stop()
}

func TestAMappingWakesUpWhenItsTableIsMade(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.db.Exec(`insert into zapier_webhook_events (event_type, category, description) values ('parcel.sent', 'parcel', 'Sent.')`)
	s.db.Exec(`insert into event_mappings (event_type, source_table, operation, audience) values ('parcel.sent', 'public.parcels', 'insert', 'everyone')`)
	p := s.start()
	s.db.Exec(`create table parcels (id int primary key)`)
	require.Eventually(t, func() bool {
		var published bool
		err := s.db.Pool.QueryRow(t.Context(), `
			select exists (select from pg_publication_tables where pubname = $1 and tablename = 'parcels')`, s.env["RELAY_PUBLICATION"]).Scan(&published)
		return err == nil && published
	}, arrivesWithin, tick)
	s.db.Exec(`insert into parcels values (1)`)
	s.settle(p)
	require.Equal(t, []string{"parcel.sent 1"}, names(s.stream(p)))
	p.stop()
}

func TestValuesOfManyTypesArriveAsTheyAreDocumented(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.db.Exec(`create type pair as (n int, s text); create domain price as numeric(10, 2);
		create table zoo (id uuid primary key, p pair, ps pair[], amount price, d float8[], j json, r tstzrange, c regclass, b bytea)`)
	s.db.Exec(`insert into zapier_webhook_events (event_type, category, description) values ('zoo.changed', 'zoo', 'Changed.')`)
	s.db.Exec(`insert into event_mappings (event_type, source_table, operation, audience) values
		('zoo.changed', 'public.zoo', 'insert', 'everyone'), ('zoo.changed', 'public.zoo', 'update', 'everyone')`)
	hooked := s.subscribe(hook{event: "zoo.changed", filter: `{"p": {"n": {"$gte": 1}}, "amount": 1.5, "j": {"a": 2}}`})
	p := s.start()
	s.db.Exec(`insert into zoo values ('3F2504E0-4F89-11D3-9A0C-0305E82C3301', (1, 'a "b"'), array[(1, 'x'), null]::pair[], 1.5, '{1.5,NaN}',
		'{"b":1,  "a":2}', '[2026-01-01 00:00:00+00,)', 'zoo', '\xdeadbeef')`)
	s.settle(p)
	s.db.Exec(`alter type pair add attribute z boolean`)
	s.db.Exec(`update zoo set p = (2, 'c', true)`)
	s.settle(p)
	const rest = `"ps":[{"n":1,"s":"x"%s},null],"amount":1.50,"d":[1.5,"NaN"],"j":{"b":1,  "a":2},"r":"[\"2026-01-01 00:00:00+00\",)","c":"public.zoo","b":"3q2+7w=="}`
	events := s.stream(p)
	require.Len(t, events, 2)
	require.Equal(t, `{"id":"3f2504e0-4f89-11d3-9a0c-0305e82c3301","p":{"n":1,"s":"a \"b\""},`+fmt.Sprintf(rest, ""), string(events[0].Event.Data))
	require.Equal(t, `{"id":"3f2504e0-4f89-11d3-9a0c-0305e82c3301","p":{"n":2,"s":"c","z":true},`+fmt.Sprintf(rest, `,"z":null`), string(events[1].Event.Data))
	require.Len(t, hooked.names(), 2)
	p.stop()
}

func TestATableThatIsMadeAnewIsPublishedAgain(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.db.Exec(`create table parcels (id int primary key)`)
	s.db.Exec(`insert into zapier_webhook_events (event_type, category, description) values ('parcel.sent', 'parcel', 'Sent.')`)
	s.db.Exec(`insert into event_mappings (event_type, source_table, operation, audience) values ('parcel.sent', 'public.parcels', 'insert', 'everyone')`)
	p := s.start()
	s.db.Exec(`insert into parcels values (1)`)
	s.db.Exec(`begin; drop table parcels; create table parcels (id text primary key, note text); insert into parcels values ('not seen'); commit`)
	published := func() bool {
		var there bool
		err := s.db.Pool.QueryRow(t.Context(), `
			select exists (select from pg_publication_tables where pubname = $1 and tablename = 'parcels')`, s.env["RELAY_PUBLICATION"]).Scan(&there)
		return err == nil && there
	}
	require.Eventually(t, published, arrivesWithin, tick)
	s.db.Exec(`insert into parcels values ('2', 'x')`)
	s.settle(p)
	require.Equal(t, []string{"parcel.sent 1", "parcel.sent 2"}, names(s.stream(p)))
	require.Eventually(t, func() bool {
		return strings.Contains(p.log(), "table was not in the publication and is again: rows written meanwhile are not in the stream")
	}, arrivesWithin, tick)

	// A table that is renamed into the place of another, and published in the same
	// transaction, misses nothing.
	s.db.Exec(`create table next (id text primary key)`)
	s.db.Exec(`begin; drop table parcels; alter table next rename to parcels;
		alter publication ` + s.env["RELAY_PUBLICATION"] + ` add table parcels; insert into parcels values ('3'); commit`)
	s.settle(p)
	require.Equal(t, []string{"parcel.sent 3"}, names(s.stream(p))[2:])
	p.stop()
}

func TestAMappingThatCannotBeDecidedIsRefusedOrReportedByName(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.db.Exec(`create table orders (id bigint primary key, owner text, status text)`)
	s.db.Exec(`insert into zapier_webhook_events (event_type, category, description) values ('order.placed', 'order', 'Placed.')`)
	for name, sql := range map[string]string{
		"owner without a column":     `insert into event_mappings (event_type, source_table, operation, audience) values ('order.placed', 'orders', 'insert', 'owner')`,
		"no audience":                `insert into event_mappings (event_type, source_table, operation) values ('order.placed', 'orders', 'insert')`,
		"row without a column":       `insert into event_mappings (event_type, source_table, operation, audience) values ('order.placed', 'orders', 'insert', 'row')`,
		"a column that is not there": `insert into event_mappings (event_type, source_table, operation, audience, user_column) values ('order.placed', 'orders', 'insert', 'owner', 'ownr')`,
		"an event that is not there": `insert into event_mappings (event_type, source_table, operation, audience) values ('order.lost', 'orders', 'insert', 'everyone')`,
		"an old row of an insert":    `insert into event_mappings (event_type, source_table, operation, match_old, audience) values ('order.placed', 'orders', 'insert', '{"a": 1}', 'everyone')`,
	} {
		_, err := s.db.Pool.Exec(t.Context(), sql)
		require.Error(t, err, name)
	}
	p := s.start()
	s.db.Exec(`insert into event_mappings (id, event_type, source_table, operation, match_new, audience) values
		('broken-filter', 'order.placed', 'orders', 'insert', '{"status": {"$lke": "x"}}', 'everyone'),
		('later-broken', 'order.placed', 'orders', 'insert', '{}', 'everyone')`)
	require.Eventually(t, func() bool {
		return len(p.logged(func(line logLine) bool { return line["mapping"] == "broken-filter" && line["level"] == "WARN" })) > 0
	}, arrivesWithin, 5*tick, "the log names the mapping")
	// The mapping beside it works.
	require.Eventually(t, func() bool {
		var published bool
		err := s.db.Pool.QueryRow(t.Context(), `select exists (select from pg_publication_tables where pubname = $1 and tablename = 'orders')`, s.env["RELAY_PUBLICATION"]).Scan(&published)
		return err == nil && published
	}, arrivesWithin, tick)
	s.db.Exec(`insert into orders values (1, 'u1', 'x')`)
	s.settleStream(p)
	require.Equal(t, []string{"order.placed 1"}, names(s.stream(p)))
	require.Eventually(t, func() bool {
		_, body, err := p.get("/metrics")
		return err == nil && containsLine(body, `relay_mapping_refused{mapping="broken-filter"} 1`)
	}, arrivesWithin, tick)
	p.stop()
}

// Each delivery writes log rows. Events about them, delivered, would write the next ones.
func TestAMappingThatIsAboutDeliveriesIsRefused(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.db.Exec(`insert into zapier_webhook_events (event_type, category, description) values ('delivery.logged', 'delivery', 'Sent.')`)
	s.db.Exec(`insert into event_mappings (id, event_type, source_table, operation, audience) values
		('log', 'delivery.logged', 'zapier_webhook_logs', 'insert', 'everyone'), ('counters', 'delivery.logged', 'zapier_webhooks', 'update', 'everyone')`)
	e, about := s.subscribe(hook{event: "thing.created"}), s.subscribe(hook{event: "delivery.logged"})
	p := s.start()
	for i := range 3 {
		s.db.Exec(`insert into things (ns, id, type, content) values ('n', $1, 'Skill', $2)`, strconv.Itoa(i), s.canary)
		e.await(i + 1)
		s.settle(p)
	}
	for _, mapping := range []string{"log", "counters"} {
		require.NotEmpty(t, p.logged(func(line logLine) bool { return line["mapping"] == mapping && line["level"] == "WARN" }), mapping)
	}
	require.Empty(t, about.requests())
	require.Len(t, s.stream(p), 3)
	p.stop()
}
