package pgstore_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
)

// disabling is a store that switches off after the time, and what it told.
func disabling(t *testing.T, db *pgtest.DB, after time.Duration) (*pgstore.Store, func() []string) {
	t.Helper()
	var mu sync.Mutex
	var told []string
	s, err := pgstore.Open(t.Context(), pgstore.Config{URL: secret.New(db.URL), DisableAfter: after, Disabled: func(id, reason string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, id+" "+reason)
	}})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), told...)
	}
}

// failures settles n failed attempts of as many events.
func failures(t *testing.T, s *pgstore.Store, sub string, n int) {
	t.Helper()
	all := make([]relay.Outcome, n)
	for i := range all {
		all[i] = outcome(delivery(fmt.Sprint(sub, time.Now().UnixNano(), i), sub), 1, relay.Dead)
	}
	require.NoError(t, s.Settle(t.Context(), all))
}

const raised = `select event_type || ' ' || (payload ->> 'webhook_id') || ' ' || (payload ->> 'reason') || ' ' || user_id || ' ' || visibility
	from outbox_events order by seq`

func TestASubscriptionWhoseEveryAttemptFailedForLongIsSwitchedOffOnce(t *testing.T) {
	db := newDB(t)
	for _, id := range []string{"failing", "young", "few", "recovered", "idle"} {
		subscribe(db, id)
	}
	s, told := disabling(t, db, time.Hour)
	other, toldOther := disabling(t, db, time.Hour)
	failures(t, s, "failing", 19)
	failures(t, s, "few", 5)
	failures(t, s, "recovered", 30)
	db.Exec(`update zapier_webhook_logs set created_at = created_at - interval '2 hours'`)
	settle(t, s, outcome(delivery("ok", "recovered"), 1, relay.Delivered))
	db.Exec(`update zapier_webhooks set last_success_at = now() - interval '30 days' where id = 'idle'`)
	require.Empty(t, told())

	failures(t, s, "failing", 1)
	failures(t, other, "failing", 1)
	failures(t, s, "young", 50)
	failures(t, s, "few", 1)
	failures(t, s, "recovered", 30)
	failures(t, s, "idle", 30)
	require.Equal(t, []string{"failing failing"}, told())
	require.Empty(t, toldOther(), "it is switched off once")
	require.Equal(t, []string{"failing"}, pgtest.All[string](db, `select id from zapier_webhooks where status = 'inactive'`))
	require.Equal(t, "failing 503 t", pgtest.One[string](db, `
		select concat_ws(' ', d ->> 'reason', d ->> 'response_status', (d ->> 'failing_since')::timestamptz < now() - interval '1 hour')
		from (select zapier_metadata -> 'disabled' as d from zapier_webhooks where id = 'failing') x`))
	owner := pgtest.One[string](db, `select user_id from zapier_webhooks where id = 'failing'`)
	require.Equal(t, []string{"webhook.disabled failing failing " + owner + " private"}, pgtest.All[string](db, raised))
	require.NotContains(t, pgtest.One[string](db, `select payload::text from outbox_events`), "http")
}

func TestWithoutALimitNothingIsSwitchedOffForFailures(t *testing.T) {
	db := newDB(t)
	subscribe(db, "failing")
	s, told := disabling(t, db, 0)
	failures(t, s, "failing", 30)
	db.Exec(`update zapier_webhook_logs set created_at = created_at - interval '2 years'`)
	failures(t, s, "failing", 30)
	require.Empty(t, told())
}

func TestAnEndpointThatIsGoneIsToldOfAlsoWithoutItsEvent(t *testing.T) {
	db := newDB(t)
	s, told := disabling(t, db, time.Hour)
	for n, change := range []string{
		`update zapier_webhook_events set enabled = false where event_type = 'webhook.disabled'`,
		`delete from zapier_webhook_events where event_type = 'webhook.disabled'`,
		`insert into zapier_webhook_events (event_type, category, description) values ('webhook.disabled', 'webhook', '')`,
	} {
		db.Exec(change)
		id := fmt.Sprint("gone", n)
		subscribe(db, id)
		settle(t, s, outcome(delivery("a", id), 1, relay.Gone))
		require.Equal(t, id+" endpoint_gone", told()[len(told())-1])
		require.Equal(t, "inactive", pgtest.One[string](db, `select status from zapier_webhooks where id = $1`, id))
		require.Len(t, pgtest.All[string](db, raised), n/2, "only when the type is there and enabled")
	}
}
