package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/internal/pgproc"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/migrations"
)

type demoCmd struct {
	For   time.Duration `help:"End after this time; 0 runs until it is stopped." default:"20s"`
	Every time.Duration `help:"Time between two transactions of the sample writer." default:"400ms"`
}

// Run starts a private Postgres, a relay with its embedded NATS server and a
// receiver, writes sample rows and shows what becomes of them. Everything lives
// in one temporary folder that is removed at the end.
func (c *demoCmd) Run(ctx context.Context, a *app) (err error) {
	if c.For < 0 || c.Every <= 0 {
		return usageError{errors.New("--for must not be negative, and --every must be positive")}
	}
	dir, err := os.MkdirTemp("", "relay-demo-")
	if err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() {
		if rmErr := os.RemoveAll(dir); rmErr != nil {
			err = errors.Join(err, fmt.Errorf("remove %s: %w", dir, rmErr))
		}
	}()
	d := &demo{cmd: c, dir: dir, screen: newScreen(a.stdout)}
	d.screen.title(c.For)
	if err := d.start(ctx); err != nil {
		d.stop()
		if ctx.Err() != nil { // a person stopped it: that is no failure
			return nil
		}
		return err
	}
	defer d.stop()
	if err := d.play(ctx, a); err != nil {
		return err
	}
	d.screen.summary()
	d.screen.next(a.program)
	return nil
}

// demo is the throw-away stack.
type demo struct {
	cmd      *demoCmd
	dir      string
	screen   *screen
	postgres *pgproc.Server
	url      string
	pool     *pgxpool.Pool
	receiver *receiver
}

func (d *demo) start(ctx context.Context) error {
	// The server may run as another user: the folder must let it pass.
	if err := os.Chmod(d.dir, 0o711); err != nil { //nolint:gosec // traversal only; what is inside has its own rights
		return err
	}
	err := d.screen.step(ctx, "private Postgres", func() (err error) {
		d.postgres, err = pgproc.Start(ctx, pgproc.Config{Dir: filepath.Join(d.dir, "postgres"), Settings: map[string]string{"fsync": "off"}})
		return err
	})
	if err != nil {
		return err
	}
	d.url = d.postgres.URL("postgres")
	if d.pool, err = pgxpool.New(ctx, d.url); err != nil {
		return err
	}
	err = d.screen.step(ctx, "tables, registered events, mappings", func() error {
		return migrations.Up(ctx, d.pool, migrations.Options{Samples: true, Logger: slog.New(slog.DiscardHandler)})
	})
	if err != nil {
		return err
	}
	return d.screen.step(ctx, "receiver and webhooks", func() (err error) {
		if d.receiver, err = startReceiver(ctx, d.screen); err != nil {
			return err
		}
		return d.subscribe(ctx)
	})
}

func (d *demo) stop() {
	if d.receiver != nil {
		d.receiver.close()
	}
	if d.pool != nil {
		d.pool.Close()
	}
	if d.postgres != nil {
		_ = d.postgres.Stop(pgproc.Fast) // the folder goes away anyway
	}
}

// play runs the relay, writes rows for as long as asked, and lets the last
// deliveries arrive.
func (d *demo) play(ctx context.Context, a *app) error {
	cfg := config.Default()
	cfg.Source.URL = secret.New(d.url)
	cfg.NATS.Dir = filepath.Join(d.dir, "nats")
	cfg.NATS.Listen, cfg.Listen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Webhook.EgressAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	cfg.Webhook.EgressHTTP = true
	cfg.Webhook.RetrySchedule = []time.Duration{time.Second}
	cfg.DrainTimeout = 5 * time.Second
	// The demo's own lines tell what happens; only errors of the relay come between.
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelError}))

	working, stopRelay := context.WithCancel(ctx)
	defer stopRelay()
	ready := make(chan *process, 1)
	p := &process{cfg: cfg, roles: []string{roleCapture, roleDeliver, roleAPI}, log: log, onReady: func(p *process) { ready <- p }}
	g, gctx := errgroup.WithContext(working)
	g.Go(func() error { return p.run(gctx) })
	g.Go(func() error {
		defer stopRelay()
		select {
		case p := <-ready:
			return d.show(gctx, p)
		case <-gctx.Done():
			return nil
		}
	})
	return g.Wait()
}

func (d *demo) show(ctx context.Context, p *process) error {
	stop, err := p.nats.Watch(d.screen.event)
	if err != nil {
		return err
	}
	defer stop()
	if err := d.screen.step(ctx, "relay with embedded NATS", func() error { return awaitReady(ctx, p) }); err != nil {
		return err
	}
	d.screen.legend()

	writing := ctx
	if d.cmd.For > 0 {
		var cancel context.CancelFunc
		writing, cancel = context.WithTimeout(ctx, d.cmd.For)
		defer cancel()
	}
	if err := d.write(writing); err != nil && writing.Err() == nil {
		return err
	}
	// What was written last still arrives; a retry takes about a second.
	settle, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for !d.screen.quiet(1500*time.Millisecond) && sleep(settle, 50*time.Millisecond) {
	}
	return nil
}

func awaitReady(ctx context.Context, p *process) error {
	for !p.health.Ready() {
		if !sleep(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}

// subscribe makes a user and a few webhooks, as a user would: by plain SQL.
func (d *demo) subscribe(ctx context.Context) error {
	const user = "demo-user"
	if _, err := d.pool.Exec(ctx, `insert into users (id, name, email) values ($1, 'Demo', 'demo@example.com')`, user); err != nil {
		return fmt.Errorf("make the demo's user: %w", err)
	}
	for _, w := range []struct{ name, event, filters string }{
		{"functions", "function.created", `{"type": "Function", "ns": "onet"}`},
		{"all-things", "thing.created", `{}`},
		{"reviews", "thing.updated", `{"data": {"status": "reviewed"}}`},
		{"my-agents", "agent.created", `{}`},
		{"runs", "workflow.completed", `{}`},
		{"failures", "workflow.failed", `{}`},
	} {
		key, err := d.receiver.endpoint(w.name)
		if err != nil {
			return err
		}
		_, err = d.pool.Exec(ctx, `
			insert into zapier_webhooks (user_id, target_url, event_type, filters, signing_secret)
			values ($1, $2, $3, $4::jsonb, $5)`, user, d.receiver.url+"/"+w.name, w.event, w.filters, key.Reveal())
		if err != nil {
			return fmt.Errorf("subscribe %s: %w", w.name, err)
		}
	}
	return nil
}
