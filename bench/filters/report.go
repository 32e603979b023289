package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dot-do/relay/bench/figures"
)

// timing is what one event costs at one size.
type timing struct {
	workload, name string
	value          samples
}

// report collects what was measured.
type report struct {
	figures.Report
	timed      []timing
	matched    []string
	wall, used time.Duration
}

// waited adds up how long a measurement took and how long it had a processor.
func (r *report) waited(wall, used time.Duration) {
	r.wall += wall
	r.used += used
}

func (r *report) timings(w workload, probes []probe, taken map[string]samples) {
	for _, p := range probes {
		r.timed = append(r.timed, timing{w.name, p.name, taken[p.name]})
	}
}

// matches notes how many filters match an event of a workload.
func (r *report) matches(w workload, n int, p *pool) {
	mean, most := p.matches()
	r.matched = append(r.matched, fmt.Sprintf("%s %s: %.1f (%d)", w.name, short(n), mean, most))
}

// describeMachine says what a reader must know to compare.
func (r *report) describeMachine(c *cores) {
	pinned := "pinned to one"
	if !c.pinned {
		pinned = "not pinned"
	}
	r.Machine = figures.Machine() + ", " + pinned
}

// markdown writes the tables.
func (r *report) markdown(w io.Writer) error {
	out := &strings.Builder{}
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	line("%s%s. %.0f s.", r.Machine, ifAny(", Postgres ", r.Postgres), r.Took.Seconds())
	if r.wall > 0 {
		line("The measurements of matching had a core for %.0f %% of their time.", 100*float64(r.used)/float64(r.wall))
	}
	line("")
	r.WriteGoals(line)
	if len(r.timed) > 0 {
		line("ns per event in processor time: median, and the least and the most of the rounds.\n")
		line("| | | ns/event | rounds |")
		line("|---|---|---|---|")
		for _, t := range r.timed {
			line("| %s | %s | %s | %s |", t.workload, t.name, figures.Digits(t.value.Median()), t.value.Spread())
		}
		line("")
		for _, w := range workloads() {
			line("- %s: %s", w.name, w.about)
		}
		line("\nMatches per event, mean (most): %s.\n", strings.Join(r.matched, ", "))
	}
	r.WriteFigures(line)
	_, err := io.WriteString(w, out.String())
	return err
}

// writeJSON writes everything that was measured.
func (r *report) writeJSON(name string) error {
	rows := r.Rows()
	for _, t := range r.timed {
		rows = append(rows, figures.Row{Name: t.workload + " " + t.name, Unit: "ns/event", Median: t.value.Median(), Rounds: t.value})
	}
	return r.WriteJSON(name, rows, map[string]any{"core_share": float64(r.used) / max(1, float64(r.wall)), "matches": r.matched})
}

func ifAny(before, s string) string {
	if s == "" {
		return ""
	}
	return before + s
}
