package outbox_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/migrations"
	"github.com/dot-do/relay/outbox"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// newDB returns a migrated database with the types of a small shop beside the
// registered ones: order.paid, and order.refunded, which is disabled.
func newDB(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	require.NoError(t, migrations.Up(t.Context(), db.Pool, migrations.Options{Samples: true}))
	db.Exec(`insert into zapier_webhook_events (event_type, category, description, enabled) values
		('order.paid', 'order', 'An order was paid.', true), ('order.refunded', 'order', 'An order was refunded.', false)`)
	return db
}

// begin returns a transaction that is rolled back when the test ends.
func begin(t *testing.T, db *pgtest.DB) pgx.Tx {
	t.Helper()
	tx, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// paid is a valid event.
func paid() outbox.Event {
	return outbox.Event{Type: "order.paid", Payload: map[string]any{"total": 12}}
}

func stored(db *pgtest.DB) int {
	return pgtest.One[int](db, `select count(*) from outbox_events`)
}

func repeat(event outbox.Event, n int) []outbox.Event {
	events := make([]outbox.Event, n)
	for i := range events {
		events[i] = event
	}
	return events
}

// random is text that does not compress.
func random(bytes int) string {
	var b strings.Builder
	for b.Len() < bytes {
		b.WriteString(rand.Text())
	}
	return b.String()[:bytes]
}
