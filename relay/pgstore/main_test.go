package pgstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/migrations"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	eventually = 20 * time.Second
	poll       = 20 * time.Millisecond
)

const body = `{"id":"evt_a","type":"thing.updated","data":{"n":12345678901234567890.10,"s":"ü"}}`

// newDB returns a migrated database with a user and an event type.
func newDB(t testing.TB) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	require.NoError(t, migrations.Up(t.Context(), db.Pool, migrations.Options{}))
	db.Exec(`insert into users (id, name, email) values ('u1', 'Ada', 'ada@example.com')`)
	return db
}

func open(t testing.TB, db *pgtest.DB, change ...func(*pgstore.Config)) *pgstore.Store {
	t.Helper()
	cfg := pgstore.Config{URL: secret.New(db.URL)}
	for _, fn := range change {
		fn(&cfg)
	}
	s, err := pgstore.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func keyring(t testing.TB) *secret.Keyring {
	t.Helper()
	k, err := secret.Parse(strings.NewReader("k1:" + strings.Repeat("A", 43) + "="))
	require.NoError(t, err)
	return k
}

func hookURL(id string) string { return "https://hooks.example.com/" + id }

// subscribe makes an active subscription.
func subscribe(db *pgtest.DB, id string) {
	db.Exec(`insert into zapier_webhooks (id, user_id, target_url, event_type) values ($1, 'u1', $2, 'thing.updated')`, id, hookURL(id))
}

func delivery(event, subscription string) relay.Delivery {
	return relay.Delivery{
		EventID: "evt_" + event, EventType: "thing.updated", SubscriptionID: subscription,
		Owner: relay.Owner{UserID: "u1", TenantID: "t1"}, Body: []byte(body), StreamSeq: 7, CommitLSN: 0x16B3748,
	}
}

// outcome is what attempt n of a delivery came to.
func outcome(d relay.Delivery, n int, kind relay.OutcomeKind) relay.Outcome {
	o := relay.Outcome{Delivery: d, Kind: kind}
	if kind == relay.Deferred {
		return o
	}
	o.Delivery.Attempts = n
	o.Attempt = &relay.Attempt{
		Number: n, StartedAt: time.Now(), Duration: 12 * time.Millisecond, TargetURL: hookURL(d.SubscriptionID),
		RequestHeaders:  map[string]string{"webhook-id": relay.WebhookID(d.EventID, d.SubscriptionID)},
		ResponseHeaders: map[string]string{"server": "x"}, StatusCode: 200, ResponseBody: "ok",
	}
	switch kind {
	case relay.Delivered:
	case relay.Gone:
		o.Attempt.StatusCode, o.Attempt.Error, o.Reason = 410, "status: 410 Gone", "gone"
	case relay.Skipped:
		o.Attempt.StatusCode, o.Attempt.Error, o.Reason = 0, "blocked: not allowed", "blocked"
	default:
		o.Attempt.StatusCode, o.Attempt.Error, o.Reason = 503, "status: 503 Service Unavailable", "exhausted"
	}
	return o
}

func leased(o relay.Outcome, lease string) relay.Outcome {
	o.Leased = lease
	return o
}

func delayed(o relay.Outcome, d time.Duration) relay.Outcome {
	o.Delay = d
	return o
}

func settle(t testing.TB, s *pgstore.Store, outcomes ...relay.Outcome) {
	t.Helper()
	require.NoError(t, s.Settle(t.Context(), outcomes))
}

func claim(t testing.TB, s *pgstore.Store, limit int, busy ...string) ([]relay.Delivery, string) {
	t.Helper()
	due, lease, err := s.Claim(t.Context(), limit, time.Minute, relay.Busy{All: busy})
	require.NoError(t, err)
	return due, lease
}

// statuses are the attempts of a subscription's log rows, as "1 retrying".
func statuses(db *pgtest.DB, id string) []string {
	return pgtest.All[string](db, `
		select attempt || ' ' || status from zapier_webhook_logs where webhook_id = $1 order by created_at, id`, id)
}

// counters are total_triggers, success_count, failure_count and
// consecutive_failures.
func counters(db *pgtest.DB, id string) string {
	return pgtest.One[string](db, `
		select concat_ws(' ', total_triggers, success_count, failure_count, consecutive_failures) from zapier_webhooks where id = $1`, id)
}

// elapse lets time pass for everything that is due or leased.
func elapse(db *pgtest.DB, d time.Duration) {
	db.Exec(`update webhook_deliveries set next_attempt_at = next_attempt_at - $1 * interval '1 microsecond',
	         locked_until = locked_until - $1 * interval '1 microsecond'`, d.Microseconds())
}

func id(n int) string { return fmt.Sprintf("w%06d", n) }
