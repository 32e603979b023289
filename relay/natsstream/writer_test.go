package natsstream_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
)

// everyWay runs a test over streams that are written in batches of either kind, and
// message by message.
func everyWay(t *testing.T, test func(t *testing.T, srv *natstest.Server, c *natsstream.Client)) {
	t.Helper()
	for name, way := range map[string]struct {
		batches           natsstream.Batches
		fast, atomic, ids bool
	}{
		"fast batches":         {fast: true, atomic: true},
		"fast batches and ids": {fast: true, ids: true},
		"atomic batches":       {batches: natsstream.BatchesAtomic, fast: true, atomic: true},
		"no batches":           {batches: natsstream.BatchesOff, fast: true, atomic: true},
		"message by message":   {batches: natsstream.BatchesAtomic},
	} {
		t.Run(name, func(t *testing.T) {
			srv := natstest.New(t)
			_, err := srv.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{
				Name: "EVENTS", Subjects: []string{"events.>", "relay.control.>"}, Discard: jetstream.DiscardNew, Duplicates: 2 * time.Second,
				AllowAtomicPublish: way.atomic, AllowBatchPublish: way.fast,
			})
			require.NoError(t, err)
			test(t, srv, ensured(t, srv.URL, func(c *natsstream.Config) { c.Batches, c.MessageIDs = way.batches, way.ids }))
		})
	}
}

func TestAppendStoresEventsInOrderEachBehindTheOneBefore(t *testing.T) {
	everyWay(t, func(t *testing.T, srv *natstest.Server, c *natsstream.Client) {
		w := ready(t, c)
		require.NoError(t, w.Append(t.Context(), events(1, 3)))
		require.NoError(t, w.Append(t.Context(), nil))
		require.NoError(t, w.Append(t.Context(), events(4, 10)))
		require.EqualValues(t, 10, w.Seq())
		requireChain(t, srv.JetStream(), 10)
	})
}

func TestAMessageCarriesTheContractsHeadersAndTheExactBody(t *testing.T) {
	srv := natstest.New(t)
	w := ready(t, ensured(t, srv.URL, func(c *natsstream.Config) { c.Source = "orders" }))
	ev := event(1)
	ev.Owner = relay.Owner{UserID: "u 1&x", TenantID: "t\r\nEvil: 1"}
	ev.Key = "ns/ä\r\nX: y\x00"
	ev.Visibility = relay.VisibleToEveryone
	ev.CommittedAt, ev.Lineage = ev.OccurredAt.Add(time.Second), "0123abcd"
	require.NoError(t, w.Append(t.Context(), []relay.Event{ev, event(2)}))

	all := stored(t, srv.JetStream())
	require.Equal(t, "events.thing.updated", all[0].Subject())
	require.Equal(t, ev.Body, all[0].Data())
	got := map[string]string{}
	for name, values := range all[0].Headers() {
		require.Len(t, values, 1, name)
		got[name] = values[0]
	}
	require.Equal(t, map[string]string{
		"Nats-Expected-Last-Sequence": "0",
		"ce-specversion":              "1.0", "ce-id": ev.ID, "ce-type": "thing.updated",
		"ce-source": "/relay/orders/public.things", "ce-subject": "ns/%C3%A4%0D%0AX:%20y%00",
		"ce-time": "2026-11-23T10:00:00.123456Z", "content-type": "application/json",
		"Relay-Pos": "0/3E8:1:0", "Relay-Prev": "", "Relay-Control": "0",
		"Relay-Owner":     "audience=everyone&user=u+1%26x&tenant=t%0D%0AEvil%3A+1",
		"Relay-Committed": "2026-11-23T10:00:01.123456Z", "Relay-Lineage": "0123abcd",
	}, got)
	require.Equal(t, "audience=owner&user=u1", all[1].Headers().Get("Relay-Owner"))
}

func TestAppendPipelinesTwentyThousandEvents(t *testing.T) {
	everyWay(t, func(t *testing.T, srv *natstest.Server, c *natsstream.Client) {
		w := ready(t, c)
		const n = 20_000
		require.NoError(t, w.Append(t.Context(), events(1, n)))
		require.EqualValues(t, n, w.Seq())
		requireChain(t, srv.JetStream(), n)
	})
}

func TestAppendKeepsLargeEventsWithinTheByteWindow(t *testing.T) {
	srv := natstest.New(t, func(o *server.Options) { o.MaxPayload = 8 << 20 })
	w := ready(t, ensured(t, srv.URL))
	list := events(1, 24) // 24 × 7 MiB are five times the window
	large := []byte(`{"data":"` + strings.Repeat("x", 7<<20) + `"}`)
	for i := range list {
		list[i].Body = large
	}
	require.NoError(t, w.Append(t.Context(), list))
	require.EqualValues(t, 24, w.Seq())
}

func TestAppendRefusesABodyOverMaxBody(t *testing.T) {
	srv := natstest.New(t)
	w := ready(t, ensured(t, srv.URL))
	ev := event(1)
	ev.Body = make([]byte, w.MaxBody()+1)
	require.ErrorContains(t, w.Append(t.Context(), []relay.Event{ev}), "max_payload")

	_, err := w.Tail(t.Context())
	require.NoError(t, err)
	ev.Body = make([]byte, w.MaxBody())
	long := strings.Repeat("ü", 4096)
	ev.Key, ev.Table, ev.Owner = long, long, relay.Owner{UserID: long[:1024], TenantID: long[:1024]}
	require.NoError(t, w.Append(t.Context(), []relay.Event{ev}), "the headers always fit into the room left for them")
}

func TestAppendRefusesATypeThatIsNoSubject(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	for _, bad := range []string{"", ".", "a.", ".a", "a..b", "a b", "a.>", "a.*", "a\r\nPUB x 0", strings.Repeat("a", 300)} {
		w := ready(t, c)
		ev := event(1)
		ev.Type = bad
		require.ErrorContains(t, w.Append(t.Context(), []relay.Event{ev}), "event type", "%q", bad)
	}
	require.Empty(t, stored(t, srv.JetStream()))
}

func TestEveryEventNamesTheLastAnnouncementBeforeIt(t *testing.T) {
	everyWay(t, func(t *testing.T, srv *natstest.Server, c *natsstream.Client) {
		w := ready(t, c)
		require.NoError(t, w.Append(t.Context(), []relay.Event{event(1), announcement(2, "a"), event(3), event(4)}))
		require.NoError(t, w.Append(t.Context(), []relay.Event{announcement(5, "b")}))
		w = ready(t, c) // the last message is the announcement itself
		require.NoError(t, w.Append(t.Context(), []relay.Event{event(6)}))
		w = ready(t, c) // the last message names it
		require.NoError(t, w.Append(t.Context(), []relay.Event{event(7)}))

		var controls []string
		all := stored(t, srv.JetStream())
		for _, msg := range all {
			controls = append(controls, msg.Headers().Get("Relay-Control"))
		}
		require.Equal(t, []string{"0", "0", "2", "2", "2", "5", "5"}, controls)
		require.Equal(t, "relay.control.webhooks", all[1].Subject())
		require.Equal(t, "ctl_"+event(2).Position.String(), all[1].Headers().Get("ce-id"))
		require.Equal(t, event(2).Position.String(), all[1].Headers().Get("Relay-Pos"))
		require.Equal(t, event(2).Position.String(), all[2].Headers().Get("Relay-Prev"))
	})
}

func TestASecondWriterFencesTheFirst(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	first := ready(t, c)
	require.NoError(t, first.Append(t.Context(), events(1, 5)))
	second := ready(t, client(t, srv.URL))
	require.NoError(t, second.Append(t.Context(), events(6, 8)))

	err := first.Append(t.Context(), events(6, 8))
	require.ErrorIs(t, err, relay.ErrFenced)
	require.ErrorContains(t, err, "ends at sequence 8, not at 5")
	require.NoError(t, second.Append(t.Context(), events(9, 10)))
	require.EqualValues(t, 10, second.Seq())
	requireChain(t, srv.JetStream(), 10)
}

func TestALateWritersMessagesNeverSlipInBehindAnotherWriters(t *testing.T) {
	everyWay(t, func(t *testing.T, srv *natstest.Server, c *natsstream.Client) {
		late := ready(t, c)
		require.NoError(t, late.Append(t.Context(), events(1, 5)))
		require.NoError(t, ready(t, c).Append(t.Context(), events(1006, 1015)))

		// The 11th of these expects the very sequence at which the stream ends.
		require.ErrorIs(t, late.Append(t.Context(), events(6, 2000)), relay.ErrFenced)
		all := stored(t, srv.JetStream())
		require.Len(t, all, 15)
		require.Equal(t, event(1015).ID, all[14].Headers().Get("ce-id"))
	})
}

func TestTwoWritersOfTheSameEventsKeepOneChain(t *testing.T) {
	everyWay(t, func(t *testing.T, srv *natstest.Server, c *natsstream.Client) {
		// Both replay the same slot; whichever message wins is the right one for its place.
		const n = 3000
		writers := []*natsstream.Writer{ready(t, c), ready(t, client(t, srv.URL))}
		g, ctx := errgroup.WithContext(t.Context())
		for _, w := range writers {
			g.Go(func() error {
				for w.Seq() < n {
					err := w.Append(ctx, events(int(w.Seq())+1, min(n, int(w.Seq())+500)))
					if err == nil {
						continue
					}
					if !errors.Is(err, relay.ErrFenced) && !strings.Contains(err.Error(), "tail must be read") {
						return err
					}
					if _, err := w.Tail(ctx); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
		requireChain(t, srv.JetStream(), n)
	})
}

func TestAfterAnErrorAppendWaitsForTheTailToBeRead(t *testing.T) {
	everyWay(t, func(t *testing.T, srv *natstest.Server, c *natsstream.Client) {
		w := c.Writer()
		require.ErrorContains(t, w.Append(t.Context(), events(1, 1)), "tail must be read")
		_, err := w.Tail(t.Context())
		require.NoError(t, err)
		require.NoError(t, ready(t, c).Append(t.Context(), events(1, 1)))
		require.ErrorIs(t, w.Append(t.Context(), events(1, 1)), relay.ErrFenced)
		require.ErrorContains(t, w.Append(t.Context(), events(2, 2)), "tail must be read")

		tail, err := w.Tail(t.Context())
		require.NoError(t, err)
		require.Equal(t, event(1).Position, tail.Position)
		require.NoError(t, w.Append(t.Context(), events(2, 3)))
		requireChain(t, srv.JetStream(), 3)
	})
}

func TestADuplicateAcknowledgementCountsAsFenced(t *testing.T) {
	everyWay(t, func(t *testing.T, srv *natstest.Server, c *natsstream.Client) {
		w := ready(t, c)
		require.NoError(t, w.Append(t.Context(), events(1, 2)))
		// The same id at the right place: a server that knows it stores nothing.
		err := w.Append(t.Context(), []relay.Event{event(1)})
		if known := stored(t, srv.JetStream())[0].Headers().Get("Nats-Msg-Id"); known == "" {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, relay.ErrFenced)
		require.Len(t, stored(t, srv.JetStream()), 2)
	})
}

func TestTheAnswerToABatchThatIsKnownToBeStoredConcernsNoLaterOne(t *testing.T) {
	everyWay(t, func(t *testing.T, srv *natstest.Server, c *natsstream.Client) {
		w := ready(t, c)
		const each = 25 // the server answers them as a part of a batch, and then as a batch
		for n := range 200 {
			require.NoError(t, w.Append(t.Context(), events(n*each+1, (n+1)*each)))
		}
		requireChain(t, srv.JetStream(), 200*each)
	})
}

func TestASentBatchIsStoredWithoutBeingWaitedFor(t *testing.T) {
	everyWay(t, func(t *testing.T, srv *natstest.Server, c *natsstream.Client) {
		w := ready(t, c)
		const n, each = 12_000, 300
		for from := 1; from <= n; from += each {
			last, err := w.Send(t.Context(), events(from, from+each-1), from%2 == 0)
			require.NoError(t, err)
			require.EqualValues(t, from+each-1, last)
			require.GreaterOrEqual(t, last, w.Seq())
		}
		require.NoError(t, w.Append(t.Context(), nil))
		require.EqualValues(t, n, w.Seq())
		requireChain(t, srv.JetStream(), n)
	})
}

// atomicBatches are the sizes of the batches that the stream's messages came in.
func atomicBatches(t *testing.T, js jetstream.JetStream) []int {
	t.Helper()
	var batches []int
	last := ""
	for _, msg := range stored(t, js) {
		if id := msg.Headers().Get("Nats-Batch-Id"); id == "" || id != last {
			batches, last = append(batches, 0), id
		}
		batches[len(batches)-1]++
	}
	return batches
}

func TestATransactionIsStoredAsAWholeWhereTheServerSyncsEveryWrite(t *testing.T) {
	srv := natstest.New(t)
	w := ready(t, ensured(t, srv.URL, func(c *natsstream.Config) { c.Batches = natsstream.BatchesAtomic }))
	var list []relay.Event
	for tx, rows := range []int{1, 400, 400, 250, 1, 1, 2500, 3} {
		for row := range rows {
			ev := event(len(list) + 1)
			ev.Position = relay.Position{CommitLSN: relay.LSN(1000 + tx), Ordinal: uint32(row)}
			list = append(list, ev)
		}
	}
	for part := range slices.Chunk(list, 256) {
		_, err := w.Send(t.Context(), part, true)
		require.NoError(t, err)
	}
	require.NoError(t, w.Append(t.Context(), nil))
	require.Equal(t, []int{801, 1000, 1000, 752, 3}, atomicBatches(t, srv.JetStream()),
		"transactions of up to 250 events as a whole, large ones in parts")
}

func TestWhatIsGatheredWhileABatchIsBeingStoredIsStoredTogether(t *testing.T) {
	srv := natstest.New(t)
	w := ready(t, ensured(t, srv.URL, func(c *natsstream.Config) { c.Batches = natsstream.BatchesAtomic }))
	_, err := w.Send(t.Context(), events(1, 1), false)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return w.Seq() == 1 }, 10*time.Second, time.Millisecond, "one alone does not wait for others")
	_, err = w.Send(t.Context(), events(2, 3), true)
	require.NoError(t, err)
	_, err = w.Send(t.Context(), events(4, 5), false)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return w.Seq() == 5 }, 10*time.Second, time.Millisecond)
	require.Equal(t, []int{1, 4}, atomicBatches(t, srv.JetStream()))
	requireChain(t, srv.JetStream(), 5)
}

func TestAFullStreamRefusesAndGoesOnWhenThereIsRoom(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL, func(c *natsstream.Config) { c.MaxBytes = 20_000 })
	w := ready(t, c)
	err := w.Append(t.Context(), events(1, 500))
	require.ErrorContains(t, err, "maximum bytes exceeded")
	require.NotErrorIs(t, err, relay.ErrFenced)

	tail, err := w.Tail(t.Context())
	require.NoError(t, err)
	require.Greater(t, tail.Seq, uint64(10))
	stream, err := srv.JetStream().Stream(t.Context(), "EVENTS")
	require.NoError(t, err)
	cfg := stream.CachedInfo().Config
	cfg.MaxBytes = -1
	_, err = srv.JetStream().UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, w.Append(t.Context(), events(int(tail.Seq)+1, 500)))
	requireChain(t, srv.JetStream(), 500)
}

func TestACancelledAppendLeavesAChainThatTheTailContinues(t *testing.T) {
	everyWay(t, func(t *testing.T, srv *natstest.Server, c *natsstream.Client) {
		w := ready(t, c)
		ctx, cancel := context.WithCancel(t.Context())
		list := events(1, 50_000)
		done := make(chan error, 1)
		go func() { done <- w.Append(ctx, list) }()
		require.Eventually(t, func() bool { return w.Seq() >= 100 }, 10*time.Second, time.Millisecond)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		tail, err := w.Tail(t.Context())
		require.NoError(t, err)
		require.Equal(t, event(int(tail.Seq)).Position, tail.Position)
		// What was on its way when Append gave up is stored or not, but never later.
		require.NoError(t, w.Append(t.Context(), events(int(tail.Seq)+1, int(tail.Seq)+10)))
		requireChain(t, srv.JetStream(), int(tail.Seq)+10)
	})
}

func TestTailOfAnEmptyStream(t *testing.T) {
	srv := natstest.New(t)
	w := ensured(t, srv.URL).Writer()
	tail, err := w.Tail(t.Context())
	require.NoError(t, err)
	require.True(t, tail.Empty)
	require.Zero(t, tail.Seq)
	require.True(t, tail.Position.IsZero())
	require.WithinDuration(t, time.Now(), tail.CreatedAt, time.Minute)
}

// open makes the stream without the flags that deny deletes.
func open(t testing.TB, srv *natstest.Server) jetstream.Stream {
	t.Helper()
	stream, err := srv.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "EVENTS", Subjects: []string{"events.>", "relay.control.>"}, Discard: jetstream.DiscardNew,
	})
	require.NoError(t, err)
	return stream
}

func TestTailOfAPurgedStreamKeepsTheSequence(t *testing.T) {
	srv := natstest.New(t)
	stream := open(t, srv)
	w := ready(t, ensured(t, srv.URL))
	require.NoError(t, w.Append(t.Context(), events(1, 4)))
	require.NoError(t, stream.Purge(t.Context()))
	tail, err := w.Tail(t.Context())
	require.NoError(t, err)
	require.True(t, tail.Empty)
	require.EqualValues(t, 4, tail.Seq)
	require.NoError(t, w.Append(t.Context(), events(5, 5)))
	require.EqualValues(t, 5, w.Seq())
}

func TestTailLooksBehindADeletedLastMessage(t *testing.T) {
	srv := natstest.New(t)
	stream := open(t, srv)
	w := ready(t, ensured(t, srv.URL))
	require.NoError(t, w.Append(t.Context(), []relay.Event{event(1), announcement(2, "a"), event(3), event(4)}))
	require.NoError(t, stream.DeleteMsg(t.Context(), 4))
	require.NoError(t, stream.DeleteMsg(t.Context(), 3))
	tail, err := w.Tail(t.Context())
	require.NoError(t, err)
	require.Equal(t, event(2).Position, tail.Position)
	require.EqualValues(t, 4, tail.Seq)
	require.NoError(t, w.Append(t.Context(), events(5, 5)))
	last := stored(t, srv.JetStream())[2]
	require.Equal(t, "2", last.Headers().Get("Relay-Control"))
}

func TestTailStepsBackOverForeignMessagesAndTheChainGoesOn(t *testing.T) {
	everyWay(t, func(t *testing.T, srv *natstest.Server, c *natsstream.Client) {
		w := ready(t, c)
		require.NoError(t, w.Append(t.Context(), events(1, 2)))
		_, err := srv.JetStream().Publish(t.Context(), "events.thing.updated", []byte("hello"))
		require.NoError(t, err)
		require.ErrorIs(t, w.Append(t.Context(), events(3, 3)), relay.ErrFenced)
		tail, err := w.Tail(t.Context())
		require.NoError(t, err)
		require.Equal(t, event(2).Position, tail.Position)
		require.EqualValues(t, 2, tail.PositionSeq)
		require.EqualValues(t, 3, tail.Seq)
		require.NoError(t, w.Append(t.Context(), events(3, 3)))
		last := stored(t, srv.JetStream())[3]
		require.Equal(t, event(2).Position.String(), last.Headers().Get("Relay-Prev"))
	})
}

func TestTailOfAStreamThatIsAllForeignHasNoPosition(t *testing.T) {
	srv := natstest.New(t)
	w := ensured(t, srv.URL).Writer()
	_, err := srv.JetStream().Publish(t.Context(), "events.thing.updated", []byte("hello"))
	require.NoError(t, err)
	tail, err := w.Tail(t.Context())
	require.NoError(t, err)
	require.True(t, tail.Position.IsZero())
	require.Zero(t, tail.PositionSeq)
	require.False(t, tail.Empty)
	require.NoError(t, w.Append(t.Context(), events(1, 1)))
}

func TestTailHaltsWhenSomebodyElseKeepsWriting(t *testing.T) {
	srv := natstest.New(t)
	w := ready(t, ensured(t, srv.URL))
	require.NoError(t, w.Append(t.Context(), events(1, 1)))
	for range 101 {
		_, err := srv.JetStream().Publish(t.Context(), "events.thing.updated", []byte("hello"))
		require.NoError(t, err)
	}
	_, err := w.Tail(t.Context())
	var halt *relay.HaltError
	require.ErrorAs(t, err, &halt)
	require.Equal(t, "foreign_message", halt.Reason)
}

func TestTailNeverStoresItsQuestion(t *testing.T) {
	srv := natstest.New(t)
	w := ensured(t, srv.URL).Writer()
	for range 5 {
		_, err := w.Tail(t.Context())
		require.NoError(t, err)
	}
	require.Empty(t, stored(t, srv.JetStream()))
}

func TestTailNamesTheStreamThatHasTheSubjects(t *testing.T) {
	srv := natstest.New(t)
	open(t, srv)
	_, err := client(t, srv.URL, func(c *natsstream.Config) { c.Stream = "OTHER" }).Writer().Tail(t.Context())
	requireSetupError(t, err, "EVENTS", "OTHER", "RELAY_STREAM")
}

func TestAppendTellsWhenItIsForbidden(t *testing.T) {
	srv := natstest.New(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "canary", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"events.>"}},
		}}}
	})
	url := strings.Replace(srv.URL, "nats://", "nats://u:canary@", 1)
	w := ready(t, ensured(t, url, func(c *natsstream.Config) { c.AckTimeout = 300 * time.Millisecond }))
	err := w.Append(t.Context(), events(1, 1))
	require.ErrorIs(t, err, nats.ErrPermissionViolation)
	require.NotContains(t, err.Error(), "canary")
}
