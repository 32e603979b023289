package main

import (
	"context"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/dot-do/relay/bench/figures"
)

// cpuTime is the processor time that the process has used so far, on all its threads.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // the arguments are constants
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// probe is something to be measured.
type probe struct {
	name  string
	units int    // events, or whatever one call of run works on
	run   func() // the same work at every call
}

// samples are the measurements of one thing, one a round.
type samples = figures.Samples

// measure lets the probes take turns and returns the processor time of each in ns per
// unit, a sample a round. Every round begins with another probe. In a CPU profile the
// label "probe" tells them apart.
func (b *bench) measure(ctx context.Context, probes []probe) map[string]samples {
	calls := make([]int, len(probes))
	for i, p := range probes { // also warms everything up
		used, n := time.Duration(0), 0
		for begin := cpuTime(); used < b.sample/4; used = cpuTime() - begin {
			p.run()
			n++
		}
		calls[i] = max(1, int(float64(n)*float64(b.sample)/float64(used)))
	}
	taken := make(map[string]samples, len(probes))
	for round := range b.rounds {
		for i := range probes {
			i = (i + round) % len(probes)
			p := probes[i]
			pprof.SetGoroutineLabels(pprof.WithLabels(ctx, pprof.Labels("probe", p.name)))
			wall, begin := time.Now(), cpuTime()
			for range calls[i] {
				p.run()
			}
			used := cpuTime() - begin
			b.report.waited(time.Since(wall), used)
			taken[p.name] = append(taken[p.name], float64(used)/float64(calls[i]*p.units))
		}
	}
	pprof.SetGoroutineLabels(ctx)
	return taken
}

// timeRounds measures pieces of work that set themselves up, one after the other,
// round by round. Each returns what it measured of itself.
func (b *bench) timeRounds(rounds int, work ...func() (samples, error)) ([]samples, error) {
	all := make([]samples, len(work))
	for range rounds {
		for i, f := range work {
			got, err := f()
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], got...)
		}
	}
	return all, nil
}
