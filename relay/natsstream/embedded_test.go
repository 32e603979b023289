package natsstream_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay/natsstream"
)

func embedded(t testing.TB, dir, listen string) *natsstream.Embedded {
	t.Helper()
	e, err := natsstream.StartEmbedded(t.Context(), natsstream.EmbeddedConfig{
		Dir: dir, Listen: listen, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(e.Shutdown)
	return e
}

func TestTheEmbeddedServerKeepsItsStoreOverARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for round := range 3 {
		e := embedded(t, dir, "-")
		require.Nil(t, e.Addr())
		c := ensured(t, "", func(c *natsstream.Config) { c.Embedded = e })
		w := c.Writer()
		tail, err := w.Tail(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, round*10, tail.Seq)
		require.NoError(t, w.Append(t.Context(), events(round*10+1, round*10+10)))
		w.Close()
		c.Close()
		e.Shutdown()
		e.Shutdown()
	}
}

func TestTheEmbeddedServerListensForOthersWhenTold(t *testing.T) {
	e := embedded(t, t.TempDir(), "127.0.0.1:0")
	own := ensured(t, "", func(c *natsstream.Config) { c.Embedded = e })
	require.NoError(t, ready(t, own).Append(t.Context(), events(1, 3)))

	nc, err := nats.Connect("nats://" + e.Addr().String())
	require.NoError(t, err)
	defer nc.Close()
	require.EqualValues(t, 8<<20, nc.MaxPayload())
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	requireChain(t, js, 3)
}

func TestGuestsOfTheEmbeddedServerCannotPublishEvents(t *testing.T) {
	e := embedded(t, t.TempDir(), "127.0.0.1:0")
	own := ensured(t, "", func(c *natsstream.Config) { c.Embedded = e })
	refused := make(chan error, 4)
	nc, err := nats.Connect("nats://"+e.Addr().String(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	require.NoError(t, err)
	defer nc.Close()
	for _, subject := range []string{"events.thing.created", "relay.control.webhooks"} {
		require.NoError(t, nc.Publish(subject, []byte("{}")))
		select {
		case err := <-refused:
			require.ErrorIs(t, err, nats.ErrPermissionViolation)
		case <-time.After(5 * time.Second):
			t.Fatal("the server took " + subject)
		}
	}
	tail, err := own.Writer().Tail(t.Context())
	require.NoError(t, err)
	require.True(t, tail.Empty)
}

func TestATakenPortIsNamedWithTheSettingThatMovesIt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	_, err = natsstream.StartEmbedded(t.Context(), natsstream.EmbeddedConfig{Dir: t.TempDir(), Listen: l.Addr().String()})
	requireSetupError(t, err, l.Addr().String(), "RELAY_NATS_LISTEN", "in use")
	_, err = natsstream.StartEmbedded(t.Context(), natsstream.EmbeddedConfig{Dir: t.TempDir(), Listen: "nonsense"})
	requireSetupError(t, err, "nonsense", "RELAY_NATS_LISTEN")
}

func TestTwoEmbeddedServersNeverShareADirectory(t *testing.T) {
	dir := t.TempDir()
	first := embedded(t, dir, "-")
	_, err := natsstream.StartEmbedded(t.Context(), natsstream.EmbeddedConfig{Dir: dir, Listen: "-"})
	requireSetupError(t, err, dir, "another relay", "RELAY_NATS_DIR")
	first.Shutdown()
	embedded(t, dir, "-")
}

func TestADirectoryThatCannotBeUsedIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := natsstream.StartEmbedded(t.Context(), natsstream.EmbeddedConfig{Dir: filepath.Join(file, "store"), Listen: "-"})
	requireSetupError(t, err, file, "RELAY_NATS_DIR")
	_, err = natsstream.StartEmbedded(t.Context(), natsstream.EmbeddedConfig{Listen: "-"})
	requireSetupError(t, err, "RELAY_NATS_DIR")
}

func TestACancelledStartLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := natsstream.StartEmbedded(ctx, natsstream.EmbeddedConfig{Dir: dir, Listen: "-", Logger: slog.New(slog.DiscardHandler)})
	require.ErrorIs(t, err, context.Canceled)
	embedded(t, dir, "-") // the lock is free
}

func TestConnectNamesTheServerAndNeverThePassword(t *testing.T) {
	connect := func(url string) error {
		_, err := natsstream.Connect(t.Context(), natsstream.Config{URL: secret.New(url), Logger: slog.New(slog.DiscardHandler)})
		require.Error(t, err)
		require.NotContains(t, err.Error(), "canary")
		return err
	}
	require.ErrorContains(t, connect("nats://u:canary@127.0.0.1:1"), "127.0.0.1:1")
	requireSetupError(t, connect("nats://u:canary@127.0.0.1:nope"), "RELAY_NATS_URL")
	requireSetupError(t, connect("nats://127.0.0.1:4222,nats://u:canary@ho st"), "number 2")
}

func TestConnectTellsWhatTheServerLacks(t *testing.T) {
	var log logged
	plain := natstest.New(t, func(o *server.Options) { o.JetStream = false })
	_, err := natsstream.Connect(t.Context(), natsstream.Config{URL: secret.New(plain.URL), Logger: log.logger()})
	requireSetupError(t, err, "JetStream")

	guarded := natstest.New(t, func(o *server.Options) { o.Username, o.Password = "u", "right" })
	for _, url := range []string{guarded.URL, "nats://u:canary@" + guarded.URL[len("nats://"):]} {
		_, err = natsstream.Connect(t.Context(), natsstream.Config{URL: secret.New(url), Logger: log.logger()})
		requireSetupError(t, err, "RELAY_NATS_URL", guarded.URL[len("nats://"):])
		require.NotContains(t, err.Error()+log.String(), "canary")
	}
	require.True(t, client(t, "nats://u:right@"+guarded.URL[len("nats://"):]).Connected())
}

func TestOnStateFollowsTheConnection(t *testing.T) {
	srv := natstest.New(t)
	states := make(chan bool, 10)
	c := client(t, srv.URL, func(c *natsstream.Config) { c.OnState = func(up bool, _ error) { states <- up } })
	require.True(t, <-states)
	srv.Stop()
	require.False(t, <-states)
	require.False(t, c.Connected())
	srv.Start()
	select {
	case up := <-states:
		require.True(t, up)
	case <-time.After(2 * time.Second):
		require.Fail(t, "not back within two seconds")
	}
}
