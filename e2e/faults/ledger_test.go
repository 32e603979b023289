package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

const loadNS = "load"

// load writes transactions on several connections. Each writes, as its last
// statement, which events it must raise, under a number taken from a row that all
// contend for: the ledger is in commit order and holds what was committed, whatever
// the writer itself saw.
type load struct {
	s      *stack
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (s *stack) startLoad(connections int, pause time.Duration) *load {
	s.t.Helper()
	s.db.Exec(`
		create table ledger_clock (n bigint not null);
		insert into ledger_clock values (0);
		create table ledger (n bigint primary key, events text[] not null)`)
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{s: s, cancel: cancel}
	seed := rand.Uint64()
	s.t.Logf("seed of the load: %d", seed)
	for i := range connections {
		w := &writer{s: s, name: "w" + strconv.Itoa(i), random: rand.New(rand.NewPCG(seed, uint64(i)))}
		l.done.Go(func() { w.run(ctx, pause) })
	}
	s.t.Cleanup(l.stop)
	return l
}

func (l *load) stop() {
	l.cancel()
	l.done.Wait()
}

func (l *load) written() int { return pgtest.One[int](l.s.db, `select count(*) from ledger`) }

// await waits until n transactions more are committed.
func (l *load) await(n int) {
	l.s.t.Helper()
	from := l.written()
	l.s.eventually(arrivesWithin, func() bool { return l.written() >= from+n }, "the writers do not write")
}

// check ends the load and demands that the stream holds what the ledger does.
func (l *load) check() []message {
	l.s.t.Helper()
	l.stop()
	l.s.settle()
	all := l.s.read()
	want := pgtest.All[string](l.s.db, `select e from ledger, unnest(events) with ordinality as u (e, i) order by n, i`)
	got := names(all, loadNS)
	requireSame(l.s, want, got)
	l.s.t.Logf("%d transactions, %d events", l.written(), len(want))
	return all
}

type writer struct {
	s       *stack
	name    string
	random  *rand.Rand
	conn    *pgx.Conn
	next    int
	written []string
}

func (w *writer) run(ctx context.Context, pause time.Duration) {
	background := context.WithoutCancel(ctx)
	defer func() {
		if w.conn != nil {
			_ = w.conn.Close(background)
		}
	}()
	for ctx.Err() == nil {
		if err := w.transact(background); err != nil && w.conn != nil { // Postgres may be restarting
			_ = w.conn.Close(background)
			w.conn = nil
		}
		select {
		case <-time.After(pause/2 + time.Duration(w.random.Int64N(int64(pause)))):
		case <-ctx.Done():
		}
	}
}

// transact runs one transaction of random shape: some rows, an update, a part that
// a savepoint takes back; some are rolled back as a whole.
func (w *writer) transact(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if w.conn == nil {
		if w.conn, err = pgx.Connect(ctx, w.s.db.URL); err != nil {
			return err
		}
	}
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // does nothing after a commit
	rows := 1 + w.random.IntN(4)
	if w.random.IntN(10) == 0 {
		rows = 50 + w.random.IntN(200)
	}
	ids, err := w.insert(ctx, tx, rows)
	if err != nil {
		return err
	}
	var events []string
	for _, id := range ids {
		events = append(events, "thing.created "+loadNS+"/"+id)
	}
	if w.random.IntN(5) == 0 {
		inner, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := w.insert(ctx, inner, 3); err != nil {
			return err
		}
		if err := inner.Rollback(ctx); err != nil {
			return err
		}
	}
	if len(w.written) > 0 && w.random.IntN(2) == 0 {
		w.next++
		id, version := w.written[w.random.IntN(len(w.written))], strconv.Itoa(w.next)
		tag, err := tx.Exec(ctx, `update things set data = jsonb_build_object('v', $2::text) where ns = '`+loadNS+`' and id = $1`, id, version)
		if err != nil {
			return err
		}
		if tag.RowsAffected() > 0 {
			events = append(events, "thing.updated "+loadNS+"/"+id+" v"+version)
		}
	}
	if w.random.IntN(10) == 0 {
		return tx.Rollback(ctx)
	}
	if _, err := tx.Exec(ctx, `with clock as (update ledger_clock set n = n + 1 returning n) insert into ledger select n, $1 from clock`, events); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	w.written = append(w.written, ids...)
	w.written = w.written[max(0, len(w.written)-50):]
	return nil
}

func (w *writer) insert(ctx context.Context, tx pgx.Tx, rows int) (ids []string, err error) {
	for range rows {
		w.next++
		ids = append(ids, fmt.Sprintf("%s-%d", w.name, w.next))
	}
	_, err = tx.Exec(ctx, `
		insert into things (ns, id, type, content)
		select '`+loadNS+`', id, 'Skill', $2 from unnest($1::text[]) with ordinality as u (id, i) order by i`, ids, w.s.canary)
	return ids, err
}

// message is one message of the stream.
type message struct {
	seq     uint64
	subject string
	header  nats.Header
	body    []byte
}

func (m *message) position() [4]uint64 {
	var hi, lo, ordinal, index uint64
	if _, err := fmt.Sscanf(m.header.Get("Relay-Pos"), "%X/%X:%d:%d", &hi, &lo, &ordinal, &index); err != nil {
		return [4]uint64{}
	}
	return [4]uint64{hi, lo, ordinal, index}
}

func (m *message) control() bool { return strings.HasPrefix(m.subject, "relay.control.") }

// name is type and key, and the version that a writer gave it.
func (m *message) name() string {
	name := strings.TrimPrefix(m.subject, "events.") + " " + m.header.Get("ce-subject")
	var body struct {
		Data struct {
			Data struct{ V string } `json:"data"`
		} `json:"data"`
	}
	if json.Unmarshal(m.body, &body) == nil && body.Data.Data.V != "" && strings.HasPrefix(m.subject, "events.thing.updated") {
		name += " v" + body.Data.Data.V
	}
	return name
}

// names lists the events of one namespace, in stream order.
func names(all []message, ns string) []string {
	out := []string{}
	for i := range all {
		if !all[i].control() && strings.HasPrefix(all[i].header.Get("ce-subject"), ns+"/") {
			out = append(out, all[i].name())
		}
	}
	return out
}

// read reads the stream from its first message to its last and checks the chain.
func (s *stack) read() []message {
	s.t.Helper()
	all := s.readAny()
	for i := 1; i < len(all); i++ {
		require.Equal(s.t, all[i-1].seq+1, all[i].seq, "the stream has a gap")
		require.Equal(s.t, all[i-1].header.Get("Relay-Pos"), all[i].header.Get("Relay-Prev"), "the chain is broken at %d", all[i].seq)
	}
	s.checkOrder(all)
	return all
}

// checkOrder demands rising positions and no id twice.
func (s *stack) checkOrder(all []message) {
	s.t.Helper()
	ids := map[string]uint64{}
	for i := range all {
		id := all[i].header.Get("ce-id")
		require.NotEmpty(s.t, id)
		require.Zero(s.t, ids[id], "messages %d and %d have the id %s", ids[id], all[i].seq, id)
		ids[id] = all[i].seq
		if i > 0 {
			a, b := all[i-1].position(), all[i].position()
			require.Negative(s.t, slices.Compare(a[:], b[:]), "message %d at %v comes after %v", all[i].seq, b, a)
		}
	}
}

// readAny reads the stream without looking at it.
func (s *stack) readAny() []message {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	stream := s.stream()
	last := must(stream.Info(ctx))(s.t).State
	if last.Msgs == 0 {
		return nil
	}
	consumer := must(stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy}))(s.t)
	var out []message
	for {
		batch, err := consumer.Fetch(1000, jetstream.FetchMaxWait(time.Second))
		require.NoError(s.t, err)
		for msg := range batch.Messages() {
			meta := must(msg.Metadata())(s.t)
			out = append(out, message{seq: meta.Sequence.Stream, subject: msg.Subject(), header: msg.Headers(), body: msg.Data()})
			if meta.Sequence.Stream >= last.LastSeq {
				return out
			}
		}
		if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
			require.NoError(s.t, err)
		}
		require.NoError(s.t, ctx.Err(), "the stream cannot be read to its end")
	}
}

// requireSame compares long lists and shows where they part.
func requireSame(s *stack, want, got []string) {
	s.t.Helper()
	for i := range max(len(want), len(got)) {
		if i < len(want) && i < len(got) && want[i] == got[i] {
			continue
		}
		around := func(list []string) string {
			return strings.Join(list[min(max(0, i-2), len(list)):min(i+5, len(list))], "\n\t")
		}
		require.FailNow(s.t, "the lists differ", "of %d and %d entries, number %d on; wanted\n\t%s\ngot\n\t%s", len(want), len(got), i, around(want), around(got))
	}
}
