package relay_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/relaytest"
)

// poison is an insert that the renderer panics at: it has more values than the relation
// has columns.
func poison(id string) relay.Change {
	c := insertThing(id)
	c.New = append(c.New, relay.Value{Kind: relay.Text, Data: []byte("secret of the row")})
	return c
}

// poisonUpdate raises the event of a rule that looks at the new row only, and panics when
// a rule looks at the old one.
func poisonUpdate(id string) relay.Change {
	return relay.Change{
		Op: relay.OpUpdate, Relation: things, New: tuple(id, "Agent", "2026-11-23 10:00:00+00"),
		Old: tuple(id, "Function", "2026-11-23 10:00:00+00", "secret of the row"),
	}
}

var (
	updatedByNew = mappingRow("m0", "public.things", "update", "function.created", "")
	updatedByOld = mappingRow("m1", "public.things", "update", "thing.updated", `,"match_old":{"type":"Function"}`)
)

// lineage makes the ids of two worlds the same.
func (w *world) lineage(t testing.TB) {
	t.Helper()
	require.NoError(t, w.memory.Save(t.Context(), relay.Checkpoint{Slot: "relay", SystemID: "7000000000000000001", Lineage: "l", Confirmed: start}))
}

func parkedRecord(t testing.TB, e relay.Event) (r relay.ParkedRecord) {
	t.Helper()
	require.Equal(t, relay.ControlParked, e.Type)
	require.NoError(t, json.Unmarshal(e.Body, &r))
	require.NotContains(t, string(e.Body), "secret")
	return r
}

func TestARowWhoseMappingPanicsIsParkedAndItsNeighboursFlow(t *testing.T) {
	w := newWorld(thingCreated)
	w.log.Add(commit(start+0x40, 2, insertThing("1"), poison("2"), insertThing("3"))...)
	w.log.Add(commit(start+0x80, 2, insertThing("4"))...)
	parked := 0
	stop := w.start(t, func(cfg *relay.CaptureConfig) {
		cfg.Observer.Parked = func(table string, at relay.Position) {
			parked++
			require.Equal(t, "public.things 0/1040:1:4294967295", table+" "+at.String())
		}
	})
	require.Eventually(t, func() bool { return w.log.Confirmed() == start+0x88 }, 5*time.Second, time.Millisecond, "nothing holds the slot")
	require.NoError(t, stop(), "the session goes on")
	require.Equal(t, 1, parked)
	all := w.stream.Events()
	require.Equal(t, []string{"thing.created 1", "relay.control.parked ", "thing.created 3", "thing.created 4"}, keys(all))
	r := parkedRecord(t, all[1])
	require.Regexp(t, `^panic while mapping: runtime error: index out of range \[3\] with length 3$`, r.Reason)
	require.Contains(t, r.Remedy, "`relay backfill public.things --where …`")
	r.Reason, r.Remedy = "", ""
	require.Equal(t, relay.ParkedRecord{
		Slot: "relay", Table: "public.things", Op: "insert", Position: "0/1040:1:4294967295", Key: json.RawMessage(`{"id":"2"}`), Mapping: "m0", CommittedAt: committed,
	}, r)
	require.Equal(t, all[0].Lineage, all[1].Lineage)
	require.Regexp(t, `^parked_[a-z2-7]{26}$`, all[1].ID)
	require.Contains(t, string(all[2].Body), `"data":{"id":"3",`)
}

func TestOfAParkedRowThereAreNoEventsAndNothingOfItStaysBehind(t *testing.T) {
	w := newWorld(updatedByNew, updatedByOld)
	good := func(id string) relay.Change {
		c := poisonUpdate(id)
		c.Old = c.Old[:3]
		return c
	}
	w.log.Add(commit(start+0x40, 2, good("1"), poisonUpdate("2"), good("3"))...)
	w.run(t, 5)
	all := w.stream.Events()
	require.Equal(t, []string{"function.created 1", "thing.updated 1", "relay.control.parked ", "function.created 3", "thing.updated 3"}, keys(all))
	require.Equal(t, "m1", parkedRecord(t, all[2]).Mapping, "the first one had raised its event")
	require.Equal(t, [2]uint32{0, 1}, [2]uint32{all[3].Position.Index, all[4].Position.Index})
	for i := range 2 {
		want := strings.ReplaceAll(string(all[i].Body), all[i].ID, all[i+3].ID)
		require.Equal(t, strings.ReplaceAll(want, `"id":"1"`, `"id":"3"`), string(all[i+3].Body))
	}
}

// TestNeighboursOfParkedRowsAreWhatTheyAreWithoutThem maps random transactions twice:
// once with rows that panic, once with rows that nobody maps in their places.
func TestNeighboursOfParkedRowsAreWhatTheyAreWithoutThem(t *testing.T) {
	other := &relay.Relation{OID: 2, Schema: "public", Name: "others", Columns: things.Columns}
	for seed := range uint64(30) {
		var streams [2][]string
		for i := range streams {
			rng := rand.New(rand.NewPCG(seed, 3))
			w := newWorld(updatedByNew, updatedByOld, thingCreated)
			w.lineage(t)
			for n := range relay.LSN(20) {
				var changes []relay.Change
				for range 1 + rng.IntN(8) {
					id := fmt.Sprint(rng.IntN(1000)) + strings.Repeat("x", rng.IntN(9000))
					c := []func(string) relay.Change{insertThing, poison, poisonUpdate}[rng.IntN(3)](id)
					switch bad := len(c.New) > 3 || len(c.Old) > 3; {
					case bad && i == 1:
						c.Relation, c.Old, c.New = other, nil, tuple("", "", "")
						c.Op = relay.OpInsert
					case !bad && rng.IntN(2) == 0:
						c.Op, c.Old = relay.OpUpdate, tuple(id, "Function", "2026-11-23 10:00:00+00")
					}
					changes = append(changes, c)
				}
				w.log.Add(commit(start+0x40*(n+1), 1+rng.IntN(5), changes...)...)
			}
			w.log.Add(relay.Batch{Commit: start + 1<<20})
			w.runUntil(t, func() bool { return w.log.Confirmed() == start+1<<20 })
			for _, e := range w.stream.Events() {
				if !e.IsControl() {
					streams[i] = append(streams[i], e.Position.String()+" "+e.Key+" "+string(e.Body))
				}
			}
		}
		require.NotEmpty(t, streams[0])
		require.True(t, slices.Equal(streams[1], streams[0]), "seed %d", seed)
	}
}

// TestWhatIsParkedStaysParkedOnceOverAnyCrash ends a session after each message; what the
// sessions in the end have published is what one session does.
func TestWhatIsParkedStaysParkedOnceOverAnyCrash(t *testing.T) {
	want := []string{
		"relay.control.parked ", "function.created 2", "thing.updated 2", "relay.control.parked ", "relay.control.parked ", "function.created 5", "thing.updated 5", "relay.control.parked ",
	}
	changes := []relay.Change{poisonUpdate("1"), poisonUpdate("2"), poisonUpdate("3"), poisonUpdate("4"), poisonUpdate("5"), poisonUpdate("6")}
	changes[1].Old, changes[4].Old = changes[1].Old[:3], changes[4].Old[:3]
	var streams [2][]relay.Event
	for i := range streams {
		w := newWorld(updatedByNew, updatedByOld)
		w.lineage(t)
		w.log.Add(commit(start+0x40, 2, changes...)...)
		for stop := 1; stop < len(want) && i == 0; stop++ {
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
		w.run(t, len(want))
		streams[i] = w.stream.Events()
		require.Equal(t, want, keys(streams[i]))
	}
	for i := range want {
		require.Equal(t, streams[1][i].ID, streams[0][i].ID)
		require.Equal(t, string(streams[1][i].Body), string(streams[0][i].Body))
	}
}

func TestARowThatIsParkedInTheStreamIsNotMappedByALaterRelease(t *testing.T) {
	w := newWorld(updatedByNew, updatedByOld)
	w.log.Add(commit(start+0x40, 2, poisonUpdate("1"), insertThing("2"))[:1]...) // its end is not read
	w.runUntil(t, func() bool { return len(w.stream.Events()) == 1 })

	w.log = relaytest.NewLog("relay", start)
	mended := poisonUpdate("1")
	mended.Old = mended.Old[:3]
	w.log.Add(commit(start+0x40, 2, mended, mended)...)
	w.run(t, 3)
	require.Equal(t, []string{"relay.control.parked ", "function.created 1", "thing.updated 1"}, keys(w.stream.Events()))
	require.EqualValues(t, 1, w.stream.Events()[1].Position.Ordinal, "not its own events, which the record stands for")
}

func TestARowThatIsHalfInTheStreamIsNotLostInSilenceWhenTheRestPanics(t *testing.T) {
	w := newWorld(updatedByNew, updatedByOld)
	whole := poisonUpdate("1")
	whole.Old = whole.Old[:3]
	w.log.Add(commit(start+0x40, 1, whole)...)
	w.stream.Fail = func(stored int) error {
		if stored == 1 {
			return errCrash
		}
		return nil
	}
	require.ErrorIs(t, w.crashOrFinish(t, 99), errCrash)

	w.stream.Fail, w.log = nil, relaytest.NewLog("relay", start)
	w.log.Add(commit(start+0x40, 1, poisonUpdate("1"))...)
	w.run(t, 2)
	require.Equal(t, []string{"function.created 1", "relay.control.parked "}, keys(w.stream.Events()))
	require.Contains(t, parkedRecord(t, w.stream.Events()[1]).Reason, "; the stream holds 1 of its events")
}

func TestARedactedOrLongKeyIsNotInTheRecord(t *testing.T) {
	for name, tc := range map[string]struct{ mapping, id string }{
		"redacted": {mappingRow("m0", "public.things", "insert", "thing.created", `,"redact_columns":["id"],"match_new":{"type":"Agent"}`), "hidden"},
		"long":     {thingCreated, "hidden" + strings.Repeat("x", 2000)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(tc.mapping)
			w.log.Add(commit(start+0x40, 1, poison(tc.id))...)
			w.run(t, 1)
			require.Nil(t, parkedRecord(t, w.stream.Events()[0]).Key)
			require.NotContains(t, string(w.stream.Events()[0].Body), "hidden")
		})
	}
}

func TestTheRemedyOfAParkedRowIsOneThatHelps(t *testing.T) {
	w := newWorld(mappingRow("m0", "public.things", "delete", "agent.deleted", ""))
	w.log.Add(commit(start+0x40, 1, relay.Change{Op: relay.OpDelete, Relation: things, Old: poison("1").New})...)
	w.run(t, 1)
	r := parkedRecord(t, w.stream.Events()[0])
	require.Equal(t, `delete {"id":"1"}`, r.Op+" "+string(r.Key))
	require.Contains(t, r.Remedy, "no backfill brings the event back")
}

// TestAParkedSubscriptionIsReadAgainWithAllOthers: its announcement is not known, so that
// whoever delivers reads every row.
func TestAParkedSubscriptionIsReadAgainWithAllOthers(t *testing.T) {
	short := &relay.Relation{OID: 7, Schema: "public", Name: "zapier_webhooks", ReplicaIdentity: relay.IdentityFull, Columns: webhooksTable.Columns[:2]}
	w := newWorld()
	w.log.Add(commit(start+0x40, 1, relay.Change{
		Op: relay.OpUpdate, Relation: short,
		Old: tuple("w1", "active", "secret"), New: tuple("w1", "active", "another secret"),
	})...)
	w.run(t, 2)
	require.Equal(t, []string{"relay.control.webhooks ", "relay.control.parked "}, keys(w.stream.Events()))
	require.JSONEq(t, fmt.Sprintf(`{"id":"","op":"truncate","xid":%d}`, start+0x40), string(w.stream.Events()[0].Body))
	require.Contains(t, parkedRecord(t, w.stream.Events()[1]).Remedy, "subscriptions as they are now")
}

func TestAStormOfParkedRowsIsWrittenIntoTheLogAtMostOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		w := newWorld(thingCreated)
		w.every = time.Second
		stop := w.start(t, func(cfg *relay.CaptureConfig) { cfg.Logger = slog.New(slog.NewJSONHandler(&out, nil)) })
		add := func(n int) {
			var changes []relay.Change
			for i := range n {
				changes = append(changes, poison(fmt.Sprint(i)))
			}
			w.log.Add(commit(start+relay.LSN(len(w.stream.Events())+1)*0x40, 100, changes...)...)
			time.Sleep(2 * time.Second) //nolint:forbidigo // virtual time
		}
		add(1000)
		add(500)
		require.Len(t, w.stream.Events(), 1500, "each has its record")
		require.Equal(t, 1, strings.Count(out.String(), `"level":"ERROR"`))
		require.Equal(t, 1, strings.Count(out.String(), `"stack":"goroutine`))
		require.Contains(t, out.String(), "appendRow", "the stack is that of the panic")
		time.Sleep(time.Minute) //nolint:forbidigo // virtual time
		add(1)
		require.NoError(t, stop())
		require.Equal(t, 2, strings.Count(out.String(), `"level":"ERROR"`))
		require.Contains(t, out.String(), `"rows":1500`)
		require.NotContains(t, out.String(), "secret")
	})
}

func TestAParkedRowStandsBehindAllEventsOfItsRow(t *testing.T) {
	w := newWorld(thingCreated)
	w.log.Add(commit(start+0x40, 1, poison("1"))...)
	w.run(t, 1)
	require.Equal(t, relay.Position{CommitLSN: start + 0x40, Index: math.MaxUint32}, w.stream.Events()[0].Position)
}
