package pgsource_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgsource"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { pgtest.Main(m) }

// config names a slot after the database: slots are shared by all of them.
func config(db *pgtest.DB, tables ...string) pgsource.Config {
	cfg := pgsource.Config{
		URL: secret.New(db.URL), Slot: "slot_" + db.Name, Publication: "pub", CreateSlot: true,
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, name := range tables {
		cfg.Tables = append(cfg.Tables, relay.TableNeed{Name: name, OldRows: true})
	}
	return cfg
}

func open(t testing.TB, cfg pgsource.Config) *pgsource.Source {
	t.Helper()
	src, err := pgsource.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { closeSource(t, src) })
	return src
}

func start(t testing.TB, cfg pgsource.Config) *pgsource.Source {
	t.Helper()
	src := open(t, cfg)
	require.NoError(t, src.Start(t.Context()))
	return src
}

func closeSource(t testing.TB, src *pgsource.Source) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, src.Close(ctx))
}

// row is a change copied out of its batch.
type row struct {
	relay.Change
	Commit relay.LSN // end of its transaction
}

// read returns the next n row changes, and the position that closes the last.
func read(t testing.TB, src *pgsource.Source, n int) []row {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out []row
	for {
		b, err := src.Next(ctx)
		require.NoError(t, err, "after %d of %d changes", len(out), n)
		for _, c := range b.Changes {
			c.Old, c.New = clone(c.Old), clone(c.New)
			out = append(out, row{Change: c})
		}
		if b.Commit != 0 && !b.Open {
			for i := range out {
				if out[i].Commit == 0 {
					out[i].Commit = b.Commit
				}
			}
		}
		open := b.Open
		b.Release()
		if len(out) >= n && !open && (n == 0 || out[len(out)-1].Commit != 0) {
			require.Len(t, out, n, "%v", texts(out))
			return out
		}
	}
}

func clone(t relay.Tuple) relay.Tuple {
	if t == nil {
		return nil
	}
	out := make(relay.Tuple, len(t))
	for i, v := range t {
		out[i] = relay.Value{Kind: v.Kind, Data: append([]byte(nil), v.Data...)}
	}
	return out
}

// text shows a change as "update t old(1,?) new(1,NULL)"; ? is not known.
func text(c relay.Change) string {
	s := c.Op.String() + " " + c.Relation.Name
	if c.Old != nil {
		s += " old" + tuple(c.Old)
	}
	if c.New != nil {
		s += " new" + tuple(c.New)
	}
	return s
}

func tuple(t relay.Tuple) string {
	var vs []string
	for _, v := range t {
		switch {
		case v.Kind == relay.Null:
			vs = append(vs, "NULL")
		case v.Kind == relay.Unavailable:
			vs = append(vs, "?")
		case len(v.Data) > 40:
			vs = append(vs, fmt.Sprintf("%d bytes", len(v.Data)))
		default:
			vs = append(vs, string(v.Data))
		}
	}
	return "(" + strings.Join(vs, ",") + ")"
}

func texts(rows []row) []string {
	var out []string
	for _, r := range rows {
		out = append(out, text(r.Change))
	}
	return out
}

// confirmedOf is the slot's position as the server knows it.
func confirmedOf(db *pgtest.DB, slot string) relay.LSN {
	lsn, err := relay.ParseLSN(pgtest.One[string](db, "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", slot))
	if err != nil {
		return 0
	}
	return lsn
}
