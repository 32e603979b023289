package natsstream

import (
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

func TestHeadersReadBackAsTheEventTheyWereMadeFrom(t *testing.T) {
	nasty := []string{"", "plain", "a b", "ä/ö%41", "\r\n\x00\x7f\"%", "a&b=c;d+e", strings.Repeat("x", 200)}
	env := newEnvelope("a/b slot")
	at := time.Date(2026, 11, 23, 10, 0, 0, 123456000, time.UTC)
	for i, s := range nasty {
		ev := relay.Event{
			ID: "evt_1" + s, Type: "thing.updated",
			Position:   relay.Position{CommitLSN: 0x16B3748, Ordinal: 12, Index: 3},
			Owner:      relay.Owner{UserID: s, TenantID: s},
			Table:      strings.ReplaceAll(s, "/", "."),
			Key:        s,
			OccurredAt: at, CommittedAt: at.Add(time.Duration(i%3) * time.Second),
			Refilled: i%2 == 0,
			Lineage:  "0123abcd",
		}
		header := decoded(t, env.fill(&ev, &place{control: 7}))
		for name, values := range header {
			for _, c := range []byte(values[0]) {
				require.True(t, c >= ' ' && c < 0x7F, "%s holds byte %d", name, c)
			}
		}
		got := relay.Event{Type: "thing.updated"}
		control, err := parseHeader(header, &got)
		require.NoError(t, err)
		require.EqualValues(t, 7, control)
		require.Equal(t, ev, got)
	}
}

// TestWhatIsKeptFromOneMessageToTheNextChangesNoHeader writes events that share some of
// their texts with the one before.
func TestWhatIsKeptFromOneMessageToTheNextChangesNoHeader(t *testing.T) {
	env := newEnvelope("slot")
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	random := rand.New(rand.NewPCG(1, 2))
	var prev relay.Position
	for range 1000 {
		ev := event()
		ev.Type = []string{"thing.updated", "thing.created", relay.ControlPrefix + "gap"}[random.IntN(3)]
		ev.Position = relay.Position{CommitLSN: relay.LSN(random.IntN(3)), Ordinal: uint32(random.IntN(3))}
		ev.OccurredAt = at.Add(time.Duration(random.IntN(2)) * time.Second)
		place := place{prev: []relay.Position{prev, {}, {CommitLSN: 2, Ordinal: 1}}[random.IntN(3)]}
		prev = ev.Position
		require.Equal(t, string(newEnvelope("slot").fill(&ev, &place)), string(env.fill(&ev, &place)))
		want, err := subject(ev.Type)
		require.NoError(t, err)
		got, err := env.subjectOf(&ev)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// decoded reads headers with the NATS library.
func decoded(t *testing.T, head []byte) nats.Header {
	t.Helper()
	header, err := nats.DecodeHeadersMsg(head)
	require.NoError(t, err)
	return header
}

func TestAnOwnerThatDoesNotFitLeavesTheEventToNobody(t *testing.T) {
	ev := relay.Event{Owner: relay.Owner{UserID: strings.Repeat("u", maxOwner+1), TenantID: "t"}}
	owner, visibility, err := parseOwner(string(appendOwner(nil, &ev)))
	require.NoError(t, err)
	require.Equal(t, relay.Owner{}, owner)
	require.Equal(t, relay.VisibleToOwner, visibility)
}

func TestDamagedHeadersAreRefused(t *testing.T) {
	ev := event()
	good := decoded(t, newEnvelope("relay").fill(&ev, &place{}))
	for name, value := range map[string]string{
		"Relay-Pos": "0/1:2", "Relay-Control": "-1", "Relay-Owner": "audience=all", "ce-time": "yesterday",
		"ce-id": "", "ce-type": "other.type", "ce-subject": "%zz", "ce-source": "/relay/%",
	} {
		bad := nats.Header{}
		maps.Copy(bad, good)
		bad.Set(name, value)
		_, err := parseHeader(bad, &relay.Event{Type: ev.Type})
		require.Error(t, err, name)
		bad.Del(name)
		_, err = parseHeader(bad, &relay.Event{Type: ev.Type})
		if name != "ce-subject" && name != "ce-source" {
			require.Error(t, err, "no %s", name)
		}
	}
}

func event() relay.Event {
	return relay.Event{
		ID: "evt_1", Type: "thing.updated", Position: relay.Position{CommitLSN: 1},
		Table: "public.things", OccurredAt: time.Unix(0, 0), Body: []byte(`{"data":{}}`),
	}
}

func FuzzAcknowledgementsNeverPanic(f *testing.F) {
	f.Add([]byte(`{"stream":"EVENTS","seq":12}`))
	f.Add([]byte(`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 12"},"stream":"EVENTS","seq":0}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		const prefix = `{"stream":"EVENTS","seq":`
		seq, ok := plainAck(data, prefix)
		ack, err := parseAck(data)
		if ok && seq > 0 && (err != nil || ack.Seq != seq) {
			t.Fatalf("%q: %d and %+v, %v", data, seq, ack, err)
		}
		if ack.Error != nil {
			_ = refusal("EVENTS", 5, ack.Error)
		}
	})
}

func TestAMissingMessageIsNotTakenForAnotherWriter(t *testing.T) {
	wrong := func(text string) error {
		return refusal("EVENTS", 10, &jetstream.APIError{ErrorCode: 10071, Description: text})
	}
	require.NotErrorIs(t, wrong("wrong last sequence: 9"), relay.ErrFenced)
	require.ErrorContains(t, wrong("wrong last sequence: 9"), "ends at sequence 9, not at 10")
	require.ErrorIs(t, wrong("wrong last sequence: 11"), relay.ErrFenced)
	require.ErrorIs(t, wrong("something new"), relay.ErrFenced)
	require.ErrorIs(t, refusal("EVENTS", 10, &jetstream.APIError{ErrorCode: 10070}), relay.ErrFenced)
	require.NotErrorIs(t, refusal("EVENTS", 10, &jetstream.APIError{ErrorCode: 10077}), relay.ErrFenced)
}

func TestCoversKnowsWhichSubjectsAStreamTakes(t *testing.T) {
	for _, c := range []struct {
		pattern string
		want    bool
	}{
		{"events.>", true},
		{">", true},
		{"*.>", true},
		{"events.*", false},
		{"events.*.>", false},
		{"events", false},
		{"events.thing.>", false},
		{"other.>", false},
		{"*", false},
	} {
		require.Equal(t, c.want, covered(eventSubjects, []string{c.pattern}), c.pattern)
	}
}
