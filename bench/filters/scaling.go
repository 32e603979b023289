package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// scaling measures how many events two cores match, against one.
func (b *bench) scaling(ctx context.Context) error {
	if runtime.NumCPU() < 2 {
		b.report.Note("two cores: this machine has one", 1)
		return nil
	}
	l, err := b.live(byName("W1"))
	if err != nil {
		return err
	}
	pools := []*pool{{index: l.index, events: l.events}, {index: l.index, events: l.events}}
	b.cores.spread(ctx, 2)
	defer b.cores.pinAgain(ctx)
	once, _ := together(pools[:1], 1)
	passes := 1 + int(4*b.sample/once)
	var gain, cost samples
	disturbed := 0
	for range 3 * b.rounds {
		aloneWall, aloneCPU := together(pools[:1], passes)
		bothWall, bothCPU := together(pools, passes)
		cost = append(cost, float64(bothCPU)/2/float64(aloneCPU))
		if float64(bothCPU) < 1.9*float64(bothWall) || float64(aloneCPU) < 0.95*float64(aloneWall) {
			disturbed++ // somebody else had one of the cores
			continue
		}
		gain = append(gain, 2*float64(aloneWall)/float64(bothWall))
	}
	b.report.Note(fmt.Sprintf("two cores: rounds left out because the process did not get both, of %d", 3*b.rounds), float64(disturbed))
	b.report.Figure("two cores: processor time of a match, against one core", "ratio", cost)
	b.report.Goal("G9", "events per second on 2 cores / on 1, W1 at "+short(b.last()), gain, "≥ 1.9", -1.9, 0)
	return nil
}

// together lets each pool be asked on a goroutine of its own.
func together(pools []*pool, passes int) (wall, used time.Duration) {
	begin, cpu := time.Now(), cpuTime()
	var wg sync.WaitGroup
	for _, p := range pools {
		wg.Go(func() {
			for range passes {
				p.askAll()
			}
		})
	}
	wg.Wait()
	return time.Since(begin), cpuTime() - cpu
}
