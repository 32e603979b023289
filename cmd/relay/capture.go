package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dot-do/relay/internal/ops"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
	"github.com/dot-do/relay/relay/pgsource"
)

const (
	// How often a standby looks whether the slot is free.
	standbyEvery = 500 * time.Millisecond
	// How often it is looked whether the tables of mappings exist and are published,
	// and how often what Postgres refused is tried again.
	dormantEvery = time.Second
	refusedEvery = 10 * time.Second
	// Events of somebody else between ours, so many within so long, mean that
	// another writer is at work: what a lost acknowledgement leaves behind comes once.
	maxFences   = 3
	fenceWindow = time.Minute
)

// capture runs one session after the other until ctx ends or one cannot be
// followed by another.
func (p *process) capture(ctx context.Context) error {
	var (
		b     backoff
		fence fences
	)
	for {
		s := &session{process: p}
		err := s.run(ctx)
		switch {
		case ctx.Err() != nil && !final(err):
			if s.published && err != nil && !errors.Is(err, ctx.Err()) {
				p.log.WarnContext(ctx, "capture stopped before everything was stored, the next start goes on there", "error", err)
			}
			return nil
		case errors.Is(err, relay.ErrSlotActive):
			if fence.count() > 0 {
				return fmt.Errorf("%w: slot %q now belongs to another process", relay.ErrFenced, p.cfg.Source.Slot)
			}
			if p.health.Set(roleCapture, ops.Standby, "slot "+p.cfg.Source.Slot+" is held by another process") {
				p.log.InfoContext(ctx, "standing by: the slot is held by another process, this one takes over when it is free", "slot", p.cfg.Source.Slot)
				p.metrics.Audited(nil, 0) // the other tells
			}
			if !sleep(ctx, standbyEvery) {
				return nil
			}
			continue
		case final(err):
			p.health.Set(roleCapture, ops.Halted, err.Error())
			return err
		case errors.Is(err, relay.ErrFenced):
			if fence.add(); fence.count() >= maxFences {
				return fmt.Errorf("%w; give every slot a stream of its own (RELAY_STREAM), and let nobody else publish to it; once the other writer is gone, `relay run --accept-gap` goes on behind it", err)
			}
		}
		if s.published {
			b = backoff{}
		}
		p.metrics.Restart(roleCapture)
		p.health.Set(roleCapture, ops.Degraded, err.Error())
		p.log.WarnContext(ctx, "capture interrupted, trying again", "error", err)
		if !b.wait(ctx) {
			return nil
		}
	}
}

// fences remembers when the stream was last found written by somebody else.
type fences struct {
	n    int
	last time.Time
}

func (f *fences) add() { f.n, f.last = f.count()+1, time.Now() }

// count is how many there were, none further apart than the window.
func (f *fences) count() int {
	if time.Since(f.last) > fenceWindow {
		return 0
	}
	return f.n
}

// session is one life of the replication connection.
type session struct {
	*process
	published bool // events of ours were stored
}

func (s *session) run(ctx context.Context) error {
	// A stream that was deleted is made anew; the checkpoint then tells whether the
	// slot still holds what it had, or a person must decide.
	if err := s.nats.EnsureStream(ctx); err != nil {
		return err
	}
	catalog, err := s.store.Current(ctx, "")
	if err != nil {
		return fmt.Errorf("read the mappings: %w", err)
	}
	checkpoint, err := s.store.Load(ctx, s.cfg.Source.Slot)
	if err != nil {
		return fmt.Errorf("read the checkpoint: %w", err)
	}
	watch, err := s.watchTables(ctx, catalog, checkpoint)
	if err != nil {
		return err
	}
	src, err := pgsource.Open(ctx, s.sourceConfig(catalog, checkpoint))
	if err != nil {
		return err
	}
	// The last position is told to the server although ctx has ended.
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := src.Close(closing); err != nil {
			s.log.DebugContext(ctx, "replication connection closed", "error", err)
		}
	}()
	s.reportDormant(ctx, src.Dormant())
	lag := s.confirmLag(ctx)
	writer := s.nats.Writer()
	defer writer.Close()
	changed := make(chan []relay.TableNeed, 1)
	holes := make(chan relay.HoleNotice)
	desk := relay.NewBackfillDesk(s.cfg.Source.Slot)
	engine, err := relay.NewCapture(relay.CaptureConfig{
		Source: src, Stream: writer, Registry: s.store, Checkpoints: s.store, Parking: s.store,
		Tables: relay.DefaultControlTables(), AcceptGap: s.acceptGap, ConfirmLag: lag, Logger: s.log, Observer: s.observer(changed),
		Backfill: desk, Backfills: s.store, InitialSnapshot: s.cfg.Source.InitialSnapshot, Holes: holes,
	})
	if err != nil {
		return err
	}
	filler, err := s.backfiller(desk)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	gctx, stop := context.WithCancel(gctx)
	g.Go(func() error { return watch.run(gctx, src, changed) })
	g.Go(func() error { return filler.Run(gctx) })
	g.Go(func() error {
		return s.nats.Audit(gctx, natsstream.AuditConfig{
			Slot: s.cfg.Source.Slot, Log: s.store, Notices: holes, Every: s.cfg.NATS.AuditEvery, OnAudit: s.metrics.Audited,
		})
	})
	g.Go(func() error {
		defer stop()
		return engine.Run(ctx)
	})
	return g.Wait()
}

// sourceConfig is also what setup and doctor look at.
func (p *process) sourceConfig(catalog *relay.Catalog, checkpoint *relay.Checkpoint) pgsource.Config {
	var published relay.LSN
	if checkpoint != nil {
		published = max(checkpoint.Confirmed, checkpoint.Position.CommitLSN)
	}
	control := relay.DefaultControlTables()
	return pgsource.Config{
		URL: p.cfg.Source.URL, Slot: p.cfg.Source.Slot, Publication: p.cfg.Source.Publication,
		Tables: catalog.Tables(), ControlTables: control.Names(),
		CreateSlot: true, ExpectSlot: checkpoint != nil, Published: published, AcceptGap: p.acceptGap,
		OnReceived: p.received, Logger: p.log,
	}
}

func (p *process) received(lsn relay.LSN) {
	if p.position != nil {
		p.position.Received(lsn)
	}
}

func (s *session) observer(changed chan []relay.TableNeed) relay.Observer {
	return relay.Observer{
		Started: func(slot relay.Slot) {
			s.acceptGap = false // the operator's word was for the gap that was found at the start
			s.position.Confirmed(slot.Confirmed)
			s.health.Set(roleCapture, ops.Streaming, "")
		},
		Captured: s.metrics.Changes,
		Published: func(events int, commit relay.LSN, seq uint64) {
			s.published = s.published || events > 0
			s.metrics.Events(events)
			s.position.Published(commit, seq)
		},
		Confirmed: s.position.Confirmed,
		Refused:   func(mapping string, err error) { s.metrics.Refused(mapping, err != nil) },
		Parked:    s.rowParked,
		Violated:  s.eventParked,
		Schema:    func(eventType string, err error) { s.metrics.SchemaRefused(eventType, err != nil) },
		Unchecked: func(string) { s.metrics.Unchecked() },
		Released:  func(string) { s.metrics.Released() },
		Registry: func(tables []relay.TableNeed) {
			select {
			case <-changed: // only the newest counts
			default:
			}
			changed <- tables
		},
	}
}

// partParked is a part of /readyz once a row change was parked. It does not make the
// process unready: everything else flows.
const partParked = "parked"

func (p *process) rowParked(table string, at relay.Position) {
	p.parked++
	p.metrics.Parked()
	p.health.Set(partParked, ops.Streaming, fmt.Sprintf(
		"%s raised no event since the start because mapping panicked, the last of %s at %s; the log has the stack, %s what to do", counted(p.parked, "row change"), table, at, relay.ControlParked))
}

// partSchemas is a part of /readyz once an event was parked because of its schema.
const partSchemas = "schemas"

func (p *process) eventParked(eventType string, at relay.Position) {
	p.violated++
	p.metrics.EventParked(eventType)
	p.health.Set(partSchemas, ops.Streaming, fmt.Sprintf(
		"%s parked since the start because the data violates the schema, the last of %s at %s; relay parked list shows them", counted(p.violated, "event"), eventType, at))
}

func (s *session) reportDormant(ctx context.Context, dormant []pgsource.Dormant) {
	for _, d := range dormant {
		s.log.InfoContext(ctx, "mapping is dormant", "relation", d.Table, "reason", d.Reason)
	}
}
