package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/migrations"
	"github.com/dot-do/relay/relay"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" help:"Apply every migration that is missing."`
	Down   migrateDownCmd   `cmd:"" help:"Roll back the newest migration, or all above --to; rows are kept in schema migration_backup."`
	Status migrateStatusCmd `cmd:"" help:"List the migrations and what became of them."`
}

type migrateUpCmd struct {
	Samples bool `help:"Also make the sample tables things, relationships, agents, workflows and workflow_runs where the database has tables of its own."`
}

// Run applies what is missing, one line for each migration.
func (c *migrateUpCmd) Run(ctx context.Context, a *app) error {
	return a.withDatabase(ctx, func(pool *pgxpool.Pool, opts migrations.Options, done *int) error {
		opts.Samples = c.Samples
		if err := migrations.Up(ctx, pool, opts); err != nil {
			return err
		}
		if *done == 0 {
			fmt.Fprintln(a.stdout, "nothing to do: every migration is applied")
		}
		return nil
	})
}

type migrateDownCmd struct {
	To *int `help:"Roll back every migration above this number." placeholder:"N"`
}

// Run rolls back, newest first.
func (c *migrateDownCmd) Run(ctx context.Context, a *app) error {
	return a.withDatabase(ctx, func(pool *pgxpool.Pool, opts migrations.Options, done *int) error {
		to := migrations.OneStep
		if c.To != nil {
			if to = *c.To; to < 0 {
				return usageError{fmt.Errorf("--to %d: want the number of a migration, or 0", to)}
			}
		}
		if err := migrations.Down(ctx, pool, to, opts); err != nil {
			return err
		}
		if *done == 0 {
			fmt.Fprintln(a.stdout, "nothing to roll back")
		}
		return nil
	})
}

type migrateStatusCmd struct{}

// Run lists the migrations.
func (c *migrateStatusCmd) Run(ctx context.Context, a *app) error {
	return a.withDatabase(ctx, func(pool *pgxpool.Pool, _ migrations.Options, _ *int) error {
		states, err := migrations.Status(ctx, pool)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "MIGRATION\tSTATE\tAPPLIED")
		for _, s := range states {
			at := ""
			if !s.AppliedAt.IsZero() {
				at = s.AppliedAt.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, s.State, at)
		}
		return w.Flush()
	})
}

// withDatabase connects to source.url and prints one line for each step.
func (a *app) withDatabase(ctx context.Context, f func(pool *pgxpool.Pool, opts migrations.Options, done *int) error) error {
	cfg, err := config.Load(a.configPath, a.environ)
	if err != nil {
		return err
	}
	pool, err := openPool(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	log, _ := newLogger(a.stderr, cfg.Log)
	done := 0
	opts := migrations.Options{Logger: log, Progress: func(s migrations.Step) {
		done++
		fmt.Fprintf(a.stdout, "%-11s  %-32s %6d ms\n", s.Action, s.Name, s.Duration.Milliseconds())
	}}
	return f(pool, opts, &done)
}

// databaseTimeout is the patience of a command whose user waits.
const databaseTimeout = 10 * time.Second

// openPool connects for a command that cannot do without the database. Errors name
// the server, never the URL.
func openPool(ctx context.Context, cfg config.Config) (*pgxpool.Pool, error) {
	pc, err := pgxpool.ParseConfig(cfg.Source.URL.Reveal())
	if err != nil {
		return nil, &relay.SetupError{ //nolint:gosec // G101: an example of a URL
			Err:    errors.New("source.url is no connection string that Postgres understands"),
			Remedy: "set RELAY_DATABASE_URL to postgres://user:password@host:5432/database",
		}
	}
	pc.MaxConns = 2
	pc.ConnConfig.ConnectTimeout = databaseTimeout
	pc.ConnConfig.RuntimeParams["application_name"] = "relay"
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		at := net.JoinHostPort(pc.ConnConfig.Host, strconv.Itoa(int(pc.ConnConfig.Port)))
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
			return nil, &relay.SetupError{
				Err:    fmt.Errorf("postgres at %s refused the connection: %s (SQLSTATE %s)", at, pg.Message, pg.Code),
				Remedy: "check user, password and database in RELAY_DATABASE_URL",
			}
		}
		return nil, &relay.SetupError{
			Err:    fmt.Errorf("postgres at %s cannot be reached: %s", at, unreachable(err)),
			Remedy: "check that it runs, and host and port in RELAY_DATABASE_URL",
		}
	}
	return pool, nil
}

// unreachable names the cause; the driver's own text would quote parts of the URL.
func unreachable(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return "host name: " + dns.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer within " + databaseTimeout.String()
	}
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return "no connection with these settings, perhaps for its sslmode"
}
