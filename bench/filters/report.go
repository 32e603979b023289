package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// goal is one line of the verdict.
type goal struct {
	id    string
	what  string
	value samples
	text  string  // the goal in words
	limit float64 // at most; negative: at least its amount
	must  float64 // the weaker limit that must hold, where there is one
}

// verdict compares the median with the goal.
func (g goal) verdict() string {
	v := g.value.median()
	switch {
	case len(g.value) == 0:
		return "not measured: no quiet round"
	case g.limit < 0:
		if v >= -g.limit {
			return "met"
		}
	case v <= g.limit:
		return "met"
	case v <= g.must:
		return "within must"
	}
	return "missed"
}

// verdict leaves a goal open that a short run cannot decide.
func (r *report) verdict(g goal) string {
	if r.short {
		return "not decided"
	}
	return g.verdict()
}

// figure is something measured that no goal is about.
type figure struct {
	name, unit string
	value      samples
}

// timing is what one event costs at one size.
type timing struct {
	workload, name string
	value          samples
}

// report collects what was measured.
type report struct {
	short      bool // too few filters to decide a goal
	started    time.Time
	took       time.Duration
	machine    string
	postgres   string
	goals      []goal
	figures    []figure
	timed      []timing
	matched    []string
	wall, used time.Duration
}

func (r *report) goal(g goal) { r.goals = append(r.goals, g) }
func (r *report) figure(name, unit string, v samples) {
	r.figures = append(r.figures, figure{name, unit, v})
}
func (r *report) note(name string, v float64) { r.figure(name, "", samples{v}) }

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
	model := runtime.GOARCH
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
		_ = f.Close()
	}
	pinned := "pinned to one"
	if !c.pinned {
		pinned = "not pinned"
	}
	r.machine = fmt.Sprintf("%d cores (%s), %s, %s", runtime.NumCPU(), model, pinned, runtime.Version())
}

// markdown writes the tables.
func (r *report) markdown(w io.Writer) error {
	out := &strings.Builder{}
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	line("%s%s. %.0f s.", r.machine, ifAny(", Postgres ", r.postgres), r.took.Seconds())
	if r.wall > 0 {
		line("The measurements of matching had a core for %.0f %% of their time.", 100*float64(r.used)/float64(r.wall))
	}
	line("")
	if len(r.goals) > 0 {
		line("| goal | | median | rounds | goal | |")
		line("|---|---|---|---|---|---|")
		for _, g := range r.goals {
			line("| %s | %s | %s | %s | %s | %s |", g.id, g.what, digits(g.value.median()), spread(g.value), g.text, r.verdict(g))
		}
		line("")
	}
	if len(r.timed) > 0 {
		line("ns per event in processor time: median, and the least and the most of the rounds.\n")
		line("| | | ns/event | rounds |")
		line("|---|---|---|---|")
		for _, t := range r.timed {
			line("| %s | %s | %s | %s |", t.workload, t.name, digits(t.value.median()), spread(t.value))
		}
		line("")
		for _, w := range workloads() {
			line("- %s: %s", w.name, w.about)
		}
		line("\nMatches per event, mean (most): %s.\n", strings.Join(r.matched, ", "))
	}
	if len(r.figures) > 0 {
		line("| figure | median | rounds | |")
		line("|---|---|---|---|")
		for _, f := range r.figures {
			line("| %s | %s | %s | %s |", f.name, digits(f.value.median()), spread(f.value), f.unit)
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// raw is the report for programs.
func (r *report) raw() any {
	type row struct {
		Goal    string    `json:"goal,omitempty"`
		Name    string    `json:"name"`
		Unit    string    `json:"unit,omitempty"`
		Limit   string    `json:"limit,omitempty"`
		Verdict string    `json:"verdict,omitempty"`
		Median  float64   `json:"median"`
		Rounds  []float64 `json:"rounds"`
	}
	var rows []row
	for _, g := range r.goals {
		rows = append(rows, row{Goal: g.id, Name: g.what, Limit: g.text, Verdict: r.verdict(g), Median: g.value.median(), Rounds: g.value})
	}
	for _, t := range r.timed {
		rows = append(rows, row{Name: t.workload + " " + t.name, Unit: "ns/event", Median: t.value.median(), Rounds: t.value})
	}
	for _, f := range r.figures {
		rows = append(rows, row{Name: f.name, Unit: f.unit, Median: f.value.median(), Rounds: f.value})
	}
	return map[string]any{
		"machine": r.machine, "postgres": r.postgres, "started": r.started.UTC(), "seconds": r.took.Seconds(),
		"core_share": float64(r.used) / max(1, float64(r.wall)), "matches": r.matched, "rows": rows,
	}
}

func ifAny(before, s string) string {
	if s == "" {
		return ""
	}
	return before + s
}

// spread is the least and the most of the rounds.
func spread(s samples) string {
	if len(s) < 2 {
		return ""
	}
	return digits(s.least()) + "–" + digits(s.most())
}

// digits writes three significant digits, and all of a whole number.
func digits(v float64) string {
	switch {
	case v == float64(int(v)) || v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
