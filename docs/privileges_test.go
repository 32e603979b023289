package docs_test

import (
	"context"
	"encoding/base64"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/migrations"
	"github.com/dot-do/relay/outbox"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgsource"
	"github.com/dot-do/relay/relay/pgstore"
)

// as returns the URL of the database for another role.
func as(t *testing.T, db *pgtest.DB, role string) secret.String {
	t.Helper()
	u, err := url.Parse(db.URL)
	require.NoError(t, err)
	u.User = url.UserPassword(role, "change-me")
	return secret.New(u.String())
}

// documented returns a database on which the page's first two blocks were run: they
// make the roles. Roles are of the cluster, so they are dropped at the end.
func documented(t *testing.T) *pgtest.DB {
	t.Helper()
	db := migrated(t)
	for _, sql := range statements(t, databasePage)[:2] {
		db.Exec(sql)
	}
	t.Cleanup(func() {
		db.Exec(`drop publication if exists relay; drop owned by relay, app_writer; drop role relay, app_writer`)
	})
	return db
}

func TestTheDocumentedPrivilegesAreEnoughForDelivery(t *testing.T) {
	db, ctx := documented(t), t.Context()
	db.Exec(`insert into users (id, email) values ('user-1', 'ada@example.com')`)
	db.Exec(`insert into zapier_webhooks (id, user_id, target_url, event_type, signing_secret)
		select id, 'user-1', 'https://hooks.example.com/' || id, 'thing.created', 'whsec_c2VjcmV0' from unnest(array['ok', 'later', 'dead', 'gone']) as id`)
	ring, _, err := secret.Load(keyFile(t))
	require.NoError(t, err)
	store, err := pgstore.Open(ctx, pgstore.Config{URL: as(t, db, "relay"), Keyring: ring})
	require.NoError(t, err)
	defer store.Close()

	require.NoError(t, store.All(ctx, func(relay.Subscription) error { return nil }))
	sealed, err := store.SealPlaintext(ctx)
	require.NoError(t, err)
	require.Equal(t, 4, sealed)
	require.NoError(t, store.Settle(ctx, []relay.Outcome{
		outcome("ok", relay.Delivered, 204), outcome("later", relay.Retry, 503), outcome("dead", relay.Dead, 500), outcome("gone", relay.Gone, 410),
	}))
	due, lease, err := store.Claim(ctx, 10, time.Minute, relay.Busy{})
	require.NoError(t, err)
	require.Len(t, due, 1)
	require.NoError(t, store.Renew(ctx, []string{lease}, time.Minute))
	require.NoError(t, store.Free(ctx, lease, due))
	due, lease, err = store.Claim(ctx, 10, time.Minute, relay.Busy{})
	require.NoError(t, err)
	again := outcome("later", relay.Delivered, 204)
	again.Delivery, again.Leased, again.Attempt.Number = due[0], lease, 2
	require.NoError(t, store.Settle(ctx, []relay.Outcome{again}))
	_, _, err = store.ClaimOne(ctx, []string{due[0].SubscriptionID}, time.Minute, 0)
	require.NoError(t, err)
	grant, err := store.Draw(ctx, []relay.QuotaRequest{{SubscriptionID: due[0].SubscriptionID, Limit: 10, Need: 2}})
	require.NoError(t, err)
	require.NoError(t, store.PutBack(ctx, grant.Hour, map[string]int{due[0].SubscriptionID: 1}))
	db.Exec(`insert into zapier_webhook_logs (id, event_type, status, created_at) values ('old', 'thing.created', 'failed', now() - interval '100 days')`)
	swept, err := store.SweepLogs(ctx, 90)
	require.NoError(t, err)
	require.EqualValues(t, 1, swept.Deleted)
	require.Equal(t, int64(2), pgtest.One[int64](db, `select sum(success_count)::bigint from zapier_webhooks`))
}

func TestTheDocumentedPrivilegesAreEnoughForCapture(t *testing.T) {
	db, ctx := documented(t), t.Context()
	store, err := pgstore.Open(ctx, pgstore.Config{URL: as(t, db, "relay")})
	require.NoError(t, err)
	defer store.Close()
	catalog, err := store.Current(ctx, "")
	require.NoError(t, err)
	require.NoError(t, store.SaveAsOf(ctx, "relay_docs", 1, catalog, 1))
	require.NoError(t, store.Save(ctx, relay.Checkpoint{Slot: "relay_docs", SystemID: "1", Timeline: 1, Lineage: "a"}))

	backfill, err := store.RequestBackfill(ctx, relay.Backfill{Slot: "relay_docs", Table: "public.orders"})
	require.NoError(t, err)
	chunk, err := store.ClaimBackfill(ctx, &backfill.Backfill, "me")
	require.NoError(t, err)
	require.NoError(t, store.SaveChunk(ctx, backfill.ID, "me", relay.Chunk{Number: chunk}))
	require.NoError(t, store.FinishBackfill(ctx, backfill.ID, "me", relay.BackfillDone, "", relay.Progress{}))

	require.NoError(t, store.SaveAudit(ctx, "relay_docs", relay.Audit{Stream: "EVENTS"}))
	hole := relay.Hole{Stream: "EVENTS", Reason: relay.HoleMissing, Before: relay.StreamPlace{Seq: 2}}
	require.NoError(t, store.AddHole(ctx, "relay_docs", hole))
	require.NoError(t, store.NoteRecord(ctx, "relay_docs", hole, 3))
	require.NoError(t, store.DropHole(ctx, "relay_docs", hole))
	_, _, err = store.LoadAudit(ctx, "relay_docs")
	require.NoError(t, err)

	require.NoError(t, store.Park(ctx, "relay_docs", []relay.ParkedEvent{{ID: "evt_1", Type: "thing.created"}}))
	parked, err := store.ParkedEvents(ctx, pgstore.ParkedQuery{Slot: "relay_docs"}, relay.Position{}, 1)
	require.NoError(t, err)
	_, err = store.Release(ctx, "relay_docs", parked, "me")
	require.NoError(t, err)
	_, err = store.SweepLogs(ctx, 1)
	require.NoError(t, err)

	pool, err := pgxpool.New(ctx, as(t, db, "relay").Reveal())
	require.NoError(t, err)
	defer pool.Close()
	_, err = migrations.Status(ctx, pool)
	require.NoError(t, err)

	control := relay.DefaultControlTables()
	cfg := pgsource.Config{
		URL: as(t, db, "relay"), Slot: "relay_docs", Publication: "relay", CreateSlot: true,
		Tables: catalog.Tables(), ControlTables: control.Names(),
	}
	var setup *relay.SetupError
	_, err = pgsource.Open(ctx, cfg)
	require.ErrorAs(t, err, &setup)

	steps, err := pgsource.Plan(ctx, cfg)
	require.NoError(t, err)
	for _, sql := range steps.SQL { // the DBA's part
		db.Exec(sql)
	}
	source, err := pgsource.Open(ctx, cfg)
	require.NoError(t, err)
	require.NoError(t, source.Start(ctx))
	require.NoError(t, source.Close(ctx))
}

func TestTheDocumentedPrivilegesAreEnoughForTheOutbox(t *testing.T) {
	db := documented(t)
	tx, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), `set local role app_writer`)
	require.NoError(t, err)
	_, err = outbox.Append(t.Context(), tx, outbox.Event{Type: "function.called", Payload: map[string]any{"id": "fn-1"}})
	require.NoError(t, err)
}

// keyFile writes a master key file.
func keyFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "master.keys")
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	require.NoError(t, os.WriteFile(name, []byte("k1:"+key+"\n"), 0o600))
	return name
}

// outcome is what became of the first attempt of one delivery.
func outcome(subscription string, kind relay.OutcomeKind, status int) relay.Outcome {
	return relay.Outcome{
		Delivery: relay.Delivery{
			EventID: "evt_" + strings.Repeat("a", 26), EventType: "thing.created", SubscriptionID: subscription, Body: []byte(`{}`), StreamSeq: 1, CommitLSN: 1,
		},
		Kind:    kind,
		Attempt: &relay.Attempt{Number: 1, StartedAt: time.Now(), TargetURL: "https://hooks.example.com/" + subscription, StatusCode: status},
	}
}
