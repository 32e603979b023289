package pgsource

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgoutput"
)

// allocated measures the bytes allocated in this process between two calls.
func allocated() func() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	return func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64() - before
	}
}

// said is a wire on which a server says these bytes and hangs up.
func said(t *testing.T, b []byte) *wire {
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = server.Write(b)
		_ = server.Close()
	}()
	t.Cleanup(func() { _ = client.Close(); <-done })
	return newWire(client)
}

func header(kind byte, length uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, length)
}

func TestALengthThatIsOnlyClaimedTakesLittleMemory(t *testing.T) {
	w := said(t, append(header('d', 1<<30), make([]byte, readBuffer)...))
	got := allocated()
	_, _, _, err := w.next()
	require.Error(t, err)
	require.Less(t, got(), uint64(2*believed))
	require.Equal(t, 1<<30-4-readBuffer, w.rest)

	for _, length := range []uint32{0, 3, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		w := said(t, header('d', length))
		_, _, _, err := w.next()
		require.ErrorContains(t, err, "claims", length)
	}
}

func TestALargeMessageArrivesWhole(t *testing.T) {
	for _, size := range []int{readBuffer, believed - 1, believed, believed + 1, 5*believed + 3} {
		b := append(header('d', uint32(size+4)), make([]byte, size)...)
		for i := range size {
			b[headerSize+i] = byte(i >> 8)
		}
		w := said(t, append(b, header('Z', 4)...))
		kind, body, kept, err := w.next()
		require.NoError(t, err)
		require.True(t, kept)
		require.Equal(t, byte('d'), kind)
		require.Equal(t, sha256.Sum256(b[headerSize:]), sha256.Sum256(body), size)
		require.Zero(t, w.rest)
		kind, _, _, err = w.next()
		require.NoError(t, err)
		require.Equal(t, byte('Z'), kind)
	}
}

func TestALargeLogicalMessageIsPassedOverWithoutReadingIt(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	src, err := Open(t.Context(), Config{
		URL: secret.New(db.URL), Slot: "slot_" + db.Name, Publication: "pub", CreateSlot: true,
		Tables: []relay.TableNeed{{Name: "public.t"}}, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	closeAtEnd(t, src)
	require.NoError(t, src.Start(t.Context()))
	got := allocated()
	db.Exec(`begin; insert into t values (1); select pg_logical_emit_message(true, 'p', repeat('x', 60000000)); insert into t values (2); commit`)
	db.Exec(`select pg_logical_emit_message(false, 'p', repeat('x', 60000000))`)
	db.Exec(`insert into t values (3)`)
	var ids []string
	for len(ids) < 3 {
		b, err := src.Next(t.Context())
		require.NoError(t, err)
		for _, c := range b.Changes {
			ids = append(ids, fmt.Sprintf("%s:%d", c.New[0].Data, c.Position.Ordinal))
		}
		b.Release()
	}
	require.Equal(t, []string{"1:0", "2:1", "3:0"}, ids)
	require.Less(t, got(), uint64(16<<20))
	require.Zero(t, src.Skipped())
}

func TestNoRowIsReadWithAnAllocation(t *testing.T) {
	r := offlineReader()
	r.pool = pool{maxChanges: 1000, maxBytes: 1 << 20}
	r.cur = r.pool.get()
	r.rels[1] = &relation{Relation: &relay.Relation{OID: 1, Schema: "s", Name: "t", Columns: make([]relay.Column, 3)}}
	frame := func(message string) []byte {
		return append(make([]byte, 25), message...)
	}
	row := "\x00\x03" + "t\x00\x00\x00\x05hello" + "u" + "n"
	frames := [][]byte{
		frame("B\x00\x00\x00\x00\x00\x00\x00\x09" + "\x00\x03\x03\xec\x69\xac\xa2\x40" + "\x00\x00\x02\xeb"),
		frame("I\x00\x00\x00\x01N" + row),
		frame("U\x00\x00\x00\x01O" + row + "N" + row),
		frame("U\x00\x00\x00\x01N" + row),
		frame("D\x00\x00\x00\x01K" + row),
		frame("M\x01\x00\x00\x00\x00\x00\x00\x00\x09p\x00\x00\x00\x00\x01x"),
		frame("C\x00\x00\x00\x00\x00\x00\x00\x00\x09" + "\x00\x00\x00\x00\x00\x00\x00\x10" + "\x00\x03\x03\xec\x69\xac\xa2\x40"),
	}
	for i := range frames {
		frames[i][0] = 'w'
	}
	ctx := t.Context()
	transaction := func() {
		for _, f := range frames {
			if err := r.message(ctx, 'd', f, false); err != nil {
				panic(err)
			}
		}
	}
	batch := func() {
		r.cur.reset()
		for range 100 {
			transaction()
		}
	}
	batch() // makes room
	batch()
	require.Zero(t, testing.AllocsPerRun(1000, batch))
	require.Len(t, r.cur.Changes, 400)
	require.Equal(t, time.UTC, r.cur.Changes[0].CommitTime.Location())
}

func TestDroppedTablesAreForgottenOnceTheirLogWasRead(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	alive := pgtest.One[uint32](db, "select 't'::regclass::oid")
	conn, err := connectSQL(t.Context(), secret.New(db.URL))
	require.NoError(t, err)
	defer closeSQL(t.Context(), conn)
	r := offlineReader()
	r.s.catalog = &catalog{conn: conn, keys: map[uint32][]string{}}
	r.pruneAt = 3
	for _, oid := range []uint32{alive, 4_000_000_001, 4_000_000_002} {
		r.rels[oid], r.s.catalog.keys[oid] = &relation{}, []string{"id"}
	}
	r.tx.final = 1
	require.NoError(t, r.prune(t.Context()))
	require.Len(t, r.rels, 3, "their rows may still come")
	require.ElementsMatch(t, []uint32{4_000_000_001, 4_000_000_002}, r.dead)
	r.tx.final = r.deadAt
	require.NoError(t, r.prune(t.Context()))
	require.Len(t, r.rels, 3)
	r.tx.final++
	require.NoError(t, r.prune(t.Context()))
	require.Len(t, r.rels, 1)
	require.NotNil(t, r.rels[alive])
	require.Len(t, r.s.catalog.keys, 1)
	require.Equal(t, maxKept, r.pruneAt)
}

func TestTypesThatCannotBeLookedUpAgainStayAsTheyWere(t *testing.T) {
	c := &catalog{url: secret.New("postgres://127.0.0.1:1/none")}
	db := pgtest.New(t)
	conn, err := connectSQL(t.Context(), secret.New(db.URL))
	require.NoError(t, err)
	closeSQL(t.Context(), conn)
	c.conn = conn
	pair := &relay.Type{Kind: relay.Composite, Fields: []relay.Field{{Name: "a", Type: &relay.Type{OID: 25}}}}
	rel := &relation{
		Relation: &relay.Relation{Columns: []relay.Column{{Name: "p", Type: pair}}}, composites: []int{0},
		message: &pgoutput.Relation{Columns: []pgoutput.Column{{Name: "p", TypeOID: 20000}}}, told: make([]typeName, 1),
	}
	now := c.refresh(t.Context(), rel, pgoutput.Tuple{{Kind: pgoutput.Text, Data: []byte("(1,2)")}})
	require.Same(t, rel.Relation, now.Relation)
	require.Equal(t, []int{0}, now.composites)
	require.True(t, now.misfit)
	require.WithinDuration(t, time.Now(), now.looked, time.Minute)
}

// FuzzNoMessageBreaksTheReader feeds it messages that no server would send: each either
// ends the stream with an error or leaves changes that have a value for every column.
func FuzzNoMessageBreaksTheReader(f *testing.F) {
	message := func(kind byte, body string) string { return string(kind) + string(rune(len(body))) + body }
	frame := func(b string) string { return message('d', "w"+string(make([]byte, 24))+b) }
	begin := frame("B\x00\x00\x00\x00\x00\x00\x00\x09" + string(make([]byte, 12)))
	f.Add([]byte(begin + frame("I\x00\x00\x00\x01N\x00\x01n") + frame("T\x00\x00\x00\x01\x00\x00\x00\x00\x01")))
	f.Add([]byte(begin + frame("U\x00\x00\x00\x01K\x00\x01nN\x00\x01u") + frame("D\x00\x00\x00\x01O\x00\x01n") + frame("Y\x00\x00\x00\x01a\x00b\x00")))
	f.Add([]byte(message('d', "k"+string(make([]byte, 17))) + message('E', "SERROR\x00C57P01\x00\x00") + message('N', "C55000\x00\x00") + message('c', "")))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := offlineReader()
		r.rels[1] = &relation{Relation: &relay.Relation{OID: 1, Schema: "s", Name: "t", Columns: make([]relay.Column, 1)}}
		for len(b) >= 2 && len(r.cur.Changes) < 100 {
			kind, n := b[0], min(int(b[1]), len(b)-2)
			body := b[2 : 2+n]
			b = b[2+n:]
			if n > 25 && body[25] == byte(pgoutput.KindRelation) {
				continue // would be looked up
			}
			if r.message(t.Context(), kind, body, false) != nil {
				break
			}
		}
		for _, c := range r.cur.Changes {
			require.NotNil(t, c.Relation)
			require.True(t, c.New == nil || len(c.New) == len(c.Relation.Columns))
			require.True(t, c.Old == nil || len(c.Old) == len(c.Relation.Columns))
		}
	})
}
