package pgstore_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay/relaytest"
)

func TestLedgerKeepsWhatEveryLedgerPromises(t *testing.T) {
	relaytest.LedgerSuite(t, func(t *testing.T) relaytest.LedgerFixture {
		db := newDB(t)
		n := 0
		return relaytest.LedgerFixture{
			Ledger: open(t, db),
			Subscribe: func(*testing.T) string {
				n++
				subscribe(db, id(n))
				// The suite's attempts all name this URL.
				db.Exec(`update zapier_webhooks set target_url = 'https://hooks.example.com/1', event_type = 'thing.created' where id = $1 and not exists
				         (select from zapier_webhooks where target_url = 'https://hooks.example.com/1')`, id(n))
				return id(n)
			},
			SetActive: func(_ *testing.T, id string, active bool) {
				status := "inactive"
				if active {
					status = "active"
				}
				db.Exec(`update zapier_webhooks set status = $2 where id = $1`, id, status)
			},
			Delete: func(_ *testing.T, id string) { db.Exec(`delete from zapier_webhooks where id = $1`, id) },
			Active: func(_ *testing.T, id string) bool {
				return pgtest.One[bool](db, `select status = 'active' from zapier_webhooks where id = $1`, id)
			},
			Attempts: func(_ *testing.T, id string) []string { return statuses(db, id) },
			DeadLetters: func(_ *testing.T, id string) int {
				return pgtest.One[int](db, `select count(*) from webhook_dead_letters where webhook_id = $1`, id)
			},
			Elapse: func(_ *testing.T, d time.Duration) { elapse(db, d) },
		}
	})
}

// begin opens a transaction that holds what sql locks until it is ended.
func begin(t *testing.T, db *pgtest.DB, sql string, args ...any) pgx.Tx {
	t.Helper()
	tx, err := db.Connect().Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
	return tx
}
