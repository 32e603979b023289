package webhook

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dot-do/relay/relay"
)

// Config of an Engine.
type Config struct {
	Feed          Feed          // required
	Ledger        Ledger        // required
	Subscriptions Subscriptions // required

	Egress        Policy          // default: https to public addresses
	Version       string          // for the user agent; default "dev"
	RootCAs       *x509.CertPool  // default: the system's
	HTTPTimeout   time.Duration   // of an attempt as a whole; default 15 s
	DrainTimeout  time.Duration   // for attempts under way when Run is told to stop; default 20 s
	RetrySchedule []time.Duration // default: each subscription's own backoff
	SilentPauses  bool            // record nothing of the events that meet an inactive subscription

	Concurrency     int // attempts at once to fast endpoints, as many to slow and to new ones; default 256
	LaneConcurrency int // attempts to one endpoint at once; default 4
	MaxEvents       int // taken from the feed and not acked; default 1024
	MaxEventBytes   int // of their bodies; default 64 MiB
	MaxDeliveries   int // first attempts queued, under way or unsettled; default 8192
	MaxUnsettled    int // attempted and not yet in the ledger; default 4096

	Observer Observer
	Logger   *slog.Logger // default slog.Default()
}

// answerTimeout bounds a single call that tells the feed or the ledger something.
const answerTimeout = 5 * time.Second

// answerers is how many acks may be under way.
const answerers = 32

// Engine delivers events to subscriptions. It runs once.
type Engine struct {
	cfg      Config
	log      *slog.Logger
	observer *Observer
	policy   retryPolicy
	sender   *Sender
	dir      *directory
	watcher  *watcher
	lanes    *lanes
	flights  *flights
	claims   *claims
	quota    *quota
	order    *order
	settler  *settler
	budget   chan struct{} // one token for each first attempt on its way
	answers  chan *flight

	attempts  context.Context // of the attempts; ends when the drain's time is over
	cut       context.CancelFunc
	matches   matches                        // of the event at hand; used by intake only
	undecided map[string]*relay.Subscription // those that were logged; used by intake only
	forgetAt  int                            // size of undecided at which deleted rows are forgotten
	sweeping  sync.Mutex

	ready   atomic.Bool
	running atomic.Bool
	feedErr atomic.Pointer[error]
}

// New checks the configuration. It contacts nobody.
func New(cfg Config) (*Engine, error) {
	if cfg.Feed == nil || cfg.Ledger == nil || cfg.Subscriptions == nil {
		return nil, errors.New("webhook engine: feed, ledger and subscriptions are required")
	}
	for _, d := range cfg.RetrySchedule {
		if d < 0 {
			return nil, fmt.Errorf("webhook engine: retry schedule holds a negative delay %s", d)
		}
	}
	cfg.HTTPTimeout = orDefault(cfg.HTTPTimeout, 15*time.Second)
	cfg.DrainTimeout = orDefault(cfg.DrainTimeout, 20*time.Second)
	cfg.Concurrency = orDefault(cfg.Concurrency, 256)
	cfg.LaneConcurrency = orDefault(cfg.LaneConcurrency, 4)
	cfg.MaxEvents = orDefault(cfg.MaxEvents, 1024)
	cfg.MaxEventBytes = orDefault(cfg.MaxEventBytes, 64<<20)
	cfg.MaxDeliveries = orDefault(cfg.MaxDeliveries, 8192)
	cfg.MaxUnsettled = orDefault(cfg.MaxUnsettled, 4096)
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	e := &Engine{
		cfg: cfg, log: cfg.Logger, observer: &cfg.Observer,
		policy:    retryPolicy{schedule: cfg.RetrySchedule},
		sender:    NewSender(SenderConfig{Egress: cfg.Egress, Timeout: cfg.HTTPTimeout, Version: cfg.Version, RootCAs: cfg.RootCAs}),
		dir:       newDirectory(cfg.SilentPauses),
		flights:   newFlights(cfg.MaxEvents, cfg.MaxEventBytes),
		claims:    newClaims(),
		quota:     newQuota(cfg.Ledger),
		budget:    make(chan struct{}, cfg.MaxDeliveries),
		answers:   make(chan *flight, cfg.MaxEvents+maxTake),
		undecided: map[string]*relay.Subscription{},
	}
	e.attempts, e.cut = context.WithCancel(context.Background())
	e.watcher = newWatcher(cfg.Feed, cfg.Subscriptions, e.dir, e.log, e.observer)
	e.lanes = newLanes(cfg.Concurrency, cfg.LaneConcurrency, cfg.MaxUnsettled, e.run, e.targetOf)
	e.lanes.turned = e.breakerTurned
	e.order = newOrder(&e.dir.ordered, func() { e.claims.wrote(0) })
	e.settler = newSettler(cfg.Ledger, e.log, e.committed)
	return e, nil
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// Ready returns nil while events are being delivered and recorded, or else why
// not.
func (e *Engine) Ready() error {
	if !e.ready.Load() {
		return errors.New("subscriptions are not loaded yet, or the engine has stopped")
	}
	if err := e.feedErr.Load(); err != nil && *err != nil {
		return fmt.Errorf("events cannot be read: %w", *err)
	}
	if err := e.settler.err(); err != nil {
		return fmt.Errorf("outcomes cannot be recorded: %w", err)
	}
	return nil
}

func (e *Engine) feedFailed(err error) { e.feedErr.Store(&err) }

// Run delivers until ctx ends, then drains: attempts under way may finish within
// DrainTimeout, what was not begun is given back, outcomes are recorded and
// events acked. It returns nil after a complete drain.
func (e *Engine) Run(ctx context.Context) error {
	if e.running.Swap(true) {
		return errors.New("webhook engine: run twice")
	}
	defer e.sender.Close()
	defer e.cut()
	var acked, control uint64
	err := retry(ctx, e.log, "load subscriptions", func() (err error) {
		acked, control, err = e.watcher.load(ctx)
		return err
	})
	if err != nil {
		return stopped(ctx, err)
	}

	back, stopBack := e.startBackground(ctx)
	front, frontCtx := errgroup.WithContext(ctx)
	front.Go(func() error { return e.watcher.listen(frontCtx, acked) })
	front.Go(func() error { return e.watcher.apply(frontCtx) })
	front.Go(func() error {
		if err := e.watcher.waitApplied(frontCtx, control); err != nil {
			return stopped(frontCtx, err)
		}
		e.ready.Store(true)
		e.log.Info("delivery ready", "subscriptions", e.dir.size.Load(), "acked_seq", acked)
		both, bothCtx := errgroup.WithContext(frontCtx)
		both.Go(func() error { return e.intake(bothCtx) })
		both.Go(func() error { return e.claimDue(bothCtx) })
		return both.Wait()
	})
	err = front.Wait()
	e.ready.Store(false)
	return errors.Join(err, e.drain(ctx, back, stopBack))
}

// background is what goes on during the drain.
type background struct {
	settler, answerers, keeper sync.WaitGroup
}

// startBackground starts the ledger writer, the answers to the feed and the
// housekeeping. stop ends the first and the last; the answerers end when answers
// is closed.
func (e *Engine) startBackground(ctx context.Context) (b *background, stop context.CancelFunc) {
	ctx, stop = context.WithCancel(context.WithoutCancel(ctx))
	b = &background{}
	b.settler.Go(func() { e.settler.run(ctx) })
	b.keeper.Go(func() { e.keep(ctx) })
	b.keeper.Go(func() { e.keepLeases(ctx) })
	b.keeper.Go(func() { e.quota.keep(ctx) })
	b.keeper.Go(func() { e.order.keep(ctx, e.cfg.Feed, e.log) })
	for range answerers {
		b.answerers.Go(e.answer)
	}
	return b, stop
}

// drain ends everything that front has left, in the order of the flow.
func (e *Engine) drain(ctx context.Context, b *background, stop context.CancelFunc) error {
	deadline := time.Now().Add(e.cfg.DrainTimeout)
	timer := time.AfterFunc(e.cfg.DrainTimeout, e.cut)
	e.giveBack(ctx, e.lanes.stop())
	e.lanes.workers.Wait()
	timer.Stop()
	e.sweeping.Lock()   // what the last sweep took out reaches the settler before it closes
	e.sweeping.Unlock() //nolint:staticcheck // an empty section is the point
	e.settler.close()
	flush := time.AfterFunc(max(time.Until(deadline), min(e.cfg.DrainTimeout, answerTimeout)), stop)
	b.settler.Wait()
	flush.Stop()
	stop()
	b.keeper.Wait()
	e.returnQuota(ctx)
	close(e.answers)
	b.answerers.Wait()
	if n, why := e.settler.left(); n > 0 {
		return fmt.Errorf("stop delivering: %d outcomes could not be recorded, their deliveries may be repeated: %w", n, why)
	}
	return nil
}

// returnQuota leaves to the other processes what this one has not used.
func (e *Engine) returnQuota(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
	defer cancel()
	if err := e.quota.putBack(ctx, 0); err != nil {
		e.log.Warn("unused quota cannot be put back, the present hour has a little less", "error", err)
	}
}

// keep does what has to be done now and then, and waits for nobody: an event that
// is extended late is handed out again.
func (e *Engine) keep(ctx context.Context) {
	sweep := time.NewTicker(250 * time.Millisecond)
	defer sweep.Stop()
	extend := time.NewTicker(max(e.cfg.Feed.AckWait()/3, time.Millisecond))
	defer extend.Stop()
	reap := time.NewTicker(laneIdle)
	defer reap.Stop()
	for {
		select {
		case <-sweep.C:
			e.sweep()
			e.reportLoad()
		case <-extend.C:
			for _, m := range e.flights.messages() {
				e.extend(m)
			}
		case <-reap.C:
			e.lanes.reap()
		case <-ctx.Done():
			return
		}
	}
}

// sweep puts aside what has waited too long in its lane.
func (e *Engine) sweep() {
	e.sweeping.Lock()
	defer e.sweeping.Unlock()
	overdue, aside := e.lanes.sweep()
	for i, t := range overdue {
		e.defers(t, aside[i])
	}
}

func (e *Engine) reportLoad() {
	l := e.lanes.load()
	l.Events, l.Claimed = e.flights.len(), e.claims.len()
	e.observer.load(l)
}
