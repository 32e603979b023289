package pgsource

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgoutput"
)

func TestAParkedBatchGoesOnFillingUntilItIsTaken(t *testing.T) {
	h, p := newHandoff(), pool{maxChanges: 10, maxBytes: 1 << 10}
	a, b := p.get(), p.get()
	h.park(a)
	require.True(t, h.takeBack(a))
	require.False(t, h.takeBack(a))
	h.park(a)
	got, err := h.next(t.Context())
	require.NoError(t, err)
	require.Same(t, a, got)
	require.False(t, h.takeBack(a), "the consumer has it")
	h.park(b)
	require.False(t, h.takeBack(a))
	require.True(t, h.takeBack(b))
}

func TestAFullQueueHoldsTheReaderBackUntilOneIsTaken(t *testing.T) {
	h, p := newHandoff(), pool{maxChanges: 10, maxBytes: 1 << 10}
	for range queueDepth {
		require.NoError(t, h.push(t.Context(), p.get()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, h.push(ctx, p.get()), context.DeadlineExceeded)

	pushed := make(chan error, 1)
	go func() { pushed <- h.push(t.Context(), p.get()) }()
	_, err := h.next(t.Context())
	require.NoError(t, err)
	require.NoError(t, <-pushed)
}

func TestWhatWasReadBeforeAnErrorIsHandedOutFirst(t *testing.T) {
	h, p := newHandoff(), pool{maxChanges: 10, maxBytes: 1 << 10}
	h.park(p.get())
	h.fail(errStopping)
	h.fail(errClosed)
	_, err := h.next(t.Context())
	require.NoError(t, err)
	_, err = h.next(t.Context())
	require.ErrorIs(t, err, errStopping)
}

func TestABatchReleasedTwiceIsHandedOutOnce(t *testing.T) {
	p := pool{maxChanges: 10, maxBytes: 1 << 10}
	b := p.get()
	b.out.Store(true)
	b.Release()
	b.Release()
	first, second := p.get(), p.get()
	require.NotSame(t, first, second)
}

func TestValuesStayWhereTheyAreWhileABatchGrows(t *testing.T) {
	b := (&pool{maxChanges: 10, maxBytes: 1 << 20}).get()
	var kept [][]byte
	for i := range 5000 {
		kept = append(kept, b.keep([]byte{byte(i), byte(i >> 8)}))
	}
	big := b.keep(make([]byte, 3<<20))
	for i, k := range kept {
		require.Equal(t, []byte{byte(i), byte(i >> 8)}, k)
		require.Equal(t, 2, cap(k), "appending to one value must not reach the next")
	}
	require.True(t, b.full())
	require.Len(t, big, 3<<20)
	b.reset()
	require.LessOrEqual(t, cap(b.bytes.chunk), 1<<20, "the memory of a large row is not kept")
	require.False(t, b.full())
}

func TestAPositionOfZeroMovesNothingBack(t *testing.T) {
	var p atomic.Uint64
	require.True(t, raise(&p, 7))
	require.False(t, raise(&p, 0))
	require.False(t, raise(&p, 7))
	require.EqualValues(t, 7, p.Load())
}

func offlineReader() *reader {
	s := &Source{cfg: Config{Slot: "s", Publication: "p", BatchChanges: 10, BatchBytes: 1 << 10}, log: slog.New(slog.DiscardHandler), out: newHandoff(), catalog: &catalog{}}
	return newReader(s)
}

func TestMessagesOfLaterProtocolsAreCountedAndSkipped(t *testing.T) {
	r := offlineReader()
	head := make([]byte, 24)
	for _, stray := range []string{"A\x00\x00\x00\x01\x00\x00\x00\x01", "S\x00\x00\x00\x01\x01", "E"} {
		require.NoError(t, r.message(t.Context(), 'd', append(append([]byte("w"), head...), stray...), false))
	}
	require.NoError(t, r.message(t.Context(), 'd', []byte("?"), false))
	require.NoError(t, r.message(t.Context(), 'S', nil, false), "a parameter status is nothing unusual")
	require.EqualValues(t, 4, r.s.Skipped())
	require.Empty(t, r.cur.Changes)
}

func TestWhatCannotBeReadForCertainEndsTheStream(t *testing.T) {
	insert := &pgoutput.Insert{RelationOID: 1, New: pgoutput.Tuple{{Kind: pgoutput.Text}}}
	r := offlineReader()
	require.ErrorContains(t, r.decoded(t.Context(), insert, 0), "outside of a transaction")
	require.ErrorContains(t, r.decoded(t.Context(), &pgoutput.Commit{CommitLSN: 9}, 0), "without its begin")
	require.NoError(t, r.decoded(t.Context(), &pgoutput.Begin{FinalLSN: 9}, 0))
	require.ErrorContains(t, r.decoded(t.Context(), &pgoutput.Begin{FinalLSN: 9}, 0), "inside a transaction")
	require.ErrorContains(t, r.decoded(t.Context(), insert, 0), "not described")
	r.rels[1] = &relation{Relation: &relay.Relation{Schema: "s", Name: "t"}}
	require.ErrorContains(t, r.decoded(t.Context(), insert, 0), "s.t: a row of 1 values for 0 columns")
	r.rels[1].Columns = []relay.Column{{Name: "c"}}
	require.ErrorContains(t, r.decoded(t.Context(), &pgoutput.Insert{RelationOID: 1, New: pgoutput.Tuple{{Kind: pgoutput.Binary}}}, 0), `column "c"`)
	r.tx.ordinal = 1<<32 - 1
	require.ErrorContains(t, r.decoded(t.Context(), insert, 0), "too many rows")
	require.Empty(t, r.cur.Changes)
	require.Error(t, r.message(t.Context(), 'd', nil, false))
	require.Error(t, r.message(t.Context(), 'd', []byte("k"), false))
	require.Error(t, r.message(t.Context(), 'd', []byte("w"), false))
}

func TestAKeepaliveInsideATransactionMovesNothing(t *testing.T) {
	r := offlineReader()
	keepalive := append([]byte("k\x00\x00\x00\x00\x00\x00\x00\x63"), make([]byte, 9)...)
	require.NoError(t, r.decoded(t.Context(), &pgoutput.Begin{FinalLSN: 0x50}, 0))
	require.NoError(t, r.message(t.Context(), 'd', keepalive, false))
	require.Zero(t, r.cur.Commit)
	require.EqualValues(t, 0x63, r.s.Received())
	require.NoError(t, r.decoded(t.Context(), &pgoutput.Commit{CommitLSN: 0x50, EndLSN: 0x60}, 0))
	require.EqualValues(t, 0x60, r.cur.Commit)
	require.NoError(t, r.message(t.Context(), 'd', keepalive, false))
	require.EqualValues(t, 0x63, r.cur.Commit)
}

// Servers before 18 fail where a publication is missing, later ones only say so.
func TestAPublicationThatIsOnlyWarnedAboutHaltsToo(t *testing.T) {
	r := offlineReader()
	notice := func(code string) []byte {
		return []byte("SWARNING\x00C" + code + "\x00Mskipped loading publication\x00\x00")
	}
	require.NoError(t, r.message(t.Context(), 'N', notice("01000"), false))
	var halt *relay.HaltError
	require.ErrorAs(t, r.message(t.Context(), 'N', notice("55000"), false), &halt)
	require.Equal(t, "publication_missing", halt.Reason)
}

func TestALogThatIsGoneHaltsARunningStream(t *testing.T) {
	s := offlineReader().s
	for _, code := range []string{"55000", "58P01"} {
		var halt *relay.HaltError
		require.ErrorAs(t, s.streamError(&pgconn.PgError{Code: code}), &halt)
		require.Equal(t, "slot_lost", halt.Reason)
	}
	require.NotErrorAs(t, s.streamError(&pgconn.PgError{Code: "57P01"}), new(*relay.HaltError))
}

func TestASlotTheServerInvalidatedHaltsWithItsReason(t *testing.T) {
	st := slotState{found: true, plugin: "pgoutput", status: "unreserved", reason: "idle_timeout", confirmed: 1, end: 2}
	_, err := st.decide(Config{Slot: "s"})
	require.ErrorContains(t, err, "idle_timeout; changes between 0/1 and 0/2")
	require.ErrorAs(t, err, new(*relay.HaltError))
}

// proxy passes connections on to a server, behind TLS if asked to, until it is
// frozen: then it is as silent as a host without power.
type proxy struct {
	net.Listener
	target string
	tls    *tls.Config
	frozen chan struct{}
	conns  sync.WaitGroup
}

func newProxy(t *testing.T, db *pgtest.DB, config *tls.Config) (*proxy, secret.String) {
	u, err := url.Parse(db.URL)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{Listener: l, target: u.Host, tls: config, frozen: make(chan struct{})}
	p.conns.Go(p.accept)
	t.Cleanup(func() { _ = l.Close(); p.conns.Wait() })
	u.Host = l.Addr().String()
	if config != nil {
		u.RawQuery = "sslmode=require"
	}
	return p, secret.New(u.String())
}

func (p *proxy) accept() {
	for {
		client, err := p.Accept()
		if err != nil {
			return
		}
		p.conns.Go(func() { p.serve(client) })
	}
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	if p.tls != nil {
		if _, err := io.ReadFull(client, make([]byte, 8)); err != nil { // SSLRequest
			return
		}
		_, _ = client.Write([]byte("S"))
		client = tls.Server(client, p.tls)
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var wg sync.WaitGroup
	wg.Go(func() { p.pass(server, client); _ = server.Close() })
	wg.Go(func() { p.pass(client, server); _ = client.Close() })
	wg.Wait()
}

func (p *proxy) pass(dst io.Writer, src io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		select {
		case <-p.frozen:
			n = 0
		default:
		}
		if _, werr := dst.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// closeAtEnd lets go of the proxy, which waits for its connections, when a test fails.
func closeAtEnd(t *testing.T, src *Source) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = src.Close(ctx)
	})
}

func TestASilentServerIsTakenForDead(t *testing.T) {
	db := pgtest.New(t)
	p, u := newProxy(t, db, nil)
	src, err := Open(t.Context(), Config{
		URL: u, Slot: "slot_" + db.Name, Publication: "pub", CreateSlot: true, StatusInterval: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	closeAtEnd(t, src)
	src.deadAfter = 500 * time.Millisecond
	require.NoError(t, src.Start(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for err == nil {
		_, err = src.Next(ctx)
	}
	require.ErrorIs(t, err, context.DeadlineExceeded, "an idle server that answers is alive")

	close(p.frozen)
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for err = nil; err == nil; {
		_, err = src.Next(ctx)
	}
	require.ErrorContains(t, err, "connection to the server is dead")
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, src.Close(ctx), "it is not known whether the last status arrived")
}

func TestAStreamBehindTLSSurvivesItsOwnDeadlines(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key, v text)")
	https := httptest.NewTLSServer(nil)
	defer https.Close()
	_, u := newProxy(t, db, &tls.Config{Certificates: https.TLS.Certificates})
	src, err := Open(t.Context(), Config{
		URL: u, Slot: "slot_" + db.Name, Publication: "pub", CreateSlot: true, Tables: []relay.TableNeed{{Name: "public.t"}}, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	closeAtEnd(t, src)
	require.NoError(t, src.Start(t.Context()))
	go func() {
		for range 200 {
			db.Exec("insert into t select coalesce(max(id), 0) + 1, repeat('x', 1000) from t")
		}
		db.Exec("insert into t select i, repeat('x', 300000) from generate_series(1001, 1020) i")
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var last relay.LSN
	for n := 0; n < 220; {
		b, err := src.Next(ctx)
		require.NoError(t, err)
		for _, c := range b.Changes {
			require.Empty(t, strings.Trim(string(c.New[1].Data), "x"))
		}
		n += len(b.Changes)
		last = max(last, b.Commit)
		b.Release()
	}
	src.Confirm(last)
	require.NoError(t, src.Close(ctx))
	require.Equal(t, last.String(), pgtest.One[string](db, "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", src.Slot().Name))
}
