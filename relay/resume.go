package relay

import (
	"fmt"
	"math"
	"time"
)

// resumption says how a session goes on from what slot, checkpoint and stream
// tell.
type resumption struct {
	skip  Position // changes up to it are in the stream already
	fresh bool     // a new lineage begins: the slot has no history here
	gap   *gap     // a range that was given up on the operator's word; nil: none
	// refill is true when the stream lost its end and the slot gives it back.
	refill bool
	// unseen is true when the gap is one of the log, not of the stream: the stored
	// mappings do not know what happened in it.
	unseen bool
}

const acceptGap = "run `relay run --accept-gap` to go on without that range"

// resume compares the three memories of a slot and refuses every combination in
// which going on would lose or double something in silence.
func resume(slot Slot, cp *Checkpoint, tail Tail, stream string, accept bool) (resumption, error) {
	if cp == nil {
		return resumeWithoutCheckpoint(slot, tail, stream, accept)
	}
	r, err := resumeFrom(slot, cp, tail, stream, accept)
	if err != nil || r.fresh || r.gap != nil || cp.Timeline == 0 || cp.Timeline == slot.Timeline {
		return r, err
	}
	return resumeOnTimeline(slot, cp, r, accept)
}

// resumeOnTimeline goes on after a failover or a recovery to a point in time. A
// server that branched off before what is published uses the same log positions
// for other changes: by position alone they would be taken for published.
func resumeOnTimeline(slot Slot, cp *Checkpoint, r resumption, accept bool) (resumption, error) {
	end, ancestor := slot.Forks[cp.Timeline]
	switch {
	case !ancestor:
		return giveUp(accept, resumption{unseen: true}.between(cp.Confirmed, slot.Confirmed), "diverged",
			fmt.Errorf("slot %q was read on timeline %d, which is no ancestor of the server's timeline %d", slot.Name, cp.Timeline, slot.Timeline), acceptGap)
	case r.skip.CommitLSN >= end:
		last := Position{CommitLSN: end - 1, Ordinal: math.MaxUint32, Index: math.MaxUint32}
		return giveUp(accept, resumption{skip: last, unseen: true}.between(end, r.skip.CommitLSN), "diverged",
			fmt.Errorf("the server branched off timeline %d at %s: events from there to %s are in the stream, but their changes are not in the database", cp.Timeline, end, r.skip),
			"run `relay run --accept-gap` to keep these events and go on with the server's own changes")
	}
	return r, nil
}

func resumeFrom(slot Slot, cp *Checkpoint, tail Tail, stream string, accept bool) (resumption, error) {
	if cp.SystemID != slot.SystemID {
		return giveUp(accept, resumption{fresh: true}.between(0, slot.Confirmed), "other_cluster",
			fmt.Errorf("slot %q was read on the cluster with system identifier %s, this one is %s", slot.Name, cp.SystemID, slot.SystemID),
			"point source.url at the right cluster, or "+acceptGap)
	}
	if slot.Created {
		from := published(cp, tail, stream)
		return giveUp(accept, resumption{fresh: true}.between(from, slot.Confirmed), "slot_missing",
			fmt.Errorf("slot %q was made anew: changes between %s and %s are not in the stream", slot.Name, from, slot.Confirmed), acceptGap)
	}
	if tail.PositionSeq > cp.StreamSeq && tail.Lineage != cp.Lineage && sameStream(cp, tail, stream) {
		// Its positions are of another log: to go on behind them would skip ours.
		found := fmt.Sprintf("message %d of stream %s, at %s, was published by the relay of another slot", tail.PositionSeq, stream, tail.Position)
		if !accept {
			return resumption{}, fmt.Errorf("%w: %s", ErrFenced, found)
		}
		return resumption{skip: cp.Position, gap: &gap{reason: "fenced", found: found, from: cp.Confirmed, to: slot.Confirmed}}, nil
	}
	if slot.Confirmed > cp.Confirmed {
		skip := cp.Position
		if sameStream(cp, tail, stream) && tail.PositionSeq > cp.StreamSeq {
			skip = tail.Position // published after the checkpoint
		}
		from := min(published(cp, tail, stream), slot.Confirmed)
		missing := fmt.Sprintf("changes between %s and %s are not in the stream", from, slot.Confirmed)
		if from == slot.Confirmed {
			missing = "no change is missing in the stream, but what a power cut takes from it the slot can no longer give back"
		}
		return giveUp(accept, resumption{skip: skip, unseen: true}.between(from, slot.Confirmed), "slot_advanced",
			fmt.Errorf("slot %q stands at %s but the relay confirmed only %s: somebody else advanced it or made it anew, %s", slot.Name, slot.Confirmed, cp.Confirmed, missing),
			"find out who did it, only the relay may move its slot; "+acceptGap)
	}
	if cp.Position.IsZero() {
		// Nothing of this slot was in the stream when the checkpoint was written; what
		// came behind the sequence it names is ours, what stands before it is not.
		if tail.PositionSeq > cp.StreamSeq && sameStream(cp, tail, stream) {
			return resumption{skip: tail.Position}, nil
		}
		return resumption{}, nil
	}
	if !sameStream(cp, tail, stream) {
		return giveUp(accept, resumption{}.between(0, slot.Confirmed), "stream_changed",
			fmt.Errorf("events up to %s went to stream %s made at %s; stream %s made at %s is another one",
				cp.Position, cp.Stream, cp.StreamCreatedAt.UTC().Format(time.RFC3339), stream, tail.CreatedAt.UTC().Format(time.RFC3339)),
			"bring the old stream back, or run `relay run --accept-gap` to begin the new one at the slot's position")
	}
	switch {
	case tail.Seq < cp.StreamSeq, tail.PositionSeq > 0 && tail.PositionSeq < cp.StreamSeq && tail.Position.Compare(cp.Position) < 0:
		// It is shorter than it was, or somebody else's messages have taken the places
		// of ours.
		return regressed(slot, cp, tail, accept)
	case tail.PositionSeq > cp.StreamSeq: // published after the checkpoint
		return resumption{skip: tail.Position}, nil
	default:
		// Nothing of ours came since: the checkpoint says where we are. The stream may
		// have been purged or emptied by age since, and what stands at its end may
		// belong to a history that was left when a gap was accepted.
		return resumption{skip: cp.Position}, nil
	}
}

// published is how far the log is in the stream, which may be further than the slot
// was told.
func published(cp *Checkpoint, tail Tail, stream string) LSN {
	from := max(cp.Confirmed, cp.Position.CommitLSN)
	if tail.PositionSeq > cp.StreamSeq && tail.Lineage == cp.Lineage && sameStream(cp, tail, stream) {
		from = max(from, tail.Position.CommitLSN)
	}
	return from
}

func resumeWithoutCheckpoint(slot Slot, tail Tail, stream string, accept bool) (resumption, error) {
	if slot.Created || tail.Empty {
		return resumption{fresh: true}, nil
	}
	return giveUp(accept, resumption{fresh: true}.between(0, slot.Confirmed), "checkpoint_missing",
		fmt.Errorf("slot %q has no row in relay_checkpoints, yet stream %s holds messages up to %s: which of the slot's changes are among them cannot be known", slot.Name, stream, tail.Position),
		"give this database a stream of its own (RELAY_STREAM), or run `relay run --accept-gap` to publish everything the slot still holds")
}

// regressed handles a stream that lost its end: acknowledged, but not on disk. The
// slot gives it back unless it was confirmed too far: past the end that is left, and
// what is left is less than what had settled.
func regressed(slot Slot, cp *Checkpoint, tail Tail, accept bool) (resumption, error) {
	left := tail.Seq // of ours
	if tail.PositionSeq > 0 {
		left = tail.PositionSeq
	}
	known := tail.PositionSeq > 0 || left == 0 // where the end that is left stands in the log
	if slot.Confirmed <= tail.Position.CommitLSN || (known && left >= cp.SettledSeq) {
		return resumption{skip: tail.Position, refill: true}, nil
	}
	return giveUp(accept, resumption{skip: tail.Position}.between(tail.Position.CommitLSN, slot.Confirmed), "stream_regressed",
		fmt.Errorf("stream %s ends at %s but %s was acknowledged, and the slot holds nothing before %s", cp.Stream, tail.Position, cp.Position, slot.Confirmed),
		"raise RELAY_CONFIRM_LAG above the time that NATS needs to sync to disk, against the next time, and "+acceptGap)
}

// gap is a range of the log of which changes are not in the stream, or events that
// are there without their changes.
type gap struct {
	reason, found string
	from, to      LSN // zero where it is not known
}

// between names the range of the gap that is given up.
func (r resumption) between(from, to LSN) resumption {
	r.gap = &gap{from: from, to: to}
	return r
}

func giveUp(accept bool, r resumption, reason string, err error, remedy string) (resumption, error) {
	if !accept {
		return resumption{}, Halt(reason, err, remedy)
	}
	r.gap.reason, r.gap.found = reason, err.Error()
	return r, nil
}

// sameStream compares creation times as Postgres keeps them, in microseconds.
func sameStream(cp *Checkpoint, tail Tail, stream string) bool {
	return cp.Stream == "" || (cp.Stream == stream && cp.StreamCreatedAt.Truncate(time.Microsecond).Equal(tail.CreatedAt.Truncate(time.Microsecond)))
}
