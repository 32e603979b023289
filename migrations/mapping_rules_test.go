package migrations_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/migrations"
)

func TestTheDefaultRulesAreThoseOfThePlatform(t *testing.T) {
	db := relayNew(t)
	require.Equal(t, []string{
		`default:agents:delete:agent.deleted {} {} {} owner user_id tenant_id`,
		`default:agents:insert:agent.created {} {} {} owner user_id tenant_id`,
		`default:agents:update:agent.updated {} {} {} owner user_id tenant_id`,
		`default:relationships:insert:app.installed {"type": "installs"} {} {} row visibility`,
		`default:things:insert:agent.created {"type": "Agent"} {} {} row visibility`,
		`default:things:insert:function.created {"type": "Function"} {} {} row visibility`,
		`default:things:insert:service.created {"type": "Service"} {} {} row visibility`,
		`default:things:insert:thing.created {} {} {} row visibility`,
		`default:things:update:thing.updated {} {} {} row visibility`,
		`default:workflow_runs:insert:workflow.started {"status": "running"} {} {} owner user_id tenant_id`,
		`default:workflow_runs:update:workflow.completed {"status": "completed"} {} {status} owner user_id tenant_id`,
		`default:workflow_runs:update:workflow.failed {"status": "failed"} {} {status} owner user_id tenant_id`,
		`default:workflow_runs:update:workflow.started {"status": "running"} {"status": "pending"} {status} owner user_id tenant_id`,
	}, pgtest.All[string](db, `
		select concat_ws(' ', id, match_new, match_old, changed_columns, audience, user_column, tenant_column, visibility_column)
		from event_mappings where enabled and id = concat_ws(':', 'default', split_part(source_table, '.', 2), operation, event_type)
		order by id collate "C"`))
}

func TestADeletedDefaultRuleStaysDeleted(t *testing.T) {
	db := relayNew(t)
	db.Exec(`delete from event_mappings where id = 'default:things:insert:thing.created'`)
	seedRun(t, db, "016_event_mappings")
	require.NoError(t, migrations.Down(t.Context(), db.Pool, 15, migrations.Options{}))
	up(t, db, migrations.Options{})
	require.Equal(t, 12, pgtest.One[int](db, `select count(*) from event_mappings`))
}

func TestADefaultRuleForAnotherShapeOfTableIsStoredSwitchedOff(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(`create table agents (id text primary key, user_id text)`)
	up(t, db, migrations.Options{})
	require.Equal(t, []string{"agent.created", "agent.deleted", "agent.updated"}, pgtest.All[string](db, `
		select event_type from event_mappings where not enabled order by 1`))
	require.Equal(t, 13, pgtest.One[int](db, `select count(*) from event_mappings`))
	refused := refusal(t, db, `update event_mappings set enabled = true where id = 'default:agents:insert:agent.created'`)
	require.Equal(t, `tenant_column names column "tenant_id", which table public.agents does not have`, refused.Message)
}

func TestABareTableNameMeansPublic(t *testing.T) {
	db := relayNew(t)
	row := relayValid["event_mappings"].with(seedRow{"id": "'m'", "source_table": "'things'", "operation": "'delete'"})
	db.Exec(row.insert("event_mappings"))
	require.Equal(t, "public.things", pgtest.One[string](db, `select source_table from event_mappings where id = 'm'`))
	db.Exec(`update event_mappings set source_table = 'agents' where id = 'm'`)
	require.Equal(t, "public.agents", pgtest.One[string](db, `select source_table from event_mappings where id = 'm'`))
}

func TestARuleMayOnlyNameColumnsOfItsTable(t *testing.T) {
	db := relayNew(t)
	row := relayValid["event_mappings"].with(seedRow{"source_table": "'things'"})
	for setting, change := range map[string]seedRow{
		"user_column":       {"user_column": "'nope'"},
		"tenant_column":     {"tenant_column": "'nope'"},
		"visibility_column": {"audience": "'row'", "visibility_column": "'nope'"},
		"key_columns":       {"key_columns": "'{ns,nope}'"},
		"redact_columns":    {"redact_columns": "'{nope}'"},
		"payload_columns":   {"payload_columns": "'{id,nope}'"},
		"changed_columns":   {"changed_columns": "'{nope}'"},
		"ignored_columns":   {"ignored_columns": "'{updated_at,nope}'"},
		"match_new":         {"match_new": `'{"type": "Function", "nope": 1}'`},
		"match_old":         {"match_old": `'{"nope": 1}'`},
	} {
		refused := refusal(t, db, row.with(change).insert("event_mappings"))
		require.Equal(t, setting+` names column "nope", which table public.things does not have`, refused.Message)
		require.Equal(t, "It has: ns, id, type, content, code, data, visibility, created_at, updated_at.", refused.Hint)
		require.Equal(t, "42703", refused.Code)
		db.Exec(row.with(change).with(seedRow{"source_table": "'not_yet'", "match_old": `'{"setting": "` + setting + `"}'`}).insert("event_mappings"))
	}
}

func TestOperatorsOfAFilterAreNotColumns(t *testing.T) {
	db := relayNew(t)
	row := relayValid["event_mappings"].with(seedRow{"source_table": "'priced'"})
	db.Exec(`create table priced (id int primary key, "$ref" text)`)
	db.Exec(row.with(seedRow{"match_new": `'{"$or": [{"id": 1}], "$$ref": "x"}'`}).insert("event_mappings"))
	refused := refusal(t, db, row.with(seedRow{"match_new": `'{"$$other": "x"}'`}).insert("event_mappings"))
	require.Equal(t, `match_new names column "$other", which table public.priced does not have`, refused.Message)
}

func TestARuleForAViewIsRefused(t *testing.T) {
	db := relayNew(t)
	db.Exec(`create view public_things as select * from things`)
	refused := refusal(t, db, relayValid["event_mappings"].with(seedRow{"source_table": "'public_things'"}).insert("event_mappings"))
	require.Equal(t, "public.public_things is not a table: only tables have row changes", refused.Message)
}

func TestChangingARuleMovesItsUpdatedAt(t *testing.T) {
	db := relayNew(t)
	db.Exec(`alter table event_mappings disable trigger user; update event_mappings set updated_at = '2024-01-01';
		alter table event_mappings enable trigger user`)
	db.Exec(`update event_mappings set priority = priority`)
	require.Equal(t, 13, pgtest.One[int](db, `select count(*) from event_mappings where updated_at = '2024-01-01'`))
	db.Exec(`update event_mappings set priority = 5 where id like '%thing.updated'`)
	require.Equal(t, 12, pgtest.One[int](db, `select count(*) from event_mappings where updated_at = '2024-01-01'`))
}
