// Command capture measures the way from the write-ahead log to the stream, and says
// which of its goals the relay meets.
//
//	make bench-capture
//	go run ./bench/capture -short
//
// It starts a private Postgres, NATS servers and the relay as processes of their own.
// What is compared drains copies of one replication slot, and so the same log; the
// sides take turns, round by round, and a ratio is taken within a round. The floor is
// pg_recvlogical of the same Postgres, writing to /dev/null. A round counts only when
// every event arrived: their number, and the position and key of the last one.
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
	"strings"
	"time"

	"github.com/dot-do/relay/bench/figures"
	"github.com/dot-do/relay/bench/rig"
)

func main() {
	if served, err := rig.ServeNATS(); served {
		if err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "bench/capture:", err)
			os.Exit(1)
		}
		return
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "bench/capture:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	short  bool
	rounds int
	only   *regexp.Regexp
	json   string
	huge   int
	relay  string
	dir    string
}

// sizes says how much is measured.
type sizes struct {
	changes int           // of a drain
	per     int           // changes of a small transaction
	durable int           // changes drained into a server that syncs every write
	steady  time.Duration // of a measurement of latency
	rates   []rate
}

// rate is a steady load.
type rate struct{ rows, per int }

// bench is one run.
type bench struct {
	options
	sizes
	report  figures.Report
	foreign figures.Samples // cores that other work used, of every drain
	log     io.Writer
}

func newBench(o options, log io.Writer) *bench {
	b := &bench{options: o, log: log, sizes: sizes{
		changes: 300_000, per: 10, durable: 20_000, steady: 10 * time.Second, rates: []rate{{1000, 1}, {5000, 10}},
	}}
	if o.short {
		b.sizes = sizes{changes: 5_000, per: 10, durable: 500, steady: 500 * time.Millisecond, rates: []rate{{200, 1}, {500, 10}}}
	}
	b.report.Short, b.report.Started, b.report.Machine = o.short, time.Now(), figures.Machine()
	return b
}

// run is main without the process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	b := newBench(o, stderr)
	if err := b.run(ctx); err != nil {
		return err
	}
	b.report.Took = time.Since(b.report.Started)
	if o.json != "" {
		if err := b.report.WriteJSON(o.json, b.report.Rows(), nil); err != nil {
			return err
		}
	}
	return b.markdown(stdout)
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var only string
	flags := flag.NewFlagSet("capture", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.short, "short", false, "few changes, one round: shows that everything runs, decides no goal")
	flags.IntVar(&o.rounds, "rounds", 0, "rounds of each measurement (default 5; 1 with -short)")
	flags.StringVar(&only, "only", "", "run the `parts` that this expression matches: small big latency durable huge")
	flags.StringVar(&o.json, "json", "", "write the figures of every round to `file`")
	flags.IntVar(&o.huge, "huge", 0, "also drain one transaction of so many `rows`; needs 2 KB of disk for each")
	flags.StringVar(&o.relay, "relay", "", "the relay's `binary` (default: built from this source)")
	flags.StringVar(&o.dir, "dir", "", "`directory` for the servers' data, removed afterwards (default: the system's)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if o.rounds <= 0 {
		o.rounds = 5
		if o.short {
			o.rounds = 1
		}
	}
	var err error
	o.only, err = figures.Only(only)
	return o, err
}

// part is one piece of the benchmark.
type part struct {
	name string
	run  func(context.Context, *stage) error
}

func (b *bench) parts() []part {
	all := []part{{"small", b.small}, {"big", b.big}, {"latency", b.latency}, {"durable", b.durably}}
	if b.huge > 0 {
		all = append(all, part{"huge", b.hugely})
	}
	return all
}

func (b *bench) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp(b.dir, "relay-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// The server's user, who is another when root starts it, has to get in.
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // what is in it is guarded by itself
		return err
	}
	if b.huge > 0 && b.only.MatchString("huge") {
		if err := roomFor(dir, b.huge); err != nil {
			return err
		}
	}
	if b.relay, err = rig.Relay(ctx, b.relay, dir); err != nil {
		return err
	}
	s, err := openStage(ctx, dir, b.relay)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	b.report.Postgres = s.version
	for _, p := range b.parts() {
		if !b.only.MatchString(p.name) {
			continue
		}
		begin := time.Now()
		if err := p.run(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		_, _ = fmt.Fprintf(b.log, "%s: %.0f s\n", p.name, time.Since(begin).Seconds())
	}
	if len(b.foreign) > 0 {
		b.report.Figure("other work on the machine during the drains", "cores", b.foreign)
	}
	return nil
}

// markdown writes the tables.
func (b *bench) markdown(w io.Writer) error {
	out := &strings.Builder{}
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	r := &b.report
	line("%s, Postgres %s. %d rounds, %.0f s.\n", r.Machine, r.Postgres, b.rounds, r.Took.Seconds())
	r.WriteGoals(line)
	r.WriteFigures(line)
	_, err := io.WriteString(w, out.String())
	return err
}
