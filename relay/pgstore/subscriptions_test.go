package pgstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
)

const plainSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func readOne(t *testing.T, s *pgstore.Store, id string) relay.Subscription {
	t.Helper()
	rows, err := s.Read(t.Context(), []string{id})
	require.NoError(t, err)
	require.Len(t, rows, 1)
	return rows[0]
}

func withKey(t *testing.T) func(*pgstore.Config) {
	t.Helper()
	return func(c *pgstore.Config) { c.Keyring = keyring(t) }
}

func TestReadReturnsTheRowAndLeavesOutDeletedOnes(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	db.Exec(`insert into zapier_webhooks (id, user_id, tenant_id, target_url, event_type, filters, status, max_retries,
	             retry_backoff_seconds, max_triggers_per_hour, signing_secret)
	         values ('w1', 'u1', 't1', 'https://hooks.example.com/1', 'thing.updated', '{"type": "Function"}', 'inactive', 7, 30, 99, $1)`, plainSecret)
	got := readOne(t, s, "w1")
	require.NoError(t, got.Broken)
	require.JSONEq(t, `{"type":"Function"}`, got.Filter.String())
	require.Len(t, got.Secrets, 1)
	require.Equal(t, plainSecret, got.Secrets[0].Reveal())
	require.WithinDuration(t, time.Now(), got.CreatedAt, time.Minute)
	got.Filter, got.Secrets, got.CreatedAt = nil, nil, time.Time{}
	require.Equal(t, relay.Subscription{
		ID: "w1", Owner: relay.Owner{UserID: "u1", TenantID: "t1"}, EventType: "thing.updated", TargetURL: "https://hooks.example.com/1",
		MaxRetries: 7, Backoff: 30 * time.Second, MaxPerHour: 99,
	}, got)

	rows, err := s.Read(t.Context(), []string{"nowhere"})
	require.NoError(t, err)
	require.Empty(t, rows)
}

func TestABrokenRowSaysWhyAndMatchesNothing(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	subscribe(db, "w2")
	db.Exec(`update zapier_webhooks set filters = '{"a": {"b/c": {"$canary": 1}}}' where id = 'w1'`)
	sealed, err := keyring(t).Seal(secret.New(plainSecret), secret.AAD("zapier_webhooks", "signing_secret", "w3"))
	require.NoError(t, err)
	db.Exec(`update zapier_webhooks set signing_secret = $1 where id = 'w2'`, sealed)

	s := open(t, db, withKey(t))
	got := readOne(t, s, "w1")
	require.Nil(t, got.Filter)
	require.EqualError(t, got.Broken, "filter cannot be used: unknown_operator at /a/b~1c/$canary")
	require.True(t, got.Quarantined())
	got = readOne(t, s, "w2")
	require.Nil(t, got.Filter)
	require.Empty(t, got.Secrets)
	require.ErrorIs(t, got.Broken, secret.ErrTampered, "the envelope of another row")
	require.False(t, got.Quarantined())

	got = readOne(t, open(t, db), "w2")
	require.ErrorContains(t, got.Broken, "no master key file")
}

func TestEveryFilterThatCannotBeUsedIsNamedByCodeAndPlace(t *testing.T) {
	db := newDB(t)
	db.Exec(`alter table zapier_webhooks alter filters drop not null, drop constraint zapier_webhooks_filters_check,
		drop constraint zapier_webhooks_filters_size_check`)
	for id, c := range map[string]struct{ filter, want string }{
		"null":     {`null`, "not_object"},
		"json":     {`'null'`, "not_object"},
		"array":    {`'[]'`, "not_object"},
		"typo":     {`'{"n": {"$gtee": 1}}'`, "unknown_operator at /n/$gtee"},
		"mixed":    {`'{"n": {"$gt": 1, "m": 2}}'`, "mixed_object at /n/$gt"},
		"operand":  {`'{"n": {"$in": []}}'`, "bad_operand at /n/$in"},
		"position": {`'{"n": {"$changed": ["a"]}}'`, "bad_position at /n/$changed"},
		"size":     {`jsonb_build_object('n', repeat('x', 20000))`, "too_large"},
		"fine":     {`'{"n": {"$gt": 1}}'`, ""},
	} {
		subscribe(db, id)
		db.Exec(`update zapier_webhooks set filters = `+c.filter+` where id = $1`, id)
		got := readOne(t, open(t, db), id)
		if c.want == "" {
			require.NoError(t, got.Broken)
			continue
		}
		require.EqualError(t, got.Broken, "filter cannot be used: "+c.want, id)
		require.Nil(t, got.Filter, id)
		require.True(t, got.Quarantined(), id)
	}
	var all []string
	require.NoError(t, open(t, db).All(t.Context(), func(s relay.Subscription) error { all = append(all, s.ID); return nil }))
	require.Len(t, all, 9, "a bad row keeps nobody from being read")
}

func TestAllCallsBackForEveryRowInPages(t *testing.T) {
	db := newDB(t)
	db.Exec(`insert into zapier_webhooks (id, user_id, target_url, event_type)
	         select 'w' || n, 'u1', 'https://hooks.example.com/' || n, 'thing.updated' from generate_series(1, 2500) n`)
	s := open(t, db)
	seen := map[string]bool{}
	require.NoError(t, s.All(t.Context(), func(sub relay.Subscription) error { seen[sub.ID] = true; return nil }))
	require.Len(t, seen, 2500)

	enough := errors.New("enough")
	require.ErrorIs(t, s.All(t.Context(), func(relay.Subscription) error { return enough }), enough)
}

func TestPlainSecretsAreSealedOnceTheyWereSeen(t *testing.T) {
	db := newDB(t)
	db.Exec(`insert into zapier_webhooks (id, user_id, target_url, event_type, signing_secret)
	         select 'w' || n, 'u1', 'https://hooks.example.com/' || n, 'thing.updated', case when n % 2 = 0 then $1 || n end
	         from generate_series(1, 500) n`, plainSecret)
	s := open(t, db, withKey(t))
	n, err := s.SealPlaintext(t.Context())
	require.NoError(t, err)
	require.Zero(t, n, "nothing was seen yet")

	require.NoError(t, s.All(t.Context(), func(relay.Subscription) error { return nil }))
	n, err = s.SealPlaintext(t.Context())
	require.NoError(t, err)
	require.Equal(t, 250, n)
	require.Zero(t, pgtest.One[int](db, `select count(*) from zapier_webhooks where signing_secret like 'whsec_%'`))
	require.Equal(t, 250, pgtest.One[int](db, `select count(*) from zapier_webhooks where signing_secret like 'enc:v1:k1:%'`))
	got := readOne(t, s, "w44")
	require.NoError(t, got.Broken)
	require.Equal(t, plainSecret+"44", got.Secrets[0].Reveal())
	n, err = s.SealPlaintext(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestMoreSecretsThanAreRememberedAreSealedCallByCall(t *testing.T) {
	db := newDB(t)
	db.Exec(`insert into zapier_webhooks (id, user_id, target_url, event_type, signing_secret)
	         select 'w' || n, 'u1', 'https://hooks.example.com/' || n, 'thing.updated', $1 from generate_series(1, 10300) n`, plainSecret)
	s := open(t, db, withKey(t))
	require.NoError(t, s.All(t.Context(), func(relay.Subscription) error { return nil }))
	for _, want := range []int{10_000, 300, 0} {
		n, err := s.SealPlaintext(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
}

func TestWithoutAKeyASecretStaysPlain(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	db.Exec(`update zapier_webhooks set signing_secret = $1`, plainSecret)
	s := open(t, db)
	require.Equal(t, plainSecret, readOne(t, s, "w1").Secrets[0].Reveal())
	n, err := s.SealPlaintext(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.Equal(t, plainSecret, pgtest.One[string](db, `select signing_secret from zapier_webhooks`))
}

func TestSealingWaitsForNobodyAndSealsWhatIsThere(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	subscribe(db, "w2")
	db.Exec(`update zapier_webhooks set signing_secret = $1`, plainSecret)
	s := open(t, db, withKey(t))
	require.NoError(t, s.All(t.Context(), func(relay.Subscription) error { return nil }))

	tx := begin(t, db, `update zapier_webhooks set signing_secret = 'whsec_new' where id = 'w1'`)
	n, err := s.SealPlaintext(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, tx.Commit(t.Context()))
	n, err = s.SealPlaintext(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n, "the locked row is remembered")
	require.Equal(t, "whsec_new", readOne(t, s, "w1").Secrets[0].Reveal())
}

// Mirrors the figure of the load at start: ready within seconds.
func TestAHundredThousandSubscriptionsLoadWithinSeconds(t *testing.T) {
	db := newDB(t)
	db.Exec(`insert into zapier_webhooks (id, user_id, target_url, event_type, filters)
	         select 'w' || n, 'u1', 'https://hooks.example.com/' || n, 'thing.updated',
	                jsonb_build_object('type', 'Function', 'ns', 'ns' || n % 50000)
	         from generate_series(1, 100000) n`)
	s := open(t, db)
	start, n := time.Now(), 0
	require.NoError(t, s.All(t.Context(), func(sub relay.Subscription) error {
		if sub.Filter != nil {
			n++
		}
		return nil
	}))
	require.Equal(t, 100_000, n)
	t.Logf("100,000 subscriptions in %s", time.Since(start).Round(time.Millisecond))
	require.Less(t, time.Since(start), 20*time.Second)
}

func TestATimeOfCreationThatIsNoClocksHidesNoEvent(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	s := open(t, db)
	for _, written := range []string{"now() + interval '2 seconds'", "'infinity'", "'-infinity'"} {
		db.Exec(`update zapier_webhooks set created_at = ` + written)
		rows, err := s.Read(t.Context(), []string{"w1"})
		require.NoError(t, err)
		require.True(t, rows[0].CreatedAt.Equal(time.Unix(0, 0)), written)
	}
}

func TestATransactionHasEndedWhenOthersSeeWhatItWrote(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	s := open(t, db)
	tx := begin(t, db, `update zapier_webhooks set max_retries = 9 where id = 'w1'`)
	var xid uint32
	require.NoError(t, tx.QueryRow(t.Context(), `select pg_current_xact_id()::xid`).Scan(&xid))

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Ended(short, []uint32{3, xid}), context.DeadlineExceeded)
	committed := make(chan error, 1)
	time.AfterFunc(30*time.Millisecond, func() { committed <- tx.Commit(context.Background()) })
	require.NoError(t, s.Ended(t.Context(), []uint32{3, xid}))
	require.NoError(t, <-committed)
	require.Equal(t, 9, readOne(t, s, "w1").MaxRetries)
	require.NoError(t, s.Ended(t.Context(), nil))
}
