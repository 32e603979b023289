package pgstore_test

import (
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

func plainAt(sub relay.Subscription, at time.Time) []string {
	var out []string
	for _, s := range sub.SecretsAt(at) {
		out = append(out, s.Reveal())
	}
	return out
}

func rotate(t *testing.T, s *pgstore.Store, id, plain string, overlap time.Duration) time.Time {
	t.Helper()
	until, err := s.RotateSecret(t.Context(), id, pgstore.Rotation{Secret: secret.New(plain), Overlap: overlap})
	require.NoError(t, err)
	return until
}

func TestBothSecretsAreValidUntilTheOverlapEnds(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	for _, s := range []*pgstore.Store{open(t, db, withKey(t)), open(t, db)} {
		db.Exec(`delete from webhook_previous_secrets`)
		db.Exec(`update zapier_webhooks set signing_secret = $1`, plainSecret)
		until := rotate(t, s, "w1", "whsec_bmV3", time.Hour)
		require.WithinDuration(t, time.Now().Add(time.Hour), until, time.Minute)
		sub := readOne(t, s, "w1")
		require.NoError(t, sub.Broken)
		require.Equal(t, []string{"whsec_bmV3", plainSecret}, plainAt(sub, time.Now()))
		require.Equal(t, []string{"whsec_bmV3", plainSecret}, plainAt(sub, until.Add(-time.Nanosecond)))
		require.Equal(t, []string{"whsec_bmV3"}, plainAt(sub, until), "without reading the row again")
	}
}

func TestARotationInSQLTakesTheEnvelopeAsItIs(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	s := open(t, db, withKey(t))
	rotate(t, s, "w1", plainSecret, 0)
	db.Exec(`insert into webhook_previous_secrets (webhook_id, signing_secret, valid_until)
	         select id, signing_secret, now() + interval '1 day' from zapier_webhooks where id = 'w1'`)
	db.Exec(`update zapier_webhooks set signing_secret = 'whsec_bmV3' where id = 'w1'`)
	require.Equal(t, []string{"whsec_bmV3", plainSecret}, plainAt(readOne(t, s, "w1"), time.Now()))
}

func TestANewSecretIsSealedAndNeverStoredPlainUnderAKey(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	s := open(t, db, withKey(t))
	require.True(t, rotate(t, s, "w1", plainSecret, time.Hour).IsZero(), "there was none before")
	require.False(t, rotate(t, s, "w1", "whsec_bmV3", time.Hour).IsZero())
	stored := pgtest.One[string](db, `
		select w.signing_secret || ' ' || p.signing_secret from zapier_webhooks w join webhook_previous_secrets p on p.webhook_id = w.id`)
	require.Regexp(t, `^enc:v1:k1:\S+ enc:v1:k1:\S+$`, stored)
}

func TestAnEarlierOverlapIsNotCutShortUnlessAsked(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	s := open(t, db)
	rotate(t, s, "w1", "whsec_MQ==", time.Hour)
	until := rotate(t, s, "w1", "whsec_Mg==", time.Hour)
	_, err := s.RotateSecret(t.Context(), "w1", pgstore.Rotation{Secret: secret.New("whsec_Mw=="), Overlap: time.Hour})
	var overlap *pgstore.OverlapError
	require.ErrorAs(t, err, &overlap)
	require.True(t, until.Equal(overlap.Until))
	require.Equal(t, []string{"whsec_Mg==", "whsec_MQ=="}, plainAt(readOne(t, s, "w1"), time.Now()), "nothing changed")

	_, err = s.RotateSecret(t.Context(), "w1", pgstore.Rotation{Secret: secret.New("whsec_Mw=="), Overlap: time.Hour, Force: true})
	require.NoError(t, err)
	require.Equal(t, []string{"whsec_Mw==", "whsec_Mg=="}, plainAt(readOne(t, s, "w1"), time.Now()))
	require.True(t, rotate(t, s, "w1", "whsec_NA==", 0).IsZero())
	require.Equal(t, []string{"whsec_NA=="}, plainAt(readOne(t, s, "w1"), time.Now()), "no overlap ends every earlier secret")

	_, err = s.RotateSecret(t.Context(), "nobody", pgstore.Rotation{Secret: secret.New("whsec_Mw==")})
	require.ErrorIs(t, err, pgstore.ErrNoWebhook)
}

func TestPreviousSecretsAreSealedOnceTheyWereSeen(t *testing.T) {
	db := newDB(t)
	for _, id := range []string{"valid", "over", "alone"} {
		subscribe(db, id)
	}
	s := open(t, db, withKey(t))
	rotate(t, s, "over", plainSecret, 0)
	db.Exec(`update zapier_webhooks set signing_secret = $1 where id = 'valid'`, plainSecret)
	db.Exec(`insert into webhook_previous_secrets (webhook_id, signing_secret, valid_until)
	         select id, 'whsec_b2xk', now() + case id when 'over' then interval '-1 hour' else interval '1 hour' end from zapier_webhooks`)
	require.NoError(t, s.All(t.Context(), func(relay.Subscription) error { return nil }))
	n, err := s.SealPlaintext(t.Context())
	require.NoError(t, err)
	require.Equal(t, 4, n)
	require.Zero(t, pgtest.One[int](db, `select count(*) from zapier_webhooks where signing_secret like 'whsec_%'`))
	require.Equal(t, 3, pgtest.One[int](db, `select count(*) from webhook_previous_secrets where signing_secret like 'enc:v1:k1:%'`))
	require.Equal(t, []string{plainSecret, "whsec_b2xk"}, plainAt(readOne(t, s, "valid"), time.Now()))
	require.Equal(t, []string{plainSecret}, plainAt(readOne(t, s, "over"), time.Now()))
	require.Empty(t, plainAt(readOne(t, s, "alone"), time.Now()), "without a present secret requests are unsigned")
	n, err = s.SealPlaintext(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestAPreviousSecretThatCannotBeOpenedBreaksTheRowWhileItIsValid(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	db.Exec(`update zapier_webhooks set signing_secret = 'whsec_bmV3'`)
	db.Exec(`insert into webhook_previous_secrets values ('w1', $1, now() + interval '1 hour')`,
		"enc:v1:lost:"+strings.Repeat("A", 16)+":"+strings.Repeat("A", 43))
	s := open(t, db, withKey(t))
	sub := readOne(t, s, "w1")
	require.ErrorContains(t, sub.Broken, "webhook_previous_secrets")
	require.ErrorContains(t, sub.Broken, `"lost"`)
	require.Nil(t, sub.Filter)
	db.Exec(`update webhook_previous_secrets set valid_until = now()`)
	require.NoError(t, readOne(t, s, "w1").Broken)
}

func TestOpenTellsToMigrateADatabaseWithoutTheTableOfRotation(t *testing.T) {
	db := newDB(t)
	require.NoError(t, migrations.Down(t.Context(), db.Pool, 21, migrations.Options{}))
	var setup *relay.SetupError
	require.ErrorAs(t, openError(t, db.URL), &setup)
	require.ErrorContains(t, setup, "lacks the tables relay_parked_events, webhook_previous_secrets")
	require.Equal(t, "run `relay migrate up`", setup.Remedy)
}
