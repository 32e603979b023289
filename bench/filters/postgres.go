package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/internal/pgproc"
)

// postgres compares with a private server, and loads filters from it.
func (b *bench) postgres(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "relay-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b.cores.spread(ctx, 1) // the server inherits where it may run
	server, err := pgproc.Start(ctx, pgproc.Config{Dir: dir, Settings: map[string]string{
		"shared_buffers": "512MB", "fsync": "off", "max_parallel_workers_per_gather": "0", "autovacuum": "off", "max_wal_size": "4GB",
	}})
	b.cores.pinAgain(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop(pgproc.Immediate)) }()
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var version string
	if err := conn.QueryRow(ctx, "show server_version").Scan(&version); err != nil {
		return err
	}
	b.report.Postgres = version
	if err := b.containment(ctx, conn); err != nil {
		return err
	}
	return b.loading(ctx, conn)
}

// store fills a table with filters; one in badEvery does not compile.
func store(ctx context.Context, conn *pgx.Conn, table string, subs []subscription, badEvery int) error {
	if _, err := conn.Exec(ctx, "create table "+table+" (id uuid not null, event_type text not null, filters jsonb not null)"); err != nil {
		return err
	}
	rows := pgx.CopyFromSlice(len(subs), func(i int) ([]any, error) {
		filter := subs[i].filter
		if badEvery > 0 && i%badEvery == 0 {
			filter = `{"total":{"$gtee":5}}`
		}
		return []any{[16]byte{0: byte(i), 1: byte(i >> 8), 2: byte(i >> 16)}, subs[i].kind, filter}, nil
	})
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{table}, []string{"id", "event_type", "filters"}, rows); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "create index on "+table+" (event_type)")
	if err == nil {
		_, err = conn.Exec(ctx, "vacuum analyze "+table)
	}
	return err
}

// containment lets Postgres find the filters that an event contains.
func (b *bench) containment(ctx context.Context, conn *pgx.Conn) error {
	w, n := byName("W1"), min(100_000, b.last())
	subs := w.subscriptions(n, false)
	if err := store(ctx, conn, "few", subs, 0); err != nil {
		return err
	}
	index := filters.NewIndex[int32]()
	if err := fill(index, subs, 0); err != nil {
		return err
	}
	events := w.events(n, smallEvent, b.pool)
	p := &pool{index: index, events: events}
	const query = `select id from few where event_type = $1 and $2::jsonb @> filters`
	ask := func(e *event) (int, error) {
		rows, err := conn.Query(ctx, query, e.kind, string(e.data))
		if err != nil {
			return 0, err
		}
		n := 0
		for rows.Next() {
			n++
		}
		return n, rows.Err()
	}
	few := events[:min(100, len(events))]
	for i := range few {
		found, err := ask(&few[i])
		if err != nil {
			return err
		}
		if p.ask(&few[i]); found != len(p.found.Yes) {
			return fmt.Errorf("the index finds %d filters for an event, Postgres %d", len(p.found.Yes), found)
		}
	}
	both, err := b.timeRounds(b.rounds, func() (samples, error) {
		begin := time.Now()
		for i := range few {
			if _, err := ask(&few[i]); err != nil {
				return nil, err
			}
		}
		return samples{float64(time.Since(begin)) / float64(len(few))}, nil
	}, func() (samples, error) {
		begin := cpuTime()
		p.askAll()
		p.askAll()
		return samples{float64(cpuTime()-begin) / float64(2*len(events))}, nil
	})
	if err != nil {
		return err
	}
	b.report.Figure("SQL with btree(event_type), W1 at "+short(n)+", 1 KB (time, not processor time)", "ns/event", both[0])
	b.report.Goal("G9", "SQL with btree(event_type) / index, W1 at "+short(n), both[0].Over(both[1]), "≥ 3000", -3000, 0)
	return nil
}

// storeBoth stores the same filters twice, once with 1 % bad ones among them.
func storeBoth(ctx context.Context, conn *pgx.Conn, subs []subscription) error {
	if err := store(ctx, conn, "good", subs, 0); err != nil {
		return err
	}
	return store(ctx, conn, "spoiled", subs, 100)
}

// loading measures the way from a table to an index that is ready.
func (b *bench) loading(ctx context.Context, conn *pgx.Conn) error {
	if err := storeBoth(ctx, conn, byName("W1").subscriptions(b.last(), false)); err != nil {
		return err
	}
	var wall samples
	cpu, err := b.timeRounds(max(3, b.rounds*2/3), func() (samples, error) {
		took, used, err := load(ctx, conn, "good", 0)
		wall = append(wall, took.Seconds())
		return samples{used.Seconds()}, err
	}, func() (samples, error) {
		_, used, err := load(ctx, conn, "spoiled", (b.last()+99)/100)
		return samples{used.Seconds()}, err
	})
	if err != nil {
		return err
	}
	rows := short(b.last()) + " rows from SQL to a ready index"
	b.report.Figure(rows+", with waiting for Postgres and for a core", "s", wall)
	scale := 1e6 / float64(b.last())
	b.report.Goal("G10", rows+", s of one core", cpu[0].Each(func(v float64) float64 { return v * scale }), "≤ 2 a million", 2, 0)
	b.report.Goal("G10", "the same with 1 % bad rows / without", cpu[1].Over(cpu[0]), "≤ 1.01", 1.01, 0)
	return nil
}

// load reads a table into a new index, and checks how many rows were bad.
func load(ctx context.Context, conn *pgx.Conn, table string, bad int) (wall, used time.Duration, err error) {
	runtime.GC()
	begin, cpu := time.Now(), cpuTime()
	index := filters.NewIndex[int32]()
	rows, err := conn.Query(ctx, "select id, event_type, filters::text from "+table)
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close()
	kinds := map[string]string{}
	var ids [][16]byte
	var quarantined []error
	for rows.Next() {
		values := rows.RawValues()
		kind, known := kinds[string(values[1])]
		if !known {
			kind = string(values[1])
			kinds[kind] = kind
		}
		f, err := filters.Compile(values[2])
		if err != nil {
			quarantined = append(quarantined, err)
			continue
		}
		index.Add(filters.Key{Type: kind}, f, int32(len(ids)))
		ids = append(ids, [16]byte(values[0]))
	}
	wall, used = time.Since(begin), cpuTime()-cpu
	if err := rows.Err(); err != nil {
		return 0, 0, err
	}
	if len(quarantined) != bad || index.Len() != len(ids) {
		return 0, 0, fmt.Errorf("%d rows are bad and %d in the index, not %d and %d", len(quarantined), index.Len(), bad, len(ids))
	}
	return wall, used, nil
}
