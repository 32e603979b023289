package relay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/relaytest"
)

// change is a row change of things, or of any table, with its place filled in by
// commit.
func insertThing(id string) relay.Change {
	return relay.Change{Op: relay.OpInsert, Relation: things, New: tuple(id, "Agent", "2026-11-23 10:00:00+00")}
}

// commit returns the batches of one transaction, cut after every size changes.
func commit(lsn relay.LSN, size int, changes ...relay.Change) []relay.Batch {
	var out []relay.Batch
	for i, c := range changes {
		if i%size == 0 {
			out = append(out, relay.Batch{Open: true})
		}
		c.Position, c.XID, c.CommitTime = relay.Position{CommitLSN: lsn, Ordinal: uint32(i)}, uint32(lsn), committed
		out[len(out)-1].Changes = append(out[len(out)-1].Changes, c)
	}
	last := &out[len(out)-1]
	last.Open, last.Commit = false, lsn+8
	return out
}

func mappingChange(op relay.Op, id, match string) relay.Change {
	c := relay.Change{Op: op, Relation: mappingsTable}
	row := tuple(id, "public.things", "insert", "thing.created", "everyone", "t", match, "{updated_at}")
	switch op {
	case relay.OpDelete:
		c.Old = row
	default:
		c.New = row
	}
	return c
}

func keys(events []relay.Event) []string {
	out := make([]string, len(events))
	for i, e := range events {
		out[i] = e.Type + " " + e.Key
	}
	return out
}

func TestAnnouncementsAndEventsKeepTheirPlacesInATransaction(t *testing.T) {
	w := newWorld(thingCreated)
	webhook := relay.Change{Op: relay.OpInsert, Relation: webhooksTable, New: tuple("w1", "active", "thing.created", "s", "0", "a")}
	w.log.Add(commit(start+0x40, 2, insertThing("1"), webhook, insertThing("2"), webhook, insertThing("3"))...)
	w.run(t, 5)
	require.Equal(t, []string{"thing.created 1", "relay.control.webhooks w1", "thing.created 2", "relay.control.webhooks w1", "thing.created 3"}, keys(w.stream.Events()))
}

func TestASubscriptionThatChangedItsIDIsAnnouncedUnderBoth(t *testing.T) {
	w := newWorld()
	w.log.Add(commit(start+0x40, 1, relay.Change{
		Op: relay.OpUpdate, Relation: webhooksTable,
		Old: tuple("w1", "active", "thing.created", "s", "0", "a"), New: tuple("w2", "active", "thing.created", "s", "0", "a"),
	}, relay.Change{Op: relay.OpTruncate, Relation: webhooksTable})...)
	w.run(t, 3)
	var got []relay.Announcement
	for _, e := range w.stream.Events() {
		var a relay.Announcement
		require.NoError(t, json.Unmarshal(e.Body, &a))
		got = append(got, a)
	}
	xid := uint32(start + 0x40)
	require.Equal(t, []relay.Announcement{
		{ID: "w1", Op: "delete", XID: xid}, {ID: "w2", Op: "insert", Fresh: true, XID: xid}, {Op: "truncate", XID: xid},
	}, got)
}

func TestASessionThatEndedBetweenTwoEventsOfARowGoesOnWithTheSecond(t *testing.T) {
	w := newWorld(thingCreated, mappingRow("m1", "public.things", "insert", "function.created", ""))
	w.log.Add(commit(start+0x40, 2, insertThing("1"), insertThing("2"), insertThing("3"))...)
	for stop := 1; stop < 6; stop++ {
		w.stream.Fail = func(stored int) error {
			if stored == stop {
				return errCrash
			}
			return nil
		}
		require.ErrorIs(t, w.crashOrFinish(t, 99), errCrash)
		require.Len(t, w.stream.Events(), stop)
	}
	w.stream.Fail = nil
	w.run(t, 6)
	require.Equal(t, []string{
		"function.created 1", "thing.created 1", "function.created 2", "thing.created 2", "function.created 3", "thing.created 3",
	}, keys(w.stream.Events()))
}

func TestAMappingOfALongTransactionComesIntoForceWithItsEnd(t *testing.T) {
	w := newWorld()
	w.log.Add(commit(start+0x40, 1,
		insertThing("before"), mappingChange(relay.OpInsert, "m1", `{}`), insertThing("same"), mappingChange(relay.OpInsert, "m2", `{"type": "Function"}`), insertThing("end"))...)
	w.log.Add(commit(start+0x80, 1, insertThing("after"))...)
	w.log.Add(commit(start+0xC0, 1, mappingChange(relay.OpDelete, "m1", `{}`), insertThing("still"))...)
	w.log.Add(commit(start+0x100, 1, insertThing("gone"))...)
	w.log.Add(relay.Batch{Commit: start + 1<<20})
	w.runUntil(t, func() bool { return w.log.Confirmed() == start+1<<20 })
	require.Equal(t, []string{"thing.created after", "thing.created still"}, keys(w.stream.Events()))
}

func TestAMappingKeepsItsFilterWhenTheLogDidNotRepeatIt(t *testing.T) {
	w := newWorld()
	update := mappingChange(relay.OpUpdate, "m1", "")
	update.New[6] = relay.Value{Kind: relay.Unavailable} // a long match_new that did not change
	orphan := mappingChange(relay.OpUpdate, "m7", "")
	orphan.New[6] = relay.Value{Kind: relay.Unavailable}
	w.log.Add(commit(start+0x40, 1, mappingChange(relay.OpInsert, "m1", `{"type": "Function"}`))...)
	w.log.Add(commit(start+0x80, 1, update, orphan)...)
	w.log.Add(commit(start+0xC0, 1, insertThing("an agent"))...)
	w.log.Add(relay.Batch{Commit: start + 1<<20})
	w.runUntil(t, func() bool { return w.log.Confirmed() == start+1<<20 })
	require.Empty(t, w.stream.Events())
}

func TestATransactionOfManyBatchesIsPublishedAndRememberedBeforeItEnds(t *testing.T) {
	w := newWorld(thingCreated)
	batches := transaction(start+0x40, 5000, 7)
	last := batches[len(batches)-1]
	w.log.Add(batches[:len(batches)-1]...)
	open := 5000 - len(last.Changes)
	w.runUntil(t, func() bool {
		cp, err := w.memory.Load(t.Context(), "relay")
		require.NoError(t, err)
		return cp != nil && cp.StreamSeq == uint64(open)
	})
	require.Equal(t, start, w.log.Confirmed()) // nothing is complete
	w.log.Add(last)
	w.stream.Purge() // what it held is not sent again
	w.runUntil(t, func() bool { return w.log.Confirmed() == start+0x48 })
	require.Len(t, w.stream.Events(), len(last.Changes))
}

// failing is a Registry and Checkpoints that fails where it is told to.
type failing struct {
	*relaytest.Memory
	save, saveAsOf, load error
}

func (f *failing) Save(ctx context.Context, c relay.Checkpoint) error {
	if f.save != nil && !c.Position.IsZero() {
		return f.save
	}
	return f.Memory.Save(ctx, c)
}

func (f *failing) SaveAsOf(ctx context.Context, slot string, at relay.LSN, c *relay.Catalog, keep relay.LSN) error {
	if f.saveAsOf != nil && at >= start {
		return f.saveAsOf
	}
	return f.Memory.SaveAsOf(ctx, slot, at, c, keep)
}

func (f *failing) Load(ctx context.Context, slot string) (*relay.Checkpoint, error) {
	if f.load != nil {
		return nil, f.load
	}
	return f.Memory.Load(ctx, slot)
}

func TestWhatBreaksASessionSurfacesAndMovesNothing(t *testing.T) {
	broken := errors.New("disk full")
	for name, tc := range map[string]struct {
		memory failing
		stream error
		want   error
		text   string
	}{
		"checkpoint is not saved": {memory: failing{save: broken}, want: broken, text: "save the checkpoint at "},
		"mappings are not saved":  {memory: failing{saveAsOf: broken}, want: broken, text: "save the mappings as of "},
		"checkpoint is not read":  {memory: failing{load: broken}, want: broken, text: `load the checkpoint of slot "relay": `},
		"another writer":          {stream: fmt.Errorf("seq 7: %w", relay.ErrFenced), want: relay.ErrFenced, text: "publish "},
		"server's own context":    {stream: context.Canceled, want: context.Canceled, text: "publish "},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(thingCreated)
			w.log.Add(commit(start+0x40, 1, insertThing("1"))...)
			w.log.Add(commit(start+0x80, 1, mappingChange(relay.OpInsert, "m9", `{}`))...)
			if tc.stream != nil {
				w.stream.Fail = func(int) error { return tc.stream }
			}
			tc.memory.Memory = w.memory
			c := w.capture(t, func(cfg *relay.CaptureConfig) { cfg.Registry, cfg.Checkpoints = &tc.memory, &tc.memory })
			err := c.Run(t.Context())
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.text)
			require.LessOrEqual(t, w.log.Confirmed(), start+0x48)
			if tc.stream != nil || tc.memory.save != nil {
				require.Equal(t, start, w.log.Confirmed())
			}
		})
	}
}

// stuck is a stream whose appends wait for the end of their context.
type stuck struct {
	*relaytest.Stream
	entered chan struct{}
	once    sync.Once
}

func (s *stuck) Send(ctx context.Context, _ []relay.Event, _ bool) (uint64, error) {
	s.once.Do(func() { close(s.entered) })
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestAStopEndsAStuckAppendAfterItsGracePeriodAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(thingCreated)
		w.every = time.Second
		for i := range relay.LSN(6) { // more than is ever on its way
			w.log.Add(commit(start+0x40*(i+1), 1, insertThing("1"))...)
		}
		s := &stuck{Stream: w.stream, entered: make(chan struct{})}
		stop := w.start(t, func(cfg *relay.CaptureConfig) { cfg.Stream = s })
		<-s.entered
		time.Sleep(time.Minute) //nolint:forbidigo // virtual time
		asked := time.Now()
		require.ErrorIs(t, stop(), context.Canceled)
		require.Equal(t, 10*time.Second, time.Since(asked))
		require.Equal(t, start, w.log.Confirmed())
	})
}

// slow is a stream that needs a while for each batch.
type slow struct {
	*relaytest.Stream
	each time.Duration
}

func (s *slow) Send(ctx context.Context, events []relay.Event, more bool) (uint64, error) {
	select {
	case <-time.After(s.each):
		return s.Stream.Send(ctx, events, more)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func TestAStopHasOneGracePeriodForAllBatchesOnTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(thingCreated)
		for i := range relay.LSN(6) {
			w.log.Add(commit(start+0x40*(i+1), 1, insertThing("1"))...)
		}
		stop := w.start(t, func(cfg *relay.CaptureConfig) { cfg.Stream = &slow{w.stream, 9 * time.Second} })
		synctest.Wait()
		asked := time.Now()
		require.Error(t, stop()) // the second batch is not through
		require.Equal(t, 10*time.Second, time.Since(asked))
	})
}

func TestAStopWhileResumingIsNoError(t *testing.T) {
	w := newWorld(thingCreated)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	memory := &failing{Memory: w.memory, load: ctx.Err()}
	require.NoError(t, w.capture(t, func(cfg *relay.CaptureConfig) { cfg.Checkpoints = memory }).Run(ctx))
}

func TestAnIdleSlotIsToldRarelyUnlessItFreesALotOfLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(thingCreated)
		w.every = time.Second
		stop := w.start(t, nil)
		synctest.Wait()
		w.log.Add(relay.Batch{Commit: start + 100})
		time.Sleep(29 * time.Second) //nolint:forbidigo // virtual time
		require.Equal(t, start, w.log.Confirmed())
		time.Sleep(2 * time.Second) //nolint:forbidigo // virtual time
		require.Equal(t, start+100, w.log.Confirmed())
		w.log.Add(relay.Batch{Commit: start + 100 + 64<<10})
		time.Sleep(2 * time.Second) //nolint:forbidigo // virtual time
		require.Equal(t, start+100+64<<10, w.log.Confirmed())
		require.NoError(t, stop())
	})
}
