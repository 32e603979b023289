package migrations

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	lockKey      = 0x72656c6179 // "relay", of the advisory lock that one run holds
	lockPoll     = 100 * time.Millisecond
	lockPatience = 3 * time.Second // silent until then
	unlockWithin = 5 * time.Second
)

// Up applies every pending migration, in order. A failed one leaves the database
// as the one before it did. It refuses a database on which a file of this release
// was applied with other contents, or which a newer release has migrated.
func Up(ctx context.Context, pool *pgxpool.Pool, opts Options) error {
	return run(ctx, pool, opts, (*runner).up)
}

// Down rolls back every migration above version to, or the newest one when to is
// OneStep, in descending order. What psql applied and Up has not recorded stays.
func Down(ctx context.Context, pool *pgxpool.Pool, to int, opts Options) error {
	return run(ctx, pool, opts, func(r *runner, ctx context.Context) error { return r.down(ctx, to) })
}

// Status lists the migrations of this release and of the database by version. It
// changes nothing and waits for nobody.
func Status(ctx context.Context, pool *pgxpool.Pool) ([]State, error) {
	known, err := load(files)
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	var exists bool
	if err := pool.QueryRow(ctx, `select to_regclass('relay_migrations') is not null`).Scan(&exists); err != nil {
		return nil, fmt.Errorf("read the state of the migrations: %w", err)
	}
	done := map[int]record{}
	if exists {
		if done, err = records(ctx, pool); err != nil {
			return nil, err
		}
	}
	var states []State
	for _, m := range known {
		rec, recorded := done[m.version]
		delete(done, m.version)
		s := State{Version: m.version, Name: m.name, State: StatePending, AppliedAt: rec.At}
		switch {
		case recorded && rec.State == string(StateSkipped):
			s.State = StateSkipped
		case recorded && rec.Checksum != m.checksum:
			s.State = StateChanged
		case recorded:
			s.State = StateApplied
		}
		states = append(states, s)
	}
	for _, rec := range done {
		states = append(states, State{Version: rec.Version, Name: rec.Name, State: StateUnknown, AppliedAt: rec.At})
	}
	slices.SortFunc(states, func(a, b State) int { return a.Version - b.Version })
	return states, nil
}

// record is a row of relay_migrations.
type record struct {
	Version  int
	Name     string
	Checksum string
	State    string // applied or skipped
	At       time.Time
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func records(ctx context.Context, db querier) (map[int]record, error) {
	rows, err := db.Query(ctx, `select version, name, checksum, state, applied_at from relay_migrations order by version`)
	if err != nil {
		return nil, fmt.Errorf("read relay_migrations: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[record])
	if err != nil {
		return nil, fmt.Errorf("read relay_migrations: %w", err)
	}
	byVersion := make(map[int]record, len(list))
	for _, rec := range list {
		byVersion[rec.Version] = rec
	}
	return byVersion, nil
}

// runner works on one session, under the advisory lock.
type runner struct {
	conn  *pgx.Conn
	opts  Options
	known []migration
	done  map[int]record
}

func run(ctx context.Context, pool *pgxpool.Pool, opts Options, work func(*runner, context.Context) error) error {
	known, err := load(files)
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect for migrations: %w", err)
	}
	defer conn.Release()
	r := &runner{conn: conn.Conn(), opts: opts, known: known}
	if err := r.lock(ctx); err != nil {
		return err
	}
	defer r.unlock(ctx)
	if err := r.prepare(ctx); err != nil {
		return err
	}
	return work(r, ctx)
}

// lock waits for other runs; polling lets ctx end the wait at once.
func (r *runner) lock(ctx context.Context) error {
	began, told := time.Now(), false
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		var got bool
		if err := r.conn.QueryRow(ctx, `select pg_try_advisory_lock($1)`, int64(lockKey)).Scan(&got); err != nil {
			return fmt.Errorf("lock the migrations: %w", err)
		}
		if got {
			return nil
		}
		if !told && time.Since(began) > lockPatience {
			told = true
			log := r.opts.Logger
			if log == nil {
				log = slog.Default()
			}
			log.InfoContext(ctx, "waiting for another migration run on this database")
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for another migration run on this database: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// unlock closes a session that cannot unlock: the pool must not hand it on.
func (r *runner) unlock(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockWithin)
	defer cancel()
	if _, err := r.conn.Exec(ctx, `select pg_advisory_unlock($1)`, int64(lockKey)); err != nil {
		_ = r.conn.Close(ctx)
	}
}

func (r *runner) prepare(ctx context.Context) error {
	const bookkeeping = `
		create table if not exists relay_migrations (
			version    integer     not null primary key,
			name       text        not null,
			checksum   text        not null,
			state      text        not null check (state in ('applied', 'skipped')),
			applied_at timestamptz not null default now()
		);
		comment on table relay_migrations is 'What relay migrate has run on this database.'`
	if _, err := r.conn.Exec(ctx, bookkeeping); err != nil {
		return fmt.Errorf("make relay_migrations: %w", err)
	}
	var err error
	r.done, err = records(ctx, r.conn)
	return err
}

func (r *runner) up(ctx context.Context) error {
	if err := r.check(); err != nil {
		return err
	}
	// Asked before 000 makes its tables.
	wantsSamples, err := r.wantsSamples(ctx)
	if err != nil {
		return err
	}
	for _, m := range r.known {
		rec, recorded := r.done[m.version]
		if recorded && (rec.State == string(StateApplied) || !r.opts.Samples) {
			continue
		}
		if m.version == samples && !wantsSamples {
			err = r.step(ctx, m, Skipped)
		} else {
			err = r.step(ctx, m, Applied)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// check refuses a database whose history is not this release's.
func (r *runner) check() error {
	byVersion := map[int]migration{}
	for _, m := range r.known {
		byVersion[m.version] = m
	}
	for version, rec := range r.done {
		m, ok := byVersion[version]
		if !ok {
			return fmt.Errorf("migration %s is recorded on this database but unknown to this release: use the release that applied it, or a newer one", rec.Name)
		}
		if rec.State == string(StateApplied) && rec.Checksum != m.checksum {
			return fmt.Errorf("migration %s was applied to this database with other contents: put the released file back, and make the change in a migration of its own", m.name)
		}
	}
	return nil
}

// wantsSamples tells whether 001 should run: when asked to, when it has run by
// psql, and on a database that holds no tables but those that 000 made.
func (r *runner) wantsSamples(ctx context.Context) (bool, error) {
	if r.opts.Samples {
		return true, nil
	}
	const query = `
		select coalesce(bool_or(mark = 'made by relay 001_dev_samples'), false)
		    or coalesce(bool_and(mark = 'made by relay 000_dev_base'), true)
		from (
			select coalesce(obj_description(c.oid, 'pg_class'), '') as mark
			from pg_class c
			join pg_namespace n on n.oid = c.relnamespace
			where c.relkind in ('r', 'p', 'f')
			  and n.nspname not in ('pg_catalog', 'information_schema', 'migration_backup')
			  and n.nspname not like 'pg\_toast%' and n.nspname not like 'pg\_temp%'
			  and c.oid is distinct from to_regclass('relay_migrations')
			  and not exists (select from pg_depend d
			                  where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
		) as tables`
	var wants bool
	if err := r.conn.QueryRow(ctx, query).Scan(&wants); err != nil {
		return false, fmt.Errorf("look for tables: %w", err)
	}
	return wants, nil
}

func (r *runner) down(ctx context.Context, to int) error {
	if to < OneStep {
		return fmt.Errorf("there is no version %d to roll back to", to)
	}
	recorded := make([]int, 0, len(r.done))
	for version := range r.done {
		recorded = append(recorded, version)
	}
	slices.Sort(recorded)
	if to == OneStep {
		if len(recorded) == 0 {
			return nil
		}
		to = recorded[len(recorded)-1] - 1
	}
	for _, version := range slices.Backward(recorded) {
		if version <= to {
			return nil
		}
		i := slices.IndexFunc(r.known, func(m migration) bool { return m.version == version })
		if i < 0 {
			return fmt.Errorf("migration %s is unknown to this release: roll it back with the release that applied it", r.done[version].Name)
		}
		if err := r.step(ctx, r.known[i], RolledBack); err != nil {
			return err
		}
	}
	return nil
}

// step does one migration and its record in one transaction.
func (r *runner) step(ctx context.Context, m migration, action Action) error {
	const remember = `
		insert into relay_migrations (version, name, checksum, state) values ($1, $2, $3, $4)
		on conflict (version) do update set name = $2, checksum = $3, state = $4, applied_at = now()`
	began := time.Now()
	err := pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
		switch action {
		case Skipped:
			_, err := tx.Exec(ctx, remember, m.version, m.name, m.checksum, string(StateSkipped))
			return err
		case RolledBack:
			if r.done[m.version].State == string(StateApplied) {
				if _, err := tx.Exec(ctx, m.rollback); err != nil {
					return located(m.name+rollbackSuffix, m.rollback, err)
				}
			}
			_, err := tx.Exec(ctx, `delete from relay_migrations where version = $1`, m.version)
			return err
		default:
			if _, err := tx.Exec(ctx, m.forward); err != nil {
				return located(m.name+".sql", m.forward, err)
			}
			_, err := tx.Exec(ctx, remember, m.version, m.name, m.checksum, string(StateApplied))
			return err
		}
	})
	if err != nil {
		return fmt.Errorf("migration %s: %w", m.name, err)
	}
	if r.opts.Progress != nil {
		r.opts.Progress(Step{Version: m.version, Name: m.name, Action: action, Duration: time.Since(began)})
	}
	return nil
}

// located adds what Postgres said beside its message: where, and the remedy. Its
// detail stays out, because it may quote a row.
func located(file, sql string, err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
	if pgErr.Position > 0 {
		before := []rune(sql)[:min(int(pgErr.Position)-1, len([]rune(sql)))]
		file = fmt.Sprintf("%s:%d", file, 1+strings.Count(string(before), "\n"))
	}
	if pgErr.Hint != "" {
		return fmt.Errorf("%s: %w; %s", file, err, pgErr.Hint)
	}
	return fmt.Errorf("%s: %w", file, err)
}
