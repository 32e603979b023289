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
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/internal/secret"
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

func TestAReplicatedStreamKeepsOneChainWhenItsLeaderGoes(t *testing.T) {
	servers := cluster(t)
	var all []string
	for _, s := range servers {
		all = append(all, s.URL)
	}
	cfg := natsstream.Config{
		URL: secret.New(strings.Join(all, ",")), Replicas: 3,
		AckTimeout: time.Second, Logger: slog.New(slog.DiscardHandler),
	}
	var c *natsstream.Client
	require.Eventually(t, func() bool { // until the cluster has elected its leaders
		var err error
		if c == nil {
			c, err = natsstream.Connect(t.Context(), cfg)
		}
		return err == nil && c.EnsureStream(t.Context()) == nil
	}, 60*time.Second, 100*time.Millisecond)
	t.Cleanup(c.Close)

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
}
