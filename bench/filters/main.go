// Command filters measures the filter index and says which of its goals it meets.
//
//	make bench-filters
//	go run ./bench/filters -short
//
// Everything is measured in this one process, side by side: the index at four sizes,
// reading the same bytes with gjson, asking every filter, and Postgres. What is
// compared takes turns, round by round, so that a machine which slows down slows down
// both sides; a ratio is taken within each round, and the median over the rounds is
// what counts. Matching is measured in processor time on one core, so that other work
// on the machine costs cache, not time.
//
// It is a command and not a Go benchmark because a ratio needs both its sides from the
// same round, and a figure at a million filters must not be built anew for each b.N.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/dot-do/relay/bench/figures"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "bench/filters:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	short   bool
	sql     bool
	rounds  int
	only    *regexp.Regexp
	json    string
	profile string
}

// bench is one run.
type bench struct {
	options
	sizes  []int         // how many filters, ascending
	pool   int           // bytes of events that one measurement goes through
	sample time.Duration // shortest measurement
	asks   int           // filters that one measurement of the plain matcher asks
	cores  *cores
	report report
	log    io.Writer
}

// last is the largest number of filters.
func (b *bench) last() int { return b.sizes[len(b.sizes)-1] }

func newBench(o options, log io.Writer) *bench {
	b := &bench{options: o, sizes: []int{1_000, 10_000, 100_000, 1_000_000}, pool: 4 << 20, sample: 30 * time.Millisecond, asks: 400_000, log: log}
	if o.short {
		b.sizes, b.pool, b.sample, b.asks = []int{1_000, 10_000}, 512<<10, 2*time.Millisecond, 10_000
	}
	b.report.Short, b.report.Started = o.short, time.Now()
	return b
}

// run is main without the process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	b := newBench(o, stderr)
	if o.profile != "" {
		stop, err := profile(o.profile)
		if err != nil {
			return err
		}
		defer stop()
	}
	if err := b.run(ctx); err != nil {
		return err
	}
	if o.json != "" {
		if err := b.report.writeJSON(o.json); err != nil {
			return err
		}
	}
	return b.report.markdown(stdout)
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var only string
	flags := flag.NewFlagSet("filters", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.short, "short", false, "1k and 10k filters, few rounds: shows that everything runs, decides no goal")
	flags.BoolVar(&o.sql, "sql", true, "start a private Postgres, to compare with and to load filters from")
	flags.IntVar(&o.rounds, "rounds", 0, "rounds of each measurement (default 7; 3 with -short)")
	flags.StringVar(&only, "only", "", "run the `parts` that this expression matches: W0 W1 W2 W3 W3p owners memory changes cores sql hostile")
	flags.StringVar(&o.json, "json", "", "write the figures of every round to `file`")
	flags.StringVar(&o.profile, "cpuprofile", "", "write a CPU profile to `file`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if o.rounds <= 0 {
		o.rounds = 7
		if o.short {
			o.rounds = 3
		}
	}
	var err error
	o.only, err = figures.Only(only)
	return o, err
}

func profile(name string) (stop func(), err error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

// part is one piece of the benchmark, which begins and ends with an empty heap.
type part struct {
	name string
	run  func(context.Context) error
}

func (b *bench) run(ctx context.Context) error {
	var parts []part
	for _, w := range workloads() {
		parts = append(parts, part{w.name, func(ctx context.Context) error { return b.matching(ctx, w) }})
	}
	parts = append(parts,
		part{"memory", func(context.Context) error { return b.memory() }},
		part{"changes", b.changes},
		part{"hostile", func(context.Context) error { return b.hostile() }},
		part{"cores", b.scaling},
		part{"sql", b.postgres},
	)
	b.cores = pinToOne(ctx)
	defer b.cores.release(ctx)
	b.report.describeMachine(b.cores)
	for _, p := range parts {
		if !b.only.MatchString(p.name) || (p.name == "sql" && !b.sql) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		begin := time.Now()
		if err := p.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		runtime.GC()
		_, _ = fmt.Fprintf(b.log, "%s: %.0f s\n", p.name, time.Since(begin).Seconds())
	}
	b.report.Took = time.Since(b.report.Started)
	return nil
}
