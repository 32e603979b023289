package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dot-do/relay/bench/figures"
	"github.com/dot-do/relay/bench/rig"
)

// wait makes so many retries, spread over the subscriptions and over a day that begins in
// an hour. Their bodies are as large as those of bench_rows' events.
func (s *stage) wait(ctx context.Context, retries, hooks int) error {
	_, err := s.db.Exec(ctx, `
		begin;
		set local session_replication_role = replica; -- the subscriptions are there
		insert into webhook_deliveries (event_id, webhook_id, event_type, body, stream_seq, commit_lsn, state, attempt, next_attempt_at, last_status, last_error)
		select 'evt_bench_' || i, 'w' || i % `+fmt.Sprint(hooks)+`, 'bench.created', convert_to(jsonb_build_object('id', i, 'data', repeat(md5(i::text), 20))::text, 'UTF8'),
		       1 + i, '0/1', 'retrying', 1 + i % 4, now() + interval '1 hour' + i % 86400 * interval '1 second', 503, 'status: the endpoint answered 503'
		from generate_series(1, `+fmt.Sprint(retries)+`) i;
		commit;`)
	if err != nil {
		return err
	}
	_, err = s.db.Exec(ctx, "vacuum analyze webhook_deliveries")
	return err
}

// started is what a start took.
type started struct {
	ready, first time.Duration // until /readyz answered 200, and until a delivery was recorded
	cpu          time.Duration // until it was ready
	peak         float64       // MiB, also of the time after
}

// start measures how long the relay needs to get ready while very many subscriptions are
// stored and very many retries wait, and what memory that takes.
func (b *bench) start(ctx context.Context, s *stage) (err error) {
	c, err := s.scene(ctx, population{hooks: b.hooks})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close(context.WithoutCancel(ctx))) }()
	if err := s.wait(ctx, b.pending, b.hooks); err != nil {
		return err
	}
	var ready, first, cpu, peak figures.Samples
	for range b.rounds {
		t, err := c.begin(ctx, b.watched)
		if err != nil {
			return err
		}
		ready, first = append(ready, t.ready.Seconds()), append(first, t.first.Seconds())
		cpu, peak = append(cpu, t.cpu.Seconds()), append(peak, t.peak)
		b.say("  ready in %.2f s, first delivery in %.2f s, processor %.2f s, %.1f MiB", t.ready.Seconds(), t.first.Seconds(), t.cpu.Seconds(), t.peak)
	}
	due, done, err := c.flood(ctx, 2*b.watched)
	if err != nil {
		return err
	}
	r, what := &b.report, fmt.Sprintf("%d webhooks, %d retries pending", b.hooks, b.pending)
	r.Goal("start", what+": from the start of the process to ready, s", ready, "≤ 5", 5, 0)
	r.Goal("start", what+": VmHWM, MiB, most of the rounds", figures.Samples{peak.Most()}, "≤ 256", 256, 0)
	r.Figure(what+": until the first delivery is recorded", "s", first)
	r.Figure(what+": processor until ready", "s", cpu)
	r.Figure(what+", all of them due: VmHWM", "MiB", figures.Samples{due})
	r.Figure(what+", all of them due: retries made", "deliveries/s", figures.Samples{done})
	return nil
}

// begin starts the relay with one event in the stream, and watches it for a while: its
// first looks at the queue, and what they leave to be collected, are to be in its memory.
func (c *scene) begin(ctx context.Context, watched time.Duration) (t started, err error) {
	if _, err := c.fill(ctx, 1); err != nil {
		return t, err
	}
	at := time.Now()
	p, err := c.run(ctx, "deliver")
	if err != nil {
		return t, err
	}
	defer p.Kill()
	if err := p.awaitReady(ctx); err != nil {
		return t, err
	}
	t.ready = time.Since(at)
	if t.cpu, err = rig.CPUOf(p.PID()); err != nil {
		return t, err
	}
	end, err := c.settled(ctx, p, 0, c.sent)
	if err != nil {
		return t, err
	}
	t.first = end.Sub(at)
	if err := rig.Wait(ctx, watched); err != nil {
		return t, err
	}
	if t.peak, err = rig.PeakOf(p.PID()); err != nil {
		return t, err
	}
	return t, p.Stop()
}

// flood makes all retries due, and returns what memory it takes to make them, and how many
// are made a second.
func (c *scene) flood(ctx context.Context, watched time.Duration) (peak, rate float64, err error) {
	if _, err := c.db.Exec(ctx, "update webhook_deliveries set next_attempt_at = now()"); err != nil {
		return 0, 0, err
	}
	if _, err := c.db.Exec(ctx, "vacuum analyze webhook_deliveries"); err != nil {
		return 0, 0, err
	}
	before, err := c.logged(ctx)
	if err != nil {
		return 0, 0, err
	}
	p, err := c.work(ctx, "deliver", delivers)
	if err != nil {
		return 0, 0, err
	}
	defer p.Kill()
	if err := rig.Wait(ctx, watched); err != nil {
		return 0, 0, err
	}
	after, err := c.logged(ctx)
	took := time.Since(p.ready)
	if err != nil {
		return 0, 0, err
	}
	if peak, err = rig.PeakOf(p.PID()); err != nil {
		return 0, 0, err
	}
	if after == before {
		return 0, 0, p.Failure("makes no retry")
	}
	return peak, float64(after-before) / took.Seconds(), p.Stop()
}
