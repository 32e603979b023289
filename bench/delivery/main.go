// Command delivery measures the way from the stream to the settled row of the delivery
// log, and from a commit to the receiver's answer, and says which of its goals the relay
// meets.
//
//	make bench-delivery
//	go run ./bench/delivery -short
//
// It starts a private Postgres, NATS servers, the relay and an HTTP receiver as processes
// of their own. The floor is a plain HTTP client that posts the same bodies, signed
// beforehand, to the same receiver with the same concurrency, and does nothing else. The
// sides take turns, round by round, and a ratio is taken within a round. A round counts
// only when every delivery arrived once and has its row in the log.
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
	if served, err := serve(); served {
		if err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "bench/delivery:", err)
			os.Exit(1)
		}
		return
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "bench/delivery:", err)
		os.Exit(1)
	}
}

// serve is the server that this process was started as, if it was.
func serve() (served bool, err error) {
	if served, err := rig.ServeNATS(); served {
		return true, err
	}
	return serveReceiver()
}

// options are the command line.
type options struct {
	short  bool
	unsafe bool
	rounds int
	only   *regexp.Regexp
	json   string
	relay  string
	dir    string
}

// sizes says how much is measured.
type sizes struct {
	events  int           // of a backlog
	rate    int           // events a second of a steady load
	steady  time.Duration // how long it lasts, without the second before that does not count
	hooks   int           // subscriptions at the start
	pending int           // retries that wait at the start
	watched time.Duration // how long the relay is watched after the start
}

// bench is one run.
type bench struct {
	options
	sizes
	report figures.Report
	log    io.Writer
}

func newBench(o options, log io.Writer) *bench {
	b := &bench{options: o, log: log, sizes: sizes{
		events: 20_000, rate: 500, steady: 15 * time.Second, hooks: 100_000, pending: 1_000_000, watched: 5 * time.Second,
	}}
	if o.short {
		b.sizes = sizes{events: 600, rate: 200, steady: 500 * time.Millisecond, hooks: 500, pending: 2_000, watched: time.Second}
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
		if err := b.report.WriteJSON(o.json, b.report.Rows(), map[string]any{"synced": !o.unsafe}); err != nil {
			return err
		}
	}
	return b.markdown(stdout)
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var only string
	flags := flag.NewFlagSet("delivery", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.short, "short", false, "few events, one round: shows that everything runs, decides no goal")
	flags.BoolVar(&o.unsafe, "nosync", false, "Postgres does not wait for the disk")
	flags.IntVar(&o.rounds, "rounds", 0, "rounds of each measurement (default 5; 1 with -short)")
	flags.StringVar(&only, "only", "", "run the `parts` that this expression matches: drain latency mixed start cost")
	flags.StringVar(&o.json, "json", "", "write the figures of every round to `file`")
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
	return []part{{"drain", b.drain}, {"latency", b.latency}, {"mixed", b.mixed}, {"start", b.start}, {"cost", b.cost}}
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
	if b.relay, err = rig.Relay(ctx, b.relay, dir); err != nil {
		return err
	}
	s, err := openStage(ctx, dir, b.relay, !b.unsafe)
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
		b.say("%s: %.0f s", p.name, time.Since(begin).Seconds())
	}
	return nil
}

// say tells of the progress.
func (b *bench) say(format string, args ...any) { _, _ = fmt.Fprintf(b.log, format+"\n", args...) }

// markdown writes the tables.
func (b *bench) markdown(w io.Writer) error {
	out := &strings.Builder{}
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	r := &b.report
	disk := "which waits for the disk"
	if b.unsafe {
		disk = "which does not wait for the disk"
	}
	line("%s, Postgres %s, %s. %d rounds, %.0f s.\n", r.Machine, r.Postgres, disk, b.rounds, r.Took.Seconds())
	r.WriteGoals(line)
	r.WriteFigures(line)
	_, err := io.WriteString(w, out.String())
	return err
}
