package natsstream_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
)

func feed(t testing.TB, c *natsstream.Client, configure ...func(*natsstream.FeedConfig)) *natsstream.Feed {
	t.Helper()
	var cfg natsstream.FeedConfig
	for _, f := range configure {
		f(&cfg)
	}
	f, err := c.Feed(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(f.Close)
	return f
}

func ackWait(d time.Duration) func(*natsstream.FeedConfig) {
	return func(c *natsstream.FeedConfig) { c.AckWait = d }
}

// take reads n events from the feed.
func take(t testing.TB, f *natsstream.Feed, n int) []relay.StreamMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all []relay.StreamMessage
	for len(all) < n {
		batch, err := f.Next(ctx, n-len(all))
		require.NoError(t, err)
		require.NotEmpty(t, batch)
		require.LessOrEqual(t, len(all)+len(batch), n)
		all = append(all, batch...)
	}
	return all
}

func ackAll(t testing.TB, f *natsstream.Feed, list []relay.StreamMessage) {
	t.Helper()
	for _, m := range list {
		require.NoError(t, f.Ack(t.Context(), m))
	}
}

// requireIdle checks that the feed hands nothing out for a while.
func requireIdle(t testing.TB, f *natsstream.Feed, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	batch, err := f.Next(ctx, 10)
	require.ErrorIs(t, err, context.DeadlineExceeded, "%+v", batch)
}

func TestTheFeedReturnsWhatWasAppended(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	w, f := ready(t, c), feed(t, c)
	ev := event(2)
	ev.Visibility, ev.Owner = relay.VisibleToEveryone, relay.Owner{UserID: "u", TenantID: "t"}
	ev.Body = []byte(`{"id":"x","source":{"op":"update"},"data":{"a":[1,"}"]},"previous":{"a":[]},"unavailable":["content"],"previous_unavailable":["b"]}`)
	ev.Data, ev.Unavailable = []byte(`{"a":[1,"}"]}`), []string{"content"}
	ev.Op, ev.Previous, ev.PreviousUnavailable = relay.OpUpdate, []byte(`{"a":[]}`), []string{"b"}
	require.NoError(t, w.Append(t.Context(), []relay.Event{announcement(1, "a"), ev, event(3)}))

	got := take(t, f, 2)
	require.Equal(t, ev, got[0].Event)
	require.Equal(t, event(3), got[1].Event)
	require.EqualValues(t, 2, got[0].Seq)
	require.EqualValues(t, 1, got[0].Control)
	require.False(t, got[0].Again)
	require.NoError(t, got[0].Err)

	ackAll(t, f, got)
	require.Eventually(t, func() bool {
		acked, control, err := f.Bounds(t.Context())
		return err == nil && acked == 3 && control == 1
	}, 5*time.Second, 10*time.Millisecond)
}

func TestTheFeedHandsOutInStreamOrder(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	const n = 10_000
	require.NoError(t, ready(t, c).Append(t.Context(), events(1, n)))
	f := feed(t, c)
	for want := uint64(1); want <= n; {
		batch := take(t, f, 500)
		for _, m := range batch {
			require.Equal(t, want, m.Seq)
			want++
		}
		ackAll(t, f, batch)
	}
	requireIdle(t, f, 50*time.Millisecond)
}

func TestAnEventReachesAWaitingFeedWithinMilliseconds(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	w, f := ready(t, c), feed(t, c)
	var slowest []time.Duration
	for n := 1; n <= 50; n++ {
		arrived := make(chan error, 1)
		go func() {
			_, err := f.Next(t.Context(), 100)
			arrived <- err
		}()
		if n%2 == 0 { // the other rounds find the feed asking
			require.Eventually(t, func() bool { return consumer(t, srv).NumWaiting > 0 }, 5*time.Second, time.Millisecond)
		}
		require.NoError(t, w.Append(t.Context(), events(n, n)))
		from := time.Now()
		require.NoError(t, <-arrived)
		slowest = append(slowest, time.Since(from))
	}
	quick := 0
	for _, d := range slowest {
		if d < 20*time.Millisecond {
			quick++
		}
	}
	require.Greater(t, quick, 40, "%v", slowest)
}

func TestAnUnansweredEventComesAgainAfterAckWait(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	f := feed(t, c, ackWait(300*time.Millisecond))
	require.NoError(t, ready(t, c).Append(t.Context(), events(1, 1)))
	first := take(t, f, 1)[0]
	from := time.Now()
	again := take(t, f, 1)[0]
	require.Greater(t, time.Since(from), 200*time.Millisecond)
	require.True(t, again.Again)
	require.Equal(t, first.Event, again.Event)
	ackAll(t, f, []relay.StreamMessage{again})
	requireIdle(t, f, 600*time.Millisecond)
}

func TestExtendKeepsAnEventFromComingAgain(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	f := feed(t, c, ackWait(400*time.Millisecond))
	require.NoError(t, ready(t, c).Append(t.Context(), events(1, 1)))
	m := take(t, f, 1)[0]
	for range 8 {
		requireIdle(t, f, 150*time.Millisecond)
		require.NoError(t, f.Extend(m))
	}
	ackAll(t, f, []relay.StreamMessage{m})
	requireIdle(t, f, 600*time.Millisecond)
}

func TestAReturnedEventComesAgainAtOnce(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	f := feed(t, c, ackWait(time.Minute))
	require.NoError(t, ready(t, c).Append(t.Context(), events(1, 3)))
	got := take(t, f, 3)
	require.NoError(t, f.Return(got[1]))
	from := time.Now()
	again := take(t, f, 1)[0]
	require.Less(t, time.Since(from), 2*time.Second)
	require.Equal(t, got[1].Seq, again.Seq)
	require.True(t, again.Again)
}

func TestTwoFeedsShareTheEvents(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	feeds := []*natsstream.Feed{feed(t, c), feed(t, client(t, srv.URL))}
	const n = 3000
	got := make(chan relay.StreamMessage, n)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, len(feeds))
	for _, f := range feeds {
		go func() {
			for {
				batch, err := f.Next(ctx, 50)
				if err != nil {
					ended <- err
					return
				}
				for _, m := range batch {
					got <- m
					_ = f.Ack(ctx, m)
				}
			}
		}()
	}
	w := ready(t, c)
	for at := 1; at <= n; at += 100 {
		require.NoError(t, w.Append(t.Context(), events(at, at+99)))
	}
	seen := map[uint64]bool{}
	for len(seen) < n {
		select {
		case m := <-got:
			require.False(t, seen[m.Seq], "%d twice", m.Seq)
			seen[m.Seq] = true
		case <-time.After(10 * time.Second):
			require.Fail(t, "events are missing", "%d of %d", len(seen), n)
		}
	}
	cancel()
	for range feeds {
		require.ErrorIs(t, <-ended, context.Canceled)
	}
}

func TestWhatAFeedWasSentAndDidNotTakeGoesToAnotherAtOnce(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	w := ready(t, c)
	leaving := feed(t, c, ackWait(time.Minute))
	requireIdle(t, leaving, 50*time.Millisecond) // its request stays open at the server
	require.NoError(t, w.Append(t.Context(), events(1, 5)))
	require.Eventually(t, func() bool { return consumer(t, srv).NumAckPending > 0 }, 5*time.Second, 5*time.Millisecond)
	leaving.Close()
	require.Len(t, take(t, feed(t, client(t, srv.URL)), 5), 5)
}

// consumer tells what the server knows of the shared consumer.
func consumer(t testing.TB, srv *natstest.Server) *jetstream.ConsumerInfo {
	t.Helper()
	nc, err := nats.Connect(srv.URL)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	consumer, err := js.Consumer(t.Context(), "EVENTS", "relay-deliver")
	require.NoError(t, err)
	return consumer.CachedInfo()
}

func TestWhatCameBetweenTwoCallsIsHandedOutInTime(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	w := ready(t, c)
	f := feed(t, c, ackWait(2*time.Second))
	requireIdle(t, f, 20*time.Millisecond) // its request stays open at the server
	require.NoError(t, w.Append(t.Context(), events(1, 1)))
	require.Eventually(t, func() bool { return consumer(t, srv).NumAckPending == 1 }, 5*time.Second, 5*time.Millisecond)
	m := take(t, f, 1)[0]
	require.EqualValues(t, 1, m.Seq)
	ackAll(t, f, []relay.StreamMessage{m})

	requireIdle(t, f, 20*time.Millisecond)
	require.NoError(t, w.Append(t.Context(), events(2, 2)))
	<-time.After(1200 * time.Millisecond) // more than half of the AckWait: it may be another's soon
	m = take(t, f, 1)[0]
	require.True(t, m.Again, "the one that waited too long is dropped and comes again")
}

func TestTheFeedGoesOnOverAServerRestart(t *testing.T) {
	p := natstest.NewProcess(t)
	c := ensured(t, p.URL)
	f := feed(t, c, ackWait(time.Second))
	w := c.Writer()
	require.NoError(t, goOn(t.Context(), w, 10))
	ackAll(t, f, take(t, f, 4))
	got := make(chan uint64, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			batch, err := f.Next(ctx, 10)
			for _, m := range batch {
				got <- m.Seq
				_ = f.Ack(ctx, m)
			}
			if err != nil && ctx.Err() == nil {
				got <- 0
			}
		}
	}()
	p.Restart()
	require.NoError(t, goOn(t.Context(), w, 20))
	seen := map[uint64]bool{}
	for len(seen) < 16 {
		select {
		case seq := <-got:
			require.NotZero(t, seq, "Next failed")
			seen[seq] = true
		case <-time.After(10 * time.Second):
			require.Fail(t, "events are missing", "%v", seen)
		}
	}
	cancel()
	<-ended
}

func TestADeletedConsumerIsMadeAnewBehindWhatWasAcked(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	f := feed(t, c)
	w := ready(t, c)
	require.NoError(t, w.Append(t.Context(), events(1, 10)))
	ackAll(t, f, take(t, f, 6))
	require.Eventually(t, func() bool {
		acked, _, err := f.Bounds(t.Context())
		return err == nil && acked == 6
	}, 5*time.Second, 5*time.Millisecond)

	require.EqualValues(t, 7, take(t, f, 4)[0].Seq)
	require.NoError(t, srv.JetStream().DeleteConsumer(t.Context(), "EVENTS", "relay-deliver"))
	for i, m := range take(t, f, 4) {
		require.EqualValues(t, 7+i, m.Seq)
	}
}

func TestANewConsumerOfAnOldStreamSaysThatItsEventsMayHaveBeenHandedOut(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	w := ready(t, c)
	require.NoError(t, w.Append(t.Context(), []relay.Event{event(1), event(2)}))
	first := feed(t, c) // makes the consumer
	second := feed(t, c)
	require.NoError(t, w.Append(t.Context(), []relay.Event{event(3)}))
	got := take(t, second, 3)
	require.Equal(t, []bool{true, true, false}, []bool{got[0].Again, got[1].Again, got[2].Again})
	ackAll(t, first, got)
}

func TestAConsumerAheadOfItsStreamIsMadeAnew(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	_, err := srv.JetStream().CreateConsumer(t.Context(), "EVENTS", jetstream.ConsumerConfig{
		Durable: "relay-deliver", FilterSubject: "events.>", AckPolicy: jetstream.AckExplicitPolicy,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: 500,
	})
	require.NoError(t, err)
	f := feed(t, c)
	require.NoError(t, ready(t, c).Append(t.Context(), events(1, 3)))
	require.EqualValues(t, 1, take(t, f, 3)[0].Seq)
}

func TestANewConsumerStartsWhereTold(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	require.NoError(t, ready(t, c).Append(t.Context(), events(1, 10)))
	f := feed(t, c, func(c *natsstream.FeedConfig) { c.StartAfter = 7 })
	require.EqualValues(t, 8, take(t, f, 3)[0].Seq)
}

func TestAnExistingConsumersSettingsWinOrAreRefused(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	feed(t, c, ackWait(3*time.Second))
	require.Equal(t, 3*time.Second, feed(t, c, ackWait(time.Second)).AckWait())
	for name, cfg := range map[string]jetstream.ConsumerConfig{
		"does not read":   {FilterSubject: "events.a.>", AckPolicy: jetstream.AckExplicitPolicy},
		"each event":      {FilterSubject: "events.>", AckPolicy: jetstream.AckAllPolicy},
		"max_deliver":     {FilterSubject: "events.>", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 5},
		"does not read e": {AckPolicy: jetstream.AckExplicitPolicy},
	} {
		cfg.Durable = "other"
		_, err := srv.JetStream().CreateOrUpdateConsumer(t.Context(), "EVENTS", cfg)
		require.NoError(t, err, name)
		_, err = c.Feed(t.Context(), natsstream.FeedConfig{Durable: "other"})
		requireSetupError(t, err, name, "nats consumer rm EVENTS other")
		require.NoError(t, srv.JetStream().DeleteConsumer(t.Context(), "EVENTS", "other"))
	}
}

func TestAForeignMessageIsHandedOutAsAnErrorAndStopsNothing(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	f := feed(t, c)
	require.NoError(t, ready(t, c).Append(t.Context(), events(1, 1)))
	_, err := srv.JetStream().Publish(t.Context(), "events.thing.made_up", []byte("hello"))
	require.NoError(t, err)
	_, err = srv.JetStream().Publish(t.Context(), "events.thing.made_up", nil)
	require.NoError(t, err)
	got := take(t, f, 3)
	require.NoError(t, got[0].Err)
	require.ErrorContains(t, got[1].Err, "message 2")
	require.Equal(t, relay.Event{Type: "thing.made_up", Body: []byte("hello")}, got[1].Event)
	require.Error(t, got[2].Err)
	ackAll(t, f, got)
	requireIdle(t, f, 50*time.Millisecond)
}

func TestNextEndsWithItsContextAndWithTheClient(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	f := feed(t, c)
	requireIdle(t, f, 10*time.Millisecond)
	done := make(chan error, 2)
	go func() {
		_, err := f.Next(t.Context(), 1)
		done <- err
	}()
	go func() {
		done <- f.Announcements(t.Context(), 0, func(uint64, relay.Announcement) error { return nil })
	}()
	require.Eventually(t, func() bool { return consumer(t, srv).NumWaiting > 0 }, 5*time.Second, time.Millisecond)
	c.Close()
	require.ErrorContains(t, <-done, "closed")
	require.ErrorContains(t, <-done, "closed")
}

func TestAnnouncementsComeInOrderAndOverAServerRestart(t *testing.T) {
	p := natstest.NewProcess(t)
	c := ensured(t, p.URL)
	f, w := feed(t, c), c.Writer()
	_, err := w.Tail(t.Context())
	require.NoError(t, err)
	next := 1
	announce := func() {
		for {
			err := w.Append(t.Context(), []relay.Event{event(next), announcement(next+1, fmt.Sprint(next))})
			if err == nil {
				next += 2
				return
			}
			tail, err := w.Tail(t.Context())
			require.NoError(t, err)
			if tail.Position == announcement(next+1, "").Position {
				next += 2
				return
			}
		}
	}
	for range 5 {
		announce()
	}

	type told struct {
		seq  uint64
		what string
	}
	got := make(chan told, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- f.Announcements(ctx, 4, func(seq uint64, a relay.Announcement) error {
			got <- told{seq, a.ID + " " + a.Op}
			return nil
		})
	}()
	expect := func(seq uint64) {
		t.Helper()
		select {
		case g := <-got:
			require.Equal(t, told{seq, fmt.Sprintf("%d update", seq-1)}, g)
		case <-time.After(5 * time.Second):
			require.Fail(t, "no announcement", "%d", seq)
		}
	}
	for seq := uint64(6); seq <= 10; seq += 2 {
		expect(seq)
	}
	for round := range 3 {
		p.Restart()
		announce()
		from := time.Now()
		expect(uint64(12 + 2*round))
		require.Less(t, time.Since(from), 2*time.Second)
	}
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

func TestAnnouncementsEndWithTheErrorOfTheirReader(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	require.NoError(t, ready(t, c).Append(t.Context(), []relay.Event{announcement(1, "a"), announcement(2, "b")}))
	broken := errors.New("broken")
	calls := 0
	err := feed(t, c).Announcements(t.Context(), 0, func(uint64, relay.Announcement) error {
		calls++
		return broken
	})
	require.ErrorIs(t, err, broken)
	require.Equal(t, 1, calls)
}

func TestAnAnnouncementThatCannotBeReadConcernsEveryRow(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	_, err := srv.JetStream().Publish(t.Context(), "relay.control.webhooks", []byte("garbage"))
	require.NoError(t, err)
	enough := errors.New("enough")
	err = feed(t, c).Announcements(t.Context(), 0, func(seq uint64, a relay.Announcement) error {
		require.EqualValues(t, 1, seq)
		require.Equal(t, relay.Announcement{Op: "truncate"}, a)
		return enough
	})
	require.ErrorIs(t, err, enough)
}

func TestFencesOfABackfillAndParkedRowsConcernNoSubscription(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	want := []string{relay.ControlBackfill, relay.ControlParked}
	for _, subject := range want {
		_, err := srv.JetStream().Publish(t.Context(), subject, []byte(`{"table":"public.things"}`))
		require.NoError(t, err)
	}
	enough := errors.New("enough")
	var got []string
	err := feed(t, c).Announcements(t.Context(), 0, func(seq uint64, a relay.Announcement) error {
		got = append(got, a.ID)
		require.EqualValues(t, len(got), seq, "it is passed on all the same: events name it as the last announcement")
		require.Equal(t, relay.Announcement{ID: a.ID, Op: "read"}, a)
		if len(got) == len(want) {
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough)
	require.Equal(t, want, got)
}

func TestAFeedEndsWhenItsStreamIsDeletedAndMadeAnew(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	f := feed(t, c)
	require.NoError(t, ready(t, c).Append(t.Context(), events(1, 10)))
	take(t, f, 10) // the sequences of the new stream are those of other events
	announced := make(chan error, 1)
	go func() {
		announced <- f.Announcements(t.Context(), 0, func(uint64, relay.Announcement) error { return nil })
	}()
	require.NoError(t, srv.JetStream().DeleteStream(t.Context(), "EVENTS"))
	require.Eventually(t, func() bool { return c.EnsureStream(t.Context()) == nil }, 10*time.Second, 50*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := f.Next(ctx, 1)
	require.ErrorIs(t, err, relay.ErrStreamReplaced)
	require.ErrorIs(t, <-announced, relay.ErrStreamReplaced)
	require.NoError(t, ready(t, c).Append(t.Context(), events(11, 12)))
	require.EqualValues(t, 1, take(t, feed(t, c), 2)[0].Seq)
}
