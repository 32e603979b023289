package webhook_test

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

// orders is the table whose changes the subscriptions of this test ask about.
var orders = func() *relay.Relation {
	text, number, document := &relay.Type{OID: 25}, &relay.Type{OID: 1700}, &relay.Type{OID: 3802}
	return &relay.Relation{OID: 1, Schema: "public", Name: "orders", ReplicaIdentity: relay.IdentityFull, Columns: []relay.Column{
		{Name: "id", Type: text, Key: true},
		{Name: "status", Type: text},
		{Name: "total", Type: number},
		{Name: "items", Type: document},
		{Name: "visibility", Type: text},
		{Name: "note", Type: text},
	}}
}()

// order is a row of orders; "?" was not sent.
func order(values ...string) relay.Tuple {
	row := make(relay.Tuple, len(values))
	for i, v := range values {
		row[i] = relay.Value{Kind: relay.Text, Data: []byte(v)}
		if v == "?" {
			row[i] = relay.Value{Kind: relay.Unavailable}
		}
	}
	return row
}

// raise maps the changes and appends their events to the feed as they are read from
// the stream: from their bodies.
func (s *stage) raise(t *testing.T, audience string, changes ...relay.Change) {
	t.Helper()
	catalog := relay.NewCatalog()
	catalog.Events["thing.updated"] = json.RawMessage(`{"event_type":"thing.updated","enabled":true}`)
	for _, op := range []string{"insert", "update", "delete"} {
		catalog.Mappings[op] = json.RawMessage(`{"id":"` + op + `","source_table":"public.orders","operation":"` + op +
			`","event_type":"thing.updated","enabled":true,` + audience + `}`)
	}
	m := relay.NewMapper(relay.MapperConfig{
		Catalog: catalog, MaxBody: 4000, Refuse: func(name string, err error) { require.NoError(t, err, name) },
	})
	var buf relay.Buffer
	for i := range changes {
		c := &changes[i]
		c.Relation, c.Position.CommitLSN, c.Position.Ordinal = orders, 1, uint32(i)
		events := m.Map(nil, &buf, c)
		require.Len(t, events, 1)
		e := relay.Event{ID: events[0].ID, Type: events[0].Type, Visibility: events[0].Visibility, Owner: events[0].Owner}
		require.NoError(t, e.ReadBody(events[0].Body))
		s.feed.Append(e)
	}
}

const (
	toEveryone = `"audience":"everyone"`
	byRow      = `"audience":"row","visibility_column":"visibility"`
)

func TestSubscriptionsAskAboutTheWholeChange(t *testing.T) {
	paid := order("1", "paid", "120.50", `[{"sku": "A-1", "qty": 3}, {"sku": "B-1", "qty": 1}]`, "public", "x")
	with := func(row relay.Tuple, column int, v string) relay.Tuple {
		out := append(relay.Tuple(nil), row...)
		out[column] = order(v)[0]
		return out
	}
	open := with(paid, 1, "open")
	changes := []relay.Change{
		{Op: relay.OpInsert, New: open},                                     // a
		{Op: relay.OpUpdate, Old: open, New: paid},                          // b
		{Op: relay.OpUpdate, Old: paid, New: with(paid, 5, "y")},            // c
		{Op: relay.OpUpdate, Old: paid, New: with(paid, 2, "80")},           // d
		{Op: relay.OpUpdate, Old: paid, New: with(paid, 3, `[{"qty": 9}]`)}, // e
		{Op: relay.OpDelete, Old: paid},                                     // f
		{Op: relay.OpRead, New: paid},                                       // g
	}
	want := map[string]string{
		`{}`:                        "abcdefg",
		`{"$op":"update"}`:          "bcde",
		`{"$op":["delete","read"]}`: "fg",
		`{"$changed":["status"]}`:   "abg",
		`{"$op":"update","$changed":["status","/total"]}`:        "bd",
		`{"$op":"update","$changed":{"outside":["note"]}}`:       "bde",
		`{"$changed":["items.0.qty"]}`:                           "aeg",
		`{"status":{"$from":"open","$to":"paid"}}`:               "b",
		`{"status":{"$to":"paid"}}`:                              "bg",
		`{"status":{"$from":"open"}}`:                            "b",
		`{"$before":{"status":"paid"}}`:                          "cdef",
		`{"$before":{"total":{"$gt":100}},"total":{"$lt":100}}`:  "d",
		`{"total":{"$gte":80,"$lt":120.5}}`:                      "d",
		`{"items":[{"qty":{"$gte":3},"sku":{"$prefix":"A"}}]}`:   "abcdfg",
		`{"items":[{"qty":{"$gte":3},"sku":{"$prefix":"B"}}]}`:   "",
		`{"$or":[{"status":"open"},{"note":{"$contains":"y"}}]}`: "ac",
		`{"$not":{"status":{"$in":["open","paid"]}}}`:            "",
		`{"gone":{"$exists":false},"status":{"$ne":"open"}}`:     "bcdefg",
	}
	s := newStage(t, time.Minute)
	names := map[string]string{} // of the endpoint, by filter
	for filter := range want {
		id := string(rune('A' + len(names)))
		names[filter] = id
		s.subs.Put(s.subscription(t, id, filter))
	}
	start(t, s.config())
	s.raise(t, toEveryone, changes...)
	eventually(t, func() bool { return s.feed.Open() == 0 }, "all acked")
	order := map[string]int{} // of the events, by body
	for _, r := range s.received(names[`{}`]) {
		for i, part := range []string{
			`"op":"insert"`, `"previous":{"status":"open"}`, `"previous":{"note":"x"}`, `"previous":{"total":120.50}`,
			`"previous":{"items":`, `"op":"delete"`, `"op":"read"`,
		} {
			if strings.Contains(r.body, part) {
				order[r.body] = i
			}
		}
	}
	require.Len(t, order, len(changes))
	for filter, expected := range want {
		got := make([]byte, len(changes))
		for _, r := range s.received(names[filter]) {
			got[order[r.body]] = 'a' + byte(order[r.body])
		}
		require.Equal(t, expected, strings.ReplaceAll(string(got), "\x00", ""), filter)
	}
}

func TestAFilterOnWhatAnEventDoesNotTellIsCountedAndNotMissed(t *testing.T) {
	row := order("1", "paid", "120.50", `[]`, "public", "x")
	with := func(column int, v string) relay.Tuple {
		out := append(relay.Tuple(nil), row...)
		out[column] = order(v)[0]
		return out
	}
	large := strings.Repeat("x", 5000)
	for _, tc := range []struct {
		name, audience string
		change         relay.Change
		filters        map[string]string // to what becomes of it: yes, no or unknown
	}{
		{
			"the old row was hidden from those who see the event", byRow,
			relay.Change{Op: relay.OpUpdate, Old: with(4, "private"), New: row},
			map[string]string{
				`{"visibility":{"$from":"private","$to":"public"}}`: "yes",
				`{"$changed":["visibility"]}`:                       "yes",
				`{"$changed":["note"]}`:                             "unknown",
				`{"$changed":{"outside":["visibility"]}}`:           "unknown",
				`{"$before":{"note":"x"}}`:                          "unknown",
				`{"$before":{"note":"y"}}`:                          "unknown",
				`{"note":{"$to":"x"}}`:                              "unknown",
				`{"note":{"$to":"y"}}`:                              "no",
				`{"note":"x"}`:                                      "yes",
			},
		},
		{
			"the log did not carry a value", toEveryone,
			relay.Change{Op: relay.OpUpdate, Old: order("1", "open", "120.50", "?", "public", "?"), New: order("1", "paid", "120.50", "[]", "public", "?")},
			map[string]string{
				`{"status":{"$from":"open"}}`:                 "yes",
				`{"note":"x"}`:                                "unknown",
				`{"note":{"$exists":true}}`:                   "yes",
				`{"$not":{"note":"x"}}`:                       "unknown",
				`{"$changed":["items"]}`:                      "unknown",
				`{"$changed":["note"]}`:                       "no", // what is not sent again did not change
				`{"$changed":["items","status"]}`:             "yes",
				`{"$before":{"items":[1]},"total":{"$gt":1}}`: "unknown",
				`{"$before":{"items":[1]},"total":{"$lt":1}}`: "no",
			},
		},
		{
			"the event did not fit", toEveryone,
			relay.Change{Op: relay.OpUpdate, Old: row, New: with(5, large)},
			map[string]string{
				`{}`: "yes", `{"id":"1"}`: "yes", `{"id":"2"}`: "no", `{"status":"paid"}`: "unknown", `{"status":{"$exists":false}}`: "no",
				`{"$op":"update"}`: "yes", `{"$changed":["note"]}`: "unknown", `{"$changed":["id"]}`: "no", `{"$changed":["id","status"]}`: "no", `{"gone":1}`: "no",
				`{"id":"2","note":{"$suffix":"x"}}`: "no",
			},
		},
		{
			"only the key of a deleted row is known", toEveryone,
			relay.Change{Op: relay.OpDelete, Old: order("1", "?", "?", "?", "?", "?")},
			map[string]string{`{"id":"1"}`: "yes", `{"status":"paid"}`: "unknown", `{"$before":{"id":"1"}}`: "yes", `{"$changed":["status"]}`: "no"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStage(t, time.Minute)
			for filter := range tc.filters {
				s.subs.Put(s.subscription(t, "f"+hexOf(filter), filter))
			}
			var undecided atomic.Int64
			cfg := s.config()
			cfg.Observer.Undecided = func(n int) { undecided.Add(int64(n)) }
			start(t, cfg)
			s.raise(t, tc.audience, tc.change)
			eventually(t, func() bool { return s.feed.Open() == 0 }, "acked")
			open := 0
			for filter, want := range tc.filters {
				if want == "unknown" {
					open++
				}
				require.Equal(t, want == "yes", s.count("f"+hexOf(filter)) == 1, filter)
			}
			require.EqualValues(t, open, undecided.Load())
		})
	}
}

// hexOf makes a filter part of a URL.
func hexOf(filter string) string { return hex.EncodeToString([]byte(filter)) }
