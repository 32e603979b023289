package pgsource_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgsource"
)

// watch walks the whole way from a row change to an event: a source, and a mapper
// that makes an event of every change of the watched tables.
type watch struct {
	src     *pgsource.Source
	mapper  *relay.Mapper
	refused []string
}

// raised is an event whose memory is its own.
type raised struct {
	relay.Event
	Data, Previous string
	Key            string // source.key
}

// newWatch starts to watch tables, schema.table. Their replica identity is left as it is.
func newWatch(t testing.TB, db *pgtest.DB, tables ...string) *watch {
	t.Helper()
	cfg := config(db)
	for _, name := range tables {
		cfg.Tables = append(cfg.Tables, relay.TableNeed{Name: name})
	}
	w := openWatch(t, cfg, tables...)
	require.NoError(t, w.src.Start(t.Context()))
	return w
}

// openWatch opens the source without starting it.
func openWatch(t testing.TB, cfg pgsource.Config, tables ...string) *watch {
	t.Helper()
	w := &watch{src: open(t, cfg)}
	w.mapper = everyChange(t, w, tables)
	return w
}

// everyChange maps each operation of each table to an event for everyone.
func everyChange(t testing.TB, w *watch, tables []string) *relay.Mapper {
	catalog := relay.NewCatalog()
	catalog.Events["row.changed"] = json.RawMessage(`{"enabled":true}`)
	for _, name := range tables {
		for _, op := range []string{"insert", "update", "delete", "truncate"} {
			id := name + " " + op
			row, err := json.Marshal(map[string]any{
				"id": id, "event_type": "row.changed", "source_table": name, "operation": op, "audience": "everyone", "enabled": true,
			})
			require.NoError(t, err)
			catalog.Mappings[id] = row
		}
	}
	return relay.NewMapper(relay.MapperConfig{
		Identity: relay.Identity{SystemID: "7", Lineage: "l"}, Catalog: catalog,
		Refuse: func(name string, err error) {
			if err != nil {
				w.refused = append(w.refused, err.Error())
			}
		},
	})
}

// next returns the events of the next n row changes, of which each must have raised
// one.
func (w *watch) next(t testing.TB, n int) []raised {
	t.Helper()
	changes := 0
	events := w.read(t, func(b *relay.Batch, _ []raised) bool {
		changes += len(b.Changes)
		return changes >= n
	})
	require.Len(t, events, n, "%v", w.refused)
	return events
}

// until returns the events up to one of the given table, and leaves that one out.
func (w *watch) until(t testing.TB, table string) []raised {
	t.Helper()
	events := w.read(t, func(_ *relay.Batch, events []raised) bool {
		return len(events) > 0 && events[len(events)-1].Table == table
	})
	return events[:len(events)-1]
}

func (w *watch) read(t testing.TB, done func(*relay.Batch, []raised) bool) []raised {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out []raised
	for {
		b, err := w.src.Next(ctx)
		require.NoError(t, err, "after %v", lines(out))
		var buf relay.Buffer
		for i := range b.Changes {
			for _, e := range w.mapper.Map(nil, &buf, &b.Changes[i]) {
				require.NoError(t, readable(e.Body))
				out = append(out, copied(t, e))
			}
		}
		enough := done(b, out)
		b.Release()
		if enough {
			return out
		}
	}
}

// readable reports a body that a delivery process could not read.
func readable(body []byte) error {
	var e relay.Event
	return e.ReadBody(body)
}

func copied(t testing.TB, e relay.Event) raised {
	var body struct {
		Source struct{ Key json.RawMessage }
	}
	require.NoError(t, json.Unmarshal(e.Body, &body))
	out := raised{Event: e, Data: string(e.Data), Previous: string(e.Previous), Key: string(body.Source.Key)}
	out.Body, out.Event.Data, out.Event.Previous = nil, nil, nil
	return out
}

// String shows an event as "update t {key} {data} was {previous}", with what is
// unavailable behind it.
func (w raised) String() string {
	s := fmt.Sprintf("%s %s %s %s", w.Op, strings.TrimPrefix(w.Table, "public."), w.Key, w.Data)
	if w.Op == relay.OpUpdate {
		s += " was " + w.Previous
	}
	if len(w.Unavailable) > 0 {
		s += fmt.Sprintf(" unavailable %v", w.Unavailable)
	}
	if len(w.PreviousUnavailable) > 0 {
		s += fmt.Sprintf(" previous unavailable %v", w.PreviousUnavailable)
	}
	return s
}

func lines(events []raised) []string {
	var out []string
	for _, e := range events {
		out = append(out, e.String())
	}
	return out
}
