package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dot-do/relay/bench/figures"
	"github.com/dot-do/relay/bench/rig"
)

// The mixed population, and the one that it is compared with. The same subscriptions are
// looked at in both: those that are healthy in the mixed one.
func mixedPopulation() (mixed, sound population) {
	return population{hooks: 100, hang: 1, bad: 10}, population{hooks: 100}
}

// shared is what the healthy subscriptions got.
type shared struct {
	rate     float64 // deliveries a second of a backlog
	p50, p99 float64 // ms of a steady load
}

// mixed shows what endpoints in trouble cost the others.
func (b *bench) mixed(ctx context.Context, s *stage) error {
	ill, sound := mixedPopulation()
	var rates, halves, tails [2]figures.Samples
	for round := range b.rounds {
		for turn := range 2 {
			i := (turn + round) % 2
			got, err := s.share(ctx, []population{sound, ill}[i], ill.hang+ill.bad, b)
			if err != nil {
				return fmt.Errorf("round %d: %w", round+1, err)
			}
			rates[i], halves[i], tails[i] = append(rates[i], got.rate), append(halves[i], got.p50), append(tails[i], got.p99)
			b.say("  %s: %.0f deliveries/s to the healthy ones; %d events/s within p50 %.2f ms, p99 %.2f ms",
				[]string{"all healthy", "mixed"}[i], got.rate, b.rate, got.p50, got.p99)
		}
	}
	r := &b.report
	what := fmt.Sprintf("%d endpoints, %d hanging, %d answering 500", ill.hooks, ill.hang, ill.bad)
	r.Goal("mixed", what+": deliveries per second to the healthy / where all are", rates[1].Over(rates[0]), "≥ 0.95", -0.95, 0)
	r.Goal("mixed", what+": commit to 2xx of the healthy, 99 % within / where all are", tails[1].Over(tails[0]), "≤ 1.2", 1.2, 0)
	for i, name := range []string{"all healthy", "mixed"} {
		r.Figure(name+": to the same endpoints", "deliveries/s", rates[i])
		r.Figure(fmt.Sprintf("%s: %d events/s, commit to 2xx, half within", name, b.rate), "ms", halves[i])
		r.Figure(fmt.Sprintf("%s: %d events/s, commit to 2xx, 99 %% within", name, b.rate), "ms", tails[i])
	}
	return nil
}

// share delivers a backlog and then a steady load, and looks at the subscriptions from
// the one with this number on.
func (s *stage) share(ctx context.Context, p population, from int, b *bench) (got shared, err error) {
	c, err := s.scene(ctx, p)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, c.close(context.WithoutCancel(ctx))) }()
	looked := func(id int64) bool { return id%int64(p.hooks) >= int64(from) }
	first, err := c.fill(ctx, b.events)
	if err != nil {
		return got, err
	}
	want := 0
	for i := range b.events {
		if looked(first + int64(i)) {
			want++
		}
	}
	r, err := c.work(ctx, "capture,deliver", captures, delivers)
	if err != nil {
		return got, err
	}
	defer r.Kill()
	end, err := c.settled(ctx, r, from, want)
	if err != nil {
		return got, err
	}
	got.rate = float64(want) / end.Sub(r.ready).Seconds()

	l, err := c.steady(ctx, loud, b.rate, b.steady, p.hooks, func(context.Context, int64) error { return nil })
	if err != nil {
		return got, err
	}
	for i := range l.starts {
		if looked(l.first + int64(i)) {
			want++
		}
	}
	if _, err := c.settled(ctx, r, from, want); err != nil {
		return got, err
	}
	if err := r.Stop(); err != nil {
		return got, err
	}
	arrived, t, err := c.arrived(ctx)
	if err != nil {
		return got, err
	}
	if (t.Failed > 0) != (p.bad > 0) || (t.Hanging > 0) != (p.hang > 0) {
		return got, fmt.Errorf("%d requests failed and %d hung: not what the population is to do", t.Failed, t.Hanging)
	}
	took, err := l.within(arrived, looked)
	if err != nil {
		return got, err
	}
	got.p50, got.p99 = rig.Quantile(took, 0.5), rig.Quantile(took, 0.99)
	return got, nil
}
