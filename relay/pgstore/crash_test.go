package pgstore_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
)

// cutter is a network that breaks around the next commit.
type cutter struct {
	address string // of this end
	server  string
	before  atomic.Bool // cut before the server sees the commit
	after   atomic.Bool // cut before the client hears that it is done
	cuts    atomic.Int32
}

func newCutter(t *testing.T, db *pgtest.DB) *cutter {
	t.Helper()
	u, err := url.Parse(db.URL)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cutter{address: listener.Addr().String(), server: u.Host}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { c.serve(client) })
		}
	})
	return c
}

func (c *cutter) serve(client net.Conn) {
	server, err := net.Dial("tcp", c.server)
	if err != nil {
		_ = client.Close()
		return
	}
	var deaf atomic.Bool // the client hears nothing any more
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { _, _ = server.Close(), client.Close() }()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil || deaf.Load() {
				return // the answer to the commit came, and is kept back
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			break
		}
		if bytes.Contains(buf[:n], []byte("commit\x00")) {
			if c.before.CompareAndSwap(true, false) {
				c.cuts.Add(1)
				break
			}
			if c.after.CompareAndSwap(true, false) {
				c.cuts.Add(1)
				deaf.Store(true)
			}
		}
		if _, err := io.Copy(server, bytes.NewReader(buf[:n])); err != nil {
			break
		}
	}
	_, _ = server.Close(), client.Close()
	wg.Wait()
}

func (c *cutter) open(t *testing.T, db *pgtest.DB) *pgstore.Store {
	t.Helper()
	return open(t, db, func(cfg *pgstore.Config) {
		cfg.URL = secret.New(withURL(t, db, func(u *url.URL) { u.Host = c.address }))
	})
}

func TestACommitWhoseAnswerWasLostIsNotRepeated(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	network := newCutter(t, db)
	s := network.open(t, db)
	for i, arm := range []*atomic.Bool{&network.after, &network.before} {
		event := fmt.Sprint(i)
		arm.Store(true)
		settle(t, s,
			outcome(delivery("ok"+event, "w1"), 1, relay.Delivered),
			outcome(delivery("again"+event, "w1"), 1, relay.Retry),
			outcome(delivery("dead"+event, "w1"), 1, relay.Dead),
			outcome(delivery("later"+event, "w1"), 0, relay.Deferred))
		n := i + 1
		require.EqualValues(t, n, network.cuts.Load())
		require.Equal(t, fmt.Sprintf("%d %d %d 2", 3*n, n, 2*n), counters(db, "w1"))
		require.Equal(t, 3*n, pgtest.One[int](db, `select count(*) from zapier_webhook_logs`))
		require.Equal(t, 2*n, pgtest.One[int](db, `select count(*) from webhook_deliveries`))
		require.Equal(t, n, pgtest.One[int](db, `select count(*) from webhook_dead_letters`))
	}
	due, lease := claim(t, s, 10)
	require.Len(t, due, 4)
	network.after.Store(true)
	settle(t, s,
		leased(outcome(due[0], 2, relay.Delivered), lease), leased(outcome(due[1], 2, relay.Retry), lease),
		leased(outcome(due[2], 2, relay.Dead), lease), leased(outcome(due[3], 0, relay.Deferred), lease))
	require.EqualValues(t, 3, network.cuts.Load())
	require.Equal(t, 9, pgtest.One[int](db, `select count(*) from zapier_webhook_logs`))
	require.Equal(t, 2, pgtest.One[int](db, `select count(*) from webhook_deliveries where locked_by is null`))
	require.Equal(t, 3, pgtest.One[int](db, `select count(*) from webhook_dead_letters`))
}

func TestKilledConnectionsLoseAndDoubleNothing(t *testing.T) {
	db := newDB(t)
	for i := range 10 {
		subscribe(db, id(i))
	}
	s := open(t, db)
	const workers, rounds = 3, 25
	var g errgroup.Group
	for w := range workers {
		g.Go(func() error {
			for round := range rounds {
				var batch []relay.Outcome
				for i := range 10 {
					batch = append(batch, outcome(delivery(fmt.Sprint(w, "-", round), id(i)), 1, relay.Delivered))
				}
				for deadline := time.Now().Add(eventually); ; {
					err := s.Settle(t.Context(), batch)
					if err == nil {
						break
					}
					if time.Now().After(deadline) {
						return err
					}
				}
			}
			return nil
		})
	}
	stop := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		tick := time.NewTicker(15 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_, _ = db.Pool.Exec(t.Context(), `
					select pg_terminate_backend(pid) from pg_stat_activity
					where application_name = 'relay' and datname = current_database() and state <> 'idle' order by random() limit 1`)
			}
		}
	})
	err := g.Wait()
	close(stop)
	killer.Wait()
	require.NoError(t, err)
	want := fmt.Sprint(workers*rounds, " ", workers*rounds, " 0 0")
	for i := range 10 {
		require.Equal(t, want, counters(db, id(i)))
	}
	require.Equal(t, 10*workers*rounds, pgtest.One[int](db, `select count(*) from zapier_webhook_logs`))
}
