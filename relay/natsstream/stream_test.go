package natsstream_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/relay/natsstream"
)

func TestEnsureStreamMakesAStreamThatForgetsNothingButByAge(t *testing.T) {
	srv := natstest.New(t)
	c := client(t, srv.URL)
	require.ErrorIs(t, c.CheckStream(t.Context()), jetstream.ErrStreamNotFound)
	require.NoError(t, c.EnsureStream(t.Context()))
	require.NoError(t, c.EnsureStream(t.Context()))
	require.NoError(t, c.CheckStream(t.Context()))

	stream, err := srv.JetStream().Stream(t.Context(), "EVENTS")
	require.NoError(t, err)
	got := stream.CachedInfo().Config
	require.Equal(t, []string{"events.>", "relay.control.>"}, got.Subjects)
	require.Equal(t, jetstream.LimitsPolicy, got.Retention)
	require.Equal(t, jetstream.FileStorage, got.Storage)
	require.Equal(t, jetstream.DiscardNew, got.Discard)
	require.Equal(t, 7*24*time.Hour, got.MaxAge)
	require.EqualValues(t, -1, got.MaxBytes)
	require.EqualValues(t, -1, got.MaxMsgs)
	require.Equal(t, 2*time.Second, got.Duplicates)
	require.True(t, got.DenyDelete)
	require.True(t, got.DenyPurge)
	require.False(t, got.AllowDirect)
	require.Equal(t, 1, got.Replicas)
}

func TestEnsureStreamRefusesAStreamThatBreaksThePromiseAndLeavesItAlone(t *testing.T) {
	subjects := []string{"events.>", "relay.control.>"}
	for name, tc := range map[string]struct {
		config jetstream.StreamConfig
		says   string
	}{
		"subjects":  {jetstream.StreamConfig{Subjects: []string{"events.*", "relay.control.>"}}, "does not take events.>"},
		"control":   {jetstream.StreamConfig{Subjects: []string{"events.>"}}, "does not take relay.control.>"},
		"memory":    {jetstream.StreamConfig{Subjects: subjects, Storage: jetstream.MemoryStorage}, "memory"},
		"no ack":    {jetstream.StreamConfig{Subjects: subjects, NoAck: true}, "no_ack"},
		"workqueue": {jetstream.StreamConfig{Subjects: subjects, Retention: jetstream.WorkQueuePolicy}, "retention"},
		"ring":      {jetstream.StreamConfig{Subjects: subjects, MaxBytes: 1 << 20}, "discard old"},
		"per type":  {jetstream.StreamConfig{Subjects: subjects, MaxMsgsPerSubject: 5}, "max_msgs_per_subject"},
		"small":     {jetstream.StreamConfig{Subjects: subjects, MaxMsgSize: 1000}, "max_msg_size"},
		"async":     {jetstream.StreamConfig{Subjects: subjects, PersistMode: jetstream.AsyncPersistMode}, "async"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := natstest.New(t)
			tc.config.Name = "EVENTS"
			made, err := srv.JetStream().CreateStream(t.Context(), tc.config)
			require.NoError(t, err)
			err = client(t, srv.URL).EnsureStream(t.Context())
			requireSetupError(t, err, "EVENTS", tc.says)
			now, err := srv.JetStream().Stream(t.Context(), "EVENTS")
			require.NoError(t, err)
			require.Equal(t, made.CachedInfo().Config, now.CachedInfo().Config)
		})
	}
}

func TestEnsureStreamAcceptsAStreamThatSomebodyElseMade(t *testing.T) {
	srv := natstest.New(t)
	_, err := srv.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "MINE", Subjects: []string{">"}, NoAck: false, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, MaxBytes: 1 << 30,
		DenyPurge: true, AllowDirect: true,
	})
	if err != nil { // a server may refuse a stream over everything
		_, err = srv.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{
			Name: "MINE", Subjects: []string{"events.>", "relay.>"}, Discard: jetstream.DiscardNew, MaxBytes: 1 << 30, AllowDirect: true,
		})
		require.NoError(t, err)
	}
	mine := ensured(t, srv.URL, func(c *natsstream.Config) { c.Stream = "MINE" })
	require.NoError(t, ready(t, mine).Append(t.Context(), events(1, 3)))

	err = client(t, srv.URL).EnsureStream(t.Context())
	requireSetupError(t, err, "EVENTS", "another stream has", "RELAY_STREAM")
}
