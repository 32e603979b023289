package relay

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// ControlTables names the relay's own tables that are in the publication, each as
// schema.table. Changes of the first three are configuration, effective at their
// commit.
type ControlTables struct {
	Events   string // zapier_webhook_events
	Mappings string // event_mappings
	Webhooks string // zapier_webhooks
	Outbox   string // outbox_events; empty: none
	Chunks   string // relay_backfill_chunks; empty: none
	Parked   string // relay_parked_events; empty: none
}

// DefaultControlTables are the tables as the migrations make them in schema public.
func DefaultControlTables() ControlTables {
	return ControlTables{
		Events: "public.zapier_webhook_events", Mappings: "public.event_mappings",
		Webhooks: "public.zapier_webhooks", Outbox: "public.outbox_events",
		Chunks: "public.relay_backfill_chunks", Parked: "public.relay_parked_events",
	}
}

// Names lists the tables.
func (t ControlTables) Names() []string {
	names := []string{t.Events, t.Mappings, t.Webhooks, t.Outbox, t.Chunks, t.Parked}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// CaptureConfig configures Capture.
type CaptureConfig struct {
	Source      Source        // required, opened and not yet started
	Stream      Stream        // required
	Registry    Registry      // required
	Checkpoints Checkpoints   // required
	Parking     Parking       // required
	Tables      ControlTables // required
	// CheckpointEvery is the time between checkpoints, and so between
	// confirmations of the slot, while events flow. Defaults to one second.
	CheckpointEvery time.Duration
	// ConfirmLag keeps the slot's confirmation so long behind the stream's
	// acknowledgement: longer than the stream's server needs to sync to disk. Then
	// what a power cut takes from the stream is published again. Zero, the default,
	// trusts the acknowledgement.
	ConfirmLag time.Duration
	// AcceptGap lets the operator go on where the relay would halt.
	AcceptGap bool
	// Backfill is where a Backfiller of the same session lays its chunks, which are
	// kept in Backfills. Optional.
	Backfill  *BackfillDesk
	Backfills BackfillLog
	// InitialSnapshot asks Backfills for all mapped tables before the slot is read for
	// the first time.
	InitialSnapshot bool
	// Holes brings what an auditor found missing in the stream, to be told to
	// subscribers there. Optional.
	Holes    <-chan HoleNotice
	Observer Observer
	Logger   *slog.Logger // defaults to slog.Default()
}

// Capture is one session of a slot: from where it stands until the context ends
// or something breaks. A new session, in this process or another, goes on without
// loss or doubling.
type Capture struct {
	cfg     CaptureConfig
	log     *slog.Logger
	slot    Slot
	cp      Checkpoint
	skip    Position
	end     Position  // of the stream's last message when the session began; zero when it is not ours
	refill  time.Time // what was committed before it may have been in the stream, which lost it
	catalog *Catalog
	maxBody int
	broken  string // why backfills cannot go on; empty: they can
}

// unsaved is how long after the last checkpoint something may have been published,
// with much to spare. The database's clock tells both times.
const unsaved = 10 * time.Second

// NewCapture checks the configuration.
func NewCapture(cfg CaptureConfig) (*Capture, error) {
	if cfg.Source == nil || cfg.Stream == nil || cfg.Registry == nil || cfg.Checkpoints == nil || cfg.Parking == nil {
		return nil, errors.New("capture needs a source, a stream, a registry, checkpoints and a place to park events")
	}
	if (cfg.Backfill != nil || cfg.InitialSnapshot) && cfg.Backfills == nil {
		return nil, errors.New("capture needs backfills for a backfill desk or an initial snapshot")
	}
	if cfg.CheckpointEvery <= 0 {
		cfg.CheckpointEvery = time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Capture{cfg: cfg, log: cfg.Logger.With("component", "capture")}, nil
}

// Run streams until ctx ends, and then returns nil once the batches that were on
// their way are in the stream and the slot was told; if they are not within ten
// seconds, it returns why. A *HaltError means that a person must decide; ErrFenced
// that another writer is at work; any other error may pass, and a new session can
// be tried.
func (c *Capture) Run(ctx context.Context) error {
	if err := c.resume(ctx); err != nil {
		return unlessStopped(ctx, err)
	}
	if err := c.cfg.Source.Start(ctx); err != nil {
		return unlessStopped(ctx, fmt.Errorf("start streaming from slot %q: %w", c.slot.Name, err))
	}
	c.log.InfoContext(ctx, "streaming", "slot", c.slot.Name, "lsn", c.slot.Confirmed.String(), "after", c.skip.String())
	c.cfg.Backfill.begin(c.slot.Confirmed, c.broken)
	if c.cfg.Observer.Started != nil {
		c.cfg.Observer.Started(c.slot)
	}

	// Three batches take turns: one is mapped, one waits, one is being published.
	mapped, free := make(chan *mappedBatch, 1), make(chan *mappedBatch, 3)
	for range cap(free) {
		free <- &mappedBatch{}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(mapped)
		return unlessStopped(gctx, c.mapBatches(gctx, free, mapped))
	})
	g.Go(func() error { return c.publishBatches(ctx, mapped, free) })
	return g.Wait()
}

// unlessStopped returns nil in place of an error that only says that ctx ended.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// resume decides where this session begins and puts the checkpoint and the
// catalog of that place into c.
func (c *Capture) resume(ctx context.Context) error {
	c.slot = c.cfg.Source.Slot()
	saved, err := c.cfg.Checkpoints.Load(ctx, c.slot.Name)
	if err != nil {
		return fmt.Errorf("load the checkpoint of slot %q: %w", c.slot.Name, err)
	}
	tail, err := c.cfg.Stream.Tail(ctx)
	if err != nil {
		return fmt.Errorf("read the tail of stream %s: %w", c.cfg.Stream.Name(), err)
	}
	r, err := resume(c.slot, saved, tail, c.cfg.Stream.Name(), c.cfg.AcceptGap)
	if err != nil {
		return err
	}
	c.skip, c.maxBody = r.skip, tail.MaxBody
	if saved != nil && tail.Lineage == saved.Lineage {
		c.end = tail.Position
	}
	if r.gap != nil || (r.fresh && saved != nil) {
		c.broken = "a gap was accepted while it ran, and what of it is in the stream is not known; run it again"
	}
	if saved != nil {
		c.cp = *saved
	}
	if r.gap != nil {
		c.log.ErrorContext(ctx, "gap accepted by the operator", "slot", c.slot.Name, "reason", r.gap.reason, "gap", r.gap.found)
		if err := c.recordGap(ctx, r.gap); err != nil {
			return err
		}
		tail.Seq = c.cfg.Stream.Seq()
	}
	if saved == nil || r.fresh || r.gap != nil {
		c.cp = Checkpoint{
			Slot: c.slot.Name, SystemID: c.slot.SystemID, Timeline: c.slot.Timeline, Lineage: c.cp.Lineage,
			Confirmed: c.slot.Confirmed, Position: r.skip,
		}
		if r.fresh || c.cp.Lineage == "" {
			c.cp.Lineage = newLineage()
		}
	}
	if err := c.loadCatalog(ctx, r.fresh || r.unseen); err != nil {
		return err
	}
	if saved == nil && r.gap == nil && c.cfg.InitialSnapshot {
		// Before the first checkpoint: a process that dies in between begins anew.
		if err := c.cfg.Backfills.RequestSnapshot(ctx, c.slot.Name, c.catalog.SnapshotTables()); err != nil {
			return fmt.Errorf("ask for the initial snapshot of slot %q: %w", c.slot.Name, err)
		}
	}
	if r.refill {
		c.log.WarnContext(ctx, "the stream lost its end, which was acknowledged: it is published again from the slot",
			"stream", c.cfg.Stream.Name(), "ends", tail.Position.String(), "acknowledged", c.cp.Position.String(), "messages", c.cp.StreamSeq-tail.Seq)
		c.cp.Position, c.cp.StreamSeq, c.cp.SettledSeq = tail.Position, tail.Seq, min(c.cp.SettledSeq, tail.Seq)
	}
	if saved != nil && c.cfg.ConfirmLag > 0 {
		c.refill = saved.SavedAt.Add(unsaved)
	}
	moved := r.refill || c.cp.Timeline != c.slot.Timeline
	c.cp.Stream, c.cp.StreamCreatedAt, c.cp.Timeline = c.cfg.Stream.Name(), tail.CreatedAt, c.slot.Timeline
	if saved == nil || r.fresh || r.gap != nil || (r.skip.IsZero() && !r.refill) {
		c.cp.StreamSeq, c.cp.SettledSeq = tail.Seq, tail.Seq // what the stream holds up to here is not ours
		moved = true
	}
	if !moved {
		return nil
	}
	if err := c.cfg.Checkpoints.Save(ctx, c.cp); err != nil {
		return fmt.Errorf("save the first checkpoint of slot %q: %w", c.slot.Name, err)
	}
	return nil
}

func newLineage() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// loadCatalog takes the catalog that was in force at the slot's position, so that
// changes read again are mapped by the same rules as the first time. Where the log
// has a gap, changes of the mappings may be in it: the present ones are taken.
func (c *Capture) loadCatalog(ctx context.Context, present bool) error {
	if !present {
		catalog, err := c.cfg.Registry.AsOf(ctx, c.slot.Name, c.slot.Confirmed)
		if err != nil {
			return fmt.Errorf("load the mappings as of %s: %w", c.slot.Confirmed, err)
		}
		if catalog != nil {
			c.catalog = catalog
			return nil
		}
		c.log.WarnContext(ctx, "no stored mappings for the slot's position, using the present ones", "slot", c.slot.Name, "lsn", c.slot.Confirmed.String())
	}
	catalog, err := c.cfg.Registry.Current(ctx, c.slot.Snapshot)
	if err != nil {
		return fmt.Errorf("load the mappings: %w", err)
	}
	c.catalog = catalog
	// The stored version is in force for every commit from the slot's position on.
	at := max(c.slot.Confirmed, 1) - 1
	if err := c.cfg.Registry.SaveAsOf(ctx, c.slot.Name, at, catalog, c.slot.Confirmed); err != nil {
		return fmt.Errorf("save the mappings as of %s: %w", at, err)
	}
	return nil
}
