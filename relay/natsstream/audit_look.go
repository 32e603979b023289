package natsstream

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/relay"
)

const (
	maxDetails = 10_000 // missing messages whose sequences are asked for; of more, the walk tells
	maxMarks   = 128
	ageParts   = 64 // into which marks cut the age that messages may reach
	maxSteps   = 16 // over messages of somebody else, in search of ours
)

// look compares what the server says of the stream with what it said before.
func (a *auditor) look(ctx context.Context) error {
	a.looked = time.Now()
	info, err := a.info(ctx)
	if err != nil {
		return err
	}
	if err := a.load(ctx, info); err != nil {
		return err
	}
	s := &info.State
	if s.Msgs == 0 {
		s.FirstSeq = s.LastSeq + 1 // where the next message will stand
	}
	if err := a.forget(ctx, info); err != nil {
		return err
	}
	p := &pass{a: a}
	if err := a.front(ctx, info, p); err != nil {
		return err
	}
	if err := a.inside(ctx, info, p); err != nil {
		return err
	}
	if err := p.end(ctx); err != nil {
		return err
	}
	if err := a.mark(ctx, info); err != nil {
		return err
	}
	if err := a.save(ctx); err != nil {
		return err
	}
	a.report()
	return nil
}

func (a *auditor) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := a.c.session(ctx)
	defer cancel()
	return a.c.info(ctx)
}

// read returns one message; nil when it is not there.
func (a *auditor) read(ctx context.Context, seq uint64) (*stored, error) {
	ctx, cancel := a.c.session(ctx)
	defer cancel()
	return a.c.read(ctx, storedRequest{Seq: seq})
}

// forget drops holes that nobody can meet any more: the stream has passed them, or
// lost the end that they were in, or what was purged would be gone by age. A record
// that went with a lost end is told again.
func (a *auditor) forget(ctx context.Context, info *jetstream.StreamInfo) error {
	s := &info.State
	var left []relay.Hole
	for _, h := range a.holes {
		gone := h.Stream != a.audit.Stream || !h.Created.Equal(a.audit.Created) || h.Before.Seq > s.LastSeq+1
		if h.Reason == relay.HolePurged {
			gone = gone || (info.Config.MaxAge > 0 && time.Since(h.Found) > info.Config.MaxAge)
		} else {
			gone = gone || h.Before.Seq <= s.FirstSeq
		}
		if gone {
			if err := a.cfg.Log.DropHole(ctx, a.cfg.Slot, h); err != nil {
				return err
			}
			continue
		}
		if !a.verified && h.Recorded >= s.FirstSeq {
			record, err := a.read(ctx, h.Recorded)
			if err != nil {
				return err
			}
			if record == nil || record.subject != relay.ControlGap {
				h.Recorded = 0
				if err := a.cfg.Log.NoteRecord(ctx, a.cfg.Slot, h, 0); err != nil {
					return err
				}
			}
		}
		left = append(left, h)
	}
	a.holes, a.verified = left, true
	a.harmless = slices.DeleteFunc(a.harmless, func(x span) bool { return x.to < s.FirstSeq || x.to > s.LastSeq })
	return nil
}

// front finds messages that left the stream at its front and were too young to leave
// by age.
func (a *auditor) front(ctx context.Context, info *jetstream.StreamInfo, p *pass) error {
	s, age := &info.State, info.Config.MaxAge
	if a.audit.First.Seq == 0 || s.FirstSeq <= a.audit.First.Seq {
		return nil
	}
	now, slack := serverTime(info), min(5*time.Minute, age/10) // clocks of several servers differ
	var lost *relay.Mark
	for _, m := range append([]relay.Mark{a.audit.First}, a.audit.Marks...) {
		young := age == 0 || m.Time.Add(age).After(now.Add(slack))
		if m.Seq < s.FirstSeq && young && (lost == nil || m.Seq < lost.Seq) {
			lost = &m
		}
	}
	if lost == nil {
		return nil
	}
	h := relay.Hole{
		Reason: relay.HolePurged, After: relay.StreamPlace{Seq: lost.Seq - 1}, Before: relay.StreamPlace{Seq: s.FirstSeq},
		From: lost.Commit, Missing: s.FirstSeq - lost.Seq,
	}
	if s.Msgs > 0 {
		msg, err := a.read(ctx, s.FirstSeq)
		if err != nil {
			return err
		}
		if pos, prev, ours := chained(msg); ours {
			h.Before.Position, h.To = pos, prev.CommitLSN
		}
	}
	return p.add(ctx, h)
}

// mark notes how old messages are at least.
func (a *auditor) mark(ctx context.Context, info *jetstream.StreamInfo) error {
	s, now := &info.State, serverTime(info)
	if first := &a.audit.First; first.Seq != s.FirstSeq || (first.Commit == 0 && s.Msgs > 0) {
		*first = relay.Mark{Seq: s.FirstSeq, Time: now}
		if s.Msgs > 0 {
			msg, err := a.read(ctx, s.FirstSeq)
			if err != nil {
				return err
			}
			pos, _, _ := chained(msg)
			first.Time, first.Commit = s.FirstTime.UTC(), pos.CommitLSN
		}
	}
	next := s.LastSeq + 1
	marks := slices.DeleteFunc(a.audit.Marks, func(m relay.Mark) bool { return m.Seq < s.FirstSeq || m.Seq > next })
	n := len(marks)
	if n > 0 && marks[n-1].Seq == next { // still to come
		marks[n-1].Time = now
		a.audit.Marks = marks
		return nil
	}
	m := relay.Mark{Seq: next, Time: now}
	if s.Msgs > 0 {
		msg, err := a.read(ctx, s.LastSeq)
		if err != nil {
			return err
		}
		pos, _, _ := chained(msg)
		m.Commit = pos.CommitLSN
	}
	grain := info.Config.MaxAge / ageParts
	if grain == 0 {
		grain = time.Hour
	}
	if n >= 2 && marks[n-1].Time.Sub(marks[n-2].Time) < grain {
		marks = marks[:n-1]
	}
	marks = append(marks, m)
	a.audit.Marks = marks[max(0, len(marks)-maxMarks):]
	return nil
}

// serverTime is the time by the clock that messages are stored with.
func serverTime(info *jetstream.StreamInfo) time.Time {
	if info.TimeStamp.IsZero() {
		return time.Now().UTC()
	}
	return info.TimeStamp.UTC()
}

// inside finds what the server itself counts as missing between the first message
// and the last.
func (a *auditor) inside(ctx context.Context, info *jetstream.StreamInfo, p *pass) error {
	switch n := info.State.NumDeleted; {
	case n == 0:
		a.deleted = 0
		return nil
	case n > maxDetails:
		a.whole, a.deleted = a.whole || n > a.deleted, min(n, a.deleted)
		return nil
	}
	deleted, err := a.missing(ctx)
	if err != nil {
		return err
	}
	for _, gone := range spans(deleted) {
		inside := func(x span) bool { return x.from <= gone.from && gone.to <= x.to }
		known := func(h relay.Hole) bool {
			return h.Reason == relay.HoleMissing && inside(span{h.After.Seq + 1, h.Before.Seq - 1})
		}
		if slices.ContainsFunc(a.holes, known) || slices.ContainsFunc(a.harmless, inside) {
			continue
		}
		h, ours, err := a.judge(ctx, gone, info.State.FirstSeq)
		if err != nil {
			return err
		}
		if !ours {
			a.passOver(gone)
		} else if err := p.add(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// passOver remembers sequences that held nothing of ours.
func (a *auditor) passOver(gone span) {
	if len(a.harmless) < maxDetails {
		a.harmless = append(a.harmless, gone)
	}
}

// missing asks for the sequences of deleted messages.
func (a *auditor) missing(ctx context.Context) ([]uint64, error) {
	ctx, cancel := a.c.session(ctx)
	defer cancel()
	stream, err := a.c.js.Stream(ctx, a.c.cfg.Stream)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", a.c.cfg.Stream, a.c.explain(err))
	}
	info, err := stream.Info(ctx, jetstream.WithDeletedDetails(true))
	if err != nil {
		return nil, fmt.Errorf("ask stream %s for what was deleted: %w", a.c.cfg.Stream, a.c.explain(err))
	}
	return info.State.Deleted, nil
}

// spans joins sequences that stand side by side.
func spans(seqs []uint64) []span {
	slices.Sort(seqs)
	var out []span
	for _, seq := range seqs {
		if n := len(out); n > 0 && out[n-1].to+1 == seq {
			out[n-1].to = seq
		} else {
			out = append(out, span{seq, seq})
		}
	}
	return out
}

// judge tells whether messages of ours are missing. When the chain goes on over the
// gap it was somebody else's, or one that stands further on again.
func (a *auditor) judge(ctx context.Context, gone span, first uint64) (h relay.Hole, ours bool, err error) {
	h = relay.Hole{
		Reason: relay.HoleMissing, After: relay.StreamPlace{Seq: gone.from - 1}, Before: relay.StreamPlace{Seq: gone.to + 1},
		Missing: gone.to - gone.from + 1,
	}
	for seq := gone.from - 1; seq >= max(first, 1) && gone.from-seq <= maxSteps; seq-- {
		msg, err := a.read(ctx, seq)
		if err != nil {
			return h, false, err
		}
		if pos, _, ok := chained(msg); ok {
			h.After, h.From = relay.StreamPlace{Seq: seq, Position: pos}, pos.CommitLSN
			break
		}
	}
	for seq := gone.to + 1; seq <= gone.to+maxSteps; seq++ {
		msg, err := a.read(ctx, seq)
		if err != nil {
			return h, false, err
		}
		if pos, prev, ok := chained(msg); ok {
			h.Before, h.To = relay.StreamPlace{Seq: seq, Position: pos}, pos.CommitLSN
			return h, prev.IsZero() || prev != h.After.Position, nil
		}
	}
	return h, true, nil
}

// chained reads a message's position and the one that it follows, which is zero when
// it names none. It is not ours when it has no position.
func chained(msg *stored) (pos, prev relay.Position, ours bool) {
	if msg == nil {
		return pos, prev, false
	}
	return chainOf(msg.header)
}

func chainOf(h nats.Header) (pos, prev relay.Position, ours bool) {
	pos, err := relay.ParsePosition(h.Get(headerPos))
	if err != nil {
		return relay.Position{}, prev, false
	}
	if prev, err = relay.ParsePosition(h.Get(headerPrev)); err != nil {
		prev = relay.Position{}
	}
	return pos, prev, true
}
