package relaytest

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

// parking is an in-memory relay.Parking.
type parking struct {
	mu   sync.Mutex
	rows []parkedRow
}

type parkedRow struct {
	relay.ParkedEvent
	slot     string
	released bool
}

// Park implements relay.Parking.
func (p *parking) Park(_ context.Context, slot string, events []relay.ParkedEvent) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range events {
		e.Body = bytes.Clone(e.Body)
		i := p.find(slot, e.ID)
		if i < 0 {
			p.rows = append(p.rows, parkedRow{ParkedEvent: e, slot: slot})
			continue
		}
		if row := &p.rows[i]; row.Lineage != e.Lineage || row.Position.Compare(e.Position) < 0 {
			row.Position, row.Lineage, row.Reason, row.released = e.Position, e.Lineage, e.Reason, false
		}
	}
	return nil
}

func (p *parking) find(slot, id string) int {
	return slices.IndexFunc(p.rows, func(row parkedRow) bool { return row.slot == slot && row.ID == id })
}

// Parked returns the events of the slot that wait, in the order in which they were
// parked.
func (p *parking) Parked(slot string) []relay.ParkedEvent {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []relay.ParkedEvent
	for _, row := range p.rows {
		if row.slot == slot && !row.released {
			out = append(out, row.ParkedEvent)
		}
	}
	slices.SortFunc(out, func(a, b relay.ParkedEvent) int { return a.Position.Compare(b.Position) })
	return out
}

// Release notes that the event is to be published.
func (p *parking) Release(slot, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.find(slot, id); i >= 0 {
		p.rows[i].released = true
	}
}

// ParkingFixture is a Parking under test, and what an operator sees and does.
type ParkingFixture struct {
	relay.Parking
	Parked  func(slot string) []relay.ParkedEvent // those that wait, in the order in which they were parked
	Release func(slot, id string)
}

// ParkingSuite checks what every relay.Parking promises.
func ParkingSuite(t *testing.T, open func(t *testing.T) ParkingFixture) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, ParkingFixture){
		"an event comes back as it was parked":      parkingWhole,
		"what is read again changes nothing":        parkingAgain,
		"a released event is parked anew":           parkingReleased,
		"another lineage is another history":        parkingLineage,
		"slots do not see each other's":             parkingSlots,
		"an event may be twice among those at hand": parkingTwice,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func parkedEvent(id string, commit relay.LSN) relay.ParkedEvent {
	return relay.ParkedEvent{
		ID: "evt_" + strings.Repeat(id, 26), Type: "thing.created", Position: relay.Position{CommitLSN: commit, Ordinal: 4_000_000_000, Index: 3}, Lineage: "l1",
		Table: "public.things", Key: "a/ü", Owner: relay.Owner{UserID: "ada", TenantID: "team"}, Visibility: relay.VisibleToEveryone,
		OccurredAt: time.Date(2026, 11, 23, 10, 0, 0, 123_456_000, time.UTC), Body: []byte(`{"data":{"n": 1.50, "ü":"\u0000"}}`), Reason: "data lacks id",
	}
}

func park(t *testing.T, f ParkingFixture, events ...relay.ParkedEvent) {
	t.Helper()
	require.NoError(t, f.Park(t.Context(), "relay", events))
}

func parkingWhole(t *testing.T, f ParkingFixture) {
	b, a := parkedEvent("b", 0x1_00000020), parkedEvent("a", 0x10)
	b.Owner, b.Visibility, b.Key = relay.Owner{}, relay.VisibleToOwner, ""
	park(t, f, b, a)
	require.Equal(t, []relay.ParkedEvent{a, b}, f.Parked("relay"))
}

func parkingAgain(t *testing.T, f ParkingFixture) {
	e := parkedEvent("a", 0x20)
	park(t, f, e)
	again := e
	again.Reason = "another release words it so"
	park(t, f, again)
	require.Equal(t, []relay.ParkedEvent{e}, f.Parked("relay"))
	f.Release("relay", e.ID)
	require.Empty(t, f.Parked("relay"))
	park(t, f, again)
	require.Empty(t, f.Parked("relay"), "it stays released")
	earlier := e
	earlier.Position.CommitLSN = 0x10
	park(t, f, earlier)
	require.Empty(t, f.Parked("relay"))
}

func parkingReleased(t *testing.T, f ParkingFixture) {
	e := parkedEvent("a", 0x20)
	park(t, f, e)
	f.Release("relay", e.ID)
	for _, later := range []relay.Position{{CommitLSN: 0x20, Ordinal: 4_000_000_000, Index: 4}, {CommitLSN: 0x20, Ordinal: 4_000_000_001}, {CommitLSN: 0x21}} {
		again := e
		again.Position, again.Reason, again.Body = later, "data lacks ns", nil
		park(t, f, again)
		again.Body = e.Body
		require.Equal(t, []relay.ParkedEvent{again}, f.Parked("relay"), "with the body that it has")
		f.Release("relay", e.ID)
	}
	park(t, f, e)
	require.Empty(t, f.Parked("relay"), "the place before all of these is read again")
}

func parkingLineage(t *testing.T, f ParkingFixture) {
	e := parkedEvent("a", 0x20)
	park(t, f, e)
	f.Release("relay", e.ID)
	anew := e
	anew.Lineage, anew.Position = "l2", relay.Position{CommitLSN: 0x8}
	park(t, f, anew)
	require.Equal(t, []relay.ParkedEvent{anew}, f.Parked("relay"))
}

func parkingSlots(t *testing.T, f ParkingFixture) {
	e := parkedEvent("a", 0x20)
	park(t, f, e)
	require.NoError(t, f.Park(t.Context(), "other", []relay.ParkedEvent{e}))
	f.Release("other", e.ID)
	require.Len(t, f.Parked("relay"), 1)
	require.Empty(t, f.Parked("other"))
}

func parkingTwice(t *testing.T, f ParkingFixture) {
	e, later := parkedEvent("a", 0x20), parkedEvent("a", 0x30)
	park(t, f, e, later)
	require.Equal(t, []relay.ParkedEvent{later}, f.Parked("relay"))
}
