// Package figures is the report that the benchmarks share: samples of several rounds,
// goals that their median is compared with, and the tables of both.
package figures

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Samples are the measurements of one thing, one a round.
type Samples []float64

// Median is the middle one, or the mean of the two in the middle; 0 without samples.
func (s Samples) Median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return (sorted[(len(s)-1)/2] + sorted[len(s)/2]) / 2
}

// Least is the smallest sample.
func (s Samples) Least() float64 { return slices.Min(s) }

// Most is the largest sample.
func (s Samples) Most() float64 { return slices.Max(s) }

// Over divides round by round.
func (s Samples) Over(t Samples) Samples {
	ratio := make(Samples, min(len(s), len(t)))
	for i := range ratio {
		ratio[i] = s[i] / t[i]
	}
	return ratio
}

// Each applies f to the sample of every round.
func (s Samples) Each(f func(float64) float64) Samples {
	out := make(Samples, len(s))
	for i, v := range s {
		out[i] = f(v)
	}
	return out
}

// Spread is the least and the most of the rounds, as text.
func (s Samples) Spread() string {
	if len(s) < 2 {
		return ""
	}
	return Digits(s.Least()) + "–" + Digits(s.Most())
}

// Goal is one line of the verdict.
type Goal struct {
	ID    string
	What  string
	Value Samples
	Text  string  // the goal in words
	Limit float64 // at most; negative: at least its amount
	Must  float64 // the weaker limit that must hold, where there is one
}

// Verdict compares the median with the goal.
func (g Goal) Verdict() string {
	v := g.Value.Median()
	switch {
	case len(g.Value) == 0:
		return "not measured: no quiet round"
	case g.Limit < 0:
		if v >= -g.Limit {
			return "met"
		}
	case v <= g.Limit:
		return "met"
	case v <= g.Must:
		return "within must"
	}
	return "missed"
}

// Figure is something measured that no goal is about.
type Figure struct {
	Name, Unit string
	Value      Samples
}

// Report collects what was measured.
type Report struct {
	Short    bool // too little was measured to decide a goal
	Started  time.Time
	Took     time.Duration
	Machine  string
	Postgres string
	Goals    []Goal
	Figures  []Figure
}

// Goal adds a line of the verdict; the fields are those of Goal.
func (r *Report) Goal(id, what string, value Samples, text string, limit, must float64) {
	r.Goals = append(r.Goals, Goal{ID: id, What: what, Value: value, Text: text, Limit: limit, Must: must})
}

// Figure adds something measured that no goal is about.
func (r *Report) Figure(name, unit string, v Samples) {
	r.Figures = append(r.Figures, Figure{name, unit, v})
}

// Note adds a number that was counted once.
func (r *Report) Note(name string, v float64) { r.Figure(name, "", Samples{v}) }

// Verdict leaves a goal open that a short run cannot decide.
func (r *Report) Verdict(g Goal) string {
	if r.Short {
		return "not decided"
	}
	return g.Verdict()
}

// WriteGoals writes the table of the goals, a line at a time.
func (r *Report) WriteGoals(line func(format string, args ...any)) {
	if len(r.Goals) == 0 {
		return
	}
	line("| goal | | median | rounds | goal | |")
	line("|---|---|---|---|---|---|")
	for _, g := range r.Goals {
		line("| %s | %s | %s | %s | %s | %s |", g.ID, g.What, Digits(g.Value.Median()), g.Value.Spread(), g.Text, r.Verdict(g))
	}
	line("")
}

// WriteFigures writes the table of the figures, a line at a time.
func (r *Report) WriteFigures(line func(format string, args ...any)) {
	if len(r.Figures) == 0 {
		return
	}
	line("| figure | median | rounds | |")
	line("|---|---|---|---|")
	for _, f := range r.Figures {
		line("| %s | %s | %s | %s |", f.Name, Digits(f.Value.Median()), f.Value.Spread(), f.Unit)
	}
}

// Row is one measurement, for programs.
type Row struct {
	Goal    string  `json:"goal,omitempty"`
	Name    string  `json:"name"`
	Unit    string  `json:"unit,omitempty"`
	Limit   string  `json:"limit,omitempty"`
	Verdict string  `json:"verdict,omitempty"`
	Median  float64 `json:"median"`
	Rounds  Samples `json:"rounds"`
}

// Rows lists goals and figures with the samples of every round.
func (r *Report) Rows() []Row {
	var rows []Row
	for _, g := range r.Goals {
		rows = append(rows, Row{Goal: g.ID, Name: g.What, Limit: g.Text, Verdict: r.Verdict(g), Median: g.Value.Median(), Rounds: g.Value})
	}
	for _, f := range r.Figures {
		rows = append(rows, Row{Name: f.Name, Unit: f.Unit, Median: f.Value.Median(), Rounds: f.Value})
	}
	return rows
}

// WriteJSON writes rows, and what else the benchmark has to say, to a file.
func (r *Report) WriteJSON(name string, rows []Row, more map[string]any) error {
	all := map[string]any{
		"machine": r.Machine, "postgres": r.Postgres, "started": r.Started.UTC(), "seconds": r.Took.Seconds(), "rows": rows,
	}
	maps.Copy(all, more)
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o600)
}

// Machine says what a reader must know to compare.
func Machine() string {
	return fmt.Sprintf("%d cores (%s), %s", runtime.NumCPU(), cmp.Or(model(), runtime.GOARCH), runtime.Version())
}

func model() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Digits writes three significant digits, and all of a whole number.
func Digits(v float64) string {
	switch {
	case v == float64(int(v)) || v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// Only compiles the value of a flag -only, which names parts of a benchmark in full:
// without one every part is run.
func Only(parts string) (*regexp.Regexp, error) {
	if parts == "" {
		return regexp.Compile("")
	}
	only, err := regexp.Compile("^(" + parts + ")$")
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	return only, nil
}
