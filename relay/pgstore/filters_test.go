package pgstore_test

import (
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
)

func TestStoredFiltersTellsOfEveryFilterOnceWhateverItSays(t *testing.T) {
	db := newDB(t)
	db.Exec(`delete from event_mappings`)
	db.Exec(`insert into zapier_webhooks (id, user_id, target_url, event_type, filters)
	         select id, 'u1', 'https://hooks.example.com/' || id, 'thing.updated', '{"$near": 1}'
	         from (select to_char(n, 'FM00000') from generate_series(1, 2500) n) as rows (id)`)
	db.Exec(`insert into event_mappings (id, source_table, operation, event_type, audience, changed_columns, match_new)
	         select id, 'public.later', 'update', 'thing.updated', 'everyone', array[id], '{"$$a": 1}'
	         from (select to_char(n, 'FM00000') from generate_series(1, 1500) n) as rows (id)`)
	s := open(t, db)
	n, err := s.CountFilters(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2500+2*1500, n)

	count, last := map[string]int{}, ""
	require.NoError(t, s.StoredFilters(t.Context(), func(f pgstore.StoredFilter) error {
		count[f.Table+" "+f.Column+" "+f.Text]++
		require.Equal(t, "thing.updated", f.EventType)
		at := fmt.Sprint(f.Table == "event_mappings", f.ID, f.Column)
		require.Greater(t, at, last)
		last = at
		return nil
	}))
	require.Equal(t, map[string]int{
		`zapier_webhooks filters {"$near": 1}`: 2500, `event_mappings match_new {"$$a": 1}`: 1500, `event_mappings match_old {}`: 1500,
	}, count)

	stop := errors.New("enough")
	require.ErrorIs(t, s.StoredFilters(t.Context(), func(pgstore.StoredFilter) error { return stop }), stop)
}

func TestARoleThatMayNotReadTheFiltersIsToldWhatItLacks(t *testing.T) {
	db := newDB(t)
	db.Exec(`drop role if exists stranger`)
	db.Exec(`create role stranger login password 'of-a-stranger'`)
	s := open(t, db, func(cfg *pgstore.Config) {
		cfg.URL = secret.New(withURL(t, db, func(u *url.URL) { u.User = url.UserPassword("stranger", "of-a-stranger") }))
	})
	_, err := s.CountFilters(t.Context())
	require.ErrorContains(t, err, "GRANT SELECT ON zapier_webhooks")
}

func TestAWebhookIsReadWithWhatDecidesItsEvents(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	none, err := s.Webhook(t.Context(), "w1")
	require.NoError(t, err)
	require.Nil(t, none)

	db.Exec(`insert into zapier_webhooks (id, user_id, tenant_id, target_url, event_type, filters, status, signing_secret)
	         values ('w1', 'u1', 't1', 'https://hooks.example.com/1', 'thing.updated', '{"b": 1.50, "a": null}', 'inactive', 'enc:v1:x')`)
	got, err := s.Webhook(t.Context(), "w1")
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), got.CreatedAt, time.Minute)
	got.CreatedAt = time.Time{}
	require.Equal(t, &pgstore.Webhook{
		Filter: pgstore.StoredFilter{Table: "zapier_webhooks", ID: "w1", Column: "filters", EventType: "thing.updated", Text: `{"a": null, "b": 1.50}`},
		Owner:  relay.Owner{UserID: "u1", TenantID: "t1"},
	}, got)
}

func TestAnEventTypeTellsWhichTablesCarryTheirOldRows(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	none, err := s.EventType(t.Context(), "no.such")
	require.NoError(t, err)
	require.Nil(t, none)

	db.Exec(`
		delete from event_mappings;
		create schema "Odd one";
		create table "Odd one"."T" (id int primary key, note text);
		create table full_rows (id int primary key); alter table full_rows replica identity full;
		create table parts (id int primary key) partition by range (id);
		create table parts_1 partition of parts for values from (0) to (10); alter table parts_1 replica identity full;
		create table parts_2 partition of parts for values from (10) to (20);
		insert into event_mappings (id, source_table, operation, event_type, audience, enabled) values
		    ('a', 'Odd one.T', 'update', 'thing.updated', 'everyone', true),
		    ('b', 'full_rows', 'delete', 'thing.updated', 'everyone', false),
		    ('c', 'later', 'truncate', 'thing.updated', 'everyone', true),
		    ('d', 'parts', 'insert', 'thing.updated', 'everyone', true)`)
	got, err := s.EventType(t.Context(), "thing.updated")
	require.NoError(t, err)
	require.True(t, got.Enabled)
	require.True(t, pgtest.One[bool](db, `select payload_schema = $1::text::jsonb from zapier_webhook_events where event_type = 'thing.updated'`, string(got.Schema)))
	require.Equal(t, []pgstore.EventSource{
		{Mapping: "a", Enabled: true, Table: "Odd one.T", Op: relay.OpUpdate, KeyOnly: []string{`"Odd one"."T"`}},
		{Mapping: "b", Table: "public.full_rows", Op: relay.OpDelete, KeyOnly: []string{}},
		{Mapping: "c", Enabled: true, Table: "public.later", Op: relay.OpTruncate, Missing: true, KeyOnly: []string{}},
		{Mapping: "d", Enabled: true, Table: "public.parts", Op: relay.OpInsert, KeyOnly: []string{"public.parts", "public.parts_2"}},
	}, got.Sources)

	outbox, err := s.EventType(t.Context(), "function.called")
	require.NoError(t, err)
	require.Empty(t, outbox.Sources)
}
