package natsstream_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
)

func TestFindReturnsTheEventWithItsPlace(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	w := ready(t, c)
	require.NoError(t, w.Append(t.Context(), []relay.Event{announcement(1, "a")}))
	require.NoError(t, w.Append(t.Context(), events(2, 3000)))
	for _, n := range []int{2, 1500, 2999, 3000} {
		got, seq, err := c.Find(t.Context(), event(n).ID, natsstream.FindConfig{})
		require.NoError(t, err)
		require.EqualValues(t, n, seq)
		want := event(n)
		want.Data = nil
		require.Equal(t, want, got)
	}
	stream, err := srv.JetStream().Stream(t.Context(), "EVENTS")
	require.NoError(t, err)
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.State.Consumers, "no consumer stays behind")
}

func TestFindSaysHowFarItHasLooked(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	missing := event(0).ID

	var none *natsstream.NotFoundError
	_, _, err := c.Find(t.Context(), missing, natsstream.FindConfig{})
	require.ErrorAs(t, err, &none)
	require.EqualError(t, err, "event "+missing+" is none of the 0 in stream EVENTS")

	w := ready(t, c)
	began := time.Now().Add(-time.Second)
	require.NoError(t, w.Append(t.Context(), []relay.Event{announcement(1, "a")}))
	require.NoError(t, w.Append(t.Context(), events(2, 5000)))
	var looked []int
	_, _, err = c.Find(t.Context(), missing, natsstream.FindConfig{Progress: func(n int, oldest time.Time) {
		looked = append(looked, n)
		require.True(t, oldest.After(began))
	}})
	require.ErrorAs(t, err, &none)
	require.True(t, none.All)
	require.Equal(t, 4999, none.Looked, "announcements are not looked at")
	require.ErrorContains(t, err, "is none of the 4999 in stream EVENTS, the oldest of them from "+none.Oldest.UTC().Format(time.RFC3339))
	require.IsIncreasing(t, looked)
	require.Equal(t, 4999, looked[len(looked)-1])

	_, _, err = c.Find(t.Context(), event(2).ID, natsstream.FindConfig{Newest: 1000})
	require.ErrorAs(t, err, &none)
	require.False(t, none.All)
	require.GreaterOrEqual(t, none.Looked, 1000)
	require.Less(t, none.Looked, 4999)
	require.ErrorContains(t, err, "is not among the newest ")
}

func TestFindReadsHeadersOnlyUntilItHasTheEvent(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	require.NoError(t, ready(t, c).Append(t.Context(), events(1, 3)))
	spy, err := srv.Connect().SubscribeSync("$JS.API.CONSUMER.CREATE.>")
	require.NoError(t, err)
	got, _, err := c.Find(t.Context(), event(1).ID, natsstream.FindConfig{})
	require.NoError(t, err)
	require.Equal(t, event(1).Body, got.Body)
	asked, err := spy.NextMsg(5 * time.Second)
	require.NoError(t, err)
	var request struct {
		Config struct {
			HeadersOnly bool `json:"headers_only"`
		} `json:"config"`
	}
	require.NoError(t, json.Unmarshal(asked.Data, &request))
	require.True(t, request.Config.HeadersOnly)
}

func TestFindGoesPastMessagesThatAreNotTheRelays(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	require.NoError(t, ready(t, c).Append(t.Context(), events(1, 1)))
	foreign := nats.NewMsg("events.thing.updated")
	_, err := srv.JetStream().PublishMsg(t.Context(), foreign)
	require.NoError(t, err)
	foreign.Header.Set("ce-id", event(2).ID)
	_, err = srv.JetStream().PublishMsg(t.Context(), foreign)
	require.NoError(t, err)

	_, seq, err := c.Find(t.Context(), event(1).ID, natsstream.FindConfig{})
	require.NoError(t, err)
	require.EqualValues(t, 1, seq)
	_, _, err = c.Find(t.Context(), event(2).ID, natsstream.FindConfig{})
	require.ErrorContains(t, err, "message 3 of stream EVENTS is no event")
}

func TestFindEndsWithItsContextAndSaysWhatIsMissing(t *testing.T) {
	srv := natstest.New(t)
	_, _, err := client(t, srv.URL).Find(t.Context(), event(1).ID, natsstream.FindConfig{})
	require.ErrorContains(t, err, "look up stream EVENTS")

	c := ensured(t, srv.URL)
	require.NoError(t, ready(t, c).Append(t.Context(), events(1, 3)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = c.Find(ctx, event(1).ID, natsstream.FindConfig{})
	require.ErrorIs(t, err, context.Canceled)
}

// Guests of the embedded server may not write events; they can look for them.
func TestAGuestOfTheEmbeddedServerCanFind(t *testing.T) {
	e := embedded(t, t.TempDir(), "127.0.0.1:0")
	c := ensured(t, "", func(cfg *natsstream.Config) { cfg.Embedded = e })
	require.NoError(t, ready(t, c).Append(t.Context(), events(1, 3)))
	guest := client(t, "nats://"+e.Addr().String())
	got, _, err := guest.Find(t.Context(), event(2).ID, natsstream.FindConfig{})
	require.NoError(t, err)
	require.Equal(t, event(2).Body, got.Body)
}
