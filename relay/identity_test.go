package relay_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

// These values are in streams and in receivers' databases: a change of the
// formulas would make every replay a duplicate.
func TestIdentityFormulasAreFrozen(t *testing.T) {
	id := relay.Identity{SystemID: "7000000000000000001", Lineage: "0123456789abcdef01234567"}
	at := time.UnixMicro(1_795_000_000_123_456)
	pos := relay.Position{CommitLSN: 0x16B3748, Ordinal: 12}
	require.Equal(t, goldenEvent, relay.EventID(id, 734, at, pos, "thing.updated"))
	require.Equal(t, goldenMessage, relay.WebhookID(goldenEvent, "0d9f2f6e-6d2b-4c9e-8f4e-0a6a4f1f7a11"))
}

const (
	goldenEvent   = "evt_7zoj5ttwlnbajjduhuwbcu4o24"
	goldenMessage = "msg_lpkrik4we2po6vbqrlbn6ggbsa"
)

func TestEveryPartOfThePlaceChangesTheEventID(t *testing.T) {
	id := relay.Identity{SystemID: "1", Lineage: "a"}
	at := time.UnixMicro(1)
	pos := relay.Position{CommitLSN: 1, Ordinal: 1, Index: 1}
	seen := map[string]string{}
	for name, got := range map[string]string{
		"base":    relay.EventID(id, 1, at, pos, "a.b"),
		"system":  relay.EventID(relay.Identity{SystemID: "2", Lineage: "a"}, 1, at, pos, "a.b"),
		"lineage": relay.EventID(relay.Identity{SystemID: "1", Lineage: "b"}, 1, at, pos, "a.b"),
		"shift":   relay.EventID(relay.Identity{SystemID: "1a", Lineage: ""}, 1, at, pos, "a.b"),
		"xid":     relay.EventID(id, 2, at, pos, "a.b"),
		"time":    relay.EventID(id, 1, time.UnixMicro(2), pos, "a.b"),
		"lsn":     relay.EventID(id, 1, at, relay.Position{CommitLSN: 2, Ordinal: 1, Index: 1}, "a.b"),
		"ordinal": relay.EventID(id, 1, at, relay.Position{CommitLSN: 1, Ordinal: 2, Index: 1}, "a.b"),
		"index":   relay.EventID(id, 1, at, relay.Position{CommitLSN: 1, Ordinal: 1, Index: 2}, "a.b"),
		"type":    relay.EventID(id, 1, at, pos, "a.c"),
	} {
		require.Regexp(t, `^evt_[a-z2-7]{26}$`, got)
		require.NotContains(t, seen, got, name)
		seen[got] = name
	}
}

func TestPositionsOrderByCommitThenOrdinalThenIndex(t *testing.T) {
	order := []relay.Position{{}, {CommitLSN: 1}, {CommitLSN: 1, Index: 1}, {CommitLSN: 1, Ordinal: 1}, {CommitLSN: 2}, {CommitLSN: 1 << 40}}
	for i := range order {
		for j := range order {
			require.Equal(t, i < j, order[i].Compare(order[j]) < 0)
			require.Equal(t, i == j, order[i].Compare(order[j]) == 0)
		}
	}
}

func TestPositionTextReadsBack(t *testing.T) {
	for text, pos := range map[string]relay.Position{
		"0/16B3748:12:0": {CommitLSN: 0x16B3748, Ordinal: 12},
		"0/0:0:0":        {},
		"FFFFFFFF/FFFFFFFF:4294967295:4294967295": {CommitLSN: 1<<64 - 1, Ordinal: 1<<32 - 1, Index: 1<<32 - 1},
		"1A/B:3:2": {CommitLSN: 0x1A_0000000B, Ordinal: 3, Index: 2},
	} {
		require.Equal(t, text, pos.String())
		got, err := relay.ParsePosition(text)
		require.NoError(t, err)
		require.Equal(t, pos, got)
	}
	for _, bad := range []string{"", "0/1", "0/1:1", "0/1:1:1:1", "1:1:1", "0/1:-1:0", "0/100000000:0:0", "x/1:0:0", "0/1:4294967296:0"} {
		_, err := relay.ParsePosition(bad)
		require.Error(t, err, bad)
	}
}

func TestOwnershipFailsClosed(t *testing.T) {
	type owner = relay.Owner
	for _, tc := range []struct {
		event, subscriber owner
		owns              bool
	}{
		{owner{UserID: "u1"}, owner{UserID: "u1"}, true},
		{owner{UserID: "u1"}, owner{UserID: "u2"}, false},
		{owner{UserID: "u1", TenantID: "t1"}, owner{UserID: "u1"}, true},
		{owner{UserID: "u1", TenantID: "t1"}, owner{UserID: "u1", TenantID: "t1"}, true},
		{owner{UserID: "u1", TenantID: "t1"}, owner{UserID: "u1", TenantID: "t2"}, false},
		{owner{UserID: "u2", TenantID: "t1"}, owner{UserID: "u1", TenantID: "t1"}, false},
		{owner{TenantID: "t1"}, owner{UserID: "u1", TenantID: "t1"}, true},
		{owner{TenantID: "t1"}, owner{UserID: "u1"}, false},
		{owner{}, owner{UserID: "u1", TenantID: "t1"}, false},
		{owner{}, owner{}, false},
	} {
		require.Equal(t, tc.owns, tc.event.Owns(tc.subscriber), "%+v seen by %+v", tc.event, tc.subscriber)
	}
}
