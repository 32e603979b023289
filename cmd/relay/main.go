// Command relay turns committed Postgres changes into NATS messages and signed
// webhooks. `relay --help` lists the commands.
//
// Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 halted (slot lost,
// gap, divergence: a person must decide), 4 fenced by another writer.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/relay"
)

// version is set by the linker.
var version = "dev"

// Exit codes of the contract.
const (
	exitFailed = 1
	exitUsage  = 2
	exitHalted = 3
	exitFenced = 4
)

func main() {
	log.SetOutput(io.Discard) // net/http writes bytes of odd endpoints there
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		cancel()
		<-signals // the second one does not wait for anything
		os.Exit(exitFailed)
	}()
	code := run(ctx, os.Args[1:], env{program: os.Args[0], stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()})
	cancel()
	os.Exit(code)
}

// env is what a process gets from outside; tests bring their own.
type env struct {
	program        string // as it was called
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
}

// cli is the command line. Kong reads it from the tags.
type cli struct {
	Config string `help:"YAML file with settings; RELAY_* environment variables override it." placeholder:"relay.yaml" type:"path"`

	Run      runCmd      `cmd:"" help:"Capture, publish, deliver and serve."`
	Demo     demoCmd     `cmd:"" help:"A throw-away stack on this machine that shows events arrive."`
	Migrate  migrateCmd  `cmd:"" help:"Create, change or remove the relay's tables."`
	Setup    setupCmd    `cmd:"" help:"Create publication, replica identity, slot and stream for the registered mappings."`
	Backfill backfillCmd `cmd:"" help:"Publish the rows that a table already has, while the relay streams."`
	Doctor   doctorCmd   `cmd:"" help:"Check the whole path and say the remedy for each finding."`
	Filters  filtersCmd  `cmd:"" help:"Check filters, and try them on events."`
	Webhooks webhooksCmd `cmd:"" help:"Look after the subscriptions in zapier_webhooks."`
	Replay   replayCmd   `cmd:"" help:"Send dead letters of a webhook once more; says first what it would do."`
	Parked   parkedCmd   `cmd:"" help:"Events that violate the schema of their type: list them, and publish them once they do not."`
	Health   healthCmd   `cmd:"" help:"Ask a running relay whether it is ready; for container health checks."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
}

// app is what every command gets.
type app struct {
	env
	configPath string
}

// usageError is a mistake on the command line.
type usageError struct{ error }

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, e env) int {
	err := execute(ctx, args, e)
	if err == nil {
		return 0
	}
	if !errors.As(err, &reported{}) {
		fmt.Fprintf(e.stderr, "relay: %v\n", err)
	}
	return exitCode(err)
}

// reported is an error that the log, or the screen, tells of already.
type reported struct{ error }

// Unwrap returns the error, for its exit code.
func (r reported) Unwrap() error { return r.error }

// errHelp ends the process after --help was printed.
var errHelp = errors.New("help")

func execute(ctx context.Context, args []string, e env) (err error) {
	var c cli
	parser, err := kong.New(&c,
		kong.Name("relay"),
		kong.Description("Committed Postgres changes as NATS messages and signed webhooks. See it work: relay demo. "+
			"On your own database: relay migrate up, relay doctor, relay run. Settings: relay.example.yaml."),
		kong.Writers(e.stdout, e.stderr),
		kong.Exit(func(int) { panic(errHelp) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	if err != nil {
		return err
	}
	defer func() { // kong ends --help by its exit function only
		if r := recover(); r != nil && r != any(errHelp) {
			panic(r)
		}
	}()
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return usageError{fmt.Errorf("%w; see %s --help", err, mistaken(err))}
	}
	a := &app{env: e, configPath: c.Config}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return parsed.Run(a)
}

// mistaken is the command in which the mistake was made.
func mistaken(err error) string {
	if parse, ok := errors.AsType[*kong.ParseError](err); ok {
		if node := parse.Context.Selected(); node != nil {
			return node.FullPath()
		}
	}
	return "relay"
}

func exitCode(err error) int {
	var (
		usage *config.Error
		halt  *relay.HaltError
	)
	switch {
	case errors.As(err, &usage), errors.As(err, &usageError{}):
		return exitUsage
	case errors.As(err, &halt):
		return exitHalted
	case errors.Is(err, relay.ErrFenced):
		return exitFenced
	}
	return exitFailed
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(a *app) error {
	_, err := fmt.Fprintf(a.stdout, "relay %s\n", version)
	return err
}
