package pgoutput_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay/pgoutput"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var update = flag.Bool("update", false, "write one recorded message of every shape into the fuzz corpus")

const schema = `
create type mood as enum ('calm', 'busy');
create domain label as text check (length(value) < 100);
create type pair as (a int, b text);
create table kinds (
	id bigint primary key, flag boolean, small smallint, amount numeric(20, 4), ratio double precision,
	name varchar(40), doc jsonb, raw bytea, ids uuid[], tags text[], day date, at timestamptz, span interval,
	address inet, state mood, title label, both_ pair, range_ int4range, empty text, nothing text
);
create table by_full (id int, note text, big text);
alter table by_full replica identity full;
alter table by_full alter column big set storage external;
create table by_key (id int primary key, big text, note text);
alter table by_key alter column big set storage external;
create table by_index (id int, code text not null, note text);
create unique index by_index_code on by_index (code);
alter table by_index replica identity using index by_index_code;
create table by_nothing (id int, note text);
alter table by_nothing replica identity nothing;
create table no_columns ();
create table "Odd ""name" ("select" int primary key, "ünïcode" text);
create table parts (id int, at date, primary key (id, at)) partition by range (at);
create table parts_a partition of parts for values from ('2026-01-01') to ('2027-01-01');
create table parts_b partition of parts for values from ('2027-01-01') to ('2028-01-01');
create table serials (id serial primary key, kind bigint references kinds);
`

// work is what the recorded transactions do; each is one of them.
var work = []string{
	`insert into kinds values (1, true, -3, 12345678901234.5678, 'NaN', 'naïve', '{"a": [1, null]}', '\x00ff',
		array['3f2504e0-4f89-11d3-9a0c-0305e82c3301']::uuid[], array['a', null, '{"b"}'], '2026-11-23', 'infinity',
		'1 year 2 days', '10.0.0.1/8', 'busy', 'a label', (1, 'x'), '[1,5)', '', null)`,
	`insert into by_full values (1, 'one', repeat('x', 5000)), (2, null, null); update by_full set note = 'uno' where id = 1;
	 delete from by_full`,
	`insert into by_key values (1, repeat('y', 5000), 'one'); update by_key set note = 'uno'; update by_key set id = 2; delete from by_key`,
	`insert into by_index values (1, 'c', 'one'); update by_index set note = 'uno'; update by_index set code = 'd'; delete from by_index`,
	`insert into by_nothing values (1, 'one')`,
	`insert into no_columns default values`,
	`insert into "Odd ""name" values (1, 'ß')`,
	`insert into parts values (1, '2026-05-05'), (2, '2027-05-05'); update parts set at = '2027-06-06' where id = 1; truncate parts`,
	`begin; insert into by_key values (10); savepoint s; insert into by_key values (11); rollback to s;
	 savepoint s2; insert into by_key values (12); release s2; commit`,
	`begin; insert into by_key values (99); rollback`,
	`alter table by_key add column later int default 5; update by_key set later = 6 where id = 10; alter table by_key drop column note;
	 update by_key set later = 7 where id = 10`,
	`truncate kinds restart identity cascade`,
	`select pg_logical_emit_message(true, 'relay', 'in a transaction')`,
	`select pg_logical_emit_message(false, 'relay', '')`,
	`insert into kinds (id) select generate_series(100, 300)`,
}

// workFromElsewhere is a transaction that carries a replication origin.
var workFromElsewhere = []string{
	`select pg_replication_origin_create('upstream')`,
	`select pg_replication_origin_session_setup('upstream')`,
	`begin`,
	`select pg_replication_origin_xact_setup('0/ABCDEF', '2026-01-01')`,
	`insert into by_key values (50)`,
	`commit`,
	`select pg_replication_origin_session_reset()`,
	`select pg_replication_origin_drop('upstream')`,
}

// record runs the work and returns the messages of one slot for each set of options.
func record(t *testing.T) map[string][][]byte {
	db := pgtest.New(t)
	db.Exec(schema)
	db.Exec(`create publication leaves for all tables`)
	db.Exec(`create publication roots for all tables with (publish_via_partition_root = true)`)
	options := map[string]string{
		"text":   `'publication_names', 'leaves'`,
		"binary": `'publication_names', 'roots', 'binary', 'true'`,
	}
	for slot := range options {
		db.Exec(`select pg_create_logical_replication_slot($1, 'pgoutput')`, db.Name+"_"+slot)
	}
	for _, sql := range work {
		db.Exec(sql)
	}
	conn := db.Connect()
	for _, sql := range workFromElsewhere {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	streams := map[string][][]byte{}
	for slot, option := range options {
		streams[slot] = pgtest.All[[]byte](db, fmt.Sprintf(
			`select data from pg_logical_slot_get_binary_changes('%s_%s', null, null, 'proto_version', '1', 'messages', 'true', %s)`,
			db.Name, slot, option))
	}
	return streams
}

func TestRecordedStreamsDecodeAsPglogreplDecodesThem(t *testing.T) {
	seen := map[string][]byte{}
	for _, stream := range record(t) {
		var d pgoutput.Decoder
		columns := map[uint32]int{}
		open := false
		for _, b := range stream {
			m, err := d.Decode(b)
			require.NoError(t, err)
			requireOracleAgrees(t, b, m)
			open = requireInPlace(t, m, open, columns)
			seen[shape(m)] = b
			for n := range b[:min(len(b), 600)] { // past that, only the inside of long values is left
				_, err := d.Decode(b[:n:n])
				require.Error(t, err, "%s cut to %d of %d bytes", m.Kind(), n, len(b))
			}
		}
		require.False(t, open)
	}
	require.Subset(t, slices.Sorted(maps.Keys(seen)), []string{
		"begin", "commit", "origin", "relation d", "relation n", "relation f", "relation i", "type",
		"insert of n t", "insert of b n", "insert of", "update of t u", "update K of n t u", "update O of t u",
		"delete K of n t", "delete O of n t", "truncate 2 false false", "truncate 2 true true",
		"logical message true", "logical message false",
	})
	if *update {
		writeCorpus(t, seen)
	}
}

// requireInPlace checks what the messages of one stream owe each other.
func requireInPlace(t *testing.T, m pgoutput.Message, open bool, columns map[uint32]int) bool {
	switch m := m.(type) {
	case *pgoutput.Begin:
		require.False(t, open)
		require.WithinDuration(t, time.Now(), m.CommitTime.Time(), 400*24*time.Hour) // an origin brings its own time
		return true
	case *pgoutput.Commit:
		require.True(t, open)
		require.Greater(t, m.EndLSN, m.CommitLSN)
		return false
	case *pgoutput.LogicalMessage:
		require.Equal(t, m.Transactional, open)
	case *pgoutput.Relation:
		columns[m.OID] = len(m.Columns)
	case *pgoutput.Insert:
		require.Len(t, m.New, columns[m.RelationOID])
	case *pgoutput.Update:
		require.Len(t, m.New, columns[m.RelationOID])
		if m.OldKind != pgoutput.OldNone {
			require.Len(t, m.Old, columns[m.RelationOID])
		}
	case *pgoutput.Delete:
		require.Len(t, m.Old, columns[m.RelationOID])
	case *pgoutput.Unknown:
		require.Fail(t, "a version 1 stream holds an unknown message", "%s", m.Tag)
	}
	return open
}

// shape describes a message by what the decoder has to tell apart in it.
func shape(m pgoutput.Message) string {
	kinds := func(tuples ...pgoutput.Tuple) string {
		var ks []string
		for _, v := range slices.Concat(tuples...) {
			ks = append(ks, string(rune(v.Kind)))
		}
		slices.Sort(ks)
		return strings.TrimSpace("of " + strings.Join(slices.Compact(ks), " "))
	}
	switch m := m.(type) {
	case *pgoutput.Relation:
		return fmt.Sprintf("relation %c", m.ReplicaIdentity)
	case *pgoutput.Insert:
		return "insert " + kinds(m.New)
	case *pgoutput.Update:
		if m.OldKind == pgoutput.OldNone {
			return "update " + kinds(m.New)
		}
		return fmt.Sprintf("update %c %s", m.OldKind, kinds(m.Old, m.New))
	case *pgoutput.Delete:
		return fmt.Sprintf("delete %c %s", m.OldKind, kinds(m.Old))
	case *pgoutput.Truncate:
		return fmt.Sprintf("truncate %d %t %t", len(m.RelationOIDs), m.Cascade, m.RestartIdentity)
	case *pgoutput.LogicalMessage:
		return fmt.Sprintf("logical message %t", m.Transactional)
	}
	return m.Kind().String()
}

func writeCorpus(t *testing.T, seen map[string][]byte) {
	for shape, b := range seen {
		name := "recorded_" + strings.ReplaceAll(shape, " ", "_")
		seed := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", b)
		require.NoError(t, os.WriteFile(filepath.Join("testdata", "fuzz", "FuzzDecode", name), []byte(seed), 0o644))
	}
}

// What later versions of the protocol add is not asked for. A slot that was made with
// two_phase sends a part of it all the same, and servers have been seen to send stray
// stream messages.
func TestMessagesOfLaterProtocolsAreToldFromThoseOfOurs(t *testing.T) {
	cluster := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "10", "logical_decoding_work_mem": "64kB"}})
	db := cluster.New(t)
	db.Exec(`create table t (id int primary key, v text); create publication pub for all tables`)
	for _, slot := range []string{"one", "three"} {
		db.Exec(`select pg_create_logical_replication_slot($1, 'pgoutput', false, true)`, slot)
	}
	db.Exec(`begin; insert into t values (1); prepare transaction 'a'`)
	db.Exec(`begin; insert into t values (2); prepare transaction 'b'`)
	db.Exec(`commit prepared 'a'`)
	db.Exec(`rollback prepared 'b'`)
	fill := func(from int) string {
		return fmt.Sprintf(`insert into t select i, repeat('x', 1000) from generate_series(%d, %d) i`, from, from+999)
	}
	db.Exec(`begin; ` + fill(1000) + `; savepoint s; ` + fill(2000) + `; rollback to s; ` + fill(3000) + `; commit`)
	db.Exec(`begin; ` + fill(5000) + `; rollback`)
	db.Exec(`begin; ` + fill(6000) + `; prepare transaction 'c'`)
	db.Exec(`commit prepared 'c'`)

	const read = `select data from pg_logical_slot_get_binary_changes($1, null, null, 'publication_names', 'pub', 'proto_version', `
	kinds := func(stream [][]byte) string {
		var d pgoutput.Decoder
		seen := map[byte]bool{}
		for _, b := range stream {
			seen[b[0]] = true
			m, err := d.Decode(b)
			if _, ours := m.(*pgoutput.Unknown); ours != strings.ContainsRune("bPKrSEcAp", rune(b[0])) {
				require.Fail(t, "taken for another", "%q", b[0])
			}
			if m == nil {
				require.Error(t, err) // a row with the number of its transaction in front
			}
		}
		return string(slices.Sorted(maps.Keys(seen)))
	}
	require.Equal(t, "BCIKPRbr", kinds(pgtest.All[[]byte](db, read+`'1')`, "one")))
	require.Equal(t, "AEIKPRSbcpr", kinds(pgtest.All[[]byte](db, read+`'3', 'two_phase', 'on', 'streaming', 'on')`, "three")))
}

func TestAServerUnderstandsTheStatusAndIsUnderstood(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(`create table things (id int primary key)`)
	db.Exec(`create publication things for table things`)
	slot := db.Name + "_frames"
	db.Exec(`select pg_create_logical_replication_slot($1, 'pgoutput')`, slot)
	created := pgtest.One[string](db, `select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1`, slot)
	db.Exec(`insert into things values (1)`)

	conn := replicate(t, db, slot)
	end := readToCommit(t, conn)

	// Written is not flushed: the slot stays where it was.
	send(t, conn, pgoutput.AppendStandbyStatus(nil, end, 0, 0, time.Now(), true))
	require.Eventually(t, func() bool {
		return pgtest.One[bool](db, `select exists (select from pg_stat_replication where write_lsn = $1::text::pg_lsn)`, pglogrepl.LSN(end).String())
	}, 10*time.Second, 5*time.Millisecond)
	confirmed := `select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1`
	require.Equal(t, created, pgtest.One[string](db, confirmed, slot))

	// The reply that was asked for.
	keepalive, err := pgoutput.ParseKeepalive(receive(t, conn, pgoutput.TagKeepalive))
	require.NoError(t, err)
	require.GreaterOrEqual(t, keepalive.WALEnd, end)
	require.WithinDuration(t, time.Now(), keepalive.SendTime.Time(), time.Minute)

	send(t, conn, pgoutput.AppendStandbyStatus(nil, end, end, end, time.Now(), false))
	require.Eventually(t, func() bool {
		return pgtest.One[string](db, confirmed, slot) == pglogrepl.LSN(end).String()
	}, 10*time.Second, 5*time.Millisecond)
}

func replicate(t *testing.T, db *pgtest.DB, slot string) *pgconn.PgConn {
	config, err := pgconn.ParseConfig(db.URL)
	require.NoError(t, err)
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	require.NoError(t, pglogrepl.StartReplication(t.Context(), conn, slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names 'things'"},
	}))
	return conn
}

func send(t *testing.T, conn *pgconn.PgConn, frame []byte) {
	b, err := (&pgproto3.CopyData{Data: frame}).Encode(nil)
	require.NoError(t, err)
	require.NoError(t, conn.Frontend().SendUnbufferedEncodedCopyData(b))
}

// receive returns the next frame with this tag, and passes over others.
func receive(t *testing.T, conn *pgconn.PgConn, tag byte) []byte {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		m, err := conn.ReceiveMessage(ctx)
		require.NoError(t, err)
		if frame, ok := m.(*pgproto3.CopyData); ok && len(frame.Data) > 0 && frame.Data[0] == tag {
			return frame.Data
		}
	}
}

// readToCommit reads one transaction, checks its frames against pglogrepl, and returns its end.
func readToCommit(t *testing.T, conn *pgconn.PgConn) uint64 {
	var d pgoutput.Decoder
	for {
		frame := receive(t, conn, pgoutput.TagXLogData)
		x, err := pgoutput.ParseXLogData(frame)
		require.NoError(t, err)
		want, err := pglogrepl.ParseXLogData(frame[1:])
		require.NoError(t, err)
		require.Equal(t, uint64(want.WALStart), x.WALStart)
		require.Equal(t, uint64(want.ServerWALEnd), x.WALEnd)
		require.True(t, want.ServerTime.Equal(x.SendTime.Time()))
		require.Equal(t, want.WALData, x.Data)

		m, err := d.Decode(x.Data)
		require.NoError(t, err)
		if _, ok := m.(*pgoutput.Relation); ok {
			require.Zero(t, x.WALStart)
		}
		if commit, ok := m.(*pgoutput.Commit); ok {
			return commit.EndLSN
		}
	}
}
