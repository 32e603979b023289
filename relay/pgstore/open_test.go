package pgstore_test

import (
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgproc"
	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/migrations"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
	"github.com/dot-do/relay/relay/webhook"
)

var (
	_ webhook.Ledger        = (*pgstore.Store)(nil)
	_ webhook.Subscriptions = (*pgstore.Store)(nil)
)

func openError(t *testing.T, dsn string) error {
	t.Helper()
	_, err := pgstore.Open(t.Context(), pgstore.Config{URL: secret.New(dsn)})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "canary")
	require.NotContains(t, err.Error(), dsn)
	return err
}

func withURL(t *testing.T, db *pgtest.DB, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(db.URL)
	require.NoError(t, err)
	change(u)
	return u.String()
}

func TestOpenTellsToMigrateAnEmptyDatabase(t *testing.T) {
	var setup *relay.SetupError
	require.ErrorAs(t, openError(t, pgtest.New(t).URL), &setup)
	require.ErrorContains(t, setup, "zapier_webhooks")
	require.Equal(t, "run `relay migrate up`", setup.Remedy)
}

func TestOpenNamesWhatIsWrongAndNotTheConnectionString(t *testing.T) {
	db := newDB(t)
	var setup *relay.SetupError

	err := openError(t, withURL(t, db, func(u *url.URL) { u.Path = "/nowhere" }))
	require.ErrorAs(t, err, &setup)
	require.ErrorContains(t, err, `no database "nowhere"`)

	err = openError(t, "postgres://u:canary@[bad")
	require.ErrorAs(t, err, &setup)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	err = openError(t, "postgres://u:canary@"+address+"/db?sslmode=disable")
	require.NotErrorAs(t, err, new(*relay.SetupError), "a server may come back")
	require.ErrorContains(t, err, address)
	require.ErrorContains(t, err, "connection refused")
}

func TestOpenTellsARefusedPasswordFromAServerThatIsAway(t *testing.T) {
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	db := cluster.New(t)
	hba := pgtest.One[string](db, `show hba_file`)
	rules, err := os.ReadFile(hba)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(hba, append([]byte("host all ada all scram-sha-256\n"), rules...), 0o600))
	db.Exec(`create role ada login password 'right'`)
	db.Exec(`create role nobody nologin`)
	db.Exec(`select pg_reload_conf()`)

	wrong := withURL(t, db, func(u *url.URL) { u.User = url.UserPassword("ada", "canary") })
	var setup *relay.SetupError
	require.Eventually(t, func() bool { // the reload takes a moment
		_, err := pgstore.Open(t.Context(), pgstore.Config{URL: secret.New(wrong)})
		return errors.As(err, &setup) && strings.Contains(setup.Error(), `password of user "ada"`)
	}, eventually, poll)
	require.NotContains(t, setup.Error(), "canary")

	err = openError(t, withURL(t, db, func(u *url.URL) { u.User = url.User("nobody") }))
	require.ErrorAs(t, err, &setup)
	require.ErrorContains(t, err, `"nobody"`)
}

func TestCommitsAreDurableWhateverTheDatabaseSays(t *testing.T) {
	db := newDB(t)
	db.Exec(`alter database ` + db.Name + ` set synchronous_commit = off`)
	db.Exec(`create table seen (setting text);
		create function note() returns trigger language plpgsql as
		    $$ begin insert into seen values (current_setting('synchronous_commit')); return new; end $$;
		create trigger note before insert on relay_checkpoints for each row execute function note()`)
	s := open(t, db)
	require.NoError(t, s.Save(t.Context(), relay.Checkpoint{Slot: "relay", Lineage: "a"}))
	require.Equal(t, "on", pgtest.One[string](db, `select setting from seen`))
	require.Positive(t, pgtest.One[int](db, `select count(*) from pg_stat_activity where application_name = 'relay' and datname = $1`, db.Name))
}

func TestHealthFailsWhenTheServerIsAway(t *testing.T) {
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	db := cluster.New(t)
	require.NoError(t, migrations.Up(t.Context(), db.Pool, migrations.Options{}))
	s := open(t, db)
	require.NoError(t, s.Health(t.Context()))
	cluster.Stop(pgproc.Immediate)
	err := s.Health(t.Context())
	require.Error(t, err)
	require.NotContains(t, err.Error(), db.URL)
	cluster.Start()
	require.Eventually(t, func() bool { return s.Health(t.Context()) == nil }, eventually, poll)
}
