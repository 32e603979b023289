package natsstream_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
)

func TestMain(m *testing.M) {
	natstest.Main()
	goleak.VerifyTestMain(m)
}

// client connects to url with the given changes to the defaults.
func client(t testing.TB, url string, configure ...func(*natsstream.Config)) *natsstream.Client {
	t.Helper()
	cfg := natsstream.Config{URL: secret.New(url), AckTimeout: 5 * time.Second, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range configure {
		f(&cfg)
	}
	c, err := natsstream.Connect(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// ensured is a client whose stream exists.
func ensured(t testing.TB, url string, configure ...func(*natsstream.Config)) *natsstream.Client {
	t.Helper()
	c := client(t, url, configure...)
	require.NoError(t, c.EnsureStream(t.Context()))
	return c
}

// ready is a writer that has read the tail.
func ready(t testing.TB, c *natsstream.Client) *natsstream.Writer {
	t.Helper()
	w := c.Writer()
	t.Cleanup(w.Close)
	_, err := w.Tail(t.Context())
	require.NoError(t, err)
	return w
}

// event is the n-th event of a test.
func event(n int) relay.Event {
	id := fmt.Sprintf("evt_%026d", n)
	data := fmt.Sprintf(`{"n":%d}`, n)
	body := fmt.Sprintf(`{"id":%q,"type":"thing.updated","data":%s}`, id, data)
	return relay.Event{
		ID: id, Type: "thing.updated",
		Position:   relay.Position{CommitLSN: relay.LSN(1000 + n/7), Ordinal: uint32(n % 7)},
		Owner:      relay.Owner{UserID: "u1"},
		Table:      "public.things",
		Key:        fmt.Sprint(n),
		Body:       []byte(body),
		Data:       []byte(data),
		OccurredAt: time.Date(2026, 11, 23, 10, 0, 0, 123456000, time.UTC),
	}
}

// events returns the events from (counting from 1) to to, both included.
func events(from, to int) []relay.Event {
	var list []relay.Event
	for n := from; n <= to; n++ {
		list = append(list, event(n))
	}
	return list
}

func announcement(n int, id string) relay.Event {
	return relay.Event{
		Type:     relay.ControlWebhooks,
		Position: event(n).Position,
		Table:    "public.zapier_webhooks",
		Body:     fmt.Appendf(nil, `{"id":%q,"op":"update"}`, id),
	}
}

// stored reads the whole stream with the ordinary client library.
func stored(t testing.TB, js jetstream.JetStream) []jetstream.Msg {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, "EVENTS")
	require.NoError(t, err)
	left := int(stream.CachedInfo().State.Msgs)
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy})
	require.NoError(t, err)
	var all []jetstream.Msg
	for left > 0 {
		batch, err := consumer.Fetch(min(left, 1000), jetstream.FetchContext(ctx))
		require.NoError(t, err)
		for msg := range batch.Messages() {
			all = append(all, msg)
			left--
		}
		require.NoError(t, batch.Error())
	}
	return all
}

// requireChain checks that the stream holds exactly the events 1 to n, in order
// and each naming the one before it.
func requireChain(t testing.TB, js jetstream.JetStream, n int) {
	t.Helper()
	all := stored(t, js)
	require.Len(t, all, n)
	for i, msg := range all {
		want := event(i + 1)
		require.Equal(t, want.ID, msg.Headers().Get("ce-id"))
		require.Equal(t, want.Position.String(), msg.Headers().Get("Relay-Pos"))
		prev := ""
		if i > 0 {
			prev = event(i).Position.String()
		}
		require.Equal(t, prev, msg.Headers().Get("Relay-Prev"), "event %d", i+1)
	}
}

// logged is a buffer for a logger of a test.
type logged struct{ bytes.Buffer }

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func requireSetupError(t testing.TB, err error, parts ...string) {
	t.Helper()
	var setup *relay.SetupError
	require.ErrorAs(t, err, &setup)
	for _, part := range parts {
		require.Contains(t, err.Error(), part)
	}
	require.NotEmpty(t, strings.TrimSpace(setup.Remedy))
}
