package natsstream_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
)

// goOn appends up to event n as the relay does: after an error it reads the tail
// and follows it.
func goOn(ctx context.Context, w *natsstream.Writer, n int) error {
	for {
		tail, err := w.Tail(ctx)
		if err == nil {
			if err = w.Append(ctx, events(int(tail.Seq)+1, n)); err == nil {
				return nil
			}
		}
		if ctx.Err() != nil || errors.Is(err, relay.ErrFenced) {
			return err
		}
	}
}

func TestAKilledServerLosesAndDoublesNothing(t *testing.T) {
	p := natstest.NewProcess(t)
	w := ready(t, ensured(t, p.URL))
	const n, rounds = 60_000, 4
	done := make(chan error, 1)
	go func() { done <- goOn(t.Context(), w, n) }()
	for round := range rounds {
		atLeast := uint64((round + 1) * n / (rounds + 2))
		require.Eventually(t, func() bool { return w.Seq() >= atLeast }, 30*time.Second, time.Millisecond)
		p.Restart()
	}
	require.NoError(t, <-done)
	requireChain(t, p.JetStream(), n)
}

func TestAppendFailsAtOnceWhenTheServerDies(t *testing.T) {
	p := natstest.NewProcess(t)
	w := ready(t, ensured(t, p.URL, func(c *natsstream.Config) { c.AckTimeout = time.Minute }))
	done := make(chan error, 1)
	go func() { done <- w.Append(t.Context(), events(1, 200_000)) }()
	require.Eventually(t, func() bool { return w.Seq() > 1000 }, 10*time.Second, time.Millisecond)
	p.Kill()
	select {
	case err := <-done:
		require.Error(t, err)
		require.NotErrorIs(t, err, relay.ErrFenced)
	case <-time.After(2 * time.Second):
		require.Fail(t, "append waits for a dead server")
	}
	require.ErrorContains(t, w.Append(t.Context(), events(1, 1)), "tail must be read")
}

func TestAfterAReconnectTheTailHasToBeReadAgain(t *testing.T) {
	srv := natstest.New(t)
	w := ready(t, ensured(t, srv.URL))
	require.NoError(t, w.Append(t.Context(), events(1, 5)))
	srv.Restart()
	require.Error(t, w.Append(t.Context(), events(6, 6)))
	tail, err := w.Tail(t.Context()) // waits for the connection
	require.NoError(t, err)
	require.EqualValues(t, 5, tail.Seq)
	require.NoError(t, w.Append(t.Context(), events(6, 6)))
	requireChain(t, srv.JetStream(), 6)
}

func TestAFrozenServerEndsAnAppendAndDoublesNothing(t *testing.T) {
	p := natstest.NewProcess(t)
	w := ready(t, ensured(t, p.URL, func(c *natsstream.Config) { c.AckTimeout = 300 * time.Millisecond }))
	require.NoError(t, w.Append(t.Context(), events(1, 10)))
	p.Pause()
	started := time.Now()
	err := w.Append(t.Context(), events(11, 2000))
	require.Error(t, err)
	require.NotErrorIs(t, err, relay.ErrFenced)
	require.Less(t, time.Since(started), 5*time.Second)
	p.Resume()
	// The frozen server still holds the messages and stores them now: the tail
	// comes after them.
	require.NoError(t, goOn(t.Context(), w, 3000))
	requireChain(t, p.JetStream(), 3000)
}

// TestASilenceOfSomeSecondsEndsNothing: after one second the server is asked what became
// of its last message, and its answers come all the same.
func TestASilenceOfSomeSecondsEndsNothing(t *testing.T) {
	t.Parallel()
	for _, batches := range []natsstream.Batches{natsstream.BatchesFast, natsstream.BatchesAtomic, natsstream.BatchesOff} {
		t.Run(string(batches), func(t *testing.T) {
			t.Parallel()
			p := natstest.NewProcess(t)
			w := ready(t, ensured(t, p.URL, func(c *natsstream.Config) { c.Batches = batches }))
			require.NoError(t, w.Append(t.Context(), events(1, 10)))
			p.Pause()
			time.AfterFunc(2500*time.Millisecond, p.Resume)
			require.NoError(t, w.Append(t.Context(), events(11, 6000)))
			requireChain(t, p.JetStream(), 6000)
		})
	}
}

func TestMessagesWhoseAcknowledgementWasLostAreNotSentAgain(t *testing.T) {
	srv := natstest.New(t)
	proxy := newProxy(t, strings.TrimPrefix(srv.URL, "nats://"))
	w := ready(t, ensured(t, proxy.url(), func(c *natsstream.Config) { c.AckTimeout = 300 * time.Millisecond }))
	require.NoError(t, w.Append(t.Context(), events(1, 10)))
	proxy.mute.Store(true)
	err := w.Append(t.Context(), events(11, 30))
	require.ErrorContains(t, err, "after sequence 10")
	require.Len(t, stored(t, srv.JetStream()), 30)
	proxy.cut()

	tail, err := w.Tail(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 30, tail.Seq)
	require.Equal(t, event(30).Position, tail.Position)
	require.NoError(t, w.Append(t.Context(), events(31, 40)))
	requireChain(t, srv.JetStream(), 40)
}

func TestAStreamThatWasMadeAnewTellsByItsCreationTime(t *testing.T) {
	srv := natstest.New(t)
	c := ensured(t, srv.URL)
	w := ready(t, c)
	require.NoError(t, w.Append(t.Context(), events(1, 10)))
	before, err := w.Tail(t.Context())
	require.NoError(t, err)
	require.NoError(t, srv.JetStream().DeleteStream(t.Context(), "EVENTS"))
	require.ErrorContains(t, w.Append(t.Context(), events(11, 12)), "does not answer")
	_, err = w.Tail(t.Context())
	require.ErrorContains(t, err, "does not answer")

	require.Eventually(t, func() bool { return c.EnsureStream(t.Context()) == nil }, 10*time.Second, 50*time.Millisecond)
	after, err := w.Tail(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, before.CreatedAt, after.CreatedAt)
}

// proxy stands between client and server and can swallow what the server says.
type proxy struct {
	t      testing.TB
	l      net.Listener
	target string
	mute   atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newProxy(t testing.TB, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{t: t, l: l, target: target}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.l.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		p.wg.Go(func() { _, _ = io.Copy(out, in) })
		p.wg.Go(func() { _, _ = io.Copy(muted{p, in}, out) })
	}
}

type muted struct {
	p *proxy
	w io.Writer
}

func (m muted) Write(b []byte) (int, error) {
	if m.p.mute.Load() {
		return len(b), nil
	}
	return m.w.Write(b)
}

// cut breaks all connections and lets the server be heard on the next.
func (p *proxy) cut() {
	p.mute.Store(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}
