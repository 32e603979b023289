package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dot-do/relay/internal/ops"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
	"github.com/dot-do/relay/relay/webhook"
)

const (
	// Of the drain timeout, what is left for ledger, acks and closing.
	drainReserve = 3 * time.Second
	readyEvery   = 200 * time.Millisecond
	sealEvery    = time.Second
	// The delivery log is swept a little after the start, then every hour.
	sweepFirst = 5 * time.Second
	sweepEvery = time.Hour
)

// deliver runs one engine after the other until ctx ends.
func (p *process) deliver(ctx context.Context) error {
	var b backoff
	for {
		began := time.Now()
		err := p.deliverOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return err // the drain's own result
		case err == nil:
			err = fmt.Errorf("delivery ended by itself")
		case final(err):
			p.health.Set(roleDeliver, ops.Halted, err.Error())
			return err
		}
		if time.Since(began) > time.Minute {
			b = backoff{}
		}
		p.metrics.Restart(roleDeliver)
		p.health.Set(roleDeliver, ops.Degraded, err.Error())
		p.log.WarnContext(ctx, "delivery interrupted, trying again", "error", err)
		if !b.wait(ctx) {
			return nil
		}
	}
}

func (p *process) deliverOnce(ctx context.Context) error {
	feed, err := p.nats.Feed(ctx, natsstream.FeedConfig{})
	if err != nil {
		return fmt.Errorf("open the feed: %w", err)
	}
	defer feed.Close()
	engine, err := webhook.New(webhook.Config{
		Feed: feed, Ledger: p.store, Subscriptions: p.store, Version: version,
		Egress:      webhook.Policy{Allow: p.cfg.Webhook.EgressAllow, HTTP: p.cfg.Webhook.EgressHTTP},
		HTTPTimeout: p.cfg.Webhook.HTTPTimeout, RetrySchedule: p.cfg.Webhook.RetrySchedule, SilentPauses: !p.cfg.Webhook.LogSkipped,
		DrainTimeout: max(p.cfg.DrainTimeout-drainReserve, time.Second),
		Observer:     p.deliveryObserver(), Logger: p.log,
	})
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	gctx, stop := context.WithCancel(gctx)
	g.Go(func() error {
		defer stop()
		return engine.Run(ctx)
	})
	g.Go(func() error { return p.watchDelivery(gctx, engine) })
	g.Go(func() error { return p.sealSecrets(gctx) })
	g.Go(func() error { return p.sweepLogs(gctx) })
	return g.Wait()
}

// watchDelivery keeps /readyz true to the engine.
func (p *process) watchDelivery(ctx context.Context, engine *webhook.Engine) error {
	ticker := time.NewTicker(readyEvery)
	defer ticker.Stop()
	for {
		if err := engine.Ready(); err != nil {
			p.health.Set(roleDeliver, ops.Degraded, err.Error())
		} else {
			p.health.Set(roleDeliver, ops.Streaming, "")
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			p.health.Set(roleDeliver, ops.Degraded, "stopping: what is under way is finished, nothing new is begun")
			return nil
		}
	}
}

// sealSecrets encrypts signing secrets that somebody wrote as plain text.
func (p *process) sealSecrets(ctx context.Context) error {
	if p.keyring == nil {
		return nil
	}
	ticker := time.NewTicker(sealEvery)
	defer ticker.Stop()
	for {
		n, err := p.store.SealPlaintext(ctx)
		if err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "plain signing secrets not encrypted, trying again", "error", err)
		}
		if n > 0 {
			p.log.InfoContext(ctx, "signing secrets encrypted", "rows", n)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// webhookDisabled tells of a webhook that was switched off.
func (p *process) webhookDisabled(id, reason string) {
	p.metrics.Disabled(reason)
	p.log.Warn("webhook switched off; relay webhooks resume switches it on again", "subscription_id", id, "reason", reason)
}

// sweepLogs makes the partitions of the delivery log for the months to come, and takes
// away what is older than the retention.
func (p *process) sweepLogs(ctx context.Context) error {
	days := p.cfg.Webhook.LogDays()
	for pause := sweepFirst; ; pause = sweepEvery {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		did, err := p.store.SweepLogs(ctx, days)
		switch {
		case err != nil && ctx.Err() == nil:
			p.log.WarnContext(ctx, "the delivery log cannot be swept, the next hour tries again", "error", err)
		case len(did.Dropped) > 0 || did.Deleted > 0 || did.Made > 0 || did.Released > 0:
			p.log.InfoContext(ctx, "delivery log swept", "rows_deleted", did.Deleted, "partitions_dropped", did.Dropped, "partitions_made", did.Made,
				"parked_events_deleted", did.Released)
		}
		p.metrics.LogSwept(did.Deleted)
	}
}

func (p *process) deliveryObserver() webhook.Observer {
	return webhook.Observer{
		Attempted: func(class string, took time.Duration) {
			if class == "" {
				class = "success"
			}
			p.metrics.Attempt(class, took)
		},
		Settled:       func(kind relay.OutcomeKind, n int) { p.metrics.Outcome(kind.String(), n) },
		Undecided:     p.metrics.Undecided,
		Unreadable:    p.metrics.Unreadable,
		Subscriptions: p.metrics.Subscriptions,
		Panicked:      p.metrics.Panicked,
		Throttled:     p.metrics.Throttled,
		Load: func(l webhook.Load) {
			p.metrics.Load(map[string]int{
				"events": l.Events, "lanes": l.Lanes, "slow_lanes": l.Slow, "open_lanes": l.Open, "waiting": l.Waiting,
				"running": l.Running, "unsettled": l.Unsettled, "claimed": l.Claimed,
			})
		},
	}
}
