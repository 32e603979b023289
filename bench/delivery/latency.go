package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/bench/figures"
	"github.com/dot-do/relay/bench/rig"
)

const (
	writers = 4           // share a steady load
	warming = time.Second // of a steady load, which does not count
)

// load is a stretch of rows that are committed at a steady rate.
type load struct {
	first  int64   // id
	warm   int     // of the rows, which do not count
	starts []int64 // when the writer sent each row, in ns since 1970
}

// steady writes rows into a table, one a transaction, each when it is due; one that is
// late is written at once. then is called when a row is committed, by its writer.
func (s *stage) steady(ctx context.Context, table string, rate int, d time.Duration, hooks int, then func(ctx context.Context, id int64) error) (*load, error) {
	n := int((warming + d).Seconds() * float64(rate))
	l := &load{first: s.next, warm: int(warming.Seconds() * float64(rate)), starts: make([]int64, n)}
	s.next += int64(n)
	begin, every := time.Now(), time.Second/time.Duration(rate)
	write := func(w int) error {
		conn, err := pgx.Connect(ctx, s.server.URL(database))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		for i := w; i < n; i += writers {
			if err := rig.Wait(ctx, time.Until(begin.Add(time.Duration(i)*every))); err != nil {
				return err
			}
			id := l.first + int64(i)
			l.starts[i] = time.Now().UnixNano()
			if _, err := conn.Exec(ctx, insertRows(table), id, id, hooks); err != nil {
				return err
			}
			if err := then(ctx, id); err != nil {
				return err
			}
		}
		return nil
	}
	var wg sync.WaitGroup
	failed := make([]error, writers)
	for w := range writers {
		wg.Go(func() { failed[w] = write(w) })
	}
	wg.Wait()
	return l, errors.Join(failed...)
}

// within are the times in ms from the writer's sending the row until the receiver's
// answer. Rows for which want is false are left out.
func (l *load) within(arrived map[int64]int64, want func(id int64) bool) ([]float64, error) {
	var took []float64
	for i, start := range l.starts {
		id := l.first + int64(i)
		if i < l.warm || !want(id) {
			continue
		}
		at, ok := arrived[id]
		if !ok {
			return nil, fmt.Errorf("the event of row %d did not arrive", id)
		}
		took = append(took, float64(at-start)/1e6)
	}
	return took, nil
}

// anyRow wants all rows.
func anyRow(int64) bool { return true }

// posted is the floor of the latency: the writer itself posts when its row is committed.
func (c *scene) posted(ctx context.Context, rate int, d time.Duration) ([]float64, error) {
	letters, err := c.letters(ctx, 0)
	if err != nil {
		return nil, err
	}
	client := newClient(writers)
	defer client.CloseIdleConnections()
	l, err := c.steady(ctx, quiet, rate, d, c.hooks, func(ctx context.Context, id int64) error {
		ready, err := seal(c.receiver.url+c.path(int(id%int64(c.hooks))), fmt.Sprint(id), letters[0].body)
		if err != nil {
			return err
		}
		return client.post(ctx, ready)
	})
	if err != nil {
		return nil, err
	}
	t, err := c.receiver.take(ctx)
	if err != nil {
		return nil, err
	}
	arrived := make(map[int64]int64, len(t.Arrivals))
	for _, a := range t.Arrivals {
		var id int64
		if _, err := fmt.Sscan(a.ID, &id); err != nil {
			return nil, err
		}
		arrived[id] = a.At
	}
	return l.within(arrived, anyRow)
}

// arrived tells when the receiver answered each row's event, of which the log knows the
// webhook-id.
func (s *stage) arrived(ctx context.Context) (map[int64]int64, taken, error) {
	t, err := s.receiver.take(ctx)
	if err != nil {
		return nil, t, err
	}
	at := make(map[string]int64, len(t.Arrivals))
	for _, a := range t.Arrivals {
		at[a.ID] = a.At
	}
	rows, err := s.db.Query(ctx, `
		select request_headers ->> 'webhook-id', (payload -> 'data' ->> 'id')::bigint
		from zapier_webhook_logs where status = 'success' and event_id not like 'evt\_before%'`)
	if err != nil {
		return nil, t, err
	}
	var message string
	var id int64
	out := make(map[int64]int64, len(at))
	_, err = pgx.ForEachRow(rows, []any{&message, &id}, func() error {
		if at[message] == 0 {
			return fmt.Errorf("the log tells of %s for row %d, which did not arrive", message, id)
		}
		out[id] = at[message]
		return nil
	})
	return out, t, err
}

// followed is the way through the relay under the same load.
func (c *scene) followed(ctx context.Context, rate int, d time.Duration) ([]float64, error) {
	p, err := c.work(ctx, "capture,deliver", captures, delivers)
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	if _, err := c.settled(ctx, p, 0, c.sent); err != nil { // of the one that the floor copied
		return nil, err
	}
	l, err := c.steady(ctx, loud, rate, d, c.hooks, func(context.Context, int64) error { return nil })
	if err != nil {
		return nil, err
	}
	if _, err := c.settled(ctx, p, 0, c.sent+len(l.starts)); err != nil {
		return nil, err
	}
	if err := p.Stop(); err != nil {
		return nil, err
	}
	arrived, _, err := c.arrived(ctx)
	if err != nil {
		return nil, err
	}
	return l.within(arrived, anyRow)
}

// latency compares, under a steady load, the way from a commit to the receiver's answer
// with a writer that posts by itself.
func (b *bench) latency(ctx context.Context, s *stage) error {
	var p50, p99, floor50, floor99 figures.Samples
	for round := range b.rounds {
		posted, followed, err := s.follow(ctx, b.rate, b.steady, round%2 == 0)
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		floor50, floor99 = append(floor50, rig.Quantile(posted, 0.5)), append(floor99, rig.Quantile(posted, 0.99))
		p50, p99 = append(p50, rig.Quantile(followed, 0.5)), append(p99, rig.Quantile(followed, 0.99))
		b.say("  %d events/s: commit and POST p50 %.2f ms, p99 %.2f ms; relay p50 %.2f ms, p99 %.2f ms",
			b.rate, floor50[round], floor99[round], p50[round], p99[round])
	}
	r, what := &b.report, fmt.Sprintf("%d events/s, commit to 2xx", b.rate)
	r.Goal("latency", what+": relay / commit and POST, half within", p50.Over(floor50), "≤ 3", 3, 0)
	r.Goal("latency", what+": relay / commit and POST, 99 % within", p99.Over(floor99), "≤ 5", 5, 0)
	for _, f := range []struct {
		name string
		v    figures.Samples
	}{{"commit and POST, half within", floor50}, {"commit and POST, 99 % within", floor99}, {"relay, half within", p50}, {"relay, 99 % within", p99}} {
		r.Figure(what+": "+f.name, "ms", f.v)
	}
	return nil
}

// follow is one round.
func (s *stage) follow(ctx context.Context, rate int, d time.Duration, floorFirst bool) (posted, followed []float64, err error) {
	c, err := s.scene(ctx, population{hooks: lanes})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, c.close(context.WithoutCancel(ctx))) }()
	if _, err := c.fill(ctx, 1); err != nil {
		return nil, nil, err
	}
	if floorFirst {
		if posted, err = c.posted(ctx, rate, d); err != nil {
			return nil, nil, err
		}
	}
	if followed, err = c.followed(ctx, rate, d); err != nil || floorFirst {
		return posted, followed, err
	}
	posted, err = c.posted(ctx, rate, d)
	return posted, followed, err
}
