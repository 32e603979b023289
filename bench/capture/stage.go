package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/bench/rig"
	"github.com/dot-do/relay/internal/pgproc"
	"github.com/dot-do/relay/relay"
)

const (
	database    = "postgres"
	publication = "relay_bench"
)

// stage is the private Postgres, with the relay's tables and two of the benchmark's.
type stage struct {
	dir, relay string
	server     *pgproc.Server
	db         *pgx.Conn
	version    string
	slots      int   // so far, for their names
	next       int64 // id of the next row
}

// schema makes the tables and their mappings. Rows of bench_rows take about 360 bytes
// in the log; an update rule needs the old row as well. The rows of a huge transaction
// are small: it is their number that counts.
const schema = `
create table bench_rows (
	id bigint primary key, ns text not null, kind text not null, status text not null, amount numeric(12,2) not null,
	data jsonb not null, content text not null, created_at timestamptz not null, updated_at timestamptz not null);
create table bench_huge (id bigint primary key, note text not null);

create function bench_insert(first bigint, n int) returns void language sql as $$
	insert into bench_rows
	select i, 'bench', 'Function', 'new', i % 1000 * 0.37, jsonb_build_object('title', 'Row ' || i, 'tags', array['a', 'b'], 'score', i % 100),
	       repeat(md5(i::text), 5), clock_timestamp(), clock_timestamp()
	from generate_series(first, first + n - 1) i $$;
-- Of n changes 80 % are inserts; the rest updates the first of the rows.
create function bench_write(first bigint, n int) returns void language sql as $$
	select bench_insert(first, n - n / 5);
	update bench_rows set status = 'done', updated_at = clock_timestamp() where id >= first and id < first + n / 5 $$;
create procedure bench_commit(first bigint, transactions int, per int) language plpgsql as $$
begin
	for i in 0 .. transactions - 1 loop
		perform bench_write(first + i * per, per);
		commit;
	end loop;
end $$;

insert into zapier_webhook_events (event_type, category, description) values
	('bench.created', 'bench', 'a row was inserted'), ('bench.updated', 'bench', 'a row was updated');
insert into event_mappings (event_type, source_table, operation, audience) values
	('bench.created', 'public.bench_rows', 'insert', 'everyone'), ('bench.updated', 'public.bench_rows', 'update', 'everyone'),
	('bench.created', 'public.bench_huge', 'insert', 'everyone');
`

// openStage starts the server and lets the relay set it up. What the disk costs is not
// what is measured: the server does not wait for it.
func openStage(ctx context.Context, dir, binary string) (s *stage, err error) {
	s = &stage{dir: dir, relay: binary, next: 1}
	s.server, err = pgproc.Start(ctx, pgproc.Config{Dir: filepath.Join(dir, "postgres"), Settings: map[string]string{
		"shared_buffers": "256MB", "fsync": "off", "full_page_writes": "off", "autovacuum": "off", "max_wal_size": "8GB",
		"checkpoint_timeout": "1h", "max_replication_slots": "20", "max_wal_senders": "20", "jit": "off",
	}})
	if err != nil {
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
	if err := s.command(ctx, env, "setup"); err != nil {
		return nil, err
	}
	return s, s.dropSlot(ctx, "bench_setup")
}

func (s *stage) close(ctx context.Context) error {
	if s.db != nil {
		_ = s.db.Close(ctx)
	}
	return s.server.Stop(pgproc.Immediate)
}

// environ is the whole environment of a relay that reads a slot.
func (s *stage) environ(slot string, more ...string) []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir,
		"RELAY_DATABASE_URL=" + s.server.URL(database), "RELAY_SLOT=" + slot, "RELAY_PUBLICATION=" + publication,
		"RELAY_LISTEN=127.0.0.1:0",
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

// workload is a stretch of the log that is read again and again.
type workload struct {
	slot     string // stands before it
	changes  int
	from, to relay.LSN // its last commit is between them
	ordinal  uint32    // of the last change in its transaction
	key      string    // of the last row
	last     relay.Position
}

// transactions writes n changes, so many in each transaction.
func (s *stage) transactions(ctx context.Context, n, per int) (*workload, error) {
	first := s.next
	s.next += int64(n)
	w := &workload{changes: n, ordinal: uint32(per - 1), key: fmt.Sprint(first + int64(n-per) + int64(per/5) - 1)}
	return w, s.record(ctx, w, "call bench_commit($1, $2, $3)", first, n/per, per)
}

// record makes a slot and then runs the statement.
func (s *stage) record(ctx context.Context, w *workload, sql string, args ...any) (err error) {
	w.slot = s.slotName()
	if _, err := s.db.Exec(ctx, "select pg_create_logical_replication_slot($1, 'pgoutput')", w.slot); err != nil {
		return err
	}
	if _, err := s.db.Exec(ctx, "set synchronous_commit = off"); err != nil {
		return err
	}
	if w.from, err = s.end(ctx); err != nil {
		return err
	}
	if _, err := s.db.Exec(ctx, sql, args...); err != nil {
		return err
	}
	if w.to, err = s.end(ctx); err != nil {
		return err
	}
	// A commit that waits flushes everything before it.
	_, err = s.db.Exec(ctx, "set synchronous_commit = on; create table if not exists bench_flush (); drop table bench_flush")
	return err
}

// end of the log.
func (s *stage) end(ctx context.Context) (relay.LSN, error) {
	var text string
	if err := s.db.QueryRow(ctx, "select pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		return 0, err
	}
	return relay.ParseLSN(text)
}

func (s *stage) slotName() string {
	s.slots++
	return fmt.Sprintf("bench_%d", s.slots)
}

// copySlot returns a new slot at the place of another one.
func (s *stage) copySlot(ctx context.Context, from string) (string, error) {
	name := s.slotName()
	_, err := s.db.Exec(ctx, "select pg_copy_logical_replication_slot($1, $2)", from, name)
	return name, err
}

// dropSlot waits until nobody reads the slot.
func (s *stage) dropSlot(ctx context.Context, name string) error {
	_, err := s.db.Exec(ctx, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1", name)
	for tries := 0; err != nil && tries < 100; tries++ {
		if waited := rig.Wait(ctx, 50*time.Millisecond); waited != nil {
			return waited
		}
		_, err = s.db.Exec(ctx, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1", name)
	}
	return err
}

// confirmed is how far the slot was confirmed.
func (s *stage) confirmed(ctx context.Context, slot string) (relay.LSN, error) {
	var text string
	if err := s.db.QueryRow(ctx, "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", slot).Scan(&text); err != nil {
		return 0, err
	}
	return relay.ParseLSN(text)
}

// sender is the server process that reads the slot; 0 when there is none.
func (s *stage) sender(ctx context.Context, slot string) (pid int, err error) {
	err = s.db.QueryRow(ctx, "select coalesce(max(active_pid), 0) from pg_replication_slots where slot_name = $1", slot).Scan(&pid)
	return pid, err
}

// silence is how long the server has not heard from the reader of a slot.
func (s *stage) silence(ctx context.Context, sender int) (time.Duration, error) {
	var seconds float64
	err := s.db.QueryRow(ctx, `
		select coalesce(max(extract(epoch from clock_timestamp() - coalesce(reply_time, backend_start))), 0)::float8
		from pg_stat_replication where pid = $1`, sender).Scan(&seconds)
	return time.Duration(seconds * float64(time.Second)), err
}

// roomFor refuses to fill the disk: log, spilled transaction, table and stream take up
// to 2 KB for each row.
func roomFor(dir string, rows int) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return err
	}
	free, need := fs.Bavail*uint64(fs.Bsize), uint64(rows)*2048
	if free < need {
		return fmt.Errorf("a transaction of %d rows may take %d MB, %s has %d MB: name another directory with -dir", rows, need>>20, dir, free>>20)
	}
	return nil
}
