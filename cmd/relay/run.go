package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/internal/ops"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
	"github.com/dot-do/relay/relay/pgstore"
)

// Roles of a process. Capture is active in one process for each slot, with the
// others standing by; delivery is shared by all.
const (
	roleCapture = "capture"
	roleDeliver = "deliver"
	roleAPI     = "api"
)

// partNATS is the connection among the parts of /readyz, beside the roles.
const partNATS = "nats"

type runCmd struct {
	Role      []string `help:"What this process does: capture, deliver, api, or several joined by commas. Default: all." default:"capture,deliver,api" placeholder:"ROLE"`
	AcceptGap bool     `help:"Go on, once, where the relay would halt because a range of changes is lost. The range is logged."`
}

// Run runs the roles until the context ends, and then drains.
func (c *runCmd) Run(ctx context.Context, a *app) error {
	if len(c.Role) == 0 {
		return usageError{errors.New("--role is empty: want capture, deliver or api, or several joined by commas")}
	}
	for _, r := range c.Role {
		if !slices.Contains([]string{roleCapture, roleDeliver, roleAPI}, r) {
			return usageError{fmt.Errorf("--role %q: want capture, deliver or api, or several joined by commas", r)}
		}
	}
	cfg, err := config.Load(a.configPath, a.environ)
	if err != nil {
		return err
	}
	log, level := newLogger(a.stderr, cfg.Log)
	if len(cfg.Unread) > 0 {
		log.WarnContext(ctx, "environment variables that are no settings", "names", cfg.Unread)
	}
	p := &process{cfg: cfg, roles: c.Role, acceptGap: c.AcceptGap, log: log}
	if slices.Equal(c.Role, []string{roleCapture}) && !slices.ContainsFunc(a.environ, isGOGC) {
		debug.SetGCPercent(captureGC)
	}
	stop := reloadOnHUP(ctx, a, log, level)
	defer stop()
	err = p.run(ctx)
	if textLog(a.stderr, cfg.Log) {
		return err
	}
	return lastWord(ctx, log, err)
}

// captureGC is for a process that only captures. It holds little and makes little
// garbage, so the memory that more frequent collections save is cheap.
const captureGC = 50

func isGOGC(variable string) bool { return strings.HasPrefix(variable, "GOGC=") }

// reloadOnHUP reads the settings again at SIGHUP. What can change in a running
// process is the log level; an invalid file changes nothing.
func reloadOnHUP(ctx context.Context, a *app, log *slog.Logger, level *slog.LevelVar) (stop func()) {
	hups := make(chan os.Signal, 1)
	signal.Notify(hups, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-hups:
			case <-ctx.Done():
				return
			}
			next, err := config.Load(a.configPath, a.environ)
			if err != nil {
				log.ErrorContext(ctx, "settings not reloaded, the old ones stay", "error", err)
				continue
			}
			level.Set(next.Log.Level)
			log.InfoContext(ctx, "settings reloaded; only log.level changes without a restart", "level", next.Log.Level.String())
		}
	}()
	return func() {
		signal.Stop(hups)
		cancel()
		<-done
	}
}

// process is one running relay: the only place that knows which adapter fills
// which seam.
type process struct {
	cfg       config.Config
	roles     []string
	acceptGap bool // until the first session streams: a later gap is another decision
	log       *slog.Logger
	onReady   func(p *process) // for the demo: everything is connected

	keyring  *secret.Keyring
	health   *ops.Health
	position *ops.Position
	metrics  *ops.Metrics
	embedded *natsstream.Embedded
	store    *pgstore.Store
	nats     *natsstream.Client
	listen   string
	warned   bool // of the log that the slot keeps; the guard's
	parked   int  // row changes; capture's
	violated int  // events; capture's
}

func (p *process) has(role string) bool { return slices.Contains(p.roles, role) }

// streams reports whether a role needs NATS.
func (p *process) streams() bool { return p.has(roleCapture) || p.has(roleDeliver) }

// run opens everything, works until ctx ends or a role fails, and closes
// everything in the opposite order.
func (p *process) run(ctx context.Context) (err error) {
	ring, warning, err := loadKeyring(p.cfg)
	if err != nil {
		return err
	}
	if warning != "" {
		p.log.WarnContext(ctx, "master key file", "warning", warning)
	}
	p.keyring = ring
	parts := slices.DeleteFunc(slices.Clone(p.roles), func(r string) bool { return r == roleAPI })
	if p.streams() {
		parts = append(parts, partNATS)
	}
	p.health, p.position = ops.NewHealth(parts...), &ops.Position{}
	p.metrics = ops.NewMetrics(p.position, p.health)
	server, err := ops.Open(ctx, ops.Config{Listen: p.cfg.Listen, Health: p.health, Position: p.position, Metrics: p.metrics, Logger: p.log})
	if err != nil {
		return err
	}
	p.listen = server.Addr()

	// The server and NATS outlive the roles: a draining process still answers.
	infra, stopInfra := context.WithCancel(context.WithoutCancel(ctx))
	serving := make(chan error, 1)
	work, stopWork := context.WithCancel(ctx)
	defer stopWork()
	go func() {
		serving <- server.Serve(infra)
		stopWork()
	}()
	defer func() {
		stopInfra()
		err = errors.Join(err, <-serving)
	}()

	if err := p.startEmbedded(ctx); err != nil {
		return err
	}
	if p.embedded != nil {
		defer p.embedded.Shutdown()
	}
	if err := p.writePorts(); err != nil {
		return err
	}
	p.log.InfoContext(ctx, "relay started", "version", version, "listen", p.listen, "roles", strings.Join(p.roles, ","))
	guarded := p.startGuard(work, stopWork)
	defer func() { err = worst(err, guarded(stopWork)) }()
	if err := p.connect(work); err != nil {
		return p.endOfStart(ctx, err)
	}
	defer p.store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	if p.nats != nil {
		defer p.nats.Close()
	}
	if p.onReady != nil {
		p.onReady(p)
	}
	stopTelling := context.AfterFunc(ctx, func() {
		p.log.InfoContext(ctx, "relay stopping; a second signal ends it at once", "drain_timeout", p.cfg.DrainTimeout.String())
	})
	defer stopTelling()
	err = p.runRoles(work)
	p.log.InfoContext(ctx, "relay stopped")
	return err
}

// endOfStart tells a stop during the start from a failure.
func (p *process) endOfStart(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

func (p *process) runRoles(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	if p.has(roleCapture) {
		g.Go(func() error { return p.capture(gctx) })
	}
	if p.has(roleDeliver) {
		g.Go(func() error { return p.deliver(gctx) })
	}
	g.Go(func() error { // a process without roles serves until it is stopped
		<-gctx.Done()
		return nil
	})
	return g.Wait()
}

func (p *process) startEmbedded(ctx context.Context) error {
	if !p.cfg.NATS.Embedded() || !p.streams() {
		return nil
	}
	e, err := natsstream.StartEmbedded(ctx, natsstream.EmbeddedConfig{Dir: p.cfg.NATS.Dir, Listen: p.cfg.NATS.Listen, Logger: p.log})
	if err != nil {
		return err
	}
	p.embedded = e
	return nil
}

func (p *process) writePorts() error {
	out := ports{Listen: p.listen}
	if p.embedded != nil {
		if addr := p.embedded.Addr(); addr != nil {
			out.NATS = addr.String()
		}
	}
	return writePorts(p.cfg.PortFile, out)
}

// connect waits for Postgres and NATS: in a stack that starts as a whole they may
// come later. What no waiting can mend ends the process.
func (p *process) connect(ctx context.Context) error {
	err := p.await(ctx, "postgres", func() (err error) {
		p.store, err = pgstore.Open(ctx, pgstore.Config{
			URL: p.cfg.Source.URL, Keyring: p.keyring, Logger: p.log, DisableAfter: p.cfg.Webhook.DisableAfter, Disabled: p.webhookDisabled,
			Log: pgstore.LogRules{Redact: p.cfg.Webhook.LogRedact, MaxPayload: int(p.cfg.Webhook.LogPayloadMax)},
		})
		return err
	})
	if err != nil {
		return err
	}
	if !p.streams() {
		return nil
	}
	err = p.await(ctx, "nats", func() (err error) {
		if p.nats == nil {
			p.nats, err = natsstream.Connect(ctx, natsstream.Config{
				URL: p.cfg.NATS.URL, Embedded: p.embedded, Stream: p.cfg.NATS.Stream, Source: p.cfg.Source.Slot,
				Batches: p.batches(ctx), MessageIDs: p.cfg.NATS.MessageIDs,
				Logger: p.log, OnState: p.natsState,
			})
			if err != nil {
				return err
			}
		}
		return p.nats.EnsureStream(ctx)
	})
	if err != nil {
		if p.nats != nil {
			p.nats.Close()
		}
		p.store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	}
	return err
}

// natsState shows a lost connection on /readyz although nothing wants to be
// published just now.
func (p *process) natsState(connected bool, err error) {
	switch {
	case connected:
		p.health.Set(partNATS, ops.Streaming, "")
	case err != nil:
		p.health.Set(partNATS, ops.Degraded, "connection lost: "+err.Error())
	default:
		p.health.Set(partNATS, ops.Degraded, "connection closed")
	}
}

// await tries until it works. The first failure and every other one are a line in
// the log and the reason of /readyz.
func (p *process) await(ctx context.Context, what string, try func() error) error {
	b := backoff{}
	last := ""
	for {
		err := try()
		if err == nil {
			if last != "" {
				p.log.InfoContext(ctx, "connected at last", "server", what)
			}
			return nil
		}
		if final(err) || ctx.Err() != nil {
			return err
		}
		if err.Error() != last {
			last = err.Error()
			p.log.WarnContext(ctx, "waiting for a server", "server", what, "error", err)
			p.degrade(err)
		}
		if !b.wait(ctx) {
			return ctx.Err()
		}
	}
}

// degrade makes every part say why it does not work.
func (p *process) degrade(err error) {
	for _, role := range []string{roleCapture, roleDeliver} {
		if p.has(role) {
			p.health.Set(role, ops.Degraded, err.Error())
		}
	}
}

// final reports whether trying again cannot help.
func final(err error) bool {
	var (
		setup *relay.SetupError
		halt  *relay.HaltError
	)
	return errors.As(err, &setup) || errors.As(err, &halt)
}
