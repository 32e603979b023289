package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// load writes transactions on several connections and keeps a ledger: each writes,
// as its last statement, which events it must raise, under a number that it takes
// from a row all of them contend for. So the numbers are in commit order, and what
// the ledger holds is what was committed, whatever the writer itself saw.
type load struct {
	s      *stack
	cancel context.CancelFunc
	done   sync.WaitGroup
}

const loadNS = "load"

// startLoad writes until stop, pausing after each transaction.
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
		w := &writer{s: s, name: fmt.Sprintf("w%d", i), random: rand.New(rand.NewPCG(seed, uint64(i)))}
		l.done.Go(func() { w.run(ctx, pause) })
	}
	s.t.Cleanup(l.stop)
	return l
}

// stop ends the writers after their present transactions.
func (l *load) stop() {
	l.cancel()
	l.done.Wait()
}

// expected lists what must be in the stream, in order.
func (l *load) expected() []string {
	l.s.t.Helper()
	return pgtest.All[string](l.s.db, `select e from ledger, unnest(events) with ordinality as u (e, i) order by n, i`)
}

// written counts the committed transactions.
func (l *load) written() int { return pgtest.One[int](l.s.db, `select count(*) from ledger`) }

// writer is one connection.
type writer struct {
	s       *stack
	name    string
	random  *rand.Rand
	conn    *pgx.Conn
	next    int
	written []string // ids that may be updated
}

func (w *writer) run(ctx context.Context, pause time.Duration) {
	defer func() {
		if w.conn != nil {
			_ = w.conn.Close(context.WithoutCancel(ctx))
		}
	}()
	for ctx.Err() == nil {
		if err := w.transact(context.WithoutCancel(ctx)); err != nil && w.conn != nil { // Postgres may be restarting
			_ = w.conn.Close(context.WithoutCancel(ctx))
			w.conn = nil
		}
		select {
		case <-time.After(pause/2 + time.Duration(w.random.Int64N(int64(pause)))):
		case <-ctx.Done():
		}
	}
}

// transact runs one transaction of random shape: mostly a few rows, now and then
// hundreds, with updates, a part that is rolled back, or rolled back as a whole.
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
	switch dice := w.random.IntN(100); {
	case dice < 1:
		rows = 200 + w.random.IntN(400)
	case dice < 10:
		rows = 20 + w.random.IntN(60)
	}
	ids, events, err := w.insert(ctx, tx, rows)
	if err != nil {
		return err
	}
	if w.random.IntN(5) == 0 {
		if err := w.insertAndRegret(ctx, tx); err != nil {
			return err
		}
	}
	for range w.random.IntN(3) {
		event, err := w.update(ctx, tx)
		if err != nil {
			return err
		}
		if event != "" {
			events = append(events, event)
		}
	}
	if w.random.IntN(10) == 0 {
		return tx.Rollback(ctx)
	}
	_, err = tx.Exec(ctx, `with clock as (update ledger_clock set n = n + 1 returning n) insert into ledger select n, $1 from clock`, events)
	if err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	w.written = append(w.written, ids...)
	w.written = w.written[max(0, len(w.written)-50):]
	return nil
}

// insert adds rows with one statement.
func (w *writer) insert(ctx context.Context, tx pgx.Tx, rows int) (ids, events []string, err error) {
	for range rows {
		w.next++
		id := fmt.Sprintf("%s-%d", w.name, w.next)
		ids = append(ids, id)
		events = append(events, loadEvent("thing.created", id, "0"))
	}
	_, err = tx.Exec(ctx, `
		insert into things (ns, id, type, content, data)
		select '`+loadNS+`', id, 'Skill', $2, '{"v": "0"}' from unnest($1::text[]) with ordinality as u (id, i) order by i`, ids, w.s.canary)
	return ids, events, err
}

// insertAndRegret writes rows that a savepoint takes back.
func (w *writer) insertAndRegret(ctx context.Context, tx pgx.Tx) error {
	inner, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	if _, _, err := w.insert(ctx, inner, 1+w.random.IntN(5)); err != nil {
		return err
	}
	return inner.Rollback(ctx)
}

// update changes one of this writer's own rows.
func (w *writer) update(ctx context.Context, tx pgx.Tx) (event string, err error) {
	if len(w.written) == 0 {
		return "", nil
	}
	w.next++
	id, version := w.written[w.random.IntN(len(w.written))], fmt.Sprint(w.next)
	tag, err := tx.Exec(ctx, `
		update things set data = jsonb_build_object('v', $2::text), updated_at = now() where ns = '`+loadNS+`' and id = $1`, id, version)
	if err != nil || tag.RowsAffected() == 0 { // its transaction did not commit after all
		return "", err
	}
	return loadEvent("thing.updated", id, version), nil
}

func loadEvent(eventType, id, version string) string {
	return eventType + " " + loadNS + "/" + id + " v" + version
}

// loadEvents lists the load's events among those of the stream, as the ledger
// writes them.
func loadEvents(t *testing.T, events []message) []string {
	t.Helper()
	out := []string{}
	for _, m := range events {
		if m.Event.Source.Key["ns"] != loadNS {
			continue
		}
		out = append(out, loadName(t, m.Event))
	}
	return out
}

func loadName(t *testing.T, b body) string {
	t.Helper()
	var row struct {
		ID   string            `json:"id"`
		Data map[string]string `json:"data"`
	}
	require.NoError(t, json.Unmarshal(b.Data, &row))
	return loadEvent(b.Type, row.ID, row.Data["v"])
}

// requireSame compares long lists and shows where they part.
func requireSame(t *testing.T, want, got []string) {
	t.Helper()
	for i := range max(len(want), len(got)) {
		if i < len(want) && i < len(got) && want[i] == got[i] {
			continue
		}
		around := func(list []string) string {
			return strings.Join(list[min(max(0, i-2), len(list)):min(i+5, len(list))], "\n\t")
		}
		require.FailNow(t, "the lists differ", "of %d and %d entries, number %d on; wanted\n\t%s\ngot\n\t%s", len(want), len(got), i, around(want), around(got))
	}
}

// requireSameSet compares without regard to order.
func requireSameSet(t *testing.T, want, got []string) {
	t.Helper()
	want, got = slices.Clone(want), slices.Clone(got)
	slices.Sort(want)
	slices.Sort(got)
	requireSame(t, want, got)
}

// awaitLoad waits until the writers have committed n transactions more.
func (l *load) awaitLoad(n int) {
	l.s.t.Helper()
	from := l.written()
	require.Eventually(l.s.t, func() bool { return l.written() >= from+n }, arrivesWithin, 2*tick)
}

// checkDelivered demands that the endpoint has every event of the given type at
// least once and nothing else, and that nothing was sent once more after its success
// was recorded. It returns how many came more than once.
func (l *load) checkDelivered(e *endpoint, eventType string) (repeated int) {
	l.s.t.Helper()
	var want, got []string
	for _, event := range l.expected() {
		if strings.HasPrefix(event, eventType+" ") {
			want = append(want, event)
		}
	}
	accepted := map[string]int{}
	for _, d := range e.requests() {
		if d.Status < 300 {
			accepted[d.ID]++
			if accepted[d.ID] == 1 {
				got = append(got, loadName(l.s.t, d.Event))
			} else {
				repeated++
			}
		}
	}
	requireSameSet(l.s.t, want, got)
	require.Zero(l.s.t, pgtest.One[int](l.s.db, `
		select count(*) from (
			select from zapier_webhook_logs where webhook_id = $1 and status = 'success' group by event_id having count(*) <> 1
			union all
			select from zapier_webhook_logs where webhook_id = $1 group by event_id, attempt having count(*) <> 1) as twice`, e.id))
	return repeated
}
