package natsstream_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay/natsstream"
)

// monitored starts a server that tells how it syncs, and returns where.
func monitored(t *testing.T, sync string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	natstest.NewProcess(t, fmt.Sprintf("http: %q\n", address), sync)
	return "http://" + address
}

func TestServersTellHowTheySyncToDisk(t *testing.T) {
	plain := monitored(t, "")
	always := monitored(t, "jetstream { sync_interval: always }")
	for urls, want := range map[string]natsstream.Durability{
		plain:                   {Interval: 2 * time.Minute, Servers: 1},
		always:                  {Always: true, Interval: 2 * time.Minute, Servers: 1},
		always + "/, " + always: {Always: true, Interval: 2 * time.Minute, Servers: 2},
		always + "," + plain:    {Interval: 2 * time.Minute, Servers: 2},
	} {
		got, err := natsstream.AskDurability(t.Context(), secret.New(urls))
		require.NoError(t, err)
		require.Equal(t, want, got, urls)
	}
}

func TestAServerThatDoesNotTellIsNamedWithoutItsPassword(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	defer page.Close()
	for url, want := range map[string]string{
		"http://u:canary@127.0.0.1:1":                                "NATS at 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused",
		strings.Replace(other.URL, "http://", "http://u:canary@", 1): "status 404",
		strings.Replace(page.URL, "http://", "http://u:canary@", 1):  "does not answer like the monitoring",
	} {
		_, err := natsstream.AskDurability(t.Context(), secret.New(url))
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "canary")
	}
}
