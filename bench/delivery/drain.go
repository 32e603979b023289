package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dot-do/relay/bench/figures"
	"github.com/dot-do/relay/bench/rig"
)

// lanes is how many subscriptions share a backlog.
const lanes = 8

// delivered is what the delivery of a backlog took.
type delivered struct {
	n     int
	alone time.Duration // of the bare client
	log   float64       // rows of the log a second that the server writes for nobody else
	took  time.Duration // from "delivery ready" until the last success was committed
	cpu   time.Duration // of the relay, since it was ready
	peak  float64       // MiB that the relay held at most
	aside int64         // deliveries that were put into the queue of the database
}

func (d delivered) rate() float64 { return float64(d.n) / d.took.Seconds() }

// deliver has a new relay deliver what the stream holds.
func (c *scene) deliver(ctx context.Context) (d delivered, err error) {
	d.n = c.sent
	if c.all {
		d.n *= c.hooks
	}
	aside, err := c.written(ctx, "webhook_deliveries")
	if err != nil {
		return d, err
	}
	p, err := c.work(ctx, "deliver", delivers)
	if err != nil {
		return d, err
	}
	defer p.Kill()
	began, err := rig.CPUOf(p.PID())
	if err != nil {
		return d, err
	}
	end, err := c.settled(ctx, p, 0, d.n)
	if err != nil {
		return d, err
	}
	used, err := rig.CPUOf(p.PID())
	if err != nil {
		return d, err
	}
	d.took, d.cpu = end.Sub(p.ready), used-began
	if d.peak, err = rig.PeakOf(p.PID()); err != nil {
		return d, err
	}
	if err := p.Stop(); err != nil {
		return d, err
	}
	after, err := c.written(ctx, "webhook_deliveries")
	if err != nil {
		return d, err
	}
	d.aside = after.inserted - aside.inserted
	rows, err := c.logged(ctx)
	if err != nil {
		return d, err
	}
	t, err := c.receiver.take(ctx)
	if err == nil && (rows != d.n || len(t.Arrivals) != d.n) {
		err = fmt.Errorf("of %d deliveries %d arrived and %d are in the log", d.n, len(t.Arrivals), rows)
	}
	return d, err
}

// alone posts what the relay delivers, with as many requests at once.
func (c *scene) alone(ctx context.Context, letters []letter) (time.Duration, error) {
	took, err := bare(ctx, letters, c.hooks*perEndpoint)
	if err != nil {
		return 0, err
	}
	t, err := c.receiver.take(ctx)
	if err == nil && len(t.Arrivals) != len(letters) {
		err = fmt.Errorf("%d of %d requests arrived", len(t.Arrivals), len(letters))
	}
	return took, err
}

// drain lets the bare client and the relay send the same backlog in turns.
func (b *bench) drain(ctx context.Context, s *stage) error {
	if err := b.compare(ctx, s, "one subscriber an event", population{hooks: lanes}, b.events, true); err != nil {
		return err
	}
	return b.compare(ctx, s, fmt.Sprintf("%d subscribers an event", lanes), population{hooks: lanes, all: true}, b.events/lanes, false)
}

func (b *bench) compare(ctx context.Context, s *stage, what string, p population, events int, decides bool) error {
	var floor, relayed, log, cpu, peak, aside figures.Samples
	for round := range b.rounds {
		d, err := s.turn(ctx, p, events, round%2 == 0)
		if err != nil {
			return fmt.Errorf("%s, round %d: %w", what, round+1, err)
		}
		floor = append(floor, float64(d.n)/d.alone.Seconds())
		relayed, log = append(relayed, d.rate()), append(log, d.log)
		cpu = append(cpu, float64(d.cpu.Microseconds())/float64(d.n))
		peak, aside = append(peak, d.peak), append(aside, float64(d.aside)/float64(d.n))
		b.say("  %s: relay %.0f/s, bare client %.0f/s, relay's processor %.0f µs a delivery, %.1f MiB, %d put aside",
			what, d.rate(), floor[round], cpu[round], d.peak, d.aside)
	}
	r := &b.report
	if ratio := relayed.Over(floor); decides {
		r.Goal("drain", what+": relay / bare client, deliveries per second", ratio, "≥ 0.5", -0.5, 0)
	} else {
		r.Figure(what+": relay / bare client", "ratio", ratio)
	}
	r.Figure(what+": bare client", "deliveries/s", floor)
	r.Figure(what+": relay", "deliveries/s", relayed)
	r.Figure(what+": the rows of the log alone, written again by one statement", "rows/s", log)
	r.Figure(what+": relay, processor", "µs/delivery", cpu)
	r.Figure(what+": relay, VmHWM", "MiB", peak)
	r.Figure(what+": put aside into webhook_deliveries", "of 1", aside)
	return nil
}

// turn is one round: both sides send the same events.
func (s *stage) turn(ctx context.Context, p population, events int, floorFirst bool) (d delivered, err error) {
	c, err := s.scene(ctx, p)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, c.close(context.WithoutCancel(ctx))) }()
	first, err := c.fill(ctx, events)
	if err != nil {
		return d, err
	}
	letters, err := c.letters(ctx, first)
	if err != nil {
		return d, err
	}
	var alone time.Duration
	if floorFirst {
		if alone, err = c.alone(ctx, letters); err != nil {
			return d, err
		}
	}
	if d, err = c.deliver(ctx); err != nil {
		return d, err
	}
	if d.alone = alone; !floorFirst {
		if d.alone, err = c.alone(ctx, letters); err != nil {
			return d, err
		}
	}
	d.log, err = s.copyLog(ctx)
	return d, err
}
