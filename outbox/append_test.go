package outbox_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/outbox"
)

var (
	_ outbox.DB = pgx.Tx(nil)
	_ outbox.DB = (*pgx.Conn)(nil)
	_ outbox.DB = (*pgxpool.Pool)(nil)
)

// row is what outbox_events holds of an event; an empty string stands for null.
type row struct {
	ID, Type                 string
	AggregateType, NS, AggID string
	UserID, TenantID         string
	Visibility               string
	Payload, Metadata        string
	Source                   string
	OccurredAt               time.Time
}

func rows(t *testing.T, db *pgtest.DB) []row {
	t.Helper()
	found, err := db.Pool.Query(t.Context(), `
		select event_id, event_type, coalesce(aggregate_type, ''), coalesce(aggregate_ns, ''), coalesce(aggregate_id, ''),
		       coalesce(user_id, ''), coalesce(tenant_id, ''), visibility, payload::text, metadata::text, source, occurred_at
		from outbox_events order by seq`)
	require.NoError(t, err)
	all, err := pgx.CollectRows(found, pgx.RowToStructByPos[row])
	require.NoError(t, err)
	for i := range all {
		all[i].OccurredAt = all[i].OccurredAt.UTC()
	}
	return all
}

func TestAppendKeepsEverythingTheEventSays(t *testing.T) {
	db := newDB(t)
	at := time.Date(2026, 11, 23, 11, 0, 0, 123456789, time.FixedZone("", 3600))
	const id = "evt_abcdefghijklmnopqrstuvwxyz"
	ids, err := outbox.Append(t.Context(), db.Pool, outbox.Event{
		ID: id, Type: "order.paid",
		Aggregate:  outbox.Aggregate{Type: "order", NS: "shop", ID: "42"},
		Owner:      outbox.Owner{UserID: "u1", TenantID: "t1"},
		Visibility: outbox.Public,
		Payload:    json.RawMessage(`{"total": 12.50, "note": "é\u0001\"\\ \ud83d\ude00\ufffd <&>"}`),
		Metadata:   map[string]any{"trace": "ab'c", "aggregate_version": 1},
		OccurredAt: at,
	})
	require.NoError(t, err)
	require.Equal(t, []string{id}, ids)
	require.Equal(t, []row{{
		ID: id, Type: "order.paid", AggregateType: "order", NS: "shop", AggID: "42",
		UserID: "u1", TenantID: "t1", Visibility: "public",
		Payload:  `{"note": "é\u0001\"\\ 😀` + "\ufffd" + ` <&>", "total": 12.50}`,
		Metadata: `{"trace": "ab'c", "aggregate_version": 1}`,
		Source:   "outbox", OccurredAt: at.UTC().Truncate(time.Microsecond),
	}}, rows(t, db))
}

func TestWhatAnEventLeavesOutIsPrivateAndNullAndNow(t *testing.T) {
	db := newDB(t)
	tx := begin(t, db)
	var now time.Time
	require.NoError(t, tx.QueryRow(t.Context(), `select now()`).Scan(&now))
	ids, err := outbox.Append(t.Context(), tx, outbox.Event{Type: "order.paid", Payload: struct{}{}})
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	require.Regexp(t, `^evt_[a-z2-7]{26}$`, ids[0])
	require.Equal(t, []row{{
		ID: ids[0], Type: "order.paid", Visibility: "private", Payload: "{}", Metadata: "{}", Source: "outbox", OccurredAt: now.UTC(),
	}}, rows(t, db))
	require.Equal(t, 1, pgtest.One[int](db, `select count(*) from outbox_events
		where num_nulls(aggregate_type, aggregate_ns, aggregate_id, user_id, tenant_id) = 5`))
}

func TestEventsOfATransactionKeepTheOrderOfTheirCalls(t *testing.T) {
	db := newDB(t)
	var want []string
	tx := begin(t, db)
	for _, n := range []int{1, 300, 2} {
		events := make([]outbox.Event, n)
		for i := range events {
			events[i] = paid()
		}
		ids, err := outbox.Append(t.Context(), tx, events...)
		require.NoError(t, err)
		require.Len(t, ids, n)
		want = append(want, ids...)
		var id string // other ways to write the log take their place in it
		require.NoError(t, tx.QueryRow(t.Context(), `select emit_event('order.paid', '{}')`).Scan(&id))
		want = append(want, id)
	}
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, want, pgtest.All[string](db, `select event_id from outbox_events order by seq`))
}

func TestARollbackLeavesNothing(t *testing.T) {
	db := newDB(t)
	tx := begin(t, db)
	_, err := outbox.Append(t.Context(), tx, paid(), paid())
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(t.Context()))
	require.Zero(t, stored(db))
}

func TestTheExampleCommitsRowAndEventTogether(t *testing.T) {
	db := newDB(t)
	db.Exec(`create table orders (id text primary key, paid_at timestamptz)`)
	db.Exec(`insert into orders (id) values ('42'), ('43')`)
	require.NoError(t, payOrder(t.Context(), db.Pool, "42", "u1"))
	db.Exec(`update zapier_webhook_events set enabled = false where event_type = 'order.paid'`)
	require.ErrorIs(t, payOrder(t.Context(), db.Pool, "43", "u1"), outbox.ErrDisabledType)
	require.Equal(t, []string{"42"}, pgtest.All[string](db, `select id from orders where paid_at is not null`))
	require.Equal(t, []string{`order 42 u1 {"order_id": "42"}`}, pgtest.All[string](db,
		`select concat_ws(' ', aggregate_type, aggregate_id, user_id, payload) from outbox_events`))
}

func TestOutsideATransactionACallCommitsItself(t *testing.T) {
	db := newDB(t)
	ids, err := outbox.Append(t.Context(), db.Connect(), paid(), paid())
	require.NoError(t, err)
	require.Equal(t, ids, pgtest.All[string](db, `select event_id from outbox_events order by seq`))
}

func TestAppendWorksInEveryProtocolOfPgx(t *testing.T) {
	db := newDB(t)
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		conn, err := pgx.Connect(t.Context(), db.URL+"&default_query_exec_mode="+mode)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		event := paid()
		event.Payload = map[string]any{"mode": mode, "odd": "',{}\"\\ NULL\n"}
		event.OccurredAt = time.Unix(1, 0)
		_, err = outbox.Append(t.Context(), conn, event, paid())
		require.NoError(t, err, mode)
		require.Equal(t, 1, pgtest.One[int](db, `select count(*) from outbox_events
			where payload = $1::text::jsonb and occurred_at = 'epoch'::timestamptz + interval '1 second'`,
			`{"mode": "`+mode+`", "odd": "',{}\"\\ NULL\n"}`))
		_, err = outbox.Append(t.Context(), conn, outbox.Event{Type: "order.lost", Payload: struct{}{}})
		require.ErrorIs(t, err, outbox.ErrUnknownType, mode)
	}
}

// counted counts the statements that pass through it.
type counted struct {
	outbox.DB
	statements int
}

func (c *counted) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	c.statements++
	return c.DB.Exec(ctx, sql, args...)
}

func TestACallIsOneStatementAndNoEventsAreNone(t *testing.T) {
	db := &counted{DB: newDB(t).Pool}
	ids, err := outbox.Append(t.Context(), db)
	require.NoError(t, err)
	require.Empty(t, ids)
	require.Zero(t, db.statements)
	_, err = outbox.Append(t.Context(), db, repeat(paid(), 100)...)
	require.NoError(t, err)
	require.Equal(t, 1, db.statements)
}

func TestAnUnusableTypeIsNamedAndTheTransactionLives(t *testing.T) {
	db := newDB(t)
	for eventType, want := range map[string]struct {
		is  error
		say string
	}{
		"order.lost": {
			outbox.ErrUnknownType,
			`append events: event type is not registered: "order.lost"; insert it into zapier_webhook_events first`,
		},
		"order.refunded": {
			outbox.ErrDisabledType,
			`append events: event type is disabled: "order.refunded"; set enabled in its row of zapier_webhook_events`,
		},
	} {
		tx := begin(t, db)
		bad := paid()
		bad.Type = eventType
		ids, err := outbox.Append(t.Context(), tx, paid(), paid(), bad)
		require.ErrorIs(t, err, want.is)
		require.EqualError(t, err, want.say)
		require.Nil(t, ids)

		// Nothing of the call is in the transaction, which goes on.
		ids, err = outbox.Append(t.Context(), tx, paid())
		require.NoError(t, err)
		require.NoError(t, tx.Commit(t.Context()))
		require.Equal(t, ids, pgtest.All[string](db, `select event_id from outbox_events order by seq desc limit 1`))
	}
	require.Equal(t, 2, stored(db))
}

func TestATypeDeletedInTheSameMomentIsUnknown(t *testing.T) {
	db := newDB(t)
	deletion := begin(t, db)
	_, err := deletion.Exec(t.Context(), `delete from zapier_webhook_events where event_type = 'order.paid'`)
	require.NoError(t, err)

	refused := make(chan error, 1)
	go func() {
		_, err := outbox.Append(t.Context(), db.Pool, paid())
		refused <- err
	}()
	require.Eventually(t, func() bool { // the foreign key waits for the deletion
		return pgtest.One[bool](db, `select exists (select from pg_stat_activity
			where datname = current_database() and wait_event_type = 'Lock')`)
	}, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, deletion.Commit(t.Context()))
	err = <-refused
	require.ErrorIs(t, err, outbox.ErrUnknownType)
	require.ErrorContains(t, err, `"order.paid"; insert it into zapier_webhook_events first`)
	require.Zero(t, stored(db))
}

func TestATypeEnabledInTheSameMomentIsNoSilentLoss(t *testing.T) {
	db := newDB(t)
	refunded := paid()
	refunded.Type = "order.refunded"
	_, err := outbox.Append(t.Context(), &enabling{db: db}, refunded)
	require.EqualError(t, err, "append events: 0 of 1 were inserted; roll back and try again")
}

// enabling enables all types after the first statement.
type enabling struct{ db *pgtest.DB }

func (e *enabling) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tag, err := e.db.Pool.Exec(ctx, sql, args...)
	if err != nil {
		return tag, err
	}
	_, err = e.db.Pool.Exec(ctx, `update zapier_webhook_events set enabled = true where not enabled`)
	return tag, err
}

func TestADuplicateIDIsRefused(t *testing.T) {
	db := newDB(t)
	first := paid()
	first.ID = "evt_" + strings.Repeat("a", 26)
	_, err := outbox.Append(t.Context(), db.Pool, first)
	require.NoError(t, err)

	_, err = outbox.Append(t.Context(), db.Pool, paid(), first)
	require.ErrorIs(t, err, outbox.ErrDuplicateID)
	require.ErrorContains(t, err, `append events: event id is taken: "`+first.ID+`"`)
	var refusal *pgconn.PgError
	require.ErrorAs(t, err, &refusal)

	twice := paid()
	twice.ID = "evt_" + strings.Repeat("b", 26)
	tx := begin(t, db)
	_, err = outbox.Append(t.Context(), tx, twice, paid(), twice)
	require.ErrorIs(t, err, outbox.ErrDuplicateID)
	require.EqualError(t, err, `append events: event id is taken: "`+twice.ID+`" is in the call twice`)
	_, err = outbox.Append(t.Context(), tx, twice) // Postgres did not see the refused call
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, 2, stored(db))
}

func TestAnotherUniqueKeyIsNoDuplicateID(t *testing.T) {
	db := newDB(t)
	event := paid()
	event.Aggregate = outbox.Aggregate{Type: "order", ID: "42"}
	event.Metadata = map[string]any{"aggregate_version": 1}
	_, err := outbox.Append(t.Context(), db.Pool, event)
	require.NoError(t, err)
	_, err = outbox.Append(t.Context(), db.Pool, event)
	require.ErrorContains(t, err, "outbox_events_aggregate_version_key")
	require.NotErrorIs(t, err, outbox.ErrDuplicateID)
}

func TestMadeIDsDiffer(t *testing.T) {
	db := newDB(t)
	ids, err := outbox.Append(t.Context(), db.Pool, repeat(paid(), outbox.MaxEvents)...)
	require.NoError(t, err)
	seen := map[string]bool{}
	letters := make([]map[byte]bool, 30)
	for _, id := range ids {
		seen[id] = true
		for i := range len(id) {
			if letters[i] == nil {
				letters[i] = map[byte]bool{}
			}
			letters[i][id[i]] = true
		}
	}
	require.Len(t, seen, outbox.MaxEvents)
	for i := 4; i < 29; i++ {
		require.Len(t, letters[i], 32, "character %d does not take every value", i)
	}
	require.Len(t, letters[29], 8, "the last character holds three of the 128 bits")
}

func TestARoleNeedsNoMoreThanThePackageSays(t *testing.T) {
	db := newDB(t)
	db.Exec(`create role outbox_app`)
	t.Cleanup(func() { db.Exec(`drop owned by outbox_app; drop role outbox_app`) })
	db.Exec(`grant insert on outbox_events to outbox_app; grant select on zapier_webhook_events to outbox_app`)
	conn := db.Connect()
	_, err := conn.Exec(t.Context(), `set role outbox_app`)
	require.NoError(t, err)

	ids, err := outbox.Append(t.Context(), conn, paid())
	require.NoError(t, err)
	again := paid()
	again.ID = ids[0]

	// Such a role is not told which key is taken.
	_, err = outbox.Append(t.Context(), conn, again)
	require.ErrorIs(t, err, outbox.ErrDuplicateID)
	require.ErrorContains(t, err, again.ID)
	_, err = outbox.Append(t.Context(), conn, paid(), again)
	require.ErrorIs(t, err, outbox.ErrDuplicateID)
	require.ErrorContains(t, err, "event id is taken: one of 2")
	_, err = outbox.Append(t.Context(), conn, outbox.Event{Type: "order.lost", Payload: struct{}{}})
	require.ErrorContains(t, err, `event type is not registered: "order.lost"`)
}

func TestADatabaseWithoutTheTablesNamesTheRemedy(t *testing.T) {
	_, err := outbox.Append(t.Context(), pgtest.New(t).Pool, paid())
	require.ErrorContains(t, err, `relation "outbox_events" does not exist (SQLSTATE 42P01); run relay migrate up`)
}

func TestAppendedEventsCannotBeChanged(t *testing.T) {
	db := newDB(t)
	_, err := outbox.Append(t.Context(), db.Pool, paid())
	require.NoError(t, err)
	for _, sql := range []string{`update outbox_events set payload = '{}'`, `delete from outbox_events`, `truncate outbox_events`} {
		_, err := db.Pool.Exec(t.Context(), sql)
		require.ErrorContains(t, err, "outbox_events is append-only")
	}
	require.Equal(t, `{"total": 12}`, pgtest.One[string](db, `select payload::text from outbox_events`))
}

func TestACancelledContextIsInTheChain(t *testing.T) {
	db := newDB(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := outbox.Append(ctx, db.Pool, paid())
	require.ErrorIs(t, err, context.Canceled)
}
