package pgsource_test

import (
	"context"
	"encoding/json"
	"fmt"
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

// watched is an event whose memory is its own.
type watched struct {
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
	return watchThrough(t, cfg, tables...)
}

// newWatchOfOldRows sets replica identity full where it is not.
func newWatchOfOldRows(t testing.TB, db *pgtest.DB, tables ...string) *watch {
	t.Helper()
	return watchThrough(t, config(db, tables...), tables...)
}

func watchThrough(t testing.TB, cfg pgsource.Config, tables ...string) *watch {
	t.Helper()
	w := &watch{src: start(t, cfg)}
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

// next returns the events of the next n row changes, none of which may have raised
// less than one.
func (w *watch) next(t testing.TB, n int) []watched {
	t.Helper()
	events := w.raised(t, n)
	require.Len(t, events, n, "%v", w.refused)
	return events
}

// raised returns the events that the next n row changes raised.
func (w *watch) raised(t testing.TB, n int) []watched {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out []watched
	for seen := 0; seen < n; {
		b, err := w.src.Next(ctx)
		require.NoError(t, err, "after %d of %d changes", seen, n)
		seen += len(b.Changes)
		var buf relay.Buffer
		for i := range b.Changes {
			for _, e := range w.mapper.Map(nil, &buf, &b.Changes[i]) {
				require.NoError(t, readable(e.Body))
				out = append(out, copied(t, e))
			}
		}
		b.Release()
		require.LessOrEqual(t, seen, n)
	}
	return out
}

// readable reports a body that a delivery process could not read.
func readable(body []byte) error {
	var e relay.Event
	return e.ReadBody(body)
}

func copied(t testing.TB, e relay.Event) watched {
	var body struct {
		Source struct{ Key json.RawMessage }
	}
	require.NoError(t, json.Unmarshal(e.Body, &body))
	out := watched{Event: e, Data: string(e.Data), Previous: string(e.Previous), Key: string(body.Source.Key)}
	out.Event.Body, out.Event.Data, out.Event.Previous = nil, nil, nil
	return out
}

// String shows an event as "update public.t {data} was {previous}", with what is
// unavailable behind it.
func (w watched) String() string {
	s := fmt.Sprintf("%s %s %s", w.Op, w.Table, w.Data)
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

func lines(events []watched) []string {
	var out []string
	for _, e := range events {
		out = append(out, e.String())
	}
	return out
}
