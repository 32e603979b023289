package relay_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/relaytest"
)

const confirmLag = 5 * time.Minute

func lagged(cfg *relay.CaptureConfig) {
	cfg.ConfirmLag, cfg.CheckpointEvery = confirmLag, time.Second
}

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }

// saved is the checkpoint as the last session left it.
func (w *world) saved(t *testing.T) relay.Checkpoint {
	cp, err := w.memory.Load(t.Context(), "relay")
	require.NoError(t, err)
	require.NotNil(t, cp)
	return *cp
}

func TestTheSlotFollowsTheAcknowledgementsAfterTheConfirmLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(thingCreated)
		stop := w.start(t, lagged)
		w.log.Add(commit(start+0x40, 1, insertThing("1"))...)
		w.log.Add(relay.Batch{Commit: start + 1<<20}) // what raises nothing
		pass(confirmLag - 2*time.Second)
		require.Len(t, w.stream.Events(), 1)
		require.Equal(t, start, w.log.Confirmed())
		pass(time.Minute)
		require.Equal(t, start+1<<20, w.log.Confirmed())

		// An idle slot has nothing to wait for.
		w.log.Add(relay.Batch{Commit: start + 2<<20})
		pass(time.Minute)
		require.Equal(t, start+2<<20, w.log.Confirmed())
		require.NoError(t, stop())
	})
}

func TestABusySlotTrailsByTheConfirmLagAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(thingCreated)
		stop := w.start(t, lagged)
		for i := range relay.LSN(1200) { // twenty minutes of a transaction each second
			w.log.Add(commit(start+0x40+i*0x100, 1, insertThing("1"))...)
			pass(time.Second)
			if trails := int(start+0x40+i*0x100-w.log.Confirmed()) / 0x100; i > 330 {
				require.InDelta(t, 300, trails, 15, "after %d s", i)
			}
		}
		require.NoError(t, stop())
	})
}

func TestAStopWithinTheConfirmLagDoublesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(thingCreated)
		for i := range relay.LSN(5) {
			stop := w.start(t, lagged)
			w.log.Add(transaction(start+0x40+i*0x40, 4, 2)...)
			pass(time.Second)
			require.NoError(t, stop())
			require.Len(t, w.stream.Events(), 4*int(i+1))
			require.Equal(t, start, w.log.Confirmed())
		}
		require.EqualValues(t, 20, w.saved(t).StreamSeq)
		require.Zero(t, w.saved(t).SettledSeq)

		stop := w.start(t, lagged) // a later session does not know since when they are there
		pass(confirmLag - 2*time.Second)
		require.Equal(t, start, w.log.Confirmed())
		pass(time.Minute)
		require.Equal(t, start+0x148, w.log.Confirmed())
		require.NoError(t, stop())
		require.EqualValues(t, 20, w.saved(t).SettledSeq)
		require.Len(t, w.stream.Events(), 20)
	})
}

func TestAStreamThatLostItsEndWithinTheConfirmLagIsRefilledExactly(t *testing.T) {
	for keep := range 13 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(thingCreated)
			stop := w.start(t, lagged)
			w.log.Add(transaction(start+0x40, 3, 2)...)
			pass(2 * confirmLag)
			w.log.Add(relay.Batch{Commit: start + 1<<20}) // the slot is past the end that is left
			pass(time.Minute)
			require.Equal(t, start+1<<20, w.log.Confirmed())
			for i := range relay.LSN(3) {
				w.log.Add(transaction(start+2<<20+i*0x40, 3, 2)...)
				pass(20 * time.Second)
			}
			require.NoError(t, stop())
			before := w.stream.Events()
			require.Len(t, before, 12)

			w.stream.Truncate(keep)
			err := func() error {
				stop := w.start(t, lagged)
				pass(2 * confirmLag)
				return stop()
			}()
			if keep < 3 { // it had settled, and the slot has forgotten it
				var halt *relay.HaltError
				require.ErrorAs(t, err, &halt)
				require.Equal(t, "stream_regressed", halt.Reason)
				return
			}
			require.NoError(t, err)
			after := w.stream.Events()
			require.Len(t, after, 12)
			for i, e := range after {
				require.Equal(t, keep < 12 && i >= keep, e.Refilled && !e.CommittedAt.IsZero(), "event %d of %d kept", i, keep)
				e.Refilled = false
				require.Equal(t, before[i], e)
			}
			require.Greater(t, w.log.Confirmed(), start+2<<20, "and settles again")
		})
	}
}

func TestAStreamThatLosesItsEndWhileNothingIsPublishedIsNotConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(thingCreated)
		done := make(chan error, 1)
		c := w.capture(t, lagged)
		go func() { done <- c.Run(t.Context()) }()
		w.log.Add(transaction(start+0x40, 3, 2)...)
		pass(time.Minute)
		w.stream.Truncate(1)
		require.ErrorContains(t, <-done, "the stream is shorter than what it acknowledged")
		require.Equal(t, start, w.log.Confirmed())

		stop := w.start(t, lagged)
		pass(2 * confirmLag)
		require.NoError(t, stop())
		require.Len(t, w.stream.Events(), 3)
		require.Equal(t, start+0x48, w.log.Confirmed())
	})
}

// tailed counts how often the tail is read.
type tailed struct {
	*relaytest.Stream
	times int
}

func (s *tailed) Tail(ctx context.Context) (relay.Tail, error) {
	s.times++
	return s.Stream.Tail(ctx)
}

// TestTheTailIsReadSeldomHoweverShortTheConfirmLag: a server keeps in memory what is
// read from it.
func TestTheTailIsReadSeldomHoweverShortTheConfirmLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(thingCreated)
		s := &tailed{Stream: w.stream}
		stop := w.start(t, func(cfg *relay.CaptureConfig) {
			cfg.ConfirmLag, cfg.CheckpointEvery, cfg.Stream = 5*time.Second, time.Second, s
		})
		const minute = 60 * time.Second / (20 * time.Millisecond)
		for i := range relay.LSN(minute) {
			w.log.Add(commit(start+0x40+i*0x100, 1, insertThing("1"))...)
			pass(20 * time.Millisecond)
		}
		require.InDelta(t, minute, int(w.log.Confirmed()-start)/0x100, 11_000/20, "the slot trails by twice the lag at most")
		require.NoError(t, stop())
		require.Less(t, s.times, 15, "every 5 s")
	})
}
