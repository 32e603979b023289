package relay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/relaytest"
)

const start relay.LSN = 0x1000

var errCrash = errors.New("killed")

// world is what outlives a session: the log with its slot, the stream, the tables.
type world struct {
	log    *relaytest.Log
	stream *relaytest.Stream
	memory *relaytest.Memory
	every  time.Duration // between checkpoints
}

func newWorld(mappings ...string) *world {
	return &world{
		log: relaytest.NewLog("relay", start), stream: relaytest.NewStream(),
		memory: relaytest.NewMemory(catalogOf(mappings...)), every: time.Millisecond,
	}
}

func (w *world) capture(t testing.TB, change func(*relay.CaptureConfig)) *relay.Capture {
	t.Helper()
	cfg := relay.CaptureConfig{
		Source: w.log.Open(), Stream: w.stream, Registry: w.memory, Checkpoints: w.memory, Parking: w.memory,
		Tables: relay.DefaultControlTables(), CheckpointEvery: w.every,
		Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	c, err := relay.NewCapture(cfg)
	require.NoError(t, err)
	return c
}

// run streams until the stream holds n messages, then stops the session cleanly.
func (w *world) run(t testing.TB, n int) {
	t.Helper()
	stop := w.start(t, nil)
	require.Eventually(t, func() bool { return len(w.stream.Events()) >= n }, 5*time.Second, time.Millisecond)
	require.NoError(t, stop())
	require.Len(t, w.stream.Events(), n)
}

// start runs a session until stop, which returns what Run returned.
func (w *world) start(t testing.TB, change func(*relay.CaptureConfig)) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c, done := w.capture(t, change), make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

func catalogOf(mappings ...string) *relay.Catalog {
	c := relay.NewCatalog()
	for _, name := range []string{"thing.created", "thing.updated", "function.created", "agent.deleted"} {
		c.Events[name] = json.RawMessage(`{"event_type":"` + name + `","enabled":true}`)
	}
	for i, m := range mappings {
		c.Mappings["m"+strconv.Itoa(i)] = json.RawMessage(m)
	}
	return c
}

func mappingRow(id, table, op, event, rest string) string {
	return fmt.Sprintf(`{"id":%q,"source_table":%q,"operation":%q,"event_type":%q,"audience":"everyone","enabled":true,"priority":100,"ignored_columns":["updated_at"]%s}`,
		id, table, op, event, rest)
}

var (
	textType = &relay.Type{OID: 25}
	things   = &relay.Relation{OID: 1, Schema: "public", Name: "things", ReplicaIdentity: relay.IdentityFull, Columns: []relay.Column{
		{Name: "id", Type: textType, Key: true}, {Name: "type", Type: textType}, {Name: "updated_at", Type: &relay.Type{OID: 1184}},
	}}
	thingCreated = mappingRow("m0", "public.things", "insert", "thing.created", "")
)

func tuple(values ...string) relay.Tuple {
	t := make(relay.Tuple, len(values))
	for i, v := range values {
		t[i] = relay.Value{Kind: relay.Text, Data: []byte(v)}
	}
	return t
}

// transaction returns the batches of one transaction that inserts rows, cut after
// every size rows.
func transaction(commit relay.LSN, rows, size int) []relay.Batch {
	var out []relay.Batch
	for i := range rows {
		if i%size == 0 {
			out = append(out, relay.Batch{Open: true})
		}
		b := &out[len(out)-1]
		b.Changes = append(b.Changes, relay.Change{
			Position: relay.Position{CommitLSN: commit, Ordinal: uint32(i)}, XID: uint32(commit), CommitTime: time.UnixMicro(int64(commit)),
			Op: relay.OpInsert, Relation: things, New: tuple(fmt.Sprintf("%d-%d", commit, i), "Agent", "2026-11-23 10:00:00+00"),
		})
	}
	last := &out[len(out)-1]
	last.Open, last.Commit = false, commit+8
	return out
}

func TestRunPublishesEveryChangeOnceOverRandomCrashes(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(thingCreated)
		var want []string
		for i := range 12 {
			commit := start + relay.LSN(i)*0x100 + 0x40
			rows := 1 + rng.IntN(9)
			w.log.Add(transaction(commit, rows, 1+rng.IntN(4))...)
			for r := range rows {
				want = append(want, fmt.Sprintf("%d-%d", commit, r))
			}
		}
		for range 400 { // sessions that crash somewhere
			budget := rng.IntN(6)
			w.stream.Fail = func(int) error {
				if budget--; budget < 0 {
					return errCrash
				}
				return nil
			}
			w.every = []time.Duration{4, time.Microsecond, time.Hour}[rng.IntN(3)] // so the slot is confirmed now and then
			if err := w.crashOrFinish(t, len(want)); err == nil {
				break
			}
		}
		w.stream.Fail = nil
		w.run(t, len(want))

		ids := map[string]bool{}
		for i, e := range w.stream.Events() {
			require.Equal(t, want[i], e.Key, "seed %d", seed)
			require.False(t, ids[e.ID], "seed %d: id %s twice", seed, e.ID)
			ids[e.ID] = true
		}
	}
}

func (w *world) crashOrFinish(t testing.TB, n int) error {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, done := w.capture(t, nil), make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(100 * time.Microsecond):
			if len(w.stream.Events()) == n {
				cancel()
			}
		}
	}
}

func TestEventIDsAreTheSameAfterAReplay(t *testing.T) {
	w := newWorld(thingCreated)
	w.every = time.Hour // the slot keeps everything
	w.log.Add(transaction(start+0x40, 3, 2)...)
	w.stream.Fail = func(stored int) error {
		if stored == 3 {
			return errCrash
		}
		return nil
	}
	w.log.Add(transaction(start+0x80, 2, 2)...)
	require.ErrorIs(t, w.crashOrFinish(t, 99), errCrash)
	first := w.stream.Events()
	w.stream.Fail = nil
	w.stream.Truncate(1) // the server had not written the rest to disk
	w.run(t, 5)
	for i, e := range first {
		require.Equal(t, e, w.stream.Events()[i])
	}
}

func TestTheSlotIsNeverConfirmedPastWhatTheStreamRefused(t *testing.T) {
	w := newWorld(thingCreated)
	w.log.Add(transaction(start+0x40, 2, 2)...)
	w.log.Add(transaction(start+0x80, 2, 2)...)
	w.stream.Fail = func(stored int) error {
		if stored == 3 {
			return errCrash
		}
		return nil
	}
	require.ErrorIs(t, w.crashOrFinish(t, 99), errCrash)
	require.LessOrEqual(t, w.log.Confirmed(), start+0x48)
}

func TestACleanStopConfirmsWhatWasPublished(t *testing.T) {
	w := newWorld(thingCreated)
	w.log.Add(transaction(start+0x40, 2, 2)...)
	stop := w.start(t, func(cfg *relay.CaptureConfig) { cfg.CheckpointEvery = time.Hour })
	require.Eventually(t, func() bool { return len(w.stream.Events()) == 2 }, 5*time.Second, time.Millisecond)
	require.NoError(t, stop())
	require.Equal(t, start+0x48, w.log.Confirmed())
}

func TestAnIdleSlotIsConfirmedInOrder(t *testing.T) {
	w := newWorld(thingCreated)
	w.log.Add(transaction(start+0x40, 1, 1)...)
	w.log.Add(relay.Batch{Commit: start + 1<<20})
	w.runUntil(t, func() bool { return w.log.Confirmed() == start+1<<20 })
	require.Len(t, w.stream.Events(), 1)
}

func (w *world) runUntil(t testing.TB, cond func() bool) {
	t.Helper()
	stop := w.start(t, nil)
	require.Eventually(t, cond, 5*time.Second, time.Millisecond)
	require.NoError(t, stop())
}

var mappingsTable = &relay.Relation{OID: 9, Schema: "public", Name: "event_mappings", ReplicaIdentity: relay.IdentityFull, Columns: []relay.Column{
	{Name: "id", Type: textType, Key: true},
	{Name: "source_table", Type: textType},
	{Name: "operation", Type: textType},
	{Name: "event_type", Type: textType},
	{Name: "audience", Type: textType},
	{Name: "enabled", Type: &relay.Type{OID: 16}},
	{Name: "match_new", Type: &relay.Type{OID: 3802}},
	{Name: "ignored_columns", Type: &relay.Type{Kind: relay.Array, Elem: textType, Delim: ','}},
}}

func TestAMappingTakesEffectAtItsOwnCommitAlsoWhenReadAgain(t *testing.T) {
	w := newWorld() // no mapping at first
	insertMapping := relay.Change{
		Position: relay.Position{CommitLSN: start + 0x80}, Op: relay.OpInsert, Relation: mappingsTable,
		New: tuple("m9", "public.things", "insert", "thing.created", "everyone", "t", `{"type": "Agent"}`, "{updated_at}"),
	}
	w.log.Add(transaction(start+0x40, 2, 2)...) // before: no event
	w.log.Add(relay.Batch{Changes: []relay.Change{insertMapping}, Commit: start + 0x88})
	w.log.Add(transaction(start+0xC0, 2, 2)...) // after: two events
	w.run(t, 2)
	require.Equal(t, fmt.Sprintf("%d-0", start+0xC0), w.stream.Events()[0].Key)

	// The stream lost both; the slot had been confirmed past the mapping only.
	again := newWorld()
	again.log, again.memory = relaytest.NewLog("relay", start+0x88), w.memory
	require.NoError(t, again.memory.Save(t.Context(), relay.Checkpoint{Slot: "relay", SystemID: "7000000000000000001", Lineage: "l", Confirmed: start + 0x88}))
	again.log.Add(transaction(start+0xC0, 2, 2)...)
	again.run(t, 2)
}

func TestADisabledEventTypeRaisesNothingFromItsCommitOn(t *testing.T) {
	registry := &relay.Relation{OID: 8, Schema: "public", Name: "zapier_webhook_events", Columns: []relay.Column{
		{Name: "event_type", Type: textType, Key: true}, {Name: "enabled", Type: &relay.Type{OID: 16}},
	}}
	w := newWorld(thingCreated)
	w.log.Add(transaction(start+0x40, 1, 1)...)
	w.log.Add(relay.Batch{Changes: []relay.Change{{
		Position: relay.Position{CommitLSN: start + 0x80}, Op: relay.OpUpdate, Relation: registry, New: tuple("thing.created", "f"),
	}}, Commit: start + 0x88})
	w.log.Add(transaction(start+0xC0, 1, 1)...)
	w.runUntil(t, func() bool { return w.log.Confirmed() == start+0xC8 })
	require.Len(t, w.stream.Events(), 1)
}

var webhooksTable = &relay.Relation{OID: 7, Schema: "public", Name: "zapier_webhooks", ReplicaIdentity: relay.IdentityFull, Columns: []relay.Column{
	{Name: "id", Type: textType, Key: true},
	{Name: "status", Type: textType},
	{Name: "event_type", Type: textType},
	{Name: "signing_secret", Type: textType},
	{Name: "success_count", Type: &relay.Type{OID: 20}},
	{Name: "updated_at", Type: textType},
}}

func TestAChangedSubscriptionIsAnnouncedByIDOnly(t *testing.T) {
	w := newWorld()
	changes := []relay.Change{
		{Op: relay.OpInsert, New: tuple("w1", "active", "thing.created", "whsec_hidden", "0", "a")},
		{Op: relay.OpUpdate, Old: tuple("w1", "active", "thing.created", "whsec_hidden", "0", "a"), New: tuple("w1", "active", "thing.created", "whsec_hidden", "1", "b")},
		{Op: relay.OpUpdate, Old: tuple("w1", "active", "thing.created", "whsec_hidden", "1", "b"), New: tuple("w1", "inactive", "thing.created", "whsec_hidden", "1", "b")},
		{Op: relay.OpUpdate, Old: tuple("w1", "inactive", "thing.created", "whsec_hidden", "1", "b"), New: tuple("w1", "active", "thing.created", "whsec_hidden", "1", "b")},
		{Op: relay.OpDelete, Old: tuple("w1", "active", "thing.created", "whsec_hidden", "1", "b")},
	}
	for i := range changes {
		changes[i].Position = relay.Position{CommitLSN: start + 0x40, Ordinal: uint32(i)}
		changes[i].Relation, changes[i].XID = webhooksTable, 770+uint32(i)
	}
	w.log.Add(relay.Batch{Changes: changes, Commit: start + 0x48})
	w.run(t, 4) // the counter update is not announced
	var got []relay.Announcement
	for _, e := range w.stream.Events() {
		require.Equal(t, relay.ControlWebhooks, e.Type)
		require.NotContains(t, string(e.Body), "hidden")
		var a relay.Announcement
		require.NoError(t, json.Unmarshal(e.Body, &a))
		got = append(got, a)
	}
	require.Equal(t, []relay.Announcement{
		{ID: "w1", Op: "insert", Fresh: true, XID: 770},
		{ID: "w1", Op: "update", Paused: true, XID: 772},
		{ID: "w1", Op: "update", Resumed: true, XID: 773},
		{ID: "w1", Op: "delete", XID: 774},
	}, got)
}

func TestAnAnnouncementTellsHowTheRowsWishesChanged(t *testing.T) {
	row := func(id, status, eventType string) relay.Tuple { return tuple(id, status, eventType, "s", "0", "a") }
	changes := []relay.Change{
		{Op: relay.OpInsert, New: row("w1", "inactive", "thing.created")},
		{Op: relay.OpUpdate, Old: row("w1", "inactive", "thing.created"), New: row("w1", "inactive", "thing.updated")},
		{Op: relay.OpUpdate, Old: row("w1", "inactive", "thing.updated"), New: row("w1", "active", "thing.created")},
		{Op: relay.OpUpdate, Old: row("w1", "active", "thing.created"), New: row("w1", "inactive", "thing.updated")},
		{Op: relay.OpUpdate, Old: row("w1", "inactive", "thing.updated"), New: row("w2", "inactive", "thing.updated")},
	}
	for i := range changes {
		changes[i].Position = relay.Position{CommitLSN: start + 0x40, Ordinal: uint32(i)}
		changes[i].Relation, changes[i].XID = webhooksTable, 7
	}
	w := newWorld()
	w.log.Add(relay.Batch{Changes: changes, Commit: start + 0x48})
	w.run(t, 6)
	var got []relay.Announcement
	for _, e := range w.stream.Events() {
		var a relay.Announcement
		require.NoError(t, json.Unmarshal(e.Body, &a))
		got = append(got, a)
	}
	require.Equal(t, []relay.Announcement{
		{ID: "w1", Op: "insert", Fresh: true, Paused: true, XID: 7},
		{ID: "w1", Op: "update", Fresh: true, XID: 7},
		{ID: "w1", Op: "update", Fresh: true, Resumed: true, XID: 7},
		{ID: "w1", Op: "update", Fresh: true, Paused: true, XID: 7},
		{ID: "w1", Op: "delete", XID: 7},
		{ID: "w2", Op: "insert", Fresh: true, Paused: true, XID: 7},
	}, got)
}

func TestABrokenMappingIsRefusedByNameAndStopsNobody(t *testing.T) {
	w := newWorld(
		thingCreated,
		mappingRow("m1", "public.things", "insert", "thing.updated", `,"match_new":{"$typo":1}`),
		mappingRow("m2", "public.things", "insert", "function.created", `,"key_columns":["nope"]`),
		mappingRow("m3", "public.things", "insert", "no.such", ""),
	)
	w.log.Add(transaction(start+0x40, 1, 1)...)
	refused := map[string]string{}
	stop := w.start(t, func(cfg *relay.CaptureConfig) {
		cfg.Observer.Refused = func(name string, err error) { refused[name] = err.Error() }
	})
	require.Eventually(t, func() bool { return len(w.stream.Events()) == 1 }, 5*time.Second, time.Millisecond)
	require.NoError(t, stop())
	require.Len(t, refused, 3)
	require.Contains(t, refused["m1"], "$typo")
	require.Contains(t, refused["m2"], `"nope"`)
	require.Contains(t, refused["m3"], "no.such")
}
