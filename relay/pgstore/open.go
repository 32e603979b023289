package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
)

const (
	connectTimeout = 10 * time.Second
	// operationTimeout ends what a dead connection would hold up for ever.
	operationTimeout = 30 * time.Second
	// closeTimeout bounds what Close may still write.
	closeTimeout = 3 * time.Second
)

// Config configures a Store.
type Config struct {
	URL      secret.String   // required: connection string of the database
	Keyring  *secret.Keyring // opens and seals signing secrets; nil: sealed ones cannot be used
	MaxConns int             // size of the pool; defaults to 8
	// DisableAfter is how long every attempt of a subscription must have failed before
	// Settle switches it off; 0 never does.
	DisableAfter time.Duration
	// Disabled is told of subscriptions that Settle switched off, and why. Optional.
	Disabled func(id, reason string)
	Log      LogRules     // what the delivery log does not get
	Logger   *slog.Logger // defaults to slog.Default()
}

// Store is the relay's state in one database.
type Store struct {
	pool    *pgxpool.Pool
	keyring *secret.Keyring
	log     *slog.Logger
	off     switchOff
	rules   *redactor

	plain   plainSecrets
	carried carried
	locked  lockedRows
	leases  leases
	closing sync.Once

	quotaHour atomic.Int64 // Unix time of the hour that was drawn from last
}

var (
	_ relay.Checkpoints = (*Store)(nil)
	_ relay.Registry    = (*Store)(nil)
	_ relay.Parking     = (*Store)(nil)
)

// tables are what Open looks for.
func tables() []string {
	return []string{
		"zapier_webhook_events", "zapier_webhooks", "zapier_webhook_logs", "event_mappings", "outbox_events",
		"relay_checkpoints", "relay_catalog_versions", "webhook_deliveries", "webhook_dead_letters", "rate_limit_windows",
		"relay_backfills", "relay_backfill_chunks", "webhook_previous_secrets", "relay_parked_events",
	}
}

// Open connects, and checks that the migrations were run. A *relay.SetupError
// means that somebody has to change something first; any other error may pass.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	pc, err := pgxpool.ParseConfig(cfg.URL.Reveal())
	if err != nil {
		// What the parser says quotes the connection string.
		return nil, &relay.SetupError{
			Err:    errors.New("the database URL is no connection string"),
			Remedy: "write it as postgres://user:password@host:5432/database",
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = 8
	}
	pc.MaxConns = int32(min(cfg.MaxConns, 1000))
	pc.MinConns = 1
	pc.MaxConnLifetime = time.Hour
	pc.MaxConnLifetimeJitter = 5 * time.Minute
	pc.MaxConnIdleTime = 5 * time.Minute
	pc.HealthCheckPeriod = 30 * time.Second
	pc.ConnConfig.ConnectTimeout = connectTimeout
	params := pc.ConnConfig.RuntimeParams
	params["application_name"] = "relay"
	// Row level security would leave rows out in silence; so it is an error.
	params["row_security"] = "off"
	// A stopped process must not hold its row locks for ever.
	params["idle_in_transaction_session_timeout"] = "30s"
	pc.AfterConnect = insistOnDurability

	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", clean(err))
	}
	s := &Store{pool: pool, keyring: cfg.Keyring, log: cfg.Logger.With("component", "pgstore"), off: switchOff{after: cfg.DisableAfter, told: cfg.Disabled}, rules: newRedactor(cfg.Log)}
	if err := s.check(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

// insistOnDurability undoes synchronous_commit = off of a role or database: what a
// commit acknowledges here lets the slot and the stream forget it. Stronger
// settings stay.
func insistOnDurability(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'`)
	return err
}

// check connects for the first time and looks for the tables.
func (s *Store) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	var missing []string
	err := s.pool.QueryRow(ctx,
		`select coalesce(array_agg(name order by name), '{}') from unnest($1::text[]) as name where to_regclass(name) is null`,
		tables()).Scan(&missing)
	if err != nil {
		return explainConnect(err)
	}
	if len(missing) > 0 {
		return &relay.SetupError{
			Err:    fmt.Errorf("the database lacks the tables %s", strings.Join(missing, ", ")),
			Remedy: "run `relay migrate up`",
		}
	}
	return nil
}

// Health reports whether the database answers and can be written to.
func (s *Store) Health(ctx context.Context) error {
	var standby bool
	if err := s.pool.QueryRow(ctx, `select pg_is_in_recovery()`).Scan(&standby); err != nil {
		return fmt.Errorf("ask the database: %w", clean(err))
	}
	if standby {
		return errors.New("the database is a standby and cannot be written to; point the URL at the primary")
	}
	return nil
}

// Close writes the counters that are still held back, and gives up the
// connections. It waits for calls under way.
func (s *Store) Close() {
	s.closing.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		s.writeCarried(ctx, true)
		s.pool.Close()
	})
}

// explainConnect turns the failure of the first connection into something to act
// on. Where trying again cannot help it is a *relay.SetupError.
func explainConnect(err error) error {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return fmt.Errorf("open the database: %w; check that it runs, and host and port in RELAY_DATABASE_URL", clean(err))
	}
	user, database := "", ""
	if refused, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		user, database = refused.Config.User, refused.Config.Database
	}
	switch answer.Code {
	case "28P01":
		return &relay.SetupError{
			Err:    fmt.Errorf("the database refused the password of user %q", user),
			Remedy: "correct the password in the database URL",
		}
	case "28000":
		return &relay.SetupError{
			Err:    fmt.Errorf("the database does not let user %q in: %s", user, answer.Message),
			Remedy: "check the user in the database URL, and pg_hba.conf",
		}
	case "3D000":
		return &relay.SetupError{
			Err:    fmt.Errorf("there is no database %q on the server", database),
			Remedy: "correct the name in the database URL, or create the database",
		}
	}
	return fmt.Errorf("open the database: %w", clean(err))
}

// clean replaces errors of the driver that quote connection settings.
func clean(err error) error {
	refused, ok := errors.AsType[*pgconn.ConnectError](err)
	if !ok {
		return err
	}
	address := net.JoinHostPort(refused.Config.Host, fmt.Sprint(refused.Config.Port))
	var answer *pgconn.PgError
	var dial *net.OpError
	var dns *net.DNSError
	var cause error
	switch {
	case errors.As(err, &answer):
		cause = answer
	case errors.As(err, &dns):
		cause = dns
	case errors.As(err, &dial):
		cause = dial.Err
	case errors.Is(err, context.DeadlineExceeded):
		cause = context.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		cause = context.Canceled
	default:
		cause = errors.New("no connection")
	}
	return fmt.Errorf("connect to database server %s: %w", address, cause)
}
