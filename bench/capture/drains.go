package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dot-do/relay/bench/figures"
	"github.com/dot-do/relay/bench/rig"
)

const (
	mostExternal = 32  // MiB with NATS elsewhere
	mostEmbedded = 128 // MiB with NATS within
)

// sides are the samples of what takes turns on one workload.
type sides map[string]*side

// side are the samples of one of them.
type side struct {
	rate, took, cpu, sender, nats, peak figures.Samples // cpu in µs per change
}

func (b *bench) note(all sides, name string, w *workload, d drained) {
	s := all[name]
	if s == nil {
		s = &side{}
		all[name] = s
	}
	each := func(t time.Duration) float64 { return float64(t.Nanoseconds()) / 1000 / float64(w.changes) }
	s.rate = append(s.rate, float64(w.changes)/d.took.Seconds())
	s.took = append(s.took, d.took.Seconds())
	s.cpu, s.sender, s.nats = append(s.cpu, each(d.cpu)), append(s.sender, each(d.sender)), append(s.nats, each(d.nats))
	s.peak = append(s.peak, d.peak)
	b.foreign = append(b.foreign, d.foreign)
	_, _ = fmt.Fprintf(b.log, "  %s: %.0f changes/s, reader %.2f µs, sender %.2f µs, NATS %.2f µs a change, %.1f MiB; other work %.2f cores\n",
		name, float64(w.changes)/d.took.Seconds(), each(d.cpu), each(d.sender), each(d.nats), d.peak, d.foreign)
}

const (
	floorSide    = "pg_recvlogical"
	externalSide = "relay, external NATS"
	embeddedSide = "relay, embedded NATS"
)

// small drains many small transactions.
func (b *bench) small(ctx context.Context, s *stage) error {
	return b.compare(ctx, s, "small transactions", b.per, 1.3)
}

// big drains one transaction with as many changes.
func (b *bench) big(ctx context.Context, s *stage) error {
	return b.compare(ctx, s, fmt.Sprintf("one transaction of %d", b.changes), b.changes, 1.0)
}

// compare lets pg_recvlogical and the relay drain the same log in turns. Every round
// begins with another one.
func (b *bench) compare(ctx context.Context, s *stage, what string, per int, goal float64) error {
	w, err := s.transactions(ctx, b.changes, per)
	if err != nil {
		return err
	}
	all := sides{}
	turns := []struct {
		name string
		run  func() (drained, error)
	}{
		{floorSide, func() (drained, error) { return s.receive(ctx, w) }},
		{externalSide, func() (drained, error) { return s.drain(ctx, w, venue{}) }},
		{embeddedSide, func() (drained, error) { return s.drain(ctx, w, venue{embedded: true}) }},
	}
	for round := range b.rounds {
		for i := range turns {
			turn := turns[(i+round)%len(turns)]
			d, err := turn.run()
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", turn.name, round+1, err)
			}
			b.note(all, turn.name, w, d)
		}
	}
	b.judge(what, all, goal)
	return s.dropSlot(ctx, w.slot)
}

func (b *bench) judge(what string, all sides, goal float64) {
	floor, external, embedded := all[floorSide], all[externalSide], all[embeddedSide]
	ratio := external.rate.Over(floor.rate)
	r := &b.report
	r.Goal("drain", what+": relay / pg_recvlogical, changes per second", ratio, fmt.Sprintf("≥ %.1f", goal), -goal, 0)
	if goal > 1 {
		r.Goal("drain", what+": the same, least of the rounds", figures.Samples{ratio.Least()}, "≥ 1.0", -1, 0)
	}
	r.Goal("cpu", what+": relay, processor µs per change", external.cpu, "≤ 3", 3, 0)
	r.Goal("memory", what+": VmHWM with external NATS, MiB, most of the rounds", figures.Samples{external.peak.Most()}, "≤ 32", mostExternal, 0)
	r.Goal("memory", what+": VmHWM with embedded NATS, MiB, most of the rounds", figures.Samples{embedded.peak.Most()}, "≤ 128", mostEmbedded, 0)
	r.Figure(what+": relay with embedded NATS / pg_recvlogical", "ratio", embedded.rate.Over(floor.rate))
	for _, name := range []string{floorSide, externalSide, embeddedSide} {
		s := all[name]
		r.Figure(what+": "+name, "changes/s", s.rate)
		r.Figure(what+": "+name+", processor", "µs/change", s.cpu)
		r.Figure(what+": "+name+", the server's sender", "µs/change", s.sender)
		if name == externalSide {
			r.Figure(what+": "+name+", the NATS server", "µs/change", s.nats)
		}
	}
}

// durably drains into a server that syncs every write before it answers, and compares
// with publishing messages of the same size one by one.
func (b *bench) durably(ctx context.Context, s *stage) error {
	w, err := s.transactions(ctx, b.durable, b.per)
	if err != nil {
		return err
	}
	const window = 4096
	var drains, async, one figures.Samples
	for range b.rounds {
		d, err := s.drain(ctx, w, venue{durable: true})
		if err != nil {
			return err
		}
		drains = append(drains, float64(w.changes)/d.took.Seconds())
		pipelined, err := s.publishAlone(ctx, w.changes, d.message, window)
		if err != nil {
			return err
		}
		async = append(async, pipelined)
		awaited, err := s.publishAlone(ctx, w.changes/10, d.message, 1)
		if err != nil {
			return err
		}
		one = append(one, awaited)
		_, _ = fmt.Fprintf(b.log, "  durable: relay %.0f/s, pipelined %.0f/s, awaited one by one %.0f/s\n", drains[len(drains)-1], pipelined, awaited)
	}
	r := &b.report
	r.Goal("durable", "NATS syncs every write: relay / publishing each message, pipelined", drains.Over(async), "≥ 10", -10, 0)
	r.Figure("NATS syncs every write: relay", "changes/s", drains)
	r.Figure(fmt.Sprintf("NATS syncs every write: each message published, %d on their way", window), "messages/s", async)
	r.Figure("NATS syncs every write: each message published and awaited", "messages/s", one)
	return s.dropSlot(ctx, w.slot)
}

// publishAlone publishes to a durable server of its own.
func (s *stage) publishAlone(ctx context.Context, n, size, window int) (float64, error) {
	server, err := rig.StartNATS(ctx, s.dir, true)
	if err != nil {
		return 0, err
	}
	defer server.Close()
	st, err := connect(server.URL)
	if err != nil {
		return 0, err
	}
	defer st.nc.Close()
	return st.publish(ctx, n, size, window)
}

// hugely drains one transaction of very many small rows, once with each kind of server.
func (b *bench) hugely(ctx context.Context, s *stage) error {
	w := &workload{changes: b.huge, ordinal: uint32(b.huge - 1), key: fmt.Sprint(s.next + int64(b.huge) - 1)}
	if err := s.record(ctx, w, "insert into bench_huge select i, 'note ' || i from generate_series($1::bigint, $2::bigint) i", s.next, s.next+int64(b.huge)-1); err != nil {
		return err
	}
	s.next += int64(b.huge)
	what := fmt.Sprintf("one transaction of %d small rows", b.huge)
	all := sides{}
	for _, side := range []struct {
		name string
		at   venue
		most float64
	}{{externalSide, venue{}, mostExternal}, {embeddedSide, venue{embedded: true}, mostEmbedded}} {
		name, most := side.name, side.most
		d, err := s.drain(ctx, w, side.at)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		b.note(all, name, w, d)
		b.report.Goal("memory", what+": "+name+", VmHWM, MiB", figures.Samples{d.peak}, fmt.Sprintf("≤ %.0f", most), most, 0)
		b.report.Goal("feedback", what+": "+name+", longest without feedback to the server, s", figures.Samples{d.silence.Seconds()}, "≤ 30, half of wal_sender_timeout", 30, 0)
		b.report.Figure(what+": "+name, "changes/s", all[name].rate)
		b.report.Figure(what+": "+name+", processor", "µs/change", all[name].cpu)
	}
	return s.dropSlot(ctx, w.slot)
}
