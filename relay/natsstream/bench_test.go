package natsstream_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
)

// The benchmarks compare ways to publish the same events of about 450 bytes to the
// same kind of server, embedded and in-process: only their ratios mean anything.

func benchClient(b *testing.B) *natsstream.Client {
	b.Helper()
	e := embedded(b, b.TempDir(), "-")
	return ensured(b, "", func(c *natsstream.Config) { c.Embedded = e })
}

func benchEvents(n int) []relay.Event {
	list := events(1, n)
	filler := strings.Repeat("x", 350)
	for i := range list {
		list[i].Body = fmt.Appendf(nil, `{"id":%q,"data":{"n":%d,"text":%q}}`, list[i].ID, i, filler)
	}
	return list
}

// next gives the events ids and positions that the stream has not seen.
func next(list []relay.Event, round int) {
	for i := range list {
		list[i].ID = fmt.Sprintf("evt_%026d", round*len(list)+i)
		list[i].Position.CommitLSN = relay.LSN(round*len(list) + i)
	}
}

func perEvent(b *testing.B, events int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events), "ns/event")
	b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			w := ready(b, benchClient(b))
			list, round := benchEvents(size), 0
			b.ReportAllocs()
			for b.Loop() {
				round++
				next(list, round)
				require.NoError(b, w.Append(b.Context(), list))
			}
			perEvent(b, size)
		})
	}
}

// BenchmarkWays compares the ways in which messages travel, to a server in a process of
// its own, and to three that replicate.
func BenchmarkWays(b *testing.B) {
	for _, replicas := range []int{1, 3} {
		for _, kind := range []string{"single", "fast", "fast and ids", "atomic"} {
			b.Run(fmt.Sprintf("%s/replicas=%d", kind, replicas), func(b *testing.B) {
				var c *natsstream.Client
				if replicas == 1 {
					c = alone(b, natstest.NewProcess(b), kind)
				} else {
					c = replicated(b, cluster(b), kind)
				}
				const size = 10_000
				w := ready(b, c)
				list, round := benchEvents(size), 0
				for b.Loop() {
					round++
					next(list, round)
					require.NoError(b, w.Append(b.Context(), list))
				}
				perEvent(b, size)
			})
		}
	}
}

// alone makes the stream on one server, to be written in batches of the kind.
func alone(b *testing.B, p *natstest.Process, kind string) *natsstream.Client {
	b.Helper()
	_, err := p.JetStream().CreateStream(b.Context(), streamOf(kind, 1))
	require.NoError(b, err)
	return ensured(b, p.URL, func(c *natsstream.Config) { c.Batches, c.MessageIDs = batchesOf(kind), kind == "fast and ids" })
}

// BenchmarkLibrary publishes with the client library, with and without the id.
func BenchmarkLibrary(b *testing.B) {
	const size = 10_000
	e := embedded(b, b.TempDir(), "127.0.0.1:0")
	ensured(b, "", func(c *natsstream.Config) { c.Embedded = e })
	nc, err := nats.Connect("nats://" + e.Addr().String())
	require.NoError(b, err)
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	require.NoError(b, err)
	list, round := benchEvents(size), 0
	b.Run("async", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			round++
			next(list, round)
			for i := range list {
				_, err := js.PublishMsgAsync(&nats.Msg{Subject: "events.x", Data: list[i].Body, Header: nats.Header{"Nats-Msg-Id": {list[i].ID}}})
				require.NoError(b, err)
			}
			<-js.PublishAsyncComplete()
		}
		perEvent(b, size)
	})
	b.Run("sync", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			round++
			next(list[:100], round*1000)
			for i := range list[:100] {
				_, err := js.Publish(b.Context(), "events.x", list[i].Body, jetstream.WithMsgID(list[i].ID))
				require.NoError(b, err)
			}
		}
		perEvent(b, 100)
	})
}

func BenchmarkFeed(b *testing.B) {
	const size = 10_000
	c := benchClient(b)
	w, f := ready(b, c), feed(b, c, ackWait(time.Minute))
	list, round := benchEvents(size), 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		round++
		next(list, round)
		require.NoError(b, w.Append(b.Context(), list))
		b.StartTimer()
		for n := 0; n < size; {
			batch, err := f.Next(b.Context(), 500)
			require.NoError(b, err)
			for _, m := range batch {
				require.NoError(b, m.Err)
				require.NoError(b, f.Ack(b.Context(), m))
			}
			n += len(batch)
		}
	}
	perEvent(b, size)
}
