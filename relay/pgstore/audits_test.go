package pgstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
	"github.com/dot-do/relay/relay/pgstore"
)

var _ natsstream.AuditLog = (*pgstore.Store)(nil)

func TestAnAuditComesBackAsItWasSaved(t *testing.T) {
	db := newDB(t)
	s, ctx := open(t, db), t.Context()
	none, holes, err := s.LoadAudit(ctx, "relay")
	require.NoError(t, err)
	require.Nil(t, none)
	require.Empty(t, holes)

	at := time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
	empty := relay.Audit{Stream: "EVENTS", Created: at, Marks: []relay.Mark{}}
	require.NoError(t, s.SaveAudit(ctx, "relay", relay.Audit{Stream: "EVENTS", Created: at}))
	got, _, err := s.LoadAudit(ctx, "relay")
	require.NoError(t, err)
	require.Equal(t, &empty, got)

	full := relay.Audit{
		Stream: "EVENTS", Created: at, First: relay.Mark{Seq: 7, Time: at, Commit: 0xFFFFFFFF_FFFFFF00},
		Marks:   []relay.Mark{{Seq: 8, Time: at.Add(time.Nanosecond), Commit: 1}, {Seq: 1 << 40, Time: at}},
		Audited: relay.StreamPlace{Seq: 1 << 40, Position: relay.Position{CommitLSN: 0x1_16B3748, Ordinal: 4_000_000_000, Index: 2}}, Whole: at.Add(time.Hour),
	}
	require.NoError(t, s.SaveAudit(ctx, "relay", full))
	require.NoError(t, s.SaveAudit(ctx, "other", empty))
	got, _, err = s.LoadAudit(ctx, "relay")
	require.NoError(t, err)
	require.Equal(t, &full, got)
}

func TestAHoleIsKeptOnceInThePlaceOfThoseWithinIt(t *testing.T) {
	db := newDB(t)
	s, ctx := open(t, db), t.Context()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
	place := func(seq uint64) relay.StreamPlace {
		return relay.StreamPlace{Seq: seq, Position: relay.Position{CommitLSN: 0x100 + relay.LSN(seq), Ordinal: 3}}
	}
	hole := func(reason string, after, before uint64) relay.Hole {
		return relay.Hole{
			Stream: "EVENTS", Created: at, Reason: reason, After: place(after), Before: place(before), From: 0x101, To: 0x109, Missing: before - after - 1, Parts: 1, Found: at,
		}
	}
	purged := relay.Hole{
		Stream: "EVENTS", Created: at, Reason: relay.HolePurged, Before: relay.StreamPlace{Seq: 3}, Missing: 2, Parts: 1, Found: at,
	}
	small, big, order := hole(relay.HoleMissing, 5, 7), hole(relay.HoleMissing, 5, 9), hole(relay.HoleOrder, 6, 7)
	for _, h := range []relay.Hole{purged, small, order} {
		require.NoError(t, s.AddHole(ctx, "relay", h))
	}
	require.NoError(t, s.AddHole(ctx, "other", small))
	require.NoError(t, s.NoteRecord(ctx, "relay", small, 12))
	require.NoError(t, s.AddHole(ctx, "relay", small), "a second process found it, too")
	got, err := s.Holes(ctx, "relay")
	require.NoError(t, err)
	small.Recorded = 12
	require.Equal(t, []relay.Hole{purged, small, order}, got)

	require.NoError(t, s.AddHole(ctx, "relay", big))
	require.NoError(t, s.DropHole(ctx, "relay", purged))
	require.NoError(t, s.NoteRecord(ctx, "relay", order, 13))
	require.NoError(t, s.NoteRecord(ctx, "relay", order, 0))
	db.Exec(`update relay_stream_holes set settled_at = now() where slot_name = 'relay' and before_seq = 9`)
	_, got, err = s.LoadAudit(ctx, "relay")
	require.NoError(t, err)
	big.Settled = true
	require.Equal(t, []relay.Hole{order, big}, got)
	require.Equal(t, 1, pgtest.One[int](db, `select count(*) from relay_stream_holes where slot_name = 'other'`))
}
