package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/bench/figures"
)

// rows are what was written to a table so far.
type rows struct{ inserted, updated, deleted int64 }

// written asks the server's statistics, which know of sessions that have ended.
func (s *stage) written(ctx context.Context, table string) (r rows, err error) {
	err = s.db.QueryRow(ctx, `
		select coalesce(sum(n_tup_ins), 0)::bigint, coalesce(sum(n_tup_upd), 0)::bigint, coalesce(sum(n_tup_del), 0)::bigint
		from pg_stat_user_tables where relid in (select relid from pg_partition_tree($1::text::regclass))`, table).Scan(&r.inserted, &r.updated, &r.deleted)
	return r, err
}

// tally is what relays that have stopped had the server write.
type tally struct {
	log, all rows // into the log, and into all tables of the relay
	wal      int64
}

func (s *stage) tally(ctx context.Context) (t tally, err error) {
	if err = s.left(ctx); err != nil {
		return t, err
	}
	if t.log, err = s.written(ctx, "zapier_webhook_logs"); err != nil {
		return t, err
	}
	err = s.db.QueryRow(ctx, `
		select sum(n_tup_ins)::bigint, sum(n_tup_upd)::bigint, sum(n_tup_del)::bigint, (select wal_bytes::bigint from pg_stat_wal)
		from pg_stat_user_tables where relname not like 'bench\_%'`).Scan(&t.all.inserted, &t.all.updated, &t.all.deleted, &t.wal)
	return t, err
}

// statement is how often the relay asked for something, and what that cost.
type statement struct {
	text             string
	calls, rows, wal int64
	ms               float64
}

// counted lists the statements of the relay since they were reset; none where the server
// cannot count them.
func (s *stage) counted(ctx context.Context) ([]statement, error) {
	if !s.statements {
		return nil, nil
	}
	out, err := s.db.Query(ctx, `
		select query, calls, rows, total_exec_time, wal_bytes::bigint from pg_stat_statements
		where query not like '%bench\_%' order by calls desc, query`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(out, func(row pgx.CollectableRow) (st statement, err error) {
		err = row.Scan(&st.text, &st.calls, &st.rows, &st.ms, &st.wal)
		st.text = strings.Join(strings.Fields(st.text), " ")
		return st, err
	})
}

// observed runs a relay in a scene with what do does, while the server counts. It returns
// the successes, what was written, and the statements.
func (s *stage) observed(ctx context.Context, do func(*scene) (int, error)) (n int, t tally, said []statement, err error) {
	c, err := s.scene(ctx, population{hooks: lanes})
	if err != nil {
		return 0, t, nil, err
	}
	defer func() { err = errors.Join(err, c.close(context.WithoutCancel(ctx))) }()
	if n, err = do(c); err != nil {
		return n, t, nil, err
	}
	if t, err = s.tally(ctx); err != nil {
		return n, t, nil, err
	}
	said, err = s.counted(ctx)
	return n, t, said, err
}

// left waits until the server holds no session of a relay: a session adds what it wrote to
// the server's statistics at the latest when it ends.
func (s *stage) left(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		var sessions int
		err := s.db.QueryRow(ctx, `
			select count(*) from pg_stat_activity
			where datname = current_database() and application_name like 'relay%'`).Scan(&sessions)
		if err != nil || sessions == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d sessions of a stopped relay remain: %w", sessions, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// cost shows what a success costs Postgres: with a backlog, and under a steady load, where
// few outcomes wait to be written together.
func (b *bench) cost(ctx context.Context, s *stage) error {
	if err := s.track(ctx, "top"); err != nil {
		return err
	}
	backlog := func(c *scene) (int, tally, error) {
		if _, err := c.fill(ctx, b.events); err != nil {
			return 0, tally{}, err
		}
		before, err := c.recount(ctx)
		if err != nil {
			return 0, before, err
		}
		d, err := c.deliver(ctx)
		return d.n, before, err
	}
	steady := func(c *scene) (int, tally, error) { return c.drip(ctx, b.rate, b.steady) }
	for _, load := range []struct {
		what    string
		run     func(*scene) (int, tally, error)
		decides bool
	}{{"backlog", backlog, true}, {fmt.Sprintf("%d events/s", b.rate), steady, false}} {
		var before tally
		n, after, said, err := s.observed(ctx, func(c *scene) (n int, err error) {
			n, before, err = load.run(c)
			return n, err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", load.what, err)
		}
		b.charge(load.what, n, before, after, said, load.decides)
	}
	return s.track(ctx, "none")
}

// track says which statements of sessions to come are counted.
func (s *stage) track(ctx context.Context, which string) error {
	if !s.statements {
		return nil
	}
	_, err := s.db.Exec(ctx, "alter database "+database+" set pg_stat_statements.track = "+which)
	return err
}

// recount begins to count.
func (s *stage) recount(ctx context.Context) (tally, error) {
	if s.statements {
		if _, err := s.db.Exec(ctx, "select pg_stat_statements_reset()"); err != nil {
			return tally{}, err
		}
	}
	return s.tally(ctx)
}

// drip has events delivered as they are written.
func (c *scene) drip(ctx context.Context, rate int, d time.Duration) (n int, before tally, err error) {
	if before, err = c.recount(ctx); err != nil {
		return 0, before, err
	}
	p, err := c.work(ctx, "capture,deliver", captures, delivers)
	if err != nil {
		return 0, before, err
	}
	defer p.Kill()
	l, err := c.steady(ctx, loud, rate, d, c.hooks, func(context.Context, int64) error { return nil })
	if err != nil {
		return 0, before, err
	}
	n = len(l.starts)
	if _, err := c.settled(ctx, p, 0, n); err != nil {
		return n, before, err
	}
	return n, before, p.Stop()
}

func (b *bench) charge(what string, n int, before, after tally, said []statement, decides bool) {
	each := func(v int64) figures.Samples { return figures.Samples{float64(v) / float64(n)} }
	logged := after.log.inserted - before.log.inserted
	more := after.all.inserted + after.all.updated + after.all.deleted - before.all.inserted - before.all.updated - before.all.deleted - logged
	r := &b.report
	if decides {
		r.Goal("cost", what+": rows of the log per success", each(logged), "≤ 1", 1, 0)
		r.Goal("cost", what+": other rows written per success", each(more), "≤ 0.1", 0.1, 0)
	} else {
		r.Figure(what+": rows of the log per success", "", each(logged))
		r.Figure(what+": other rows written per success", "", each(more))
	}
	wal, ms := after.wal-before.wal, 0.0
	if len(said) > 0 { // only what the relay did
		wal = 0
	}
	for _, st := range said {
		wal, ms = wal+st.wal, ms+st.ms
	}
	if len(said) > 0 || decides {
		r.Figure(what+": write-ahead log per success", "bytes", each(wal))
	}
	if len(said) == 0 {
		return
	}
	r.Figure(what+": time in statements per success", "µs", figures.Samples{ms * 1000 / float64(n)})
	for _, st := range said {
		if st.calls*500 < int64(n) {
			continue
		}
		r.Figure(fmt.Sprintf("%s: calls per success of `%s`", what, short(st.text)),
			fmt.Sprintf("%.1f rows a call, %.1f µs per success", float64(st.rows)/float64(st.calls), st.ms*1000/float64(n)), each(st.calls))
	}
}

// short is the beginning of a statement, without what a table cannot show.
func short(text string) string {
	const kept = 70
	text = strings.ReplaceAll(text, "|", "")
	if cut := []rune(text); len(cut) > kept {
		return string(cut[:kept]) + "…"
	}
	return text
}
