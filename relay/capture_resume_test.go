package relay_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

const systemID = "7000000000000000001"

// checkpoint of a slot whose stream is w's.
func (w *world) checkpoint(t *testing.T, change func(*relay.Checkpoint)) {
	tail, err := w.stream.Tail(t.Context())
	require.NoError(t, err)
	c := relay.Checkpoint{
		Slot: "relay", SystemID: systemID, Lineage: "l", Confirmed: start,
		Stream: "EVENTS", StreamSeq: tail.Seq, StreamCreatedAt: tail.CreatedAt, Position: tail.Position,
	}
	change(&c)
	require.NoError(t, w.memory.Save(t.Context(), c))
}

func TestMessagesThatWereInTheStreamBeforeAreNeverTakenForOurOwn(t *testing.T) {
	// Before this slot's first event the stream was replaced, by one with a message
	// of a cluster that is far ahead.
	w := newWorld(thingCreated)
	w.checkpoint(t, func(c *relay.Checkpoint) { c.StreamCreatedAt = time.Unix(1, 0) })
	w.stream.Intrude(relay.Event{ID: "evt_x", Type: "thing.created", Key: "foreign", Position: relay.Position{CommitLSN: 1 << 40}})
	w.log.Add(relay.Batch{Commit: start + 1<<20}) // an idle session writes a checkpoint
	w.runUntil(t, func() bool { return w.log.Confirmed() == start+1<<20 })
	w.log.Add(commit(start+2<<20, 1, insertThing("1"))...)
	w.run(t, 2)
	require.Equal(t, []string{"thing.created foreign", "thing.created 1"}, keys(w.stream.Events()))
}

func TestAnAcceptedGapOfTheLogTakesThePresentMappings(t *testing.T) {
	w := newWorld(thingCreated)
	stored := relay.NewCatalog() // what was in force before the gap
	require.NoError(t, w.memory.SaveAsOf(t.Context(), "relay", 1, stored, 1))
	w.checkpoint(t, func(c *relay.Checkpoint) { c.Confirmed = start - 0x100 }) // somebody advanced the slot
	w.log.Add(commit(start+0x40, 1, insertThing("1"))...)

	var halt *relay.HaltError
	require.ErrorAs(t, w.capture(t, nil).Run(t.Context()), &halt)
	require.Equal(t, "slot_advanced", halt.Reason)

	stop := w.start(t, func(cfg *relay.CaptureConfig) { cfg.AcceptGap = true })
	require.Eventually(t, func() bool { return w.log.Confirmed() == start+0x48 }, 5*time.Second, time.Millisecond)
	require.NoError(t, stop())
	require.Equal(t, []string{"relay.control.gap ", "thing.created 1"}, keys(w.stream.Events()))
	var gap relay.GapRecord
	require.NoError(t, json.Unmarshal(w.stream.Events()[0].Body, &gap))
	require.Equal(t, []string{"relay", "slot_advanced", "0/F00", "0/1000"}, []string{gap.Slot, gap.Reason, gap.From, gap.To})
	require.Contains(t, gap.Found, "somebody else advanced it")

	w.log.Add(commit(start+0x80, 1, insertThing("2"))...)
	w.run(t, 3) // the record is no event to go on behind twice, nor in the way
}

func TestAMappingsVersionOfAHistoryThatWasLeftIsForgotten(t *testing.T) {
	w := newWorld(thingCreated)
	// The old cluster was far ahead in its log.
	require.NoError(t, w.memory.SaveAsOf(t.Context(), "relay", start+0x60, relay.NewCatalog(), 1))
	w.checkpoint(t, func(c *relay.Checkpoint) { c.SystemID = "1"; c.Position.CommitLSN = start << 8 })
	stop := w.start(t, func(cfg *relay.CaptureConfig) { cfg.AcceptGap = true })
	w.log.Add(commit(start+0x40, 1, insertThing("1"))...)
	w.log.Add(commit(start+0x80, 1, insertThing("2"))...)
	require.Eventually(t, func() bool { return w.log.Confirmed() == start+0x88 }, 5*time.Second, time.Millisecond)
	require.NoError(t, stop())
	w.log.Add(commit(start+0xC0, 1, insertThing("3"))...)
	w.run(t, 4) // the gap's record and three events, by the mappings of the new one, also after a restart
}

func TestWhatWasRefusedIsTakenBackWhenItsReasonGoes(t *testing.T) {
	w := newWorld(thingCreated)
	var mu sync.Mutex
	var said []string
	stop := w.start(t, func(cfg *relay.CaptureConfig) {
		cfg.Observer.Refused = func(name string, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				said = append(said, name+" ok")
				return
			}
			_, reason, _ := strings.Cut(err.Error(), ": ")
			said = append(said, fmt.Sprintf("%s %.25s", name, reason))
		}
	})
	at := start
	add := func(changes ...relay.Change) {
		at += 0x40
		w.log.Add(commit(at, 10, changes...)...)
	}
	add(insertThing("1"))
	add(mappingChange(relay.OpInsert, "m1", `{"nope": 1}`)) // refused at once: the table is known
	add(insertThing("2"))
	add(mappingChange(relay.OpInsert, "m2", `{"$typo": 1}`)) // m1 is as it was: nothing is said of it
	add(mappingChange(relay.OpUpdate, "m1", `{"type": "x"}`))
	add(mappingChange(relay.OpDelete, "m2", `{}`))
	w.log.Add(relay.Batch{Commit: start + 1<<20})
	require.Eventually(t, func() bool { return w.log.Confirmed() == start+1<<20 }, 5*time.Second, time.Millisecond)
	require.NoError(t, stop())
	require.Equal(t, []string{`m1 column "nope" is not publ`, `m2 match_new: filter cannot `, "m1 ok", "m2 ok"}, said)
}

func TestNewCaptureNeedsItsSeams(t *testing.T) {
	_, err := relay.NewCapture(relay.CaptureConfig{})
	require.ErrorContains(t, err, "needs a source, a stream, a registry, checkpoints and a place to park events")
}

func TestTheShortestCheckpointIntervalIsOne(t *testing.T) {
	w := newWorld(thingCreated)
	w.every = 1
	w.log.Add(transaction(start+0x40, 2, 1)...)
	w.runUntil(t, func() bool { return w.log.Confirmed() == start+0x48 })
}
