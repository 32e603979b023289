package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// parcels makes a mapped table with a composite key and n rows. Rows whose v is
// negative are never written again.
func (s *stack) parcels(n int) {
	s.t.Helper()
	s.db.Exec(`
		create table parcels (v bigint not null, ns text not null, id int not null, note text, primary key (ns, id));
		insert into zapier_webhook_events (event_type, category, description) values
		    ('parcel.created', 'parcel', 'Made.'), ('parcel.updated', 'parcel', 'Changed.'), ('parcel.deleted', 'parcel', 'Gone.'),
		    ('parcel.seen', 'parcel', 'Seen.');
		insert into event_mappings (event_type, source_table, operation, audience) values
		    ('parcel.created', 'parcels', 'insert', 'everyone'), ('parcel.updated', 'parcels', 'update', 'everyone'),
		    ('parcel.deleted', 'parcels', 'delete', 'everyone'), ('parcel.seen', 'parcels', 'insert', 'everyone')`)
	s.db.Exec(`insert into parcels select case when i % 2 = 0 then -1 else 1 end, case when i % 3 = 0 then 'a' else 'B"\' end, i, repeat('x', i % 40) || $2
		from generate_series(1, $1::int) i`, n, s.canary)
}

// churn writes parcels at random on several connections, until stop.
func (s *stack) churn(connections, n int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	seed := rand.Uint64()
	s.t.Logf("seed of the churn: %d", seed)
	for i := range connections {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		done.Go(func() {
			conn, err := pgx.Connect(ctx, s.db.URL)
			if err != nil {
				return
			}
			defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
			for ctx.Err() == nil {
				_ = churnOnce(context.WithoutCancel(ctx), conn, random, n)
				select {
				case <-time.After(time.Duration(random.Int64N(int64(2 * time.Millisecond)))):
				case <-ctx.Done():
				}
			}
		})
	}
	stop = func() { cancel(); done.Wait() }
	s.t.Cleanup(stop)
	return stop
}

// churnOnce is one transaction. It never touches a row whose v is negative.
func churnOnce(ctx context.Context, conn *pgx.Conn, random *rand.Rand, n int) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // nothing is left of it after a commit
	for range 1 + random.IntN(3) {
		id := 1 + random.IntN(n)
		switch random.IntN(10) {
		case 0:
			_, err = tx.Exec(ctx, `delete from parcels where id = $1 and v >= 0`, id)
		case 1:
			_, err = tx.Exec(ctx, `insert into parcels values (1, 'a', $1, 'new') on conflict do nothing`, n+random.IntN(n))
		case 2: // the key itself
			_, err = tx.Exec(ctx, `update parcels set ns = case ns when 'a' then 'c' else 'a' end where id = $1 and v >= 0 and note <> 'still'`, id)
		default:
			_, err = tx.Exec(ctx, `update parcels set v = v + 1 where id = $1 and v >= 0`, id)
		}
		if err != nil {
			return err
		}
	}
	if random.IntN(10) == 0 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

// requireReplica applies the events in order, and demands that the outcome is the
// table, that every row which nobody wrote was read once, and no row twice.
func (s *stack) requireReplica(events []message) (read int) {
	s.t.Helper()
	type row struct {
		V    json.Number `json:"v"`
		Note string      `json:"note"`
	}
	replica, reads := map[string]row{}, map[string]int{}
	for _, m := range events {
		if m.Event.Source.Table != "public.parcels" || m.Event.Type == "parcel.seen" {
			continue
		}
		var r row
		require.NoError(s.t, json.Unmarshal(m.Event.Data, &r))
		key := m.Event.key()
		switch m.Event.Source.Op {
		case "read":
			require.Equal(s.t, "parcel.created", m.Event.Type)
			reads[key]++
			read++
		case "delete":
			delete(replica, key)
			continue
		case "update":
			var before struct {
				NS *string `json:"ns"`
			}
			require.NoError(s.t, json.Unmarshal(m.Event.Previous, &before))
			if before.NS != nil {
				delete(replica, *before.NS+"/"+fmt.Sprint(m.Event.Source.Key["id"]))
			}
		}
		replica[key] = r
	}
	table := map[string]row{}
	for _, line := range pgtest.All[string](s.db, `select json_build_object('k', ns || '/' || id, 'v', v, 'note', note)::text from parcels`) {
		var r struct {
			row
			K string `json:"k"`
		}
		require.NoError(s.t, json.Unmarshal([]byte(line), &r))
		table[r.K] = r.row
		if strings.HasPrefix(string(r.V), "-") {
			require.Equal(s.t, 1, reads[r.K], "%s was there all the time", r.K)
		}
	}
	for key, want := range table {
		got, ok := replica[key]
		require.True(s.t, ok, "%s is not in the replica", key)
		require.Equal(s.t, want, got, key)
	}
	for key := range replica {
		require.Contains(s.t, table, key, "%s is in the replica alone", key)
	}
	for key, n := range reads {
		require.Equal(s.t, 1, n, "%s was read more than once", key)
	}
	return read
}

// relay runs a command of the binary to its end, whatever that is.
func (s *stack) relay(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), os.Getenv(binaryEnv), args...)
	cmd.Dir, cmd.Env = s.dir, s.environ()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the state tells
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// requestBackfill returns the id of a backfill that goes on by itself.
func (s *stack) requestBackfill(args ...string) string {
	s.t.Helper()
	var row struct{ ID string }
	require.NoError(s.t, json.Unmarshal([]byte(s.command(append([]string{"backfill", "--detach", "--json"}, args...)...)), &row))
	return row.ID
}

// backfillState is the row of a backfill.
func (s *stack) backfillState(id string) string {
	return pgtest.One[string](s.db, `select state from relay_backfills where id = $1`, id)
}

func (s *stack) awaitBackfill(p *process, id string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		state := s.backfillState(id)
		require.NotEqual(s.t, "failed", state, "%s", pgtest.One[string](s.db, `select coalesce(note, '') from relay_backfills where id = $1`, id))
		return state == "done"
	}, 60*time.Second, 5*tick, "%s", p.log())
}

// awaitNoChunks returns when all chunks are safe in the stream, and forgotten.
func (s *stack) awaitNoChunks() {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return pgtest.One[int](s.db, `select count(*) from relay_backfill_chunks`) == 0 }, arrivesWithin, 5*tick)
}

func TestABackfillBesideWritersMakesAReplicaThatEqualsTheTable(t *testing.T) {
	t.Parallel()
	const rows = 4000
	s := newStack(t, options{})
	s.env["RELAY_CONFIRM_LAG"] = "0s"
	s.parcels(rows)
	s.env["RELAY_LOG_LEVEL"] = "info"
	p := s.start()
	stop := s.churn(4, rows)
	out := s.command("backfill", "parcels")
	require.Regexp(t, `public\.parcels done · [\d,]+ rows · [\d,]+ events`, out)
	stop()
	s.settle(p)
	read := s.requireReplica(s.stream(p))
	t.Logf("%d rows read, redone: %s", read, pgtest.One[string](s.db, `select row_to_json(b)::text from (select chunk, rows_read, rows_published, rows_overtaken, events from relay_backfills) b`))
	s.awaitNoChunks()
	p.stop()
}

func TestKillsInTheMiddleOfABackfillLoseNoRowAndDoubleNone(t *testing.T) {
	t.Parallel()
	const rows, kills = 5000, 6
	s := newStack(t, options{})
	s.env["RELAY_CONFIRM_LAG"] = "0s"
	s.parcels(rows)
	s.env["RELAY_LOG_LEVEL"] = "info"
	p := s.start()
	stop := s.churn(2, rows)
	id := s.requestBackfill("parcels", "--rate", "1500")
	random := rand.New(rand.NewPCG(rand.Uint64(), 0))
	for i := range kills {
		// Each time a little further, at any moment of a chunk.
		require.Eventually(t, func() bool {
			return pgtest.One[int](s.db, `select rows_read from relay_backfills`) > i*rows/(2*kills)
		}, 30*time.Second, time.Millisecond)
		select {
		case <-time.After(time.Duration(random.Int64N(int64(300 * time.Millisecond)))):
		case <-p.done:
		}
		p.kill()
		p = s.start()
	}
	s.awaitBackfill(p, id)
	stop()
	s.settle(p)
	t.Logf("%d rows read", s.requireReplica(s.stream(p)))
	s.awaitNoChunks()
	p.stop()
}

func TestABackfillReadsWhatItWasAskedFor(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.parcels(300)
	p := s.start()
	s.command("backfill", "public.parcels", "--where", "ns = 'a' -- and no more", "--event-type", "parcel.seen")
	events := s.stream(p)
	require.Len(t, events, 100)
	for i, m := range events {
		require.Equal(t, fmt.Sprintf("parcel.seen a/%d", 3*(i+1)), m.Event.name())
		require.Equal(t, "read", m.Event.Source.Op)
		require.Nil(t, m.Event.Previous)
	}
	p.stop()
}

func TestACancelledBackfillStopsAndTheNextOneRuns(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_CONFIRM_LAG"] = "0s"
	s.parcels(400)
	p := s.start()
	slow := s.requestBackfill("parcels", "--rate", "20")
	next := s.requestBackfill("parcels", "--event-type", "parcel.seen")
	require.Eventually(t, func() bool { return s.streamLength(p) > 10 }, arrivesWithin, tick)
	require.Equal(t, "queued", s.backfillState(next), "one at a time")
	require.Contains(t, s.command("backfill", "list"), slow+" public.parcels running")
	require.Contains(t, s.command("backfill", "cancel", slow), "cancelled")
	s.awaitBackfill(p, next)
	_, stderr, code := s.relay("backfill", "cancel", next)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "is done already")
	created := 0
	for _, m := range s.stream(p) {
		if m.Event.Type == "parcel.created" {
			created++
		}
	}
	require.Less(t, created, 200)
	s.awaitNoChunks()
	p.stop()
}

func TestABackfillIsDoneBeforeTheSlotIsConfirmedAndCheckedAfterARestart(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_CONFIRM_LAG"] = "1h"
	s.parcels(300)
	p := s.start()
	s.command("backfill", "parcels", "--event-type", "parcel.seen")
	s.command("backfill", "parcels", "--event-type", "parcel.created")
	keeps := func() bool {
		return pgtest.One[int](s.db, `select count(distinct backfill_id) from relay_backfill_chunks where json_array_length(keys) > 0`) == 2
	}
	require.True(t, keeps(), "a power cut may take its events")
	owner := pgtest.One[string](s.db, `select min(owner) from relay_backfills`)
	before := names(s.stream(p))
	require.Len(t, before, 600)
	p.kill()
	p = s.start()
	require.Eventually(t, func() bool {
		return pgtest.One[bool](s.db, `select bool_and(state = 'done' and owner <> $1) from relay_backfills`, owner)
	}, arrivesWithin, 5*tick, "%s", p.log())
	require.True(t, keeps())
	require.Equal(t, before, names(s.stream(p)), "nothing is published twice")
	p.stop()
}

func TestTheRateBoundsABackfill(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.parcels(300)
	p := s.start()
	s.command("backfill", "parcels", "--rate", "150")
	took := pgtest.One[float64](s.db, `select extract(epoch from finished_at - started_at)::float8 from relay_backfills`)
	require.GreaterOrEqual(t, took, 1.5)
	require.Len(t, s.stream(p), 600)
	p.stop()
}

func TestAnInitialSnapshotPublishesWhatWasThereBeforeTheSlot(t *testing.T) {
	t.Parallel()
	const rows = 3000
	s := newStack(t, options{})
	s.parcels(rows)
	s.env["RELAY_INITIAL_SNAPSHOT"] = "true"
	stop := s.churn(2, rows)
	p := s.start()
	require.Eventually(t, func() bool { return s.streamLength(p) > 100 }, arrivesWithin, tick)
	p.kill()
	p = s.start()
	require.Eventually(t, func() bool {
		return pgtest.One[int](s.db, `select count(*) from relay_backfills where kind = 'snapshot' and state <> 'done'`) == 0
	}, 60*time.Second, 5*tick)
	stop()
	s.settle(p)
	s.requireReplica(s.stream(p))
	require.Positive(t, pgtest.One[int](s.db, `select count(*) from relay_backfills where source_table = 'public.things'`), "every mapped table")
	p.stop()
	s.start().stop()
	require.Equal(t, 1, pgtest.One[int](s.db, `select count(*) from relay_backfills where source_table = 'public.parcels'`), "only the first start")
}

// A transaction that waits for its replica is in the log and on the stream, while
// others do not yet see its rows: a chunk that is read meanwhile would be older than
// what the stream has.
func TestABackfillWaitsForATransactionThatOthersDoNotSeeYet(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	s := newStack(t, options{db: cluster.New(t)})
	s.parcels(50)
	s.db.Exec(`alter database ` + s.db.Name + ` set synchronous_commit = 'local'`)
	p := s.start()
	s.db.Exec(`alter system set synchronous_standby_names = 'nobody'`)
	s.db.Exec(`select pg_reload_conf()`)
	hung := make(chan error, 1)
	conn := s.db.Connect()
	go func() {
		_, err := conn.Exec(context.Background(), `set synchronous_commit = on; update parcels set v = 77 where id = 3`)
		hung <- err
	}()
	require.Eventually(t, func() bool { return s.streamLength(p) == 1 }, arrivesWithin, tick, "it is on the stream")
	require.Zero(t, pgtest.One[int](s.db, `select count(*) from parcels where v = 77`), "and nobody sees it")
	id := s.requestBackfill("parcels")
	require.Eventually(t, func() bool {
		return strings.HasPrefix(pgtest.One[string](s.db, `select coalesce(note, '') from relay_backfills where id = $1`, id), "waiting for transactions that wrote the table to end: pid ")
	}, arrivesWithin, tick, "%s", p.log())
	s.db.Exec(`alter system reset synchronous_standby_names`)
	s.db.Exec(`select pg_reload_conf()`)
	require.NoError(t, <-hung)
	s.awaitBackfill(p, id)
	s.requireReplica(s.stream(p))
	p.stop()
}

// A row that every transaction writes, and a transaction larger than a window.
func TestABackfillPassesAHotRowAndALargeTransaction(t *testing.T) {
	t.Parallel()
	const rows = 2000
	s := newStack(t, options{})
	s.env["RELAY_LOG_LEVEL"] = "info"
	s.parcels(rows)
	s.db.Exec(`update event_mappings set match_new = '{"ns": {"$ne": "bulk"}}' where source_table = 'public.parcels' and operation = 'insert'`)
	s.db.Exec(`update event_mappings set match_old = '{"ns": {"$ne": "bulk"}}' where source_table = 'public.parcels' and operation = 'delete'`)
	p := s.start()
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 2 {
		conn := s.db.Connect()
		writers.Go(func() {
			for ctx.Err() == nil {
				_, _ = conn.Exec(context.WithoutCancel(ctx), `update parcels set v = v + 1 where id = 1001 and ns <> 'bulk'`)
			}
		})
	}
	id := s.requestBackfill("parcels", "--rate", "1000")
	require.Eventually(t, func() bool { return pgtest.One[int](s.db, `select rows_read from relay_backfills`) > 100 }, arrivesWithin, tick)
	s.db.Exec(`insert into parcels select 1, 'bulk', i, 'bulk' from generate_series(1, 210000) i`)
	s.db.Exec(`delete from parcels where ns = 'bulk'`)
	s.awaitBackfill(p, id)
	cancel()
	writers.Wait()
	s.settle(p)
	s.requireReplica(s.stream(p))
	p.stop()
}

// The standby goes on with the backfill, and the process that was frozen in the
// middle of it finds itself replaced.
func TestAStandbyGoesOnWithTheBackfillOfAFrozenRelay(t *testing.T) {
	t.Parallel()
	const rows = 4000
	cluster := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"wal_sender_timeout": "2s"}})
	s := newStack(t, options{db: cluster.New(t)})
	s.env["RELAY_LOG_LEVEL"] = "info"
	s.parcels(rows)
	frozen := s.start()
	standby := s.start()
	standby.awaitState(readyWithin, "standby")
	stop := s.churn(2, rows)
	id := s.requestBackfill("parcels", "--rate", "800")
	require.Eventually(t, func() bool { return pgtest.One[int](s.db, `select rows_read from relay_backfills`) > rows/8 }, arrivesWithin, time.Millisecond)
	require.NoError(t, frozen.cmd.Process.Signal(syscall.SIGSTOP))
	standby.awaitState(arrivesWithin, "streaming")
	require.NoError(t, frozen.cmd.Process.Signal(syscall.SIGCONT))
	s.awaitBackfill(standby, id)
	stop()
	s.settle(standby)
	s.requireReplica(s.stream(standby))
	// Either of them may be faster at the stream: the other one is fenced.
	fenced := 0
	for _, p := range []*process{frozen, standby} {
		select {
		case <-p.done:
			require.Equal(t, 4, p.cmd.ProcessState.ExitCode())
			fenced++
		default:
			p.stop()
		}
	}
	require.Less(t, fenced, 2)
}
