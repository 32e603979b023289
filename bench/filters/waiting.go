package main

import "runtime"

// line is a line of memory: where the next one of a chain is.
type line struct {
	next *line
	_    [56]byte
}

// waiting measures what an access to memory far from the processor costs that has to
// wait for the one before it, and one of eight that need not wait for each other.
func (b *bench) waiting() {
	const megabytes, steps, chains = 256, 1 << 20, 8
	lines := make([]line, megabytes<<20/64)
	order := random(3).Perm(len(lines))
	for i, at := range order {
		lines[at].next = &lines[order[(i+1)%len(order)]]
	}
	var alone, together samples
	for range b.rounds {
		at := [chains]*line{}
		for i := range at {
			at[i] = &lines[order[i*len(order)/chains]]
		}
		begin := cpuTime()
		for range steps {
			at[0] = at[0].next
		}
		middle := cpuTime()
		for range steps {
			for i := range at {
				at[i] = at[i].next
			}
		}
		end := cpuTime()
		runtime.KeepAlive(at)
		alone = append(alone, float64(middle-begin)/steps)
		together = append(together, float64(end-middle)/steps)
	}
	b.report.Figure("an access to 256 MB of memory that waits for the one before it", "ns", alone)
	b.report.Figure("eight such accesses that do not wait for each other", "ns", together)
}
