package natsstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/dot-do/relay/relay"
)

const (
	lookEvery = time.Minute
	// firstWalk is how long a session works before it walks: it may have much to catch
	// up with.
	firstWalk = 10 * time.Minute
	// maxHoles is how many holes one pass reports one by one. What it finds beyond that
	// becomes a single one, in which a later deletion is not told apart.
	maxHoles = 50
)

// AuditLog keeps what an auditor knows beyond its own life.
type AuditLog interface {
	// LoadAudit returns nil when nobody looked at the slot's stream yet, and the holes
	// that were found.
	LoadAudit(ctx context.Context, slot string) (*relay.Audit, []relay.Hole, error)
	SaveAudit(ctx context.Context, slot string, a relay.Audit) error
	// AddHole keeps a hole in the place of those that lie within it; one that is kept
	// already stays as it is.
	AddHole(ctx context.Context, slot string, h relay.Hole) error
	// NoteRecord notes the sequence of the record that tells of the hole; 0: none.
	NoteRecord(ctx context.Context, slot string, h relay.Hole, seq uint64) error
	DropHole(ctx context.Context, slot string, h relay.Hole) error
}

// AuditConfig configures Client.Audit.
type AuditConfig struct {
	Slot    string                  // required
	Log     AuditLog                // required
	Notices chan<- relay.HoleNotice // required: to the Capture that appends to the stream
	Every   time.Duration           // between two walks along the chain; 0: none
	// OnAudit, when set, is told how many holes of each reason nobody has dealt with,
	// and up to which message the chain was followed. It must return soon.
	OnAudit func(open map[string]int, audited uint64)
}

// auditor watches over what the stream held and must hold still. It looks once a
// minute at what the server says of the stream, and walks now and then along the
// chain of positions, which also shows what the server does not know.
//
// Only the process that holds the slot may audit its stream.
type auditor struct {
	c   *Client
	cfg AuditConfig
	log *slog.Logger

	every    time.Duration // between two looks
	looked   time.Time
	verified bool // the records that are noted were looked up, in this run
	audit    relay.Audit
	saved    relay.Audit
	holes    []relay.Hole
	harmless []span // sequences that are gone and held nothing of ours
	whole    bool   // the next walk begins with the first message
	deleted  int    // messages missing inside of the stream, too many to ask for, when it was last walked as a whole

	news chan struct{} // some hole may have to be told
}

// span is a range of sequences, both ends included.
type span struct{ from, to uint64 }

// Audit watches over the stream until ctx ends, and then returns nil. Whatever fails
// is tried again at the next look.
func (c *Client) Audit(ctx context.Context, cfg AuditConfig) error {
	a := &auditor{c: c, cfg: cfg, log: c.log, every: lookEvery, news: make(chan struct{}, 1)}
	if cfg.Every > 0 {
		a.every = min(a.every, cfg.Every)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { a.watch(ctx); return nil })
	g.Go(func() error { a.tell(ctx); return nil })
	return g.Wait()
}

func (a *auditor) watch(ctx context.Context) {
	ticker := time.NewTicker(a.every)
	defer ticker.Stop()
	walk := time.Now().Add(min(a.cfg.Every, firstWalk))
	for {
		err := a.look(ctx)
		due := a.cfg.Every > 0 && !time.Now().Before(walk)
		if err == nil && (due || a.whole) {
			walk = time.Now().Add(a.cfg.Every)
			if err = a.walk(ctx); err != nil {
				walk = time.Now().Add(a.every)
			}
		}
		if err != nil && ctx.Err() == nil && a.c.Connected() {
			a.log.WarnContext(ctx, "the stream could not be audited, trying again", "stream", a.c.cfg.Stream, "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// load takes up where the last auditor of this stream stopped.
func (a *auditor) load(ctx context.Context, info *jetstream.StreamInfo) error {
	created := info.Created.UTC().Truncate(time.Microsecond) // as the log keeps it
	known, holes, err := a.cfg.Log.LoadAudit(ctx, a.cfg.Slot)
	if err != nil {
		return err
	}
	a.holes = holes
	if !a.audit.Created.Equal(created) {
		if known == nil || known.Stream != a.c.cfg.Stream || !known.Created.Equal(created) {
			known = &relay.Audit{Stream: a.c.cfg.Stream, Created: created}
		}
		a.audit, a.saved, a.harmless, a.deleted, a.verified = *known, *known, nil, 0, false
		a.saved.Marks = slices.Clone(known.Marks)
	}
	return nil
}

// save keeps what has changed. An idle stream is not written about: that would be
// work for the slot, too.
func (a *auditor) save(ctx context.Context) error {
	now := a.audit
	same := now.Stream == a.saved.Stream && now.Created.Equal(a.saved.Created) && now.First.Seq == a.saved.First.Seq && now.First.Commit == a.saved.First.Commit &&
		now.Audited == a.saved.Audited && now.Whole.Equal(a.saved.Whole) &&
		slices.EqualFunc(now.Marks, a.saved.Marks, func(x, y relay.Mark) bool { return x.Seq == y.Seq })
	if same {
		return nil
	}
	if err := a.cfg.Log.SaveAudit(ctx, a.cfg.Slot, now); err != nil {
		return err
	}
	a.saved = now
	a.saved.Marks = slices.Clone(now.Marks)
	return nil
}

// report tells what is open, and has told what nobody was told of yet.
func (a *auditor) report() {
	open, untold := map[string]int{}, false
	for i := range a.holes {
		if !a.holes[i].Settled {
			open[a.holes[i].Reason]++
		}
		untold = untold || a.holes[i].Recorded == 0
	}
	if a.cfg.OnAudit != nil {
		a.cfg.OnAudit(open, a.audit.Audited.Seq)
	}
	if untold {
		select {
		case a.news <- struct{}{}:
		default:
		}
	}
}

// pass is one search for holes.
type pass struct {
	a     *auditor
	found int
	rest  *relay.Hole // all beyond the first few
}

// add reports a hole, unless it is known.
func (p *pass) add(ctx context.Context, h relay.Hole) error {
	h.Stream, h.Created, h.Parts = p.a.audit.Stream, p.a.audit.Created, max(h.Parts, 1)
	if slices.ContainsFunc(p.a.holes, func(known relay.Hole) bool { return h.Within(&known) }) {
		return nil
	}
	switch p.found++; {
	case p.found < maxHoles:
		return p.a.found(ctx, h)
	case h.Reason != relay.HoleMissing:
		p.a.log.ErrorContext(ctx, "the stream is not in order", "found", h.String())
	case p.rest == nil:
		p.rest = &h
	default:
		p.rest.Before, p.rest.To = h.Before, h.To
		p.rest.Missing, p.rest.Parts = p.rest.Missing+h.Missing, p.rest.Parts+1
	}
	return nil
}

// end reports what was put together.
func (p *pass) end(ctx context.Context) error {
	if p.rest == nil {
		return nil
	}
	return p.a.found(ctx, *p.rest)
}

// found keeps a hole and raises the alarm. When it cannot be kept, the next pass
// finds it again.
func (a *auditor) found(ctx context.Context, h relay.Hole) error {
	h.Found = time.Now().UTC()
	if err := a.cfg.Log.AddHole(ctx, a.cfg.Slot, h); err != nil {
		return err
	}
	a.holes = append(slices.DeleteFunc(a.holes, func(old relay.Hole) bool { return old.Within(&h) }), h)
	a.log.ErrorContext(ctx, "the stream does not hold what it held", "reason", h.Reason, "found", h.String(),
		"after_seq", h.After.Seq, "before_seq", h.Before.Seq, "messages", h.Missing, "remedy", h.Remedy())
	return nil
}

// tell has every hole told to subscribers, in the stream itself.
func (a *auditor) tell(ctx context.Context) {
	for {
		select {
		case <-a.news:
		case <-ctx.Done():
			return
		}
		if err := a.tellAll(ctx); err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "a hole in the stream is not told to subscribers yet, trying again", "stream", a.c.cfg.Stream, "error", err)
		}
	}
}

func (a *auditor) tellAll(ctx context.Context) error {
	_, holes, err := a.cfg.Log.LoadAudit(ctx, a.cfg.Slot)
	if err != nil {
		return err
	}
	// They are told one by one, and each is noted: only the last record may be there
	// without anybody knowing, of a process that was killed in between.
	last, at, err := a.lastRecord(ctx)
	if err != nil {
		return err
	}
	for i := range holes {
		h := &holes[i]
		if h.Recorded > 0 {
			continue
		}
		seq := at
		if last == nil || !last.Tells(h) {
			if seq, err = a.notify(ctx, h); err != nil {
				return err
			}
			a.log.InfoContext(ctx, "subscribers are told of a hole in the stream", "stream", h.Stream, "stream_seq", seq, "after_seq", h.After.Seq, "before_seq", h.Before.Seq)
		}
		if err := a.cfg.Log.NoteRecord(ctx, a.cfg.Slot, *h, seq); err != nil {
			return err
		}
	}
	return nil
}

// notify waits until the session has put the record into the stream.
func (a *auditor) notify(ctx context.Context, h *relay.Hole) (uint64, error) {
	stored := make(chan uint64, 1)
	select {
	case a.cfg.Notices <- relay.HoleNotice{Hole: *h, Stored: stored}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case seq := <-stored:
		return seq, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// lastRecord reads the last message on relay.control.gap; nil when there is none.
func (a *auditor) lastRecord(ctx context.Context) (*relay.GapRecord, uint64, error) {
	ctx, cancel := a.c.session(ctx)
	defer cancel()
	stream, err := a.c.js.Stream(ctx, a.c.cfg.Stream)
	if err != nil {
		return nil, 0, fmt.Errorf("look up stream %s: %w", a.c.cfg.Stream, a.c.explain(err))
	}
	msg, err := stream.GetLastMsgForSubject(ctx, relay.ControlGap)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the last record of a gap: %w", a.c.explain(err))
	}
	var record relay.GapRecord
	if err := json.Unmarshal(msg.Data, &record); err != nil {
		return nil, 0, nil // somebody else's, which tells of no hole
	}
	return &record, msg.Sequence, nil
}
