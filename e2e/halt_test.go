package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// halted runs the relay and demands that it gives up at once, with the exit code
// that calls for a person and words that name the slot.
func (s *stack) halted(words ...string) {
	s.t.Helper()
	p := s.launch()
	require.Equal(s.t, 3, p.exited(arrivesWithin), p.log())
	for _, word := range append(words, "--accept-gap") {
		require.Contains(s.t, p.log(), word)
	}
}

// insertThings writes one thing for each id, in one transaction each.
func (s *stack) insertThings(ids ...string) {
	s.t.Helper()
	for _, id := range ids {
		s.db.Exec(`insert into things (ns, id, type, content) values ('n', $1, 'Skill', $2)`, id, s.canary)
	}
}

func TestALostSlotHaltsTheRelay(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', '1', 'Skill', $1)`, s.canary)
	s.settle(p)
	p.stop()
	s.db.Exec(`select pg_drop_replication_slot($1)`, s.env["RELAY_SLOT"])
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', 'lost', 'Skill', $1)`, s.canary)
	p = s.launch()
	require.Equal(t, 3, p.exited(arrivesWithin), "a person must decide")
	require.Contains(t, p.log(), s.env["RELAY_SLOT"])
	require.Zero(t, pgtest.One[int](s.db, `select count(*) from pg_replication_slots where slot_name = $1`, s.env["RELAY_SLOT"]), "never made anew in silence")

	p = s.start("--accept-gap")
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', '2', 'Skill', $1)`, s.canary)
	s.settle(p)
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2"}, names(s.stream(p)))
	p.stop()
}

func TestASlotThatSomebodyElseAdvancedHaltsTheRelay(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	p := s.start()
	s.insertThings("1")
	s.settle(p)
	p.stop()
	s.insertThings("skipped")
	s.db.Exec(`select pg_replication_slot_advance($1, pg_current_wal_lsn())`, s.env["RELAY_SLOT"])
	s.halted(s.env["RELAY_SLOT"])
	p = s.start("--accept-gap")
	s.insertThings("2")
	s.settle(p)
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2"}, names(s.stream(p)))
	p.stop()
}

func TestAStreamThatLostItsEndIsRefilledFromTheSlot(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{embedded: true})
	e := s.subscribe(hook{event: "thing.created"})
	p := s.start()
	s.insertThings("1", "2")
	s.settle(p)
	p.stop()
	backup, store := filepath.Join(s.dir, "backup"), s.env["RELAY_NATS_DIR"]
	require.NoError(t, os.CopyFS(backup, os.DirFS(store)))
	p = s.start()
	s.insertThings("3", "4")
	s.settle(p)
	before := s.readStream(p)
	p.stop()
	require.NoError(t, os.RemoveAll(store))
	require.NoError(t, os.Rename(backup, store))

	p = s.start()
	s.insertThings("5")
	s.settle(p)
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2", "thing.created n/3", "thing.created n/4", "thing.created n/5"}, names(s.stream(p)))
	after := s.readStream(p)
	for i, m := range before {
		require.Equal(t, m.Header.Get("ce-id"), after[i].Header.Get("ce-id"), "message %d is the one that was lost", i)
		require.Equal(t, string(m.Body), string(after[i].Body))
	}
	require.Len(t, e.requests(), 5, "what was delivered before is not delivered again")
	require.Contains(t, p.log(), "the stream lost its end")
	p.stop()
}

// TestANATSServerThatForgetsWhatItAcknowledgedIsRefilledUnderTheRelay swaps the store
// of an external server for an older copy, as a power cut does, while the relay runs.
func TestANATSServerThatForgetsWhatItAcknowledgedIsRefilledUnderTheRelay(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	e := s.subscribe(hook{event: "thing.created"})
	p := s.start()
	load := s.startLoad(2, 10*time.Millisecond)
	load.awaitLoad(10)
	s.nats.Stop()
	backup := filepath.Join(s.dir, "backup")
	require.NoError(t, os.CopyFS(backup, os.DirFS(s.nats.StoreDir)))
	s.nats.Start()
	p.awaitState(arrivesWithin, "streaming")
	length := s.streamLength(p)
	require.Eventually(t, func() bool { return s.streamLength(p) > length+50 && len(e.requests()) > 60 }, arrivesWithin, tick)
	s.nats.Kill()
	require.NoError(t, os.RemoveAll(s.nats.StoreDir))
	require.NoError(t, os.CopyFS(s.nats.StoreDir, os.DirFS(backup)))
	s.nats.Start()
	load.awaitLoad(20)
	load.stop()
	s.settle(p)
	requireSame(t, load.expected(), loadEvents(t, s.stream(p)))
	require.Zero(t, load.checkDelivered(e, "thing.created"), "what was delivered before is not delivered again")
	require.NotEmpty(t, refilled(s.readStream(p)))
	p.stop()
}

// refilled returns what says of itself that the stream may have held it before.
func refilled(all []message) []message {
	return slices.DeleteFunc(slices.Clone(all), func(m message) bool { return m.Header.Get("Relay-Refilled") == "" })
}

func TestWhatTheSlotNoLongerHoldsHaltsTheRelayWithTheRange(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{embedded: true})
	s.env["RELAY_CONFIRM_LAG"] = "0s"
	p := s.start()
	s.insertThings("1")
	s.settle(p)
	p.stop()
	backup, store := filepath.Join(s.dir, "backup"), s.env["RELAY_NATS_DIR"]
	require.NoError(t, os.CopyFS(backup, os.DirFS(store)))
	p = s.start()
	s.insertThings("2")
	s.settle(p)
	p.stop()
	require.NoError(t, os.RemoveAll(store))
	require.NoError(t, os.Rename(backup, store))
	s.halted("stream_regressed", "ends at", "RELAY_CONFIRM_LAG")

	p = s.start("--accept-gap")
	s.insertThings("3")
	s.settle(p)
	require.Equal(t, []string{"thing.created n/1", "thing.created n/3"}, names(s.stream(p)))
	gap := s.gapRecord(p) // subscribers see it in the stream
	require.Equal(t, "stream_regressed", gap.Reason)
	require.Less(t, must(parseLSN(gap.From))(t), must(parseLSN(gap.To))(t))
	p.stop()
}

func TestAForeignMessageInTheStreamIsReportedAndStopsNobody(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	e := s.subscribe(hook{event: "thing.created"})
	p := s.start()
	s.insertThings("1")
	s.settle(p)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := s.js(p).Publish(ctx, "events.thing.created", []byte(`{"id": "forged"}`))
	require.NoError(t, err)
	s.insertThings("2", "3")
	s.settle(p)
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2", "thing.created n/3"}, e.names())
	require.Len(t, e.requests(), 3)
	require.NotEmpty(t, p.logged(func(line logLine) bool { return line["level"] == "ERROR" && line["stream_seq"] != nil }))
	p.awaitState(readyWithin, "streaming")
	p.stop()
}

func TestAStreamThatIsDeletedUnderTheRelayHaltsIt(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_CONFIRM_LAG"] = "0s"
	p := s.start()
	s.subscribe(hook{event: "thing.created"})
	s.insertThings("1")
	s.settle(p)
	require.Eventually(t, func() bool { // the slot moves only once it was told
		return pgtest.One[bool](s.db, `select coalesce(position, '') <> '' from relay_checkpoints where slot_name = $1`, s.env["RELAY_SLOT"])
	}, arrivesWithin, tick)
	require.NoError(t, s.js(p).DeleteStream(t.Context(), "EVENTS"))
	s.insertThings("2")
	require.Equal(t, 3, p.exited(30*time.Second), p.log())
	require.Contains(t, p.log(), "stream_changed")

	p = s.start("--accept-gap")
	s.insertThings("3")
	s.settle(p)
	require.Equal(t, []string{"thing.created n/2", "thing.created n/3"}, names(s.stream(p)), "the slot still held what came after the deletion")
	p.stop()
}
