package relay_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

// hole is one between the messages of two sequences.
func hole(after, before uint64) relay.Hole {
	return relay.Hole{
		Stream: "EVENTS", Reason: relay.HoleMissing, Found: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC),
		After:  relay.StreamPlace{Seq: after, Position: relay.Position{CommitLSN: start + 0x40}},
		Before: relay.StreamPlace{Seq: before, Position: relay.Position{CommitLSN: start + 0x80}},
		From:   start + 0x40, To: start + 0x80, Missing: before - after - 1,
	}
}

// tell gives a hole to a session and returns where its sequence will come.
func tell(t *testing.T, holes chan<- relay.HoleNotice, h relay.Hole) <-chan uint64 {
	t.Helper()
	stored := make(chan uint64, 1)
	select {
	case holes <- relay.HoleNotice{Hole: h, Stored: stored}:
	case <-time.After(5 * time.Second):
		require.FailNow(t, "nobody takes the notice")
	}
	return stored
}

func seqOf(t *testing.T, stored <-chan uint64) uint64 {
	t.Helper()
	select {
	case seq := <-stored:
		return seq
	case <-time.After(5 * time.Second):
		require.FailNow(t, "the record is not stored")
	}
	return 0
}

func TestAHoleIsToldBehindTheLastTransactionAndAReplayGoesOnBehindIt(t *testing.T) {
	w := newWorld(thingCreated)
	holes := make(chan relay.HoleNotice)
	withHoles := func(cfg *relay.CaptureConfig) { cfg.Holes = holes }
	w.log.Add(commit(start+0x40, 1, insertThing("1"))...)
	stop := w.start(t, withHoles)
	require.Eventually(t, func() bool { return w.log.Confirmed() == start+0x48 }, 5*time.Second, time.Millisecond)
	require.EqualValues(t, 2, seqOf(t, tell(t, holes, hole(3, 5))))
	require.EqualValues(t, 3, seqOf(t, tell(t, holes, hole(7, 9))), "two behind one transaction")
	require.NoError(t, stop())

	var record relay.GapRecord
	require.NoError(t, json.Unmarshal(w.stream.Events()[1].Body, &record))
	require.Equal(t, "1 message is missing in stream EVENTS between 3 (0/1040:0:0) and 5 (0/1080:0:0)", record.Found)
	require.Equal(t, []any{"relay", "stream_hole", "0/1040", "0/1080", uint64(3), uint64(5), "0/1080:0:0", uint64(1)},
		[]any{record.Slot, record.Reason, record.From, record.To, record.After.Seq, record.Before.Seq, record.Before.Position, record.Missing})
	require.NotContains(t, string(w.stream.Events()[1].Body), "accepted_at")
	first := hole(3, 5)
	require.True(t, record.Tells(&first))

	w.log.Add(commit(start+0x50, 1, insertThing("2"))...)
	w.run(t, 4)
	require.Equal(t, []string{"thing.created 1", "relay.control.gap ", "relay.control.gap ", "thing.created 2"}, keys(w.stream.Events()))
}

// deadly are checkpoints of a process that is killed.
type deadly struct {
	relay.Checkpoints
	dead atomic.Bool
}

func (d *deadly) Save(ctx context.Context, c relay.Checkpoint) error {
	if d.dead.Load() {
		return errCrash
	}
	return d.Checkpoints.Save(ctx, c)
}

// TestAKillRightAfterARecordLosesAndDoublesNothing ends the session when the record is
// stored and neither checkpoint nor slot know of it.
func TestAKillRightAfterARecordLosesAndDoublesNothing(t *testing.T) {
	w := newWorld(thingCreated)
	w.every = time.Hour // no checkpoint but the first and the last
	holes := make(chan relay.HoleNotice)
	w.log.Add(transaction(start+0x40, 3, 2)...)
	w.log.Add(transaction(start+0x80, 3, 2)...)
	saves := &deadly{Checkpoints: w.memory}
	stop := w.start(t, func(cfg *relay.CaptureConfig) { cfg.Holes, cfg.Checkpoints = holes, saves })
	require.Eventually(t, func() bool { return len(w.stream.Events()) == 6 }, 5*time.Second, time.Millisecond)
	seqOf(t, tell(t, holes, hole(1, 3)))
	saves.dead.Store(true)
	require.ErrorIs(t, stop(), errCrash)
	require.Equal(t, start, w.log.Confirmed(), "all is read again")

	w.log.Add(transaction(start+0xC0, 2, 2)...)
	w.run(t, 9)
	var want []string
	for _, id := range []string{"4160-0", "4160-1", "4160-2", "4224-0", "4224-1", "4224-2"} {
		want = append(want, "thing.created "+id)
	}
	require.Equal(t, append(want, "relay.control.gap ", "thing.created 4288-0", "thing.created 4288-1"), keys(w.stream.Events()))
}

func TestARecordWaitsForTheEndOfATransaction(t *testing.T) {
	w := newWorld(thingCreated)
	holes := make(chan relay.HoleNotice)
	batches := transaction(start+0x40, 4, 2)
	w.log.Add(batches[0])
	stop := w.start(t, func(cfg *relay.CaptureConfig) { cfg.Holes = holes })
	require.Eventually(t, func() bool { return len(w.stream.Events()) == 2 }, 5*time.Second, time.Millisecond)
	stored := tell(t, holes, hole(1, 3))
	select {
	case <-stored:
		require.FailNow(t, "the record stands inside of the transaction")
	case <-time.After(50 * time.Millisecond):
	}
	w.log.Add(batches[1])
	require.EqualValues(t, 5, seqOf(t, stored))
	require.NoError(t, stop())
}

func TestARecordStandsBehindAnAcceptedGap(t *testing.T) {
	w := newWorld(thingCreated)
	holes := make(chan relay.HoleNotice)
	w.checkpoint(t, func(c *relay.Checkpoint) { c.Confirmed = start - 0x100 }) // somebody advanced the slot
	stop := w.start(t, func(cfg *relay.CaptureConfig) { cfg.AcceptGap, cfg.Holes = true, holes })
	stored := tell(t, holes, hole(1, 3))
	w.log.Add(commit(start+0x40, 1, insertThing("1"))...)
	require.EqualValues(t, 3, seqOf(t, stored), "there is no place for it before something is committed")
	require.NoError(t, stop())
	require.Equal(t, []string{"relay.control.gap ", "thing.created 1", "relay.control.gap "}, keys(w.stream.Events()))
}

func TestTheRecordOfAPurgeNamesTheEndOfWhatIsGone(t *testing.T) {
	w := newWorld(thingCreated)
	holes := make(chan relay.HoleNotice)
	w.log.Add(commit(start+0x40, 1, insertThing("1"))...)
	stop := w.start(t, func(cfg *relay.CaptureConfig) { cfg.Holes = holes })
	require.Eventually(t, func() bool { return w.log.Confirmed() == start+0x48 }, 5*time.Second, time.Millisecond)
	purged := hole(0, 2)
	purged.Reason, purged.To, purged.After.Position, purged.Before.Position = relay.HolePurged, 0, relay.Position{}, relay.Position{}
	seqOf(t, tell(t, holes, purged))
	require.NoError(t, stop())
	var record relay.GapRecord
	require.NoError(t, json.Unmarshal(w.stream.Events()[1].Body, &record))
	require.Equal(t, []string{"stream_purged", "0/1040", "0/1040", ""}, []string{record.Reason, record.From, record.To, record.Before.Position})
	require.Equal(t, relay.Position{CommitLSN: start + 0x40, Ordinal: math.MaxUint32}, w.stream.Events()[1].Position)
}

func TestARecordThatCannotBeStoredEndsTheSession(t *testing.T) {
	w := newWorld(thingCreated)
	holes := make(chan relay.HoleNotice)
	full := errors.New("full")
	w.log.Add(commit(start+0x40, 1, insertThing("1"))...)
	w.stream.Fail = func(stored int) error {
		if stored == 1 {
			return full
		}
		return nil
	}
	ended := make(chan error, 1)
	capture := w.capture(t, func(cfg *relay.CaptureConfig) { cfg.Holes = holes })
	go func() { ended <- capture.Run(t.Context()) }()
	require.Eventually(t, func() bool { return w.log.Confirmed() == start+0x48 }, 5*time.Second, time.Millisecond)
	tell(t, holes, hole(1, 3))
	require.ErrorIs(t, <-ended, full)
}
