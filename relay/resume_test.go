package relay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestResumeRefusesWhatWouldLoseOrDoubleInSilence(t *testing.T) {
	made := time.Date(2026, 1, 1, 0, 0, 0, 123_456_789, time.UTC)
	slot := Slot{Name: "relay", SystemID: "1", Timeline: 1, Confirmed: 0x200}
	cp := func(change func(*Checkpoint)) *Checkpoint {
		c := &Checkpoint{
			Slot: "relay", SystemID: "1", Timeline: 1, Lineage: "l", Confirmed: 0x200, Position: Position{CommitLSN: 0x1F0},
			Stream: "EVENTS", StreamSeq: 10, SettledSeq: 10, StreamCreatedAt: made.Truncate(time.Microsecond),
		}
		if change != nil {
			change(c)
		}
		return c
	}
	tail := func(lsn LSN, seq uint64) Tail {
		return Tail{Position: Position{CommitLSN: lsn}, PositionSeq: seq, Lineage: "l", Seq: seq, CreatedAt: made}
	}
	created := slot
	created.Created = true
	later := slot
	later.Confirmed = 0x300
	forked := func(at LSN) Slot {
		return Slot{Name: "relay", SystemID: "1", Timeline: 2, Confirmed: 0x100, Forks: map[int32]LSN{1: at}}
	}

	for _, tc := range []struct {
		name   string
		slot   Slot
		cp     *Checkpoint
		tail   Tail
		reason string // of the halt; empty: goes on
		skip   Position
		fresh  bool
		refill bool
	}{
		{name: "first start", slot: created, tail: Tail{Empty: true, CreatedAt: made}, fresh: true},
		{name: "first start behind another database's events", slot: created, tail: tail(0x999, 7), fresh: true},
		{name: "slot made by a DBA", slot: slot, tail: Tail{Empty: true, CreatedAt: made}, fresh: true},
		{name: "slot without checkpoint, stream with events", slot: slot, tail: tail(0x150, 7), reason: "checkpoint_missing"},
		{name: "plain restart", slot: slot, cp: cp(nil), tail: tail(0x1F0, 10), skip: Position{CommitLSN: 0x1F0}},
		{name: "killed after publishing", slot: slot, cp: cp(nil), tail: tail(0x250, 14), skip: Position{CommitLSN: 0x250}},
		{name: "somebody else's messages at the end", slot: slot, cp: cp(nil), tail: Tail{Position: Position{CommitLSN: 0x1F0}, PositionSeq: 10, Seq: 13, CreatedAt: made}, skip: Position{CommitLSN: 0x1F0}},
		{name: "stream lost its end and somebody else filled it up", slot: slot, cp: cp(nil), tail: Tail{Position: Position{CommitLSN: 0x150}, PositionSeq: 5, Seq: 13, CreatedAt: made}, reason: "stream_regressed"},
		{name: "nothing of ours yet, somebody else's messages behind another history", slot: slot, cp: cp(func(c *Checkpoint) { c.Position, c.StreamSeq = Position{}, 7 }), tail: Tail{Position: Position{CommitLSN: 0x999}, PositionSeq: 7, Seq: 8, CreatedAt: made}},
		{name: "failover that lost nothing published", slot: forked(0x200), cp: cp(nil), tail: tail(0x1F0, 10), skip: Position{CommitLSN: 0x1F0}},
		{name: "failover to a server behind what is published", slot: forked(0x1F0), cp: cp(nil), tail: tail(0x1F0, 10), reason: "diverged"},
		{name: "failover behind what was published after the checkpoint", slot: forked(0x240), cp: cp(nil), tail: tail(0x250, 14), reason: "diverged"},
		{name: "timeline of another family", slot: Slot{Name: "relay", SystemID: "1", Timeline: 3, Confirmed: 0x200}, cp: cp(nil), tail: tail(0x1F0, 10), reason: "diverged"},
		{name: "purged stream", slot: slot, cp: cp(nil), tail: Tail{Empty: true, Seq: 10, CreatedAt: made}, skip: Position{CommitLSN: 0x1F0}},
		{name: "stream lost its end, slot holds it", slot: Slot{Name: "relay", SystemID: "1", Timeline: 1, Confirmed: 0x100}, cp: cp(nil), tail: tail(0x150, 5), skip: Position{CommitLSN: 0x150}, refill: true},
		{name: "stream lost what had not settled", slot: slot, cp: cp(func(c *Checkpoint) { c.SettledSeq = 4 }), tail: tail(0x150, 5), skip: Position{CommitLSN: 0x150}, refill: true},
		{name: "stream lost all that had not settled", slot: slot, cp: cp(func(c *Checkpoint) { c.SettledSeq = 5 }), tail: tail(0x150, 5), skip: Position{CommitLSN: 0x150}, refill: true},
		{name: "stream lost more than what had not settled", slot: slot, cp: cp(func(c *Checkpoint) { c.SettledSeq = 6 }), tail: tail(0x150, 5), reason: "stream_regressed"},
		{name: "stream lost everything, nothing had settled", slot: slot, cp: cp(func(c *Checkpoint) { c.SettledSeq = 0 }), tail: Tail{Empty: true, CreatedAt: made}, refill: true},
		{name: "stream lost its end and was emptied", slot: slot, cp: cp(func(c *Checkpoint) { c.SettledSeq = 4 }), tail: Tail{Seq: 5, Empty: true, CreatedAt: made}, reason: "stream_regressed"},
		{name: "stream lost its end, slot does not hold it", slot: slot, cp: cp(nil), tail: tail(0x150, 5), reason: "stream_regressed"},
		{name: "stream made anew", slot: slot, cp: cp(nil), tail: Tail{Empty: true, CreatedAt: made.Add(time.Hour)}, reason: "stream_changed"},
		{name: "another stream by name", slot: slot, cp: cp(func(c *Checkpoint) { c.Stream = "OTHER" }), tail: tail(0x1F0, 10), reason: "stream_changed"},
		{name: "slot dropped and made again", slot: created, cp: cp(nil), tail: tail(0x1F0, 10), reason: "slot_missing"},
		{name: "slot advanced by somebody", slot: later, cp: cp(nil), tail: tail(0x1F0, 10), reason: "slot_advanced"},
		{name: "another cluster", slot: slot, cp: cp(func(c *Checkpoint) { c.SystemID = "2" }), tail: tail(0x1F0, 10), reason: "other_cluster"},
		{name: "nothing published yet", slot: slot, cp: cp(func(c *Checkpoint) { c.Position, c.StreamSeq = Position{}, 7 }), tail: tail(0x999, 7)},
		{name: "killed before the second checkpoint", slot: slot, cp: cp(func(c *Checkpoint) { c.Position, c.StreamSeq = Position{}, 7 }), tail: tail(0x250, 9), skip: Position{CommitLSN: 0x250}},
		{name: "nothing added since a gap was accepted", slot: slot, cp: cp(nil), tail: tail(0x999, 10), skip: Position{CommitLSN: 0x1F0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := resume(tc.slot, tc.cp, tc.tail, "EVENTS", false)
			if tc.reason != "" {
				var halt *HaltError
				require.ErrorAs(t, err, &halt)
				require.Equal(t, tc.reason, halt.Reason)
				require.Contains(t, halt.Remedy, "--accept-gap")

				accepted, err := resume(tc.slot, tc.cp, tc.tail, "EVENTS", true)
				require.NoError(t, err)
				require.NotNil(t, accepted.gap)
				require.Equal(t, tc.reason, accepted.gap.reason)
				require.NotZero(t, accepted.gap.to)
				return
			}
			require.NoError(t, err)
			require.Equal(t, resumption{skip: tc.skip, fresh: tc.fresh, refill: tc.refill}, got)
		})
	}
}

func TestAnAcceptedGapStillSkipsWhatTheStreamHolds(t *testing.T) {
	made := time.Unix(1, 0)
	slot := Slot{Name: "relay", SystemID: "1", Confirmed: 0x300}
	cp := &Checkpoint{Slot: "relay", SystemID: "1", Confirmed: 0x200, Position: Position{CommitLSN: 0x1F0}, Stream: "EVENTS", StreamSeq: 10, StreamCreatedAt: made}
	later := Tail{Position: Position{CommitLSN: 0x310}, PositionSeq: 12, Seq: 12, CreatedAt: made} // published after the checkpoint
	got, err := resume(slot, cp, later, "EVENTS", true)
	require.NoError(t, err)
	require.Equal(t, later.Position, got.skip)
	require.True(t, got.unseen)

	other := later
	other.CreatedAt = made.Add(time.Hour)
	got, err = resume(slot, cp, other, "EVENTS", true)
	require.NoError(t, err)
	require.Equal(t, cp.Position, got.skip) // what another stream holds says nothing
}

func TestAnAcceptedDivergenceKeepsEveryChangeOfTheNewTimeline(t *testing.T) {
	slot := Slot{Name: "relay", SystemID: "1", Timeline: 2, Confirmed: 0x100, Forks: map[int32]LSN{1: 0x1E0}}
	cp := &Checkpoint{Slot: "relay", SystemID: "1", Timeline: 1, Confirmed: 0x100, Position: Position{CommitLSN: 0x1F0}, StreamSeq: 10}
	r, err := resume(slot, cp, Tail{Position: cp.Position, PositionSeq: 10, Seq: 10}, "EVENTS", true)
	require.NoError(t, err)
	require.Positive(t, Position{CommitLSN: 0x1E0}.Compare(r.skip))
	require.Negative(t, Position{CommitLSN: 0x1D8, Ordinal: 1 << 30}.Compare(r.skip))
	require.Contains(t, r.gap.found, "0/1F0")
	require.Equal(t, gap{reason: "diverged", found: r.gap.found, from: 0x1E0, to: 0x1F0}, *r.gap)
}

func TestAHaltNamesTheRangeThatIsMissingInTheStream(t *testing.T) {
	at := time.Unix(1, 0)
	cp := &Checkpoint{Slot: "relay", SystemID: "1", Timeline: 1, Lineage: "l", Confirmed: 0x200, Position: Position{CommitLSN: 0x300}, Stream: "EVENTS", StreamSeq: 10, StreamCreatedAt: at}
	tail := Tail{Position: Position{CommitLSN: 0x400}, PositionSeq: 12, Lineage: "l", Seq: 12, CreatedAt: at}
	for _, tc := range []struct {
		slot Slot
		want string
	}{
		{Slot{Name: "relay", SystemID: "1", Timeline: 1, Confirmed: 0x900, Created: true}, "changes between 0/400 and 0/900 are not in the stream"},
		{Slot{Name: "relay", SystemID: "1", Timeline: 1, Confirmed: 0x900}, "changes between 0/400 and 0/900 are not in the stream"},
		{Slot{Name: "relay", SystemID: "1", Timeline: 1, Confirmed: 0x380}, "no change is missing in the stream"},
	} {
		_, err := resume(tc.slot, cp, tail, "EVENTS", false)
		require.ErrorContains(t, err, tc.want)
	}
}

func TestResumeIsFencedByARelayOfAnotherSlot(t *testing.T) {
	slot := Slot{Name: "relay", SystemID: "1", Timeline: 1, Confirmed: 0x200}
	cp := &Checkpoint{Slot: "relay", SystemID: "1", Timeline: 1, Lineage: "l", Confirmed: 0x200, Position: Position{CommitLSN: 0x1F0}, StreamSeq: 10}
	tail := Tail{Position: Position{CommitLSN: 0x900}, PositionSeq: 11, Lineage: "other", Seq: 11}
	_, err := resume(slot, cp, tail, "EVENTS", false)
	require.ErrorIs(t, err, ErrFenced)
	require.ErrorContains(t, err, "another slot")

	r, err := resume(slot, cp, tail, "EVENTS", true)
	require.NoError(t, err)
	require.Equal(t, cp.Position, r.skip, "the other's position is of another log")
}
