package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgproc"
	"github.com/dot-do/relay/internal/pgtest"
)

// TestAFailoverWithoutTheSlotHaltsTheRelayWithTheRange promotes a standby, which
// before version 17 has no copy of the slot.
func TestAFailoverWithoutTheSlotHaltsTheRelayWithTheRange(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewCluster(t, pgtest.Options{})
	s := newStack(t, options{db: primary.New(t)})
	standby := primary.Standby(t)
	p := s.start()
	s.insertThings("1")
	s.settle(p)
	p.stop()
	s.insertThings("lost") // on the standby, too, and in no stream
	copied := standby.Database(t, s.db)
	require.Eventually(t, func() bool { return pgtest.One[int](copied, `select count(*) from things where id = 'lost'`) == 1 }, arrivesWithin, tick)
	primary.Stop(pgproc.Immediate)
	standby.Promote(copied)

	s.db = copied
	s.env["RELAY_DATABASE_URL"] = copied.URL
	s.halted("slot_missing", s.env["RELAY_SLOT"], "changes after 0/")
	require.Zero(t, pgtest.One[int](copied, `select count(*) from pg_replication_slots`), "never made anew in silence")

	p = s.start("--accept-gap")
	s.insertThings("2")
	s.settle(p)
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2"}, names(s.stream(p)))
	gap := s.gapRecord(p)
	require.Equal(t, "slot_missing", gap.Reason)
	require.Less(t, must(parseLSN(gap.From))(t), must(parseLSN(gap.To))(t))
	p.stop()
}
