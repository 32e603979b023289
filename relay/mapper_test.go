package relay_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

var committed = time.Date(2026, 11, 23, 10, 0, 0, 123_456_000, time.UTC)

// agents has an owner, a visibility, and something to hide.
var agents = &relay.Relation{OID: 3, Schema: "public", Name: "agents", ReplicaIdentity: relay.IdentityFull, Columns: []relay.Column{
	{Name: "id", Type: textType, Key: true},
	{Name: "user_id", Type: textType},
	{Name: "tenant_id", Type: textType},
	{Name: "visibility", Type: textType},
	{Name: "config", Type: &relay.Type{OID: 3802}},
	{Name: "token", Type: textType},
	{Name: "updated_at", Type: &relay.Type{OID: 1184}},
}}

// row makes a tuple of agents; "-" is NULL and "?" was not sent.
func row(values ...string) relay.Tuple {
	t := tuple(values...)
	for i, v := range values {
		switch v {
		case "-":
			t[i] = relay.Value{Kind: relay.Null}
		case "?":
			t[i] = relay.Value{Kind: relay.Unavailable}
		}
	}
	return t
}

func with(rel *relay.Relation, change func(*relay.Relation)) *relay.Relation {
	out := *rel
	change(&out)
	return &out
}

// mapped is what became of some changes.
type mapped struct {
	events  []relay.Event
	refused []string // what was said, in order; "<mapping> ok" of those that can be used
}

func mapAll(maxBody int, mappings []string, changes ...relay.Change) mapped {
	var out mapped
	m := relay.NewMapper(relay.MapperConfig{
		Identity: relay.Identity{SystemID: "7", Lineage: "l"}, Catalog: catalogOf(mappings...),
		Outbox: "public.outbox_events", MaxBody: maxBody,
		Refuse: func(name string, err error) {
			if err == nil {
				out.refused = append(out.refused, name+" ok")
			} else {
				out.refused = append(out.refused, err.Error())
			}
		},
	})
	var buf relay.Buffer
	for i := range changes {
		c := &changes[i]
		c.Position = relay.Position{CommitLSN: 0x16B3748, Ordinal: uint32(i)}
		c.XID, c.CommitTime = 7, committed
		out.events = m.Map(out.events, &buf, c)
	}
	return out
}

// agentMapping takes its members from rest, which may repeat those of the default.
func agentMapping(op, rest string) string {
	return mappingRow("m0", "public.agents", op, "thing.updated", rest)
}

func TestBodiesAreWhatTheContractSays(t *testing.T) {
	const at = `"type":"thing.updated","timestamp":"2026-11-23T10:00:00.123456Z","source":{"table":"public.agents"`
	full := row("a1", "u1", "-", "public", `{"n": 1.50}`, "s3cret", "2026-11-23 10:00:00.5+00")
	for _, tc := range []struct {
		name    string
		mapping string
		change  relay.Change
		body    string // less its id, which is another test's
		key     string
	}{
		{
			"insert: every published column, NULL as null", agentMapping("insert", ""),
			relay.Change{Op: relay.OpInsert, Relation: agents, New: full},
			`"op":"insert","lsn":"0/16B3748","key":{"id":"a1"}},"data":{"id":"a1","user_id":"u1","tenant_id":null,"visibility":"public","config":{"n": 1.50},"token":"s3cret","updated_at":"2026-11-23T10:00:00.5Z"}}`, "a1",
		},
		{
			"read: raised by an insert mapping, and says what it is", agentMapping("insert", `,"payload_columns":["id"]`),
			relay.Change{Op: relay.OpRead, Relation: agents, New: full},
			`"op":"read","lsn":"0/16B3748","key":{"id":"a1"}},"data":{"id":"a1"}}`, "a1",
		},
		{
			"update: previous holds exactly what changed", agentMapping("update", `,"payload_columns":["id","tenant_id","config","visibility"]`),
			relay.Change{Op: relay.OpUpdate, Relation: agents, Old: row("a1", "u1", "t1", "public", `{"n": 1}`, "old", "2026-11-22 10:00:00+00"), New: full},
			`"op":"update","lsn":"0/16B3748","key":{"id":"a1"}},"data":{"id":"a1","tenant_id":null,"visibility":"public","config":{"n": 1.50}},"previous":{"tenant_id":"t1","config":{"n": 1}}}`, "a1",
		},
		{
			"update: values that the log did not carry are named, not given", agentMapping("update", `,"redact_columns":["token"]`),
			relay.Change{Op: relay.OpUpdate, Relation: agents, Old: row("a1", "u1", "-", "private", "?", "?", "?"), New: row("a1", "u1", "-", "public", "?", "?", "?")},
			`"op":"update","lsn":"0/16B3748","key":{"id":"a1"}},"data":{"id":"a1","user_id":"u1","tenant_id":null,"visibility":"public"},"previous":{"visibility":"private"},"unavailable":["config","updated_at"]}`, "a1",
		},
		{
			"update: columns whose old value the log did not carry may have changed", agentMapping("update", `,"payload_columns":["id","user_id","visibility","token","updated_at"]`),
			relay.Change{Op: relay.OpUpdate, Relation: agents, Old: row("a1", "?", "-", "private", "?", "?", "-"), New: row("a1", "u1", "-", "public", "-", "?", "-")},
			`"op":"update","lsn":"0/16B3748","key":{"id":"a1"}},"data":{"id":"a1","user_id":"u1","visibility":"public","updated_at":null},"previous":{"visibility":"private"},"unavailable":["token"],"previous_unavailable":["user_id"]}`, "a1",
		},
		{
			"update: NULL and a value are a change", agentMapping("update", `,"payload_columns":["tenant_id"]`),
			relay.Change{Op: relay.OpUpdate, Relation: agents, Old: row("a1", "u1", "-", "public", "-", "-", "-"), New: row("a1", "u1", "t1", "public", "-", "-", "-")},
			`"op":"update","lsn":"0/16B3748","key":{"id":"a1"}},"data":{"tenant_id":"t1"},"previous":{"tenant_id":null}}`, "a1",
		},
		{
			"update: the key itself changed", agentMapping("update", `,"payload_columns":["id"]`),
			relay.Change{Op: relay.OpUpdate, Relation: agents, Old: row("a0", "u1", "-", "public", "-", "-", "-"), New: row("a1", "u1", "-", "public", "-", "-", "-")},
			`"op":"update","lsn":"0/16B3748","key":{"id":"a1"}},"data":{"id":"a1"},"previous":{"id":"a0"}}`, "a1",
		},
		{
			"redaction: gone from data, previous and key", agentMapping("update", `,"redact_columns":["token","id"],"payload_columns":["id","user_id","token"]`),
			relay.Change{Op: relay.OpUpdate, Relation: agents, Old: row("a0", "u0", "-", "public", "-", "old", "-"), New: full},
			`"op":"update","lsn":"0/16B3748","key":{}},"data":{"user_id":"u1"},"previous":{"user_id":"u0"}}`, "",
		},
		{
			"key_columns: in their own order", agentMapping("insert", `,"key_columns":["tenant_id","user_id","id"],"payload_columns":["id"]`),
			relay.Change{Op: relay.OpInsert, Relation: agents, New: full},
			`"op":"insert","lsn":"0/16B3748","key":{"tenant_id":null,"user_id":"u1","id":"a1"}},"data":{"id":"a1"}}`, "/u1/a1",
		},
		{
			"delete: the old row", agentMapping("delete", `,"redact_columns":["token"]`),
			relay.Change{Op: relay.OpDelete, Relation: agents, Old: full},
			`"op":"delete","lsn":"0/16B3748","key":{"id":"a1"}},"data":{"id":"a1","user_id":"u1","tenant_id":null,"visibility":"public","config":{"n": 1.50},"updated_at":"2026-11-23T10:00:00.5Z"}}`, "a1",
		},
		{
			"delete with a key identity: the rest is unavailable", agentMapping("delete", ""),
			relay.Change{
				Op: relay.OpDelete, Old: row("a1", "?", "?", "?", "?", "?", "?"),
				Relation: with(agents, func(r *relay.Relation) { r.ReplicaIdentity = relay.IdentityDefault }),
			},
			`"op":"delete","lsn":"0/16B3748","key":{"id":"a1"}},"data":{"id":"a1"},"unavailable":["user_id","tenant_id","visibility","config","token","updated_at"]}`, "a1",
		},
		{
			"truncate: no row", agentMapping("truncate", `,"key_columns":["id","user_id"]`),
			relay.Change{Op: relay.OpTruncate, Relation: agents},
			`"op":"truncate","lsn":"0/16B3748","key":{}},"data":{}}`, "",
		},
		{
			"delete matched by a filter: the row it was rendered for", agentMapping("delete", `,"match_old":{"visibility":"public"}`),
			relay.Change{Op: relay.OpDelete, Relation: agents, Old: row("a1", "-", "-", "public", "-", "-", "-")},
			`"op":"delete","lsn":"0/16B3748","key":{"id":"a1"}},"data":{"id":"a1","user_id":null,"tenant_id":null,"visibility":"public","config":null,"token":null,"updated_at":null}}`, "a1",
		},
		{
			"update matched on both rows: data is the new one", agentMapping("update", `,"match_old":{"visibility":"private"},"match_new":{"visibility":"public"}`),
			relay.Change{Op: relay.OpUpdate, Relation: agents, Old: row("a1", "-", "-", "private", "-", "-", "-"), New: row("a1", "-", "-", "public", "-", "-", "-")},
			`"op":"update","lsn":"0/16B3748","key":{"id":"a1"}},"data":{"id":"a1","user_id":null,"tenant_id":null,"visibility":"public","config":null,"token":null,"updated_at":null},"previous":{"visibility":"private"}}`, "a1",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := mapAll(0, []string{tc.mapping}, tc.change)
			require.Equal(t, []string{"m0 ok"}, got.refused)
			require.Len(t, got.events, 1)
			e := got.events[0]
			require.Equal(t, `{"id":"`+e.ID+`",`+at+`,`+tc.body, string(e.Body))
			require.True(t, json.Valid(e.Body))
			require.Equal(t, relay.EventID(relay.Identity{SystemID: "7", Lineage: "l"}, 7, committed, e.Position, e.Type), e.ID)
			require.Equal(t, tc.key, e.Key)
			require.Equal(t, "public.agents", e.Table)
			require.Equal(t, committed, e.OccurredAt)
			requireReadsBack(t, e)
		})
	}
}

// requireReadsBack demands that what filters see of the event is in its body, for
// this project's own reader and for any other.
func requireReadsBack(t *testing.T, e relay.Event) {
	t.Helper()
	var got relay.Event
	require.NoError(t, got.ReadBody(e.Body), "%s", e.Body)
	want := relay.Event{
		Body: e.Body, Op: e.Op, Data: e.Data, Previous: e.Previous,
		Unavailable: e.Unavailable, PreviousUnavailable: e.PreviousUnavailable, Unlisted: e.Unlisted,
	}
	if len(got.Unavailable) == 0 { // an oversize event has a list in any case
		got.Unavailable = want.Unavailable
	}
	require.Equal(t, want, got)

	var parsed struct {
		Source              struct{ Op string }
		Data, Previous      json.RawMessage
		Unavailable         []string
		PreviousUnavailable []string `json:"previous_unavailable"`
	}
	require.NoError(t, json.Unmarshal(e.Body, &parsed))
	require.Equal(t, e.Op.String(), parsed.Source.Op)
	require.Equal(t, string(e.Data), string(parsed.Data))
	require.Equal(t, string(e.Previous), string(parsed.Previous))
	require.ElementsMatch(t, e.Unavailable, parsed.Unavailable)
	require.Equal(t, e.PreviousUnavailable, parsed.PreviousUnavailable)
	for _, part := range [][]byte{e.Data, e.Previous} {
		require.Equal(t, len(part), cap(part)) // an append to it moves it
	}
}

func TestSeveralEventsOfOneRowAreOrderedByPriorityThenType(t *testing.T) {
	insert := func(id, event, rest string) string {
		return mappingRow(id, "public.agents", "insert", event, `,"payload_columns":["id"]`+rest)
	}
	got := mapAll(0, []string{
		insert("m0", "thing.updated", ""),
		insert("m1", "thing.created", ""),
		insert("m2", "agent.deleted", `,"match_new":{"user_id":"nobody"}`), // takes no index
		insert("m3", "function.created", `,"priority":-2147483648`),
		insert("m4", "agent.deleted", `,"priority":2147483647`),
	}, relay.Change{Op: relay.OpInsert, Relation: agents, New: row("a1", "u1", "-", "public", "-", "-", "-")})
	var order []string
	ids := map[string]bool{}
	for i, e := range got.events {
		require.Equal(t, relay.Position{CommitLSN: 0x16B3748, Index: uint32(i)}, e.Position)
		order = append(order, e.Type)
		ids[e.ID] = true
	}
	require.Equal(t, []string{"function.created", "thing.created", "thing.updated", "agent.deleted"}, order)
	require.Len(t, ids, 4)
}

func TestAChangeRaisesOnlyWhatItsRulesAskFor(t *testing.T) {
	base := row("a1", "u1", "t1", "public", `{"n": 1}`, "s", "2026-11-23 10:00:00+00")
	changed := func(column int, v string) relay.Tuple {
		out := append(relay.Tuple(nil), base...)
		out[column] = row(v)[0]
		return out
	}
	for _, tc := range []struct {
		name    string
		mapping string
		change  relay.Change
		raised  bool
	}{
		{"nothing changed", agentMapping("update", ""), relay.Change{Op: relay.OpUpdate, Old: base, New: base}, false},
		{"an ignored column changed", agentMapping("update", ""), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(6, "2026-11-24 10:00:00+00")}, false},
		{"none is ignored", agentMapping("update", `,"ignored_columns":[]`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(6, "2026-11-24 10:00:00+00")}, true},
		{"a redacted column changed", agentMapping("update", `,"redact_columns":["token"]`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(5, "x")}, true},
		{"a named column changed", agentMapping("update", `,"changed_columns":["config","user_id"]`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(4, `{"n": 2}`)}, true},
		{"a named column is also ignored", agentMapping("update", `,"changed_columns":["updated_at"]`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(6, "2026-11-24 10:00:00+00")}, true},
		{"another than the named columns changed", agentMapping("update", `,"changed_columns":["config","user_id"]`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(2, "t2")}, false},
		{"unchanged out-of-line value", agentMapping("update", `,"changed_columns":["config"]`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(4, "?")}, false},
		{"new row matches", agentMapping("insert", `,"match_new":{"config":{"n":1.0}}`), relay.Change{Op: relay.OpInsert, New: base}, true},
		{"new row does not", agentMapping("insert", `,"match_new":{"config":{"n":2}}`), relay.Change{Op: relay.OpInsert, New: base}, false},
		{"filters see what is redacted from the event", agentMapping("insert", `,"match_new":{"token":"s"},"redact_columns":["token"]`), relay.Change{Op: relay.OpInsert, New: base}, true},
		{"old row matches", agentMapping("update", `,"match_old":{"user_id":"u1"}`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(1, "u2")}, true},
		{"old row does not", agentMapping("update", `,"match_old":{"user_id":"u2"}`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(1, "u2")}, false},
		{"only one of both rows matches", agentMapping("update", `,"match_old":{"user_id":"u1"},"match_new":{"user_id":"u3"}`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(1, "u2")}, false},
		{"the new row is in a range", agentMapping("insert", `,"match_new":{"config":{"n":{"$gte":0.5,"$lt":2}},"$or":[{"user_id":"u2"},{"token":{"$prefix":"s"}}]}`), relay.Change{Op: relay.OpInsert, New: base}, true},
		{"the new row is outside of a range", agentMapping("insert", `,"match_new":{"config":{"n":{"$gt":1}}}`), relay.Change{Op: relay.OpInsert, New: base}, false},
		{"a value within a column changed", agentMapping("update", `,"match_new":{"$changed":["config.n"]}`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(4, `{"n": 2}`)}, true},
		{"a value is only written in another way", agentMapping("update", `,"match_new":{"$changed":["config.n"]}`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(4, `{"n": 1.0}`)}, false},
		{"something outside changed", agentMapping("update", `,"match_new":{"$changed":{"outside":["user_id"]}}`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(2, "t2")}, true},
		{"nothing outside changed", agentMapping("update", `,"match_new":{"$changed":{"outside":["user_id"]}}`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(1, "u2")}, false},
		{"from one value to another", agentMapping("update", `,"match_new":{"user_id":{"$from":"u1","$to":"u2"}}`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(1, "u2")}, true},
		{"from another value", agentMapping("update", `,"match_new":{"user_id":{"$from":"u3","$to":"u2"}}`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(1, "u2")}, false},
		{"what was before, by the rule for the new row", agentMapping("update", `,"match_new":{"$before":{"token":"s"},"token":"x"}`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(5, "x")}, true},
		{"operators on the old row", agentMapping("update", `,"match_old":{"token":{"$in":["s","t"]}}`), relay.Change{Op: relay.OpUpdate, Old: base, New: changed(5, "x")}, true},
		{"operators on the old row that do not hold", agentMapping("delete", `,"match_old":{"token":{"$nin":["s","t"]}}`), relay.Change{Op: relay.OpDelete, Old: base}, false},
		{"the operation of an insert", agentMapping("insert", `,"match_new":{"$op":"insert"}`), relay.Change{Op: relay.OpInsert, New: base}, true},
		{"a row that was read is no insert to a filter", agentMapping("insert", `,"match_new":{"$op":"insert"}`), relay.Change{Op: relay.OpRead, New: base}, false},
		{"a filter on rows that were read", agentMapping("insert", `,"match_new":{"$op":["read","update"]}`), relay.Change{Op: relay.OpRead, New: base}, true},
		{"another operation", agentMapping("insert", ""), relay.Change{Op: relay.OpDelete, Old: base}, false},
		{"a row that was read is new", agentMapping("insert", ""), relay.Change{Op: relay.OpRead, New: base}, true},
		{"a mapping at rest", agentMapping("insert", `,"enabled":false`), relay.Change{Op: relay.OpInsert, New: base}, false},
		{"another table", mappingRow("m0", "public.agent", "insert", "thing.updated", ""), relay.Change{Op: relay.OpInsert, New: base}, false},
	} {
		tc.change.Relation = agents
		got := mapAll(0, []string{tc.mapping}, tc.change)
		require.Equal(t, tc.raised, len(got.events) == 1, "%s: %v", tc.name, got.refused)
	}
}

func TestTheAudienceFailsClosed(t *testing.T) {
	const owner = `,"audience":"owner","user_column":"user_id","tenant_column":"tenant_id"`
	const byRow = `,"audience":"row","user_column":"user_id","visibility_column":"visibility"`
	u1 := relay.Owner{UserID: "u1"}
	for _, tc := range []struct {
		name       string
		op         relay.Op
		audience   string
		old, new   relay.Tuple
		owner      relay.Owner
		visibility relay.Visibility
		previous   string
		untold     []string // previous_unavailable
	}{
		{"everyone", relay.OpInsert, "", nil, row("a", "u1", "t1", "private", "-", "-", "-"), relay.Owner{}, relay.VisibleToEveryone, "", nil},
		{"owner", relay.OpInsert, owner, nil, row("a", "u1", "t1", "public", "-", "-", "-"), relay.Owner{UserID: "u1", TenantID: "t1"}, relay.VisibleToOwner, "", nil},
		{"owner is null", relay.OpInsert, owner, nil, row("a", "-", "-", "public", "-", "-", "-"), relay.Owner{}, relay.VisibleToOwner, "", nil},
		{"owner was not sent", relay.OpInsert, owner, nil, row("a", "?", "t1", "public", "-", "-", "-"), relay.Owner{TenantID: "t1"}, relay.VisibleToOwner, "", nil},
		{"public row", relay.OpInsert, byRow, nil, row("a", "u1", "-", "public", "-", "-", "-"), u1, relay.VisibleToEveryone, "", nil},
		{"private row", relay.OpInsert, byRow, nil, row("a", "u1", "-", "private", "-", "-", "-"), u1, relay.VisibleToOwner, "", nil},
		{"unlisted row", relay.OpInsert, byRow, nil, row("a", "u1", "-", "unlisted", "-", "-", "-"), u1, relay.VisibleToOwner, "", nil},
		{"row that does not say", relay.OpInsert, byRow, nil, row("a", "u1", "-", "-", "-", "-", "-"), u1, relay.VisibleToOwner, "", nil},
		{"visibility was not sent", relay.OpInsert, byRow, nil, row("a", "u1", "-", "?", "-", "-", "-"), u1, relay.VisibleToOwner, "", nil},
		{"deleted private row", relay.OpDelete, byRow, row("a", "u1", "-", "private", "-", "-", "-"), nil, u1, relay.VisibleToOwner, "", nil},
		{"stayed public", relay.OpUpdate, byRow, row("a", "u0", "-", "public", "-", "x", "-"), row("a", "u1", "-", "public", "-", "y", "-"), u1, relay.VisibleToEveryone, `{"user_id":"u0","token":"x"}`, nil},
		{"stayed the owner's", relay.OpUpdate, byRow, row("a", "u1", "-", "private", "-", "x", "-"), row("a", "u1", "-", "private", "-", "y", "-"), u1, relay.VisibleToOwner, `{"token":"x"}`, nil},
		{"became public: what was private stays so", relay.OpUpdate, byRow, row("a", "u1", "-", "private", "-", "x", "-"), row("a", "u1", "-", "public", "-", "y", "-"), u1, relay.VisibleToEveryone, `{"visibility":"private"}`, []string{"id", "user_id", "tenant_id", "config", "token", "updated_at"}},
		{"became private: the owner had seen it", relay.OpUpdate, byRow, row("a", "u1", "-", "public", "-", "x", "-"), row("a", "u1", "-", "private", "-", "y", "-"), u1, relay.VisibleToOwner, `{"visibility":"public","token":"x"}`, nil},
		{"new owner: what was the old one's stays so", relay.OpUpdate, owner, row("a", "u0", "t1", "-", "-", "x", "-"), row("a", "u1", "t1", "-", "-", "y", "-"), relay.Owner{UserID: "u1", TenantID: "t1"}, relay.VisibleToOwner, `{}`, []string{"id", "user_id", "tenant_id", "visibility", "config", "token", "updated_at"}},
		{"new tenant", relay.OpUpdate, owner, row("a", "u1", "t0", "-", "-", "x", "-"), row("a", "u1", "t1", "-", "-", "y", "-"), relay.Owner{UserID: "u1", TenantID: "t1"}, relay.VisibleToOwner, `{}`, []string{"id", "user_id", "tenant_id", "visibility", "config", "token", "updated_at"}},
		{"old owner unknown", relay.OpUpdate, owner, row("a", "?", "t1", "-", "-", "x", "-"), row("a", "u1", "t1", "-", "-", "y", "-"), relay.Owner{UserID: "u1", TenantID: "t1"}, relay.VisibleToOwner, `{}`, []string{"id", "user_id", "tenant_id", "visibility", "config", "token", "updated_at"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := mapAll(0, []string{agentMapping(tc.op.String(), tc.audience)}, relay.Change{Op: tc.op, Relation: agents, Old: tc.old, New: tc.new})
			require.Len(t, got.events, 1)
			e := got.events[0]
			require.Equal(t, tc.owner, e.Owner)
			require.Equal(t, tc.visibility, e.Visibility)
			var body struct{ Previous json.RawMessage }
			require.NoError(t, json.Unmarshal(e.Body, &body))
			require.Equal(t, tc.previous, string(body.Previous))
			require.Equal(t, tc.untold, e.PreviousUnavailable)
			requireReadsBack(t, e)
		})
	}
}

func TestABodyOverTheLimitIsReducedToItsKey(t *testing.T) {
	long := strings.Repeat("x", 4000)
	insert := relay.Change{Op: relay.OpInsert, Relation: agents, New: row("a1", "u1", "-", "public", "-", long, "-")}
	for _, tc := range []struct {
		name, rest, key, data string
		unavailable           []string
	}{
		{"whole row", "", `{"id":"a1"}`, `{"id":"a1"}`, []string{"user_id", "tenant_id", "visibility", "config", "token", "updated_at"}},
		{"redacted and chosen columns", `,"payload_columns":["id","token","user_id"],"redact_columns":["user_id"]`, `{"id":"a1"}`, `{"id":"a1"}`, []string{"token"}},
		{"key that is no part of the payload", `,"payload_columns":["token"]`, `{"id":"a1"}`, `{}`, []string{"token"}},
		{"key that is too long itself", `,"key_columns":["token"],"payload_columns":["token","id"]`, `{}`, `{}`, []string{"id", "token"}},
	} {
		got := mapAll(1000, []string{agentMapping("insert", tc.rest)}, insert)
		require.Len(t, got.events, 1, tc.name)
		e := got.events[0]
		require.LessOrEqual(t, len(e.Body), 1000, tc.name)
		require.Equal(t, tc.unavailable, e.Unavailable, tc.name)
		require.Equal(t, tc.data, string(e.Data), tc.name)
		var body struct {
			Oversize    bool
			Unavailable []string
			Source      struct{ Key json.RawMessage }
		}
		require.NoError(t, json.Unmarshal(e.Body, &body), tc.name)
		require.True(t, body.Oversize, tc.name)
		require.Equal(t, tc.unavailable, body.Unavailable, tc.name)
		require.Equal(t, tc.key, string(body.Source.Key), tc.name)
	}
}

func TestAnUpdateOverTheLimitTellsWhatMayHaveChanged(t *testing.T) {
	long := strings.Repeat("x", 4000)
	const byRow = `,"audience":"row","visibility_column":"visibility","key_columns":["id","user_id"]`
	for _, tc := range []struct {
		name, rest          string
		old, new            relay.Tuple
		data, previous      string
		unavailable, untold []string
	}{
		{
			"the old value is the large one", "", row("a1", "u1", "-", "public", "-", long, "-"), row("a1", "u1", "-", "public", "-", "y", "-"),
			`{"id":"a1"}`, `{}`,
			[]string{"user_id", "tenant_id", "visibility", "config", "token", "updated_at"},
			[]string{"token"},
		},
		{
			"a key column changed, and one that the log did not carry may have", `,"key_columns":["id","user_id"]`,
			row("a1", "u1", "?", "public", "-", long, "?"), row("a1", "u2", "t", "public", "-", long, "?"),
			`{"id":"a1","user_id":"u2"}`, `{"user_id":"u1"}`,
			[]string{"tenant_id", "visibility", "config", "token", "updated_at"},
			[]string{"tenant_id"},
		},
		{
			"the old row was hidden", byRow, row("a1", "u1", "-", "private", "-", "-", "-"), row("a1", "u2", "-", "public", "-", long, "-"),
			`{"id":"a1","user_id":"u2"}`, `{}`,
			[]string{"tenant_id", "visibility", "config", "token", "updated_at"},
			[]string{"id", "user_id", "tenant_id", "visibility", "config", "token", "updated_at"},
		},
		{
			"no column is kept", `,"key_columns":["token"],"redact_columns":["user_id"]`,
			row("a1", "u1", "-", "public", "-", "y", "-"), row("a1", "u2", "-", "public", "-", long, "-"),
			`{}`, `{}`,
			[]string{"id", "tenant_id", "visibility", "config", "token", "updated_at"},
			[]string{"token"},
		},
	} {
		got := mapAll(1000, []string{agentMapping("update", tc.rest)}, relay.Change{Op: relay.OpUpdate, Relation: agents, Old: tc.old, New: tc.new})
		require.Len(t, got.events, 1, tc.name)
		e := got.events[0]
		require.LessOrEqual(t, len(e.Body), 1000, tc.name)
		require.Equal(t, tc.data, string(e.Data), tc.name)
		require.Equal(t, tc.previous, string(e.Previous), tc.name)
		require.Equal(t, tc.unavailable, e.Unavailable, tc.name)
		require.Equal(t, tc.untold, e.PreviousUnavailable, tc.name)
		require.Contains(t, string(e.Body), `"oversize":true`, tc.name)
		requireReadsBack(t, e)
	}
}

func TestTheWidestTableFitsIntoAMessageByItsNames(t *testing.T) {
	wide := &relay.Relation{OID: 9, Schema: "public", Name: "wide", ReplicaIdentity: relay.IdentityFull}
	var before, after relay.Tuple
	for i := range 1600 { // the most that Postgres allows
		name := fmt.Sprintf("%063d", i)
		wide.Columns = append(wide.Columns, relay.Column{Name: name, Type: textType, Key: i == 0})
		before = append(before, relay.Value{Kind: relay.Unavailable})
		after = append(after, relay.Value{Kind: relay.Text, Data: []byte(strings.Repeat("x", 1000))})
	}
	before[0] = relay.Value{Kind: relay.Text, Data: []byte("before")}
	change := relay.Change{Op: relay.OpUpdate, Relation: wide, Old: before, New: after}
	mapping := []string{mappingRow("m0", "public.wide", "update", "thing.updated", "")}
	e := mapAll(1<<20-16<<10, mapping, change).events[0] // as NATS has it by default
	require.LessOrEqual(t, len(e.Body), 1<<20-16<<10)
	require.Len(t, e.Unavailable, 1599)
	require.Len(t, e.PreviousUnavailable, 1599)
	require.False(t, e.Unlisted)

	e = mapAll(16<<10, mapping, change).events[0] // the smallest that the relay works with
	require.LessOrEqual(t, len(e.Body), 16<<10)
	require.True(t, e.Unlisted)
	requireReadsBack(t, e)
}
