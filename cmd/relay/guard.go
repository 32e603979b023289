package main

import (
	"context"
	"errors"
	"time"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/internal/ops"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
	"github.com/dot-do/relay/relay/pgsource"
)

// partWAL is the log that the slot keeps, among the parts of /readyz. It does not
// make the process unready: to take it out of service would keep more log.
const partWAL = "wal"

// walPatience is how long the budget may be exceeded, beyond the confirm lag, before
// the policy acts.
const walPatience = time.Minute

// startGuard watches over the log that the slot keeps, also while NATS is away and
// nobody reads the slot. A halt ends the process's work. The func that it returns
// ends the guard and returns what it found.
func (p *process) startGuard(ctx context.Context, stopWork func()) func(stop func()) error {
	if !p.has(roleCapture) {
		return func(func()) error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		err := pgsource.Guard(ctx, pgsource.GuardConfig{
			URL: p.cfg.Source.URL, Slot: p.cfg.Source.Slot, Publication: p.cfg.Source.Publication,
			Heartbeat: p.cfg.Source.Heartbeat, Held: p.heldHere,
			Budget: int64(p.cfg.Source.WALBudget), Policy: pgsource.Policy(p.cfg.Source.WALPolicy), Patience: lagOf(&p.cfg.NATS) + walPatience,
			OnLook: p.slotSeen, Logger: p.log,
		})
		if err != nil {
			p.health.Set(roleCapture, ops.Halted, err.Error())
			stopWork()
		}
		done <- err
	}()
	return func(stop func()) error {
		stop()
		return <-done
	}
}

// worst prefers a halt, which tells more than what the end of everything else looks
// like.
func worst(err, halt error) error {
	if halt == nil {
		return err
	}
	if _, halted := errors.AsType[*relay.HaltError](err); err == nil || !halted {
		return halt
	}
	return err
}

// heldHere is zero while another process reads the slot, or nobody.
func (p *process) heldHere() relay.LSN {
	if !p.health.Is(roleCapture, ops.Streaming) {
		return 0
	}
	return p.position.Held()
}

func (p *process) slotSeen(h pgsource.SlotHealth) {
	var oldest time.Duration
	if h.Oldest != nil {
		oldest = h.Oldest.Age
	}
	p.metrics.Slot(h.Retained, h.Budget, oldest, h.Beats)
	if h.Warning != "" || p.warned {
		p.warned = h.Warning != ""
		p.health.Set(partWAL, ops.Streaming, h.Warning)
	}
}

// confirmLag is how long the slot has to keep what the stream acknowledged: as
// configured, but no longer than the embedded server needs, and no time at all where
// the servers say that they sync always.
func (p *process) confirmLag(ctx context.Context) time.Duration {
	lag := lagOf(&p.cfg.NATS)
	if lag == 0 || p.cfg.NATS.Embedded() || p.cfg.NATS.MonitorURL.IsZero() {
		return lag
	}
	d, err := natsstream.AskDurability(ctx, p.cfg.NATS.MonitorURL)
	switch {
	case err != nil:
		p.log.WarnContext(ctx, "NATS does not tell how it syncs to disk, the slot is confirmed late", "confirm_lag", lag.String(), "error", err)
	case d.Always:
		p.log.InfoContext(ctx, "NATS syncs always, the slot is confirmed at once", "servers", d.Servers)
		return 0
	case lag < 2*d.Interval:
		p.log.WarnContext(ctx, "the confirm lag is short for how NATS syncs: a power cut can take more from the stream than the slot still holds",
			"confirm_lag", lag.String(), "sync_interval", d.Interval.String())
	}
	return lag
}

// batches is how events travel: atomically where that saves the servers a sync for
// every event.
func (p *process) batches(ctx context.Context) natsstream.Batches {
	switch want := p.cfg.NATS.Batches; {
	case want != config.BatchesAuto:
		return natsstream.Batches(want)
	case !p.cfg.NATS.Embedded() && p.confirmLag(ctx) == 0:
		return natsstream.BatchesAtomic
	}
	return natsstream.BatchesFast
}

// lagOf is the confirm lag before any server was asked.
func lagOf(cfg *config.NATS) time.Duration {
	if cfg.Embedded() {
		return min(cfg.ConfirmLag, natsstream.EmbeddedLag)
	}
	return cfg.ConfirmLag
}
