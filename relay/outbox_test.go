package relay_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

var outboxTable = &relay.Relation{OID: 5, Schema: "public", Name: "outbox_events", ReplicaIdentity: relay.IdentityDefault, Columns: []relay.Column{
	{Name: "seq", Type: &relay.Type{OID: 20}, Key: true},
	{Name: "event_id", Type: textType},
	{Name: "event_type", Type: textType},
	{Name: "aggregate_type", Type: textType},
	{Name: "aggregate_ns", Type: textType},
	{Name: "aggregate_id", Type: textType},
	{Name: "user_id", Type: textType},
	{Name: "tenant_id", Type: textType},
	{Name: "visibility", Type: textType},
	{Name: "payload", Type: &relay.Type{OID: 3802}},
	{Name: "metadata", Type: &relay.Type{OID: 3802}},
	{Name: "occurred_at", Type: &relay.Type{OID: 1184}},
}}

const (
	outboxID  = "evt_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	otherTime = "2026-01-02 03:04:05.6+00"
)

func TestAnOutboxRowIsPublishedAsTheEventThatItIs(t *testing.T) {
	deep := `{"a":` + strings.Repeat("[", 12000) + strings.Repeat("]", 12000) + `}`
	for _, tc := range []struct {
		name       string
		row        relay.Tuple
		body       string // behind id, type and timestamp
		key        string
		owner      relay.Owner
		visibility relay.Visibility
		at         time.Time
	}{
		{
			"private, named aggregate, metadata",
			row("1", outboxID, "thing.created", "thing", "onet", "15-1252.00", "u1", "t1", "private", `{"a": 1.50}`, `{"trace": "x"}`, otherTime),
			`"key":{"aggregate_type":"thing","aggregate_ns":"onet","aggregate_id":"15-1252.00"}},"data":{"a": 1.50},"metadata":{"trace": "x"}}`,
			"thing/onet/15-1252.00",
			relay.Owner{UserID: "u1", TenantID: "t1"},
			relay.VisibleToOwner, time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC),
		},
		{
			"public, no aggregate, no owner, a time that is none",
			row("1", outboxID, "thing.created", "-", "-", "-", "-", "-", "public", `{}`, `{}`, "infinity"),
			`"key":{}},"data":{}}`, "",
			relay.Owner{},
			relay.VisibleToEveryone, committed,
		},
		{
			"unlisted is not public; no namespace; metadata null",
			row("1", outboxID, "thing.created", "thing", "-", "7", "-", "t1", "unlisted", `{"a": []}`, `-`, otherTime),
			`"key":{"aggregate_type":"thing","aggregate_id":"7"}},"data":{"a": []}}`, "thing/7",
			relay.Owner{TenantID: "t1"},
			relay.VisibleToOwner, time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC),
		},
		{
			"payload deeper than most decoders go",
			row("1", outboxID, "thing.created", "-", "-", "-", "-", "-", "public", deep, `{}`, otherTime),
			`"key":{}},"data":` + deep + `}`, "",
			relay.Owner{},
			relay.VisibleToEveryone, time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := mapAll(0, nil, relay.Change{Op: relay.OpInsert, Relation: outboxTable, New: tc.row})
			require.Empty(t, got.refused)
			require.Len(t, got.events, 1)
			e := got.events[0]
			head := `{"id":"` + outboxID + `","type":"thing.created","timestamp":"` + tc.at.Format("2006-01-02T15:04:05.000000Z") +
				`","source":{"table":"public.outbox_events","op":"insert","lsn":"0/16B3748",`
			require.Equal(t, head+tc.body, string(e.Body))
			require.Equal(t, string(tc.row[9].Data), string(e.Data))
			require.Equal(t, relay.OpInsert, e.Op)
			require.Equal(t, outboxID, e.ID)
			require.Equal(t, tc.key, e.Key)
			require.Equal(t, tc.owner, e.Owner)
			require.Equal(t, tc.visibility, e.Visibility)
			require.True(t, tc.at.Equal(e.OccurredAt))
		})
	}
}

func TestAnOutboxRowThatIsNoEventIsReportedOnce(t *testing.T) {
	good := row("1", outboxID, "thing.created", "-", "-", "-", "-", "-", "public", `{}`, `{}`, otherTime)
	for name, change := range map[string]func(relay.Tuple){
		"no id":                 func(r relay.Tuple) { r[1] = relay.Value{Kind: relay.Null} },
		"no type":               func(r relay.Tuple) { r[2] = relay.Value{Kind: relay.Null} },
		"payload is null":       func(r relay.Tuple) { r[9] = relay.Value{Kind: relay.Null} },
		"payload is no object":  func(r relay.Tuple) { r[9].Data = []byte(`[1]`) },
		"payload was not sent":  func(r relay.Tuple) { r[9] = relay.Value{Kind: relay.Unavailable} },
		"payload is not UTF-8":  func(r relay.Tuple) { r[9].Data = []byte("{\"a\":\"\xff\"}") },
		"payload is empty text": func(r relay.Tuple) { r[9].Data = nil },
	} {
		bad := append(relay.Tuple(nil), good...)
		change(bad)
		got := mapAll(0, nil,
			relay.Change{Op: relay.OpInsert, Relation: outboxTable, New: bad}, relay.Change{Op: relay.OpInsert, Relation: outboxTable, New: bad},
			relay.Change{Op: relay.OpInsert, Relation: outboxTable, New: good})
		require.Len(t, got.events, 1, name)
		require.Len(t, got.refused, 1, name)
		require.Contains(t, got.refused[0], "a row of public.outbox_events at 0/16B3748:0:0 ", name)
	}
}

func TestOnlyInsertsOfEnabledTypesLeaveTheOutbox(t *testing.T) {
	good := row("1", outboxID, "thing.created", "-", "-", "-", "-", "-", "public", `{}`, `{}`, otherTime)
	unknown := row("1", outboxID, "no.such", "-", "-", "-", "-", "-", "public", `{}`, `{}`, otherTime)
	got := mapAll(0, []string{mappingRow("m0", "public.outbox_events", "insert", "thing.updated", "")}, // the outbox has no mappings
		relay.Change{Op: relay.OpUpdate, Relation: outboxTable, New: good},
		relay.Change{Op: relay.OpDelete, Relation: outboxTable, Old: good},
		relay.Change{Op: relay.OpTruncate, Relation: outboxTable},
		relay.Change{Op: relay.OpInsert, Relation: outboxTable, New: unknown},
		relay.Change{Op: relay.OpInsert, Relation: outboxTable, New: good})
	require.Len(t, got.events, 1)
	require.Equal(t, "thing.created", got.events[0].Type)
	require.Empty(t, got.refused)

	catalog := catalogOf()
	catalog.Events["thing.created"] = json.RawMessage(`{"enabled":false}`)
	m := relay.NewMapper(relay.MapperConfig{Catalog: catalog, Outbox: "public.outbox_events", Refuse: func(string, error) {}})
	require.Empty(t, m.Map(nil, &relay.Buffer{}, &relay.Change{Op: relay.OpInsert, Relation: outboxTable, New: good}))
}

func TestAnOutboxEventOverTheLimitIsReduced(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for name, tc := range map[string]struct {
		row         relay.Tuple
		end         string
		unavailable []string
		unlisted    bool
	}{
		"payload": {
			row("1", outboxID, "thing.created", "thing", "-", "7", "-", "-", "public", `{"a": "`+long+`", "b\"": {"c": 1}}`, `{}`, otherTime),
			`,"unavailable":["a","b\""],"oversize":true}`,
			[]string{"a", `b"`},
			false,
		},
		"metadata": {
			row("1", outboxID, "thing.created", "thing", "-", "7", "-", "-", "public", `{}`, `{"a":"`+long+`"}`, otherTime),
			`,"unavailable":[],"oversize":true}`, nil, false,
		},
		"aggregate": {
			row("1", outboxID, "thing.created", "thing", long, "7", "-", "-", "public", `{"a":1}`, `{}`, otherTime),
			`,"unavailable":["a"],"oversize":true}`,
			[]string{"a"},
			false,
		},
		"names": {
			row("1", outboxID, "thing.created", "thing", "-", "7", "-", "-", "public", `{"a": 1, "`+long[:900]+`": 1}`, `{}`, otherTime),
			`,"oversize":true}`, nil, true,
		},
		"names alone": {
			row("1", outboxID, "thing.created", "thing", "-", "7", "-", "-", "public", `{"a": 1, "`+long+`": 1}`, `{}`, otherTime),
			`,"oversize":true}`, nil, true,
		},
		"payload that is deeper than readers go": {
			row("1", outboxID, "thing.created", "thing", "-", "7", "-", "-", "public", `{"a": `+strings.Repeat("[", 12_000)+strings.Repeat("]", 12_000)+`}`, `{}`, otherTime),
			`,"oversize":true}`, nil, true,
		},
	} {
		got := mapAll(1000, nil, relay.Change{Op: relay.OpInsert, Relation: outboxTable, New: tc.row})
		require.Len(t, got.events, 1, name)
		e := got.events[0]
		require.LessOrEqual(t, len(e.Body), 1000, name)
		require.Equal(t, `{}`, string(e.Data), name)
		require.Contains(t, string(e.Body), `"key":{"aggregate_type":"thing","aggregate_id":"7"}},"data":{}`+tc.end, name)
		require.Equal(t, tc.unavailable, e.Unavailable, name)
		require.Equal(t, tc.unlisted, e.Unlisted, name)
		requireReadsBack(t, e)
	}
}
