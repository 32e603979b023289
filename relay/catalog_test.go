package relay_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

func TestCompileReportsEveryUnusableRowByNameAndKeepsTheRest(t *testing.T) {
	c := catalogOf(
		mappingRow("m0", "public.things", "insert", "thing.created", ""),
		`{"id":"m1"`,
		`{"id":"m2","priority":"high"}`,
		mappingRow("m3", "public.things", "upsert", "thing.created", ""),
		mappingRow("m4", "public.things", "insert", "no.such", ""),
		mappingRow("m5", "public.things", "insert", "agent.deleted", ""),
		mappingRow("m6", "public.things", "insert", "thing.updated", `,"enabled":false`),
	)
	c.Events["agent.deleted"] = json.RawMessage(`{"event_type":"agent.deleted","enabled":false}`)
	mappings, errs := c.Compile()
	require.Len(t, mappings, 1)
	require.Equal(t, "m0", mappings[0].ID)
	said := map[string]string{}
	for _, err := range errs {
		said[err.Mapping] = err.Error()
	}
	require.Equal(t, map[string]string{
		"m1": "mapping m1: read a row of event_mappings: unexpected end of JSON input",
		"m2": "mapping m2: read a row of event_mappings: json: cannot unmarshal string into Go struct field mappingRow.priority of type int",
		"m3": `mapping m3: operation "upsert" is none of insert, update, delete, truncate`,
		"m4": "mapping m4: event type no.such is not in zapier_webhook_events",
	}, said)
}

func TestParseMappingRefusesWhatCannotBeDecided(t *testing.T) {
	for _, tc := range []struct{ op, rest, want string }{
		{"insert", `,"audience":""`, `mapping m0: audience "" is none of everyone, owner, row`},
		{"insert", `,"audience":"all"`, `mapping m0: audience "all" is none of everyone, owner, row`},
		{"insert", `,"audience":"owner"`, "mapping m0: audience owner needs user_column or tenant_column"},
		{"insert", `,"audience":"row"`, "mapping m0: audience row needs visibility_column"},
		{"truncate", `,"audience":"owner","user_column":"id"`, "mapping m0: a truncate has no row: its audience can only be everyone"},
		{"truncate", `,"match_old":{"a":1}`, "mapping m0: a truncate has no row to match"},
		{"insert", `,"match_old":{"a":1}`, "mapping m0: an insert has no old row: use match_new"},
		{"delete", `,"match_new":{"a":1}`, "mapping m0: a delete has no new row: use match_old"},
		{"insert", `,"changed_columns":["a"]`, "mapping m0: changed_columns needs operation update"},
		{"read", "", `mapping m0: operation "read" is none of insert, update, delete, truncate`},
		{"insert", `,"match_new":[1]`, "mapping m0: match_new: "},
		{"update", `,"match_old":{"$or":[]}`, "mapping m0: match_old: "},
	} {
		m, err := relay.ParseMapping([]byte(mappingRow("m0", "public.things", tc.op, "thing.created", tc.rest)))
		require.ErrorContains(t, err, tc.want)
		require.Equal(t, "m0", m.ID)
		require.Equal(t, "public.things", m.Table) // so that it can be reported
	}
	for _, rest := range []string{`,"match_old":{}`, `,"match_old":null`, `,"match_new":{}`, `,"key_columns":null,"payload_columns":null`} {
		m, err := relay.ParseMapping([]byte(mappingRow("m0", "public.things", "insert", "thing.created", rest)))
		require.NoError(t, err)
		require.Nil(t, m.MatchNew)
		require.Nil(t, m.MatchOld)
	}
}

// An event about a delivery, delivered, is the next event about a delivery.
func TestAMappingThatWouldFeedItselfIsRefusedByName(t *testing.T) {
	for _, table := range []string{
		"zapier_webhook_logs", "zapier_webhook_logs_y2026m11", "webhook_deliveries", "webhook_dead_letters", "rate_limit_windows",
		"relay_checkpoints", "relay_catalog_versions", "relay_backfills", "relay_backfill_chunks", "relay_stream_audits", "relay_stream_holes",
	} {
		for _, op := range []string{"insert", "update", "delete", "truncate"} {
			_, err := relay.ParseMapping([]byte(mappingRow("m0", "public."+table, op, "thing.created", "")))
			require.EqualError(t, err, "mapping m0: the relay writes public."+table+" when it publishes and delivers: each event would raise the next one")
		}
		_, err := relay.ParseMapping([]byte(mappingRow("m0", "app."+table, "insert", "thing.created", "")))
		require.NoError(t, err, "a table of the application in a schema of its own")
	}
	for rest, want := range map[string]string{
		"":                      "counters",
		`,"changed_columns":[]`: "counters",
		`,"changed_columns":["status","success_count"]`: "counters",
		`,"changed_columns":["last_failure_at"]`:        "counters",
		`,"changed_columns":["status","filters"]`:       "",
		`,"match_new":{"status":"inactive"}`:            "counters",
	} {
		_, err := relay.ParseMapping([]byte(mappingRow("m0", "public.zapier_webhooks", "update", "thing.updated", rest)))
		if want == "" {
			require.NoError(t, err, rest)
			continue
		}
		require.ErrorContains(t, err, want, rest)
	}
	for _, op := range []string{"insert", "delete"} {
		_, err := relay.ParseMapping([]byte(mappingRow("m0", "public.zapier_webhooks", op, "thing.created", "")))
		require.NoError(t, err)
	}
	for _, table := range []string{"things", "relay_runners", "webhook_deliveries_of_mine"} {
		_, err := relay.ParseMapping([]byte(mappingRow("m0", "public."+table, "update", "thing.updated", "")))
		require.NoError(t, err)
	}
}

func TestTablesAreThoseOfUsableMappingsAndSayWhoNeedsOldRows(t *testing.T) {
	require.Equal(t, []relay.TableNeed{{Name: "public.a"}, {Name: "public.b", OldRows: true}, {Name: "public.c", OldRows: true}}, catalogOf(
		mappingRow("m0", "public.c", "delete", "agent.deleted", ""),
		mappingRow("m1", "public.b", "update", "thing.updated", ""),
		mappingRow("m2", "public.b", "insert", "thing.created", ""),
		mappingRow("m3", "public.a", "insert", "thing.created", ""),
		mappingRow("m4", "public.a", "update", "thing.updated", `,"enabled":false`),
		mappingRow("m5", "public.d", "update", "no.such", ""),
	).Tables())
}

func TestACloneOfTheCatalogIsItsOwn(t *testing.T) {
	c := catalogOf(thingCreated)
	clone := c.Clone()
	delete(clone.Mappings, "m0")
	clone.Events["new.type"] = json.RawMessage(`{}`)
	require.Len(t, c.Mappings, 1)
	require.NotContains(t, c.Events, "new.type")
}
