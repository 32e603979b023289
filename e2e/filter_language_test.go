package e2e

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// subscribeAll makes one subscription of the event type for each filter.
func (s *stack) subscribeAll(eventType string, filters map[string][]string) map[string]*endpoint {
	s.t.Helper()
	out := map[string]*endpoint{}
	for _, filter := range slices.Sorted(maps.Keys(filters)) {
		out[filter] = s.subscribe(hook{event: eventType, filter: filter})
	}
	return out
}

// requireReceived demands of every subscription exactly the events of its filter.
func requireReceived(t *testing.T, want map[string][]string, got map[string]*endpoint) {
	t.Helper()
	for filter, events := range want {
		require.Equal(t, append([]string{}, events...), got[filter].names(), filter)
	}
}

func TestFiltersAskAboutTheWholeChange(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.db.Exec(`create table orders (id text primary key, status text, total numeric, items jsonb, note text, updated_at timestamptz default now())`)
	s.db.Exec(`insert into zapier_webhook_events (event_type, category, description) values ('order.changed', 'order', 'Changed.'), ('order.grew', 'order', 'Grew.')`)
	s.db.Exec(`insert into event_mappings (event_type, source_table, operation, audience, key_columns) values
		('order.changed', 'orders', 'insert', 'everyone', null), ('order.changed', 'orders', 'update', 'everyone', null), ('order.changed', 'orders', 'delete', 'everyone', null)`)
	// The rules speak the same language.
	s.db.Exec(`insert into event_mappings (event_type, source_table, operation, audience, match_new, match_old) values
		('order.grew', 'orders', 'update', 'everyone', '{"$changed": ["total"], "total": {"$gte": 100}, "status": {"$ne": "void"}}', '{"total": {"$lt": 100}}')`)

	// Every change has a row of its own, made before the relay starts to read.
	want := map[string][]string{
		`{}`:                       {"delete", "insert", "items", "note", "paid", "total", "touch"},
		`{"$op": "insert"}`:        {"insert"},
		`{"$op": ["delete"]}`:      {"delete"},
		`{"$changed": ["status"]}`: {"insert", "paid"},
		`{"$op": "update", "$changed": {"outside": ["note", "/updated_at"]}}`:   {"items", "paid", "total"},
		`{"$changed": ["items.0.qty"], "$op": "update"}`:                        {"items"},
		`{"status": {"$from": "open", "$to": "paid"}}`:                          {"paid"},
		`{"$before": {"total": {"$lt": 100}}, "total": {"$gte": 100.0}}`:        {"total"},
		`{"$before": {"status": {"$in": ["open", "new"]}}, "$op": "delete"}`:    {"delete"},
		`{"total": {"$gt": 40, "$lte": 120.5}}`:                                 {"total"},
		`{"items": [{"sku": {"$prefix": "A-"}, "qty": {"$gte": 5}}]}`:           {"items"},
		`{"$or": [{"note": {"$contains": "urgent"}}, {"total": {"$gt": 100}}]}`: {"note", "total"},
		`{"$not": {"id": {"$in": ["insert", "delete", "items"]}}}`:              {"note", "paid", "total", "touch"},
		`{"gone": {"$exists": false}, "id": {"$suffix": "id"}}`:                 {"paid"},
	}
	for filter, ids := range want {
		for i, id := range ids {
			want[filter][i] = "order.changed " + id
		}
	}
	for _, id := range []string{"paid", "note", "total", "items", "touch", "delete"} {
		s.db.Exec(`insert into orders values ($1, 'open', 12.50, '[{"sku": "A-1", "qty": 1}, {"sku": "B-1", "qty": 9}]', $2)`, id, s.canary)
	}
	got := s.subscribeAll("order.changed", want)
	grew := s.subscribe(hook{event: "order.grew"})
	p := s.start()
	for _, sql := range []string{
		`insert into orders values ('insert', 'open', 12.50, '[]', $1)`,
		`update orders set status = 'paid' where id = 'paid' and $1 <> ''`,
		`update orders set note = 'urgent ' || $1 where id = 'note'`,
		`update orders set total = 120.5 where id = 'total' and $1 <> ''`,
		`update orders set items = '[{"sku": "A-1", "qty": 5}]' where id = 'items' and $1 <> ''`,
		`update orders set items = '[{"sku": "A-1", "qty": 1.0}, {"sku": "B-1", "qty": 9}]', note = 'x' where id = 'touch' and $1 <> ''`,
		`delete from orders where id = 'delete' and $1 <> ''`,
	} {
		s.db.Exec(sql, s.canary)
	}
	s.settle(p)
	requireReceived(t, want, got)
	require.Equal(t, []string{"order.grew total"}, grew.names())
	p.stop()
}

func TestAFilterOnWhatAnEventDoesNotTellIsReported(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.db.Exec(`create table parcels (id int primary key, status text, content text) partition by range (id)`)
	s.db.Exec(`create table parcels_1 partition of parcels for values from (0) to (1000)`)
	s.db.Exec(`insert into zapier_webhook_events (event_type, category, description) values ('parcel.changed', 'parcel', 'Changed.')`)
	s.db.Exec(`insert into event_mappings (event_type, source_table, operation, audience) values ('parcel.changed', 'parcels', 'update', 'everyone')`)
	s.db.Exec(`insert into parcels select 1, 'new', string_agg(md5(i::text || $1), '') from generate_series(1, 500) i`, s.canary)
	s.db.Exec(`insert into things (ns, id, type, visibility, code) values ('n', 'hidden', 'Skill', 'private', $1)`, s.canary)

	parcel := []string{"parcel.changed 2"}
	parcels := map[string][]string{
		`{"$changed": ["id"]}`:             parcel,
		`{"id": {"$from": 1, "$to": 2}}`:   parcel,
		`{"content": {"$exists": true}}`:   parcel,
		`{"$changed": ["content"]}`:        nil,
		`{"content": {"$contains": "ab"}}`: nil, // undecided
		`{"$changed": ["status"]}`:         nil, // undecided
		`{"$before": {"status": "new"}}`:   nil, // undecided
	}
	shown := []string{"thing.updated n/hidden"}
	things := map[string][]string{
		`{"visibility": {"$from": "private", "$to": "public"}}`: shown,
		`{"$op": "update", "code": "shown"}`:                    shown,
		`{"$changed": ["code"]}`:                                nil, // undecided
		`{"code": {"$to": "shown"}}`:                            nil, // undecided
		`{"$before": {"type": "Skill"}}`:                        nil, // undecided
	}
	large := []string{"thing.created n/large"}
	inserts := map[string][]string{
		`{"id": {"$prefix": "lar"}}`:     large,
		`{"type": {"$exists": true}}`:    large,
		`{"type": "Skill"}`:              nil, // undecided
		`{"type": "Skill", "id": "any"}`: nil,
		`{"type": {"$exists": false}}`:   nil,
	}
	const undecided = 3 + 3 + 1
	ofParcels, ofThings, ofInserts := s.subscribeAll("parcel.changed", parcels), s.subscribeAll("thing.updated", things), s.subscribeAll("thing.created", inserts)
	p := s.start()
	// Somebody takes its identity from the partition: of a changed key the log now has
	// no more than the old key, and a large value that did not change not at all.
	s.db.Exec(`alter table parcels_1 replica identity default`)
	s.db.Exec(`update parcels set id = 2, status = 'sent' where id = 1`)
	s.db.Exec(`update things set visibility = 'public', code = 'shown' where id = 'hidden'`)
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', 'large', 'Skill', repeat($1, 100000))`, s.canary)
	s.settle(p)

	events := s.stream(p)
	require.Equal(t, []string{"parcel.changed 2", "thing.updated n/hidden", "thing.created n/large"}, names(events))
	require.Equal(t, []string{"content"}, events[0].Event.Unavailable)
	require.Equal(t, []string{"status"}, events[0].Event.PreviousUnavailable)
	require.Contains(t, events[1].Event.PreviousUnavailable, "type", "which did not change, and nobody shall know")
	require.NotContains(t, events[1].Event.PreviousUnavailable, "visibility")
	require.Contains(t, events[2].Event.Unavailable, "type")
	requireReceived(t, parcels, ofParcels)
	requireReceived(t, things, ofThings)
	requireReceived(t, inserts, ofInserts)

	warnings := p.logged(func(line logLine) bool { return line["level"] == "WARN" && line["event_id"] != nil })
	require.Len(t, warnings, undecided)
	for _, line := range warnings {
		require.Contains(t, fmt.Sprint(line["msg"]), "filter could not be decided")
	}
	_, metrics, err := p.get("/metrics")
	require.NoError(t, err)
	require.True(t, containsLine(metrics, fmt.Sprintf("relay_filters_undecided_total %d", undecided)))
	p.stop()
}
