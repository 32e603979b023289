package e2e

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// gapRecord returns the last message on relay.control.gap.
func (s *stack) gapRecord(p *process) (gap struct{ Slot, Reason, From, To, Found string }) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	stream := must(s.js(p).Stream(ctx, "EVENTS"))(s.t)
	last := must(stream.GetLastMsgForSubject(ctx, "relay.control.gap"))(s.t)
	require.NoError(s.t, json.Unmarshal(last.Data, &gap))
	require.Equal(s.t, s.env["RELAY_SLOT"], gap.Slot)
	return gap
}

func TestASlotThatSomebodyElseMadeAnewHaltsTheRelayWithTheRange(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	p := s.start()
	s.insertThings("1")
	s.settle(p)
	p.stop()
	s.db.Exec(`select pg_drop_replication_slot($1)`, s.env["RELAY_SLOT"])
	s.insertThings("lost")
	s.db.Exec(`select pg_create_logical_replication_slot($1, 'pgoutput')`, s.env["RELAY_SLOT"])
	made := pgtest.One[string](s.db, `select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1`, s.env["RELAY_SLOT"])
	s.halted("slot_advanced", "made it anew", " and "+made+" are not in the stream")

	p = s.start("--accept-gap")
	s.insertThings("2")
	s.settle(p)
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2"}, names(s.stream(p)))
	gap := s.gapRecord(p)
	require.Equal(t, []string{"slot_advanced", made}, []string{gap.Reason, gap.To})
	require.LessOrEqual(t, must(parseLSN(gap.From))(t), must(parseLSN(made))(t))
	p.stop()
}

func TestADroppedPublicationHaltsTheRelayAndItsRemedyWorks(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	p := s.start()
	s.insertThings("1")
	s.settle(p)
	s.db.Exec(`drop publication ` + s.env["RELAY_PUBLICATION"])
	s.insertThings("lost")
	require.Equal(t, 3, p.exited(arrivesWithin), p.log())
	require.Contains(t, p.log(), "publication_missing")

	// As the message says, word by word.
	s.command("setup")
	s.db.Exec(`select pg_drop_replication_slot($1)`, s.env["RELAY_SLOT"])
	p = s.start("--accept-gap")
	s.insertThings("2")
	s.settle(p)
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2"}, names(s.stream(p)))
	require.Equal(t, "slot_missing", s.gapRecord(p).Reason)
	p.stop()
}

func TestAPublicationMadeAnewOnAnIdleDatabaseHaltsTheRelay(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	p := s.start()
	s.insertThings("1")
	s.settle(p)
	require.Eventually(t, func() bool { // the slot was looked at, and so was the publication
		_, metrics, err := p.get("/metrics")
		return err == nil && !containsLine(metrics, "relay_slot_budget_bytes 0")
	}, arrivesWithin, 5*tick)
	s.db.Exec(`begin; drop publication ` + s.env["RELAY_PUBLICATION"] + `; create publication ` + s.env["RELAY_PUBLICATION"] + `; commit`)
	require.Equal(t, 3, p.exited(arrivesWithin), p.log())
	require.Contains(t, p.log(), "publication_replaced")
	p = s.start() // it publishes again what the mappings need
	s.insertThings("2")
	s.settle(p)
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2"}, names(s.stream(p)))
	p.stop()
}

func TestALogThatPilesUpWhileNATSIsAwayIsReportedByTheRelay(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	s := newStack(t, options{db: cluster.New(t)})
	s.env["RELAY_WAL_BUDGET"] = "64MB"
	p := s.start()
	s.insertThings("1")
	s.settle(p)
	s.nats.Stop()
	for range 50 {
		s.db.Exec(`select pg_logical_emit_message(false, 'fill', repeat('x', 1000000))`)
	}
	var report struct {
		Parts map[string]struct{ State, Reason string }
	}
	require.Eventually(t, func() bool {
		_, body, err := p.get("/readyz")
		return err == nil && json.Unmarshal(body, &report) == nil && report.Parts["wal"].Reason != ""
	}, arrivesWithin, 5*tick)
	require.Equal(t, "streaming", report.Parts["wal"].State)
	require.Regexp(t, `^slot "e2e_test_\d+" keeps \d\d MB of log, \d\d % of the 64 MB of the budget; `, report.Parts["wal"].Reason)
	require.NotEmpty(t, p.logged(func(line logLine) bool { return line["msg"] == "log piles up on the server" && line["level"] == "WARN" }))
	_, metrics, err := p.get("/metrics")
	require.NoError(t, err)
	require.Regexp(t, `(?m)^relay_slot_retained_bytes [5-9]\.\d+e\+07$`, string(metrics))
	require.Regexp(t, `(?m)^relay_slot_budget_bytes 6\.7108864e\+07$`, string(metrics))

	s.nats.Start() // and it falls again, once the lag is over
	p.awaitState(arrivesWithin, "streaming")
	p.stop()
}
