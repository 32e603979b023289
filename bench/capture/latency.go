package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/dot-do/relay/bench/figures"
	"github.com/dot-do/relay/bench/rig"
)

// writers share a steady load: one connection could not keep up while it waits for a
// commit.
const writers = 4

// latency measures the way of a row from its commit, as its writer learns of it, to a
// plain NATS subscriber, under a steady load.
func (b *bench) latency(ctx context.Context, s *stage) error {
	p50, p99, rates := map[rate]figures.Samples{}, map[rate]figures.Samples{}, map[rate]figures.Samples{}
	for range b.rounds {
		n, err := rig.StartNATS(ctx, s.dir, false)
		if err != nil {
			return err
		}
		err = func() error {
			defer n.Close()
			r, err := s.capture(ctx, s.slotName(), n) // the relay makes the slot
			if err != nil {
				return err
			}
			defer r.Kill()
			for _, load := range b.rates {
				took, reached, err := s.steady(ctx, r, load, b.steady)
				if err != nil {
					return fmt.Errorf("%d rows/s: %w", load.rows, err)
				}
				p50[load] = append(p50[load], rig.Quantile(took, 0.5))
				p99[load] = append(p99[load], rig.Quantile(took, 0.99))
				rates[load] = append(rates[load], reached)
				_, _ = fmt.Fprintf(b.log, "  %d rows/s: %.0f reached, p50 %.2f ms, p99 %.2f ms\n", load.rows, reached, rig.Quantile(took, 0.5), rig.Quantile(took, 0.99))
			}
			return r.leave(ctx)
		}()
		if err != nil {
			return err
		}
	}
	for i, load := range b.rates {
		what := fmt.Sprintf("%d rows/s, %d a transaction", load.rows, load.per)
		if i == 0 {
			b.report.Goal("latency", what+": half within ms", p50[load], "≤ 0.5", 0.5, 0)
			b.report.Goal("latency", what+": 99 % within ms", p99[load], "≤ 5", 5, 0)
		} else {
			b.report.Figure(what+": half within", "ms", p50[load])
			b.report.Goal("latency", what+": 99 % within ms", p99[load], "≤ 20", 20, 0)
		}
		b.report.Figure(what+": reached", "rows/s", rates[load])
	}
	return s.tidy()
}

// journal notes when rows were committed and when they arrived, in ns since begin.
type journal struct {
	begin             time.Time
	first             int64 // id
	committed, arrive []atomic.Int64
	odd               atomic.Int64 // messages that were not expected, or came twice
	open              atomic.Int64
	done              chan struct{}
}

func newJournal(first int64, rows int) *journal {
	j := &journal{begin: time.Now(), first: first, committed: make([]atomic.Int64, rows), arrive: make([]atomic.Int64, rows), done: make(chan struct{})}
	j.open.Store(int64(rows))
	return j
}

func (j *journal) now() int64 { return int64(time.Since(j.begin)) }

// arrived is the subscriber.
func (j *journal) arrived(msg *nats.Msg) {
	now := j.now()
	id, err := strconv.ParseInt(msg.Header.Get("ce-subject"), 10, 64)
	if i := id - j.first; err != nil || i < 0 || i >= int64(len(j.arrive)) || !j.arrive[i].CompareAndSwap(0, now) {
		j.odd.Add(1)
		return
	}
	if j.open.Add(-1) == 0 {
		close(j.done)
	}
}

// steady writes rows at a rate, and returns the time that each took in ms, and the rate
// that was reached.
func (s *stage) steady(ctx context.Context, r *relayProcess, load rate, d time.Duration) (took []float64, reached float64, err error) {
	transactions := int(d.Seconds()*float64(load.rows)) / load.per
	j := newJournal(s.next, transactions*load.per)
	s.next += int64(transactions * load.per)
	sub, err := r.stream.nc.Subscribe("events.bench.>", j.arrived)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := errors.Join(sub.SetPendingLimits(-1, -1), r.stream.nc.Flush()); err != nil {
		return nil, 0, err
	}
	every := time.Duration(float64(time.Second) * float64(load.per) / float64(load.rows))
	var wg sync.WaitGroup
	failed := make([]error, writers)
	for n := range writers {
		wg.Go(func() { failed[n] = s.write(ctx, j, load.per, every, n, transactions) })
	}
	wg.Wait()
	reached = float64(len(j.arrive)) / time.Since(j.begin).Seconds()
	if err := errors.Join(failed...); err != nil {
		return nil, 0, err
	}
	if err := j.all(ctx); err != nil {
		return nil, 0, err
	}
	for i := range j.arrive {
		took = append(took, float64(j.arrive[i].Load()-j.committed[i].Load())/1e6)
	}
	return took, reached, nil
}

// all waits for the last row, and demands that nothing else came.
func (j *journal) all(ctx context.Context) error {
	timer := time.NewTimer(rig.Patience)
	defer timer.Stop()
	select {
	case <-j.done:
	case <-timer.C:
		return fmt.Errorf("%d of %d rows do not arrive", j.open.Load(), len(j.arrive))
	case <-ctx.Done():
		return ctx.Err()
	}
	if odd := j.odd.Load(); odd > 0 {
		return fmt.Errorf("%d messages came twice or were of no row", odd)
	}
	return nil
}

// write commits every so many of the transactions, each when it is due. One that is
// late is written at once.
func (s *stage) write(ctx context.Context, j *journal, per int, every time.Duration, from, transactions int) error {
	conn, err := pgx.Connect(ctx, s.server.URL(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for n := from; n < transactions; n += writers {
		if err := rig.Wait(ctx, time.Until(j.begin.Add(time.Duration(n)*every))); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "select bench_insert($1, $2)", j.first+int64(n*per), per); err != nil {
			return err
		}
		now := j.now()
		for i := range per {
			j.committed[n*per+i].Store(now)
		}
	}
	return nil
}
