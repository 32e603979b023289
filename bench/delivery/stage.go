package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/bench/rig"
	"github.com/dot-do/relay/internal/pgproc"
)

const (
	database    = "postgres"
	publication = "relay_bench"
)

// stage is what all parts share: the private Postgres, with the relay's tables and one of
// the benchmark's, and the receiver.
type stage struct {
	dir, relay string
	server     *pgproc.Server
	db         *pgx.Conn
	receiver   *receiver
	version    string
	statements bool  // the server can count them
	slots      int   // so far, for their names
	next       int64 // id of the next row
}

// schema makes a table whose rows raise events with a body of some 700 bytes.
const schema = `
create table bench_rows (
	id bigint primary key, ns text not null, kind text not null, status text not null, amount numeric(12,2) not null,
	data jsonb not null, content text not null, created_at timestamptz not null);
create table bench_quiet (like bench_rows including all);
insert into zapier_webhook_events (event_type, category, description) values ('bench.created', 'bench', 'a row was inserted');
insert into event_mappings (event_type, source_table, operation, audience) values ('bench.created', 'public.bench_rows', 'insert', 'everyone');
insert into users (id, email) values ('bench', 'bench@example.com');
`

// The table whose rows raise events, and one like it whose rows nobody captures.
const (
	loud  = "bench_rows"
	quiet = "bench_quiet"
)

// insertRows makes the rows from $1 to $2, for $3 subscriptions in turns.
func insertRows(table string) string {
	return `
		insert into ` + table + `
		select i, 'n' || i % $3::int, 'Function', 'new', i % 1000 * 0.37, jsonb_build_object('title', 'Row ' || i, 'tags', array['a', 'b'], 'score', i % 100),
		       repeat(md5(i::text), 5), clock_timestamp()
		from generate_series($1::bigint, $2::bigint) i`
}

// openStage starts the servers and lets the relay set Postgres up.
func openStage(ctx context.Context, dir, binary string, synced bool) (s *stage, err error) {
	s = &stage{dir: dir, relay: binary, next: 1}
	settings := map[string]string{
		"shared_buffers": "256MB", "max_wal_size": "8GB", "checkpoint_timeout": "1h", "max_replication_slots": "20", "max_wal_senders": "20",
		"jit": "off", "track_wal_io_timing": "off",
	}
	if !synced {
		settings["fsync"], settings["full_page_writes"] = "off", "off"
	}
	if s.statements, err = hasStatements(); err != nil {
		return nil, err
	}
	if s.statements {
		settings["shared_preload_libraries"], settings["pg_stat_statements.track"] = "pg_stat_statements", "none"
	}
	if s.server, err = pgproc.Start(ctx, pgproc.Config{Dir: filepath.Join(dir, "postgres"), Settings: settings}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(context.WithoutCancel(ctx)))
		}
	}()
	if s.db, err = pgx.Connect(ctx, s.server.URL(database)); err != nil {
		return nil, err
	}
	if err := s.db.QueryRow(ctx, "show server_version").Scan(&s.version); err != nil {
		return nil, err
	}
	env := s.environ("bench_setup")
	if err := s.command(ctx, env, "migrate", "up"); err != nil {
		return nil, err
	}
	if _, err := s.db.Exec(ctx, schema); err != nil {
		return nil, err
	}
	if s.statements {
		if _, err := s.db.Exec(ctx, "create extension pg_stat_statements"); err != nil {
			return nil, err
		}
	}
	if err := s.command(ctx, env, "setup"); err != nil {
		return nil, err
	}
	if err := s.dropSlot(ctx, "bench_setup"); err != nil {
		return nil, err
	}
	s.receiver, err = startReceiver(ctx)
	return s, err
}

// hasStatements tells whether pg_stat_statements is installed beside the server programs.
func hasStatements() (bool, error) {
	bin, err := pgproc.Find()
	if err != nil {
		return false, err
	}
	for _, lib := range []string{filepath.Join(bin, "../lib"), filepath.Join(bin, "../lib/postgresql")} {
		if _, err := os.Stat(filepath.Join(lib, "pg_stat_statements.so")); err == nil {
			return true, nil
		}
	}
	return false, nil
}

func (s *stage) close(ctx context.Context) error {
	if s.receiver != nil {
		s.receiver.Kill()
	}
	if s.db != nil {
		_ = s.db.Close(ctx)
	}
	return s.server.Stop(pgproc.Immediate)
}

// environ is the whole environment of a relay with a slot.
func (s *stage) environ(slot string, more ...string) []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir,
		"RELAY_DATABASE_URL=" + s.server.URL(database), "RELAY_SLOT=" + slot, "RELAY_PUBLICATION=" + publication,
		"RELAY_LISTEN=127.0.0.1:0", "RELAY_LOG_FORMAT=json", "RELAY_EGRESS_ALLOW=127.0.0.1/32", "RELAY_EGRESS_HTTP=true", "RELAY_DRAIN_TIMEOUT=4s",
	}, more...)
}

// command runs a command of the relay that ends by itself.
func (s *stage) command(ctx context.Context, env []string, args ...string) error {
	c, err := rig.Start(ctx, env, s.relay, args...)
	if err != nil {
		return err
	}
	<-c.Done
	if c.Exit != nil {
		return errors.Join(c.Exit, c.Failure(args[0]+" failed"))
	}
	return nil
}

// dropSlot waits until nobody reads the slot.
func (s *stage) dropSlot(ctx context.Context, name string) error {
	const sql = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1"
	_, err := s.db.Exec(ctx, sql, name)
	for tries := 0; err != nil && tries < 100; tries++ {
		if waited := rig.Wait(ctx, look); waited != nil {
			return waited
		}
		_, err = s.db.Exec(ctx, sql, name)
	}
	return err
}

// population are the subscriptions of a scene. Each takes the events of its own ns, or
// all of them.
type population struct {
	hooks     int
	all       bool // every subscription takes every event
	hang, bad int  // the first ones hang, the next ones answer 500
}

// path of a subscription's endpoint.
func (p population) path(i int) string {
	switch {
	case i < p.hang:
		return fmt.Sprint("/hang/", i)
	case i < p.hang+p.bad:
		return fmt.Sprint("/fail/", i)
	}
	return fmt.Sprint("/ok/", i)
}

// secretOf is the signing secret of every subscription.
const secretOf = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // of a test, made up

// history is how many rows of former deliveries the log holds. Plans that Postgres makes
// for an empty log are bad ones for a while, which says nothing about a log in use.
const history = 10_000

// populate replaces all subscriptions, and forgets what was delivered to them. It does so
// over a connection of its own: what that wrote is in the statistics when it is closed.
func (s *stage) populate(ctx context.Context, p population) error {
	db, err := pgx.Connect(ctx, s.server.URL(database))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close(context.WithoutCancel(ctx)) }()
	if _, err := db.Exec(ctx, "truncate bench_rows, bench_quiet, zapier_webhooks, zapier_webhook_logs, webhook_deliveries, webhook_dead_letters cascade"); err != nil {
		return err
	}
	paths := make([]string, p.hooks)
	for i := range paths {
		paths[i] = s.receiver.url + p.path(i)
	}
	filter := "jsonb_build_object('ns', 'n' || i - 1)"
	if p.all {
		filter = "'{}'::jsonb"
	}
	_, err = db.Exec(ctx, `
		insert into zapier_webhooks (id, user_id, target_url, event_type, filters, signing_secret, max_triggers_per_hour)
		select 'w' || i - 1, 'bench', url, 'bench.created', `+filter+`, $2, 2000000000
		from unnest($1::text[]) with ordinality as x (url, i)`, paths, secretOf)
	if err != nil {
		return err
	}
	_, err = db.Exec(ctx, `
		insert into zapier_webhook_logs (webhook_id, event_type, event_id, target_url, status, payload, delivered_at)
		select 'w' || i % $2::int, 'bench.created', 'evt_before_' || i, 'http://127.0.0.1/', 'success', jsonb_build_object('id', i, 'data', repeat(md5(i::text), 20)), now()
		from generate_series(1, $1::int) i`, history, p.hooks)
	if err != nil {
		return err
	}
	if _, err := db.Exec(ctx, "vacuum analyze"); err != nil {
		return err
	}
	_, err = db.Exec(ctx, "checkpoint")
	return err
}

// copyLog writes the rows of the log once more, in one statement, and returns how many of
// them the server writes a second when nobody else wants anything.
func (s *stage) copyLog(ctx context.Context) (float64, error) {
	if _, err := s.db.Exec(ctx, "create temporary table bench_log as select * from zapier_webhook_logs where event_id not like 'evt\\_before%'; update bench_log set id = 'again' || id"); err != nil {
		return 0, err
	}
	begin := time.Now()
	tag, err := s.db.Exec(ctx, "insert into zapier_webhook_logs select * from bench_log")
	took := time.Since(begin)
	if err != nil {
		return 0, err
	}
	_, err = s.db.Exec(ctx, "drop table bench_log")
	return float64(tag.RowsAffected()) / took.Seconds(), err
}

// tidy removes what the relays of ended scenes left in the directory.
func (s *stage) tidy() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "relay-") {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	return err
}
