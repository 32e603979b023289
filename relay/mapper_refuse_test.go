package relay_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

func withIdentity(identity byte) *relay.Relation {
	return with(agents, func(r *relay.Relation) { r.ReplicaIdentity = identity })
}

func TestAMappingThatTheTableCannotAnswerIsRefusedWithTheRemedy(t *testing.T) {
	const identity = `mapping m0: table public.agents has replica identity %, so the log does not carry the old row that this @ rule needs; run: ALTER TABLE "public"."agents" REPLICA IDENTITY FULL`
	const columns = `mapping m0: column "%" is not published for table public.agents; it has id, user_id, tenant_id, visibility, config, token, updated_at`
	for _, tc := range []struct {
		op, rest string
		identity byte
		want     string
	}{
		{"update", "", relay.IdentityDefault, strings.NewReplacer("%", "default", "@", "update").Replace(identity)},
		{"update", "", relay.IdentityIndex, strings.NewReplacer("%", "index", "@", "update").Replace(identity)},
		{"update", "", relay.IdentityNothing, strings.NewReplacer("%", "nothing", "@", "update").Replace(identity)},
		{"delete", "", relay.IdentityNothing, strings.NewReplacer("%", "nothing", "@", "delete").Replace(identity)},
		{"delete", `,"match_old":{"user_id":"u1"}`, relay.IdentityDefault, strings.NewReplacer("%", "default", "@", "delete").Replace(identity)},
		{"delete", `,"audience":"owner","user_column":"user_id"`, relay.IdentityDefault, strings.NewReplacer("%", "default", "@", "delete").Replace(identity)},
		{"delete", `,"payload_columns":["config"]`, relay.IdentityDefault, strings.NewReplacer("%", "default", "@", "delete").Replace(identity)},
		{"delete", `,"match_old":{"id":"a1"}`, relay.IdentityDefault, "m0 ok"},
		{"delete", "", relay.IdentityDefault, "m0 ok"},
		{"insert", `,"match_new":{"user_id":"u1"}`, relay.IdentityDefault, "m0 ok"},
		{"insert", "", relay.IdentityNothing, "m0 ok"},
		{"truncate", "", relay.IdentityNothing, "m0 ok"},
		{"update", "", relay.IdentityFull, "m0 ok"},

		{"insert", `,"key_columns":["no"]`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		{"insert", `,"payload_columns":["id","no"]`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		{"insert", `,"user_column":"no"`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		{"insert", `,"tenant_column":"no"`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		{"insert", `,"audience":"row","visibility_column":"no"`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		{"insert", `,"match_new":{"no":1}`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		{"insert", `,"match_new":{"$$no":1}`, relay.IdentityFull, strings.Replace(columns, "%", "$no", 1)},
		{"insert", `,"match_new":{"$or":[{"id":"a1"},{"no":{"$gt":1}}]}`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		{"insert", `,"match_new":{"$not":{"no":{"a":[1]}}}`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		{"update", `,"match_new":{"$changed":["id","no.x"]}`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		{"update", `,"match_new":{"$changed":{"outside":["/no"]}}`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		{"update", `,"match_new":{"$before":{"no":1}}`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		{"update", `,"match_new":{"no":{"$from":1}}`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		{"update", `,"match_new":{"$changed":["config"],"user_id":{"$to":"u2"},"$before":{"token":"s"}}`, relay.IdentityFull, "m0 ok"},
		{"delete", `,"match_old":{"no":1}`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		{"update", `,"changed_columns":["no"]`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		// What was to be hidden may only have another name now.
		{"insert", `,"redact_columns":["no"]`, relay.IdentityFull, strings.Replace(columns, "%", "no", 1)},
		{"update", `,"ignored_columns":["no"]`, relay.IdentityFull, "m0 ok"},
	} {
		got := mapAll(0, []string{agentMapping(tc.op, tc.rest)}, relay.Change{
			Op: relay.OpRead, Relation: withIdentity(tc.identity), New: row("a1", "u1", "-", "public", "-", "-", "-"),
		})
		require.Equal(t, []string{tc.want}, got.refused, "%s with %q", tc.op, tc.rest)
		if tc.want != "m0 ok" {
			require.Empty(t, got.events)
		}
	}
}

func TestAFilterThatTheOperationCannotAnswerIsRefusedByName(t *testing.T) {
	for _, tc := range []struct{ op, rest, want string }{
		{"insert", `,"match_new":{"$changed":["token"]}`, "mapping m0: match_new asks for the row before, and an insert has none: take $changed, $before, $from and $to out of it, or use operation update"},
		{"insert", `,"match_new":{"$or":[{"id":"a"},{"token":{"$from":"s"}}]}`, "mapping m0: match_new asks for the row before"},
		{"insert", `,"match_new":{"$before":{}}`, "mapping m0: match_new asks for the row before"},
		{"insert", `,"match_old":{"id":"a"}`, "mapping m0: an insert has no old row: use match_new"},
		{"delete", `,"match_new":{"$op":"delete"}`, "mapping m0: a delete has no new row: use match_old"},
		{"truncate", `,"match_new":{"$op":"truncate"}`, "mapping m0: a truncate has no row to match"},
		{"update", `,"match_old":{"$changed":["token"]}`, "bad_position at /$changed"},
		{"update", `,"match_old":{"token":{"$to":"s"}}`, "bad_position at /token/$to"},
		{"update", `,"match_new":{"token":{"$gtee":"s"},"id":{"$in":[]}}`, "mapping m0: match_new: filter cannot be used: unknown_operator at /token/$gtee"},
		{"update", `,"match_new":{"$op":"canary"}`, "mapping m0: match_new: filter cannot be used: bad_operand at /$op"},
	} {
		got := mapAll(0, []string{agentMapping(tc.op, tc.rest)}, relay.Change{
			Op: relay.OpInsert, Relation: agents, New: row("a", "u1", "-", "public", "-", "s", "-"),
		})
		require.Empty(t, got.events)
		require.Len(t, got.refused, 1, tc.rest)
		require.Contains(t, got.refused[0], "mapping m0: ")
		require.Contains(t, got.refused[0], tc.want)
		require.NotContains(t, got.refused[0], "canary") // it is logged
	}
}

func TestAChangeThatCannotBeDecidedRaisesNothingAndIsReportedOnce(t *testing.T) {
	known := row("a1", "u1", "-", "public", "-", "s", "-")
	unknown := func(columns string) string {
		return "mapping m0: the log did not carry " + columns + " of public.agents, so a change could not be decided and raised nothing; " +
			"REPLICA IDENTITY FULL on the table, and on each of its partitions, makes it decidable"
	}
	everything := "id, user_id, tenant_id, visibility, config, token, updated_at"
	for _, tc := range []struct {
		name, mapping string
		change        relay.Change
		want          string // "" when the change is decided
		raised        bool
	}{
		{"new value in a filter", agentMapping("insert", `,"match_new":{"token":"s"}`), relay.Change{Op: relay.OpInsert, New: row("a1", "u1", "-", "public", "-", "?", "-")}, unknown("token"), false},
		{"another condition says no", agentMapping("insert", `,"match_new":{"token":"s","user_id":"u2"}`), relay.Change{Op: relay.OpInsert, New: row("a1", "u1", "-", "public", "-", "?", "-")}, "", false},
		{"old value in a filter", agentMapping("update", `,"match_old":{"token":"s"},"match_new":{"visibility":"public"}`), relay.Change{Op: relay.OpUpdate, Old: row("a1", "u0", "-", "public", "-", "?", "-"), New: known}, unknown("token"), false},
		{"whether anything changed", agentMapping("update", ""), relay.Change{Op: relay.OpUpdate, Old: row("a1", "u1", "?", "public", "?", "s", "?"), New: known}, unknown("tenant_id, config, updated_at"), false},
		{"no old row at all", agentMapping("update", ""), relay.Change{Op: relay.OpUpdate, New: known}, unknown(everything), false},
		{"no old row, and the new one is not wanted", agentMapping("update", `,"match_new":{"user_id":"u2"}`), relay.Change{Op: relay.OpUpdate, New: known}, "", false},
		{"whether a column of a filter changed", agentMapping("update", `,"match_new":{"$changed":["token"]}`), relay.Change{Op: relay.OpUpdate, Old: row("a1", "u0", "-", "public", "-", "?", "-"), New: known}, unknown("token"), false},
		{"a column of a filter did not change", agentMapping("update", `,"match_new":{"$changed":["visibility"]}`), relay.Change{Op: relay.OpUpdate, Old: row("a1", "u0", "-", "public", "-", "?", "-"), New: known}, "", false},
		{"no old row, which the filter asks for", agentMapping("update", `,"match_new":{"$before":{"user_id":"u2"}}`), relay.Change{Op: relay.OpUpdate, New: known}, unknown(everything), false},
		{"no old row, and a rule for it", agentMapping("update", `,"match_old":{"user_id":"u2"}`), relay.Change{Op: relay.OpUpdate, New: known}, unknown(everything), false},
		{"whether a named column changed", agentMapping("update", `,"changed_columns":["config"]`), relay.Change{Op: relay.OpUpdate, Old: row("a1", "u0", "-", "public", "?", "s", "-"), New: known}, unknown("config"), false},
		{"another column changed for sure", agentMapping("update", ""), relay.Change{Op: relay.OpUpdate, Old: row("a1", "u0", "-", "public", "?", "s", "-"), New: known}, "", true},
		{"only an ignored column is unknown", agentMapping("update", ""), relay.Change{Op: relay.OpUpdate, Old: row("a1", "u1", "-", "public", "-", "s", "?"), New: known}, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.change.Relation = agents
			got := mapAll(0, []string{tc.mapping}, tc.change, tc.change) // twice
			want := []string{"m0 ok"}
			if tc.want != "" {
				want = append(want, tc.want)
			}
			require.Equal(t, want, got.refused)
			require.Equal(t, tc.raised, len(got.events) > 0)
		})
	}
}

func TestAFilterThatReachedItsWorkLimitIsReportedToo(t *testing.T) {
	var wanted []string // all of them behind many others
	for i := range 200 {
		wanted = append(wanted, `["`+strconv.Itoa(i)+`"]`)
	}
	set := strings.Join(wanted, ",")
	data := `{"a":[` + strings.Repeat(`["x"],`, 12_000) + set + `]}`
	filter := `{"config":{"a":[` + set + `]}}`
	got := mapAll(0, []string{agentMapping("insert", `,"match_new":`+filter)}, relay.Change{
		Op: relay.OpInsert, Relation: agents, New: row("a1", "-", "-", "-", data, "-", "-"),
	})
	require.Empty(t, got.events)
	require.Len(t, got.refused, 2)
	require.Contains(t, got.refused[1], "mapping m0: a row of public.agents is too large for the arrays in match_new or match_old")
}

func TestARelationDescribedAnewIsBoundAnew(t *testing.T) {
	insert := relay.Change{Op: relay.OpInsert, Relation: agents, New: row("a1", "u1", "-", "public", "-", "s", "-")}
	narrow := relay.Change{Op: relay.OpInsert, New: row("a2", "s"), Relation: with(agents, func(r *relay.Relation) {
		r.Columns = []relay.Column{agents.Columns[0], agents.Columns[5]}
	})}
	same := insert
	same.Relation = with(agents, func(*relay.Relation) {})
	got := mapAll(0, []string{agentMapping("insert", `,"key_columns":["user_id"]`), mappingRow("m1", "public.agents", "insert", "agent.deleted", "")}, insert, insert, narrow, same)
	require.Equal(t, []string{
		"m1 ok", "m0 ok", "m1 ok",
		`mapping m0: column "user_id" is not published for table public.agents; it has id, token`,
		"m1 ok", "m0 ok",
	}, got.refused)
	require.Len(t, got.events, 2+2+1+2) // m1 goes first, by its type
	require.JSONEq(t, `{"id":"a2","token":"s"}`, string(got.events[4].Data))
}

func TestAnUndecidedChangeIsReportedAgainWhenTheTableWasDescribedAnew(t *testing.T) {
	change := relay.Change{Op: relay.OpUpdate, Relation: agents, New: row("a1", "u1", "-", "public", "-", "s", "-")}
	again := change
	again.Relation = with(agents, func(*relay.Relation) {})
	got := mapAll(0, []string{agentMapping("update", "")}, change, change, again, again)
	require.Len(t, got.refused, 4) // ok and the report, twice
	require.Equal(t, got.refused[:2], got.refused[2:])
}

func TestPartitionsAreTablesOfTheirOwn(t *testing.T) {
	leaf := func(oid uint32, name string) relay.Change {
		return relay.Change{Op: relay.OpInsert, New: row("a1", "u1", "-", "public", "-", "s", "-"), Relation: with(agents, func(r *relay.Relation) {
			r.OID, r.Name = oid, name
		})}
	}
	got := mapAll(0, []string{
		mappingRow("m0", "public.agents_p1", "insert", "thing.created", ""), mappingRow("m1", "public.agents", "insert", "agent.deleted", ""),
	}, leaf(11, "agents_p1"), leaf(12, "agents_p2"), leaf(3, "agents"), leaf(11, "agents_p1"))
	var from []string
	for _, e := range got.events {
		from = append(from, e.Type+" "+e.Table)
	}
	require.Equal(t, []string{"thing.created public.agents_p1", "agent.deleted public.agents", "thing.created public.agents_p1"}, from)
}

func TestATableNameThatNeedsQuotesIsQuotedInTheRemedy(t *testing.T) {
	rel := with(agents, func(r *relay.Relation) {
		r.Schema, r.Name, r.ReplicaIdentity = "app", `my"table`, relay.IdentityDefault
	})
	mapping := strings.Replace(agentMapping("update", ""), `"public.agents"`, `"app.my\"table"`, 1)
	got := mapAll(0, []string{mapping}, relay.Change{Op: relay.OpUpdate, Relation: rel, New: row("a1", "u1", "-", "public", "-", "s", "-")})
	require.Contains(t, got.refused[0], `ALTER TABLE "app"."my""table" REPLICA IDENTITY FULL`)
}

func TestErrorsSayWhatWasFoundAndWhatToDo(t *testing.T) {
	found := errors.New("slot gone")
	halt := relay.Halt("slot_missing", found, "make it again")
	require.EqualError(t, halt, "halted (slot_missing): slot gone; make it again")
	require.ErrorIs(t, halt, found)
	setup := &relay.SetupError{Err: found, Remedy: "relay setup"}
	require.EqualError(t, setup, "slot gone; relay setup")
	require.ErrorIs(t, setup, found)
	mapping := &relay.MappingError{Mapping: "m1", Err: found}
	require.EqualError(t, mapping, "mapping m1: slot gone")
	require.ErrorIs(t, mapping, found)
}
