package natsstream_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
)

// cluster starts three servers that form one JetStream cluster.
func cluster(t testing.TB) []*natstest.Server {
	t.Helper()
	var routes []*url.URL
	ports := make([]int, 3)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		ports[i] = l.Addr().(*net.TCPAddr).Port
		require.NoError(t, l.Close())
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[i])})
	}
	var servers []*natstest.Server
	for i, port := range ports {
		servers = append(servers, natstest.New(t, func(o *server.Options) {
			o.ServerName = fmt.Sprintf("s%d", i)
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port}
			o.Routes = routes
		}))
	}
	return servers
}

func batchesOf(kind string) natsstream.Batches {
	if kind == "atomic" {
		return natsstream.BatchesAtomic
	}
	return natsstream.BatchesFast
}

// streamOf is the stream for one kind of batches, or for single messages.
func streamOf(kind string, replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: "EVENTS", Subjects: []string{"events.>", "relay.control.>"}, Discard: jetstream.DiscardNew, Replicas: replicas,
		Duplicates: 2 * time.Second, AllowAtomicPublish: kind == "atomic", AllowBatchPublish: strings.HasPrefix(kind, "fast"),
	}
}

// replicated makes the stream on three servers, to be written in batches of the kind,
// and connects to it.
func replicated(t testing.TB, servers []*natstest.Server, kind string) *natsstream.Client {
	t.Helper()
	var all []string
	for _, s := range servers {
		all = append(all, s.URL)
	}
	cfg := natsstream.Config{
		URL: secret.New(strings.Join(all, ",")), Replicas: 3, AckTimeout: 2 * time.Second,
		Batches: batchesOf(kind), MessageIDs: kind == "fast and ids", Logger: slog.New(slog.DiscardHandler),
	}
	var c *natsstream.Client
	require.Eventually(t, func() bool { // until the cluster has elected its leaders
		var err error
		if c == nil {
			c, err = natsstream.Connect(t.Context(), cfg)
		}
		if err == nil {
			_, err = servers[0].JetStream().CreateOrUpdateStream(t.Context(), streamOf(kind, 3))
		}
		return err == nil && c.EnsureStream(t.Context()) == nil
	}, 60*time.Second, 100*time.Millisecond)
	t.Cleanup(c.Close)
	return c
}

func TestAReplicatedStreamKeepsOneChainWhenItsLeaderGoes(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"fast", "atomic", "single"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			servers := cluster(t)
			c := replicated(t, servers, kind)
			const n = 20_000
			w := ready(t, c)
			done := make(chan error, 1)
			go func() { done <- goOn(t.Context(), w, n) }()
			require.Eventually(t, func() bool { return w.Seq() > n/4 }, 60*time.Second, time.Millisecond)
			stream, err := servers[0].JetStream().Stream(t.Context(), "EVENTS")
			require.NoError(t, err)
			leader := stream.CachedInfo().Cluster.Leader
			servers[int(leader[len(leader)-1]-'0')].Stop()
			require.NoError(t, <-done)

			f := feed(t, c)
			for at := 1; at <= n; {
				batch := take(t, f, 500)
				for _, m := range batch {
					require.Equal(t, event(at).ID, m.Event.ID)
					at++
				}
				ackAll(t, f, batch)
			}
			if kind == "single" {
				return // a replicated stream cannot be asked for the id of the message before
			}
			// The 11th of the late messages expects the very sequence at which the stream
			// ends.
			late := ready(t, c)
			require.NoError(t, ready(t, c).Append(t.Context(), events(n+1001, n+1010)))
			require.ErrorIs(t, late.Append(t.Context(), events(n+1, n+2000)), relay.ErrFenced)
			tail, err := w.Tail(t.Context())
			require.NoError(t, err)
			require.Equal(t, event(n+1010).Position, tail.Position)
			require.EqualValues(t, n+10, tail.Seq)
		})
	}
}
