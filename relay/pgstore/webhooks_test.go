package pgstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
)

func TestWebhooksAreListedByFailuresInARowAndOnlyThoseAskedFor(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	for _, id := range []string{"a", "b", "c"} {
		subscribe(db, id)
	}
	db.Exec(`update zapier_webhooks set consecutive_failures = 3 where id = 'c'`)
	db.Exec(`update zapier_webhooks set status = 'inactive', event_type = 'thing.created' where id = 'b'`)
	ids := func(q pgstore.WebhookQuery) (ids []string) {
		rows, err := s.ListWebhooks(t.Context(), q)
		require.NoError(t, err)
		for _, row := range rows {
			ids = append(ids, row.ID)
		}
		return ids
	}
	require.Equal(t, []string{"c", "a", "b"}, ids(pgstore.WebhookQuery{Limit: 9}))
	require.Equal(t, []string{"c", "a"}, ids(pgstore.WebhookQuery{Limit: 2}))
	require.Equal(t, []string{"b"}, ids(pgstore.WebhookQuery{Limit: 9, Inactive: true}))
	require.Equal(t, []string{"c"}, ids(pgstore.WebhookQuery{Limit: 9, Failing: true}))
	require.Equal(t, []string{"b"}, ids(pgstore.WebhookQuery{Limit: 9, EventType: "thing.created"}))
}

func TestAWebhookTellsWhatWaitsAndWhatIsDead(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	subscribe(db, "a")
	settle(t, s, outcome(delivery("1", "a"), 1, relay.Retry), outcome(delivery("2", "a"), 6, relay.Dead),
		outcome(delivery("3", "a"), 6, relay.Dead))
	db.Exec(`update webhook_dead_letters set replayed_at = now() where event_id = 'evt_3'`)
	row, err := s.FindWebhook(t.Context(), "a")
	require.NoError(t, err)
	require.EqualValues(t, 1, row.Waiting)
	require.EqualValues(t, 1, row.Dead, "one was replayed")
	require.EqualValues(t, 3, row.Failures)
	require.Equal(t, 3, row.Streak)
	require.False(t, row.Signed)
	row, err = s.FindWebhook(t.Context(), "nobody")
	require.NoError(t, err)
	require.Nil(t, row)
}

func TestSwitchingAWebhookSaysWhatItWasAndWritesOnlyAChange(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	subscribe(db, "a")
	db.Exec(`update zapier_webhooks set status = 'inactive', zapier_metadata = '{"zap": 1, "disabled": {"reason": "endpoint_gone"}}'`)
	version := func() string { return pgtest.One[string](db, `select xmin::text from zapier_webhooks`) }
	state := func() string {
		return pgtest.One[string](db, `select status || ' ' || zapier_metadata::text from zapier_webhooks`)
	}
	was, err := s.SwitchWebhook(t.Context(), "a", true)
	require.NoError(t, err)
	require.Equal(t, &pgstore.WebhookSwitch{Reason: "endpoint_gone"}, was)
	require.Equal(t, `active {"zap": 1}`, state())
	v := version()
	was, err = s.SwitchWebhook(t.Context(), "a", true)
	require.NoError(t, err)
	require.Equal(t, &pgstore.WebhookSwitch{WasActive: true}, was)
	require.Equal(t, v, version(), "nothing was written")
	_, err = s.SwitchWebhook(t.Context(), "a", false)
	require.NoError(t, err)
	require.Equal(t, `inactive {"zap": 1}`, state())
	was, err = s.SwitchWebhook(t.Context(), "nobody", true)
	require.NoError(t, err)
	require.Nil(t, was)
}
