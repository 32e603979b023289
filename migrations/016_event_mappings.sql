-- 016_event_mappings.sql: which change of which table raises which event, and who may see it.
begin;

set local lock_timeout = '10s';

create table if not exists event_mappings (
    id                text        not null default gen_random_uuid()::text,
    event_type        text        not null references zapier_webhook_events (event_type) on delete restrict,
    source_table      text        not null,
    operation         text        not null,
    match_new         jsonb       not null default '{}',
    match_old         jsonb       not null default '{}',
    changed_columns   text[]      not null default '{}',
    ignored_columns   text[]      not null default '{updated_at}',
    key_columns       text[],
    audience          text        not null,
    user_column       text,
    tenant_column     text,
    visibility_column text,
    redact_columns    text[]      not null default '{}',
    payload_columns   text[],
    priority          integer     not null default 100,
    enabled           boolean     not null default true,
    created_at        timestamptz not null default now(),
    updated_at        timestamptz not null default now(),
    constraint event_mappings_pkey primary key (id),
    constraint event_mappings_id_check check (btrim(id) <> ''),
    constraint event_mappings_source_table_check check (source_table ~ '^[^."[:cntrl:]]+\.[^."[:cntrl:]]+$'),
    constraint event_mappings_operation_check check (operation in ('insert', 'update', 'delete', 'truncate')),
    constraint event_mappings_match_new_check
        check (jsonb_typeof(match_new) = 'object' and octet_length(match_new::text) <= 16384),
    constraint event_mappings_match_old_check
        check (jsonb_typeof(match_old) = 'object' and octet_length(match_old::text) <= 16384),
    -- A condition on a row image that the operation does not have would never hold.
    constraint event_mappings_old_row_check check (match_old = '{}' or operation in ('update', 'delete')),
    constraint event_mappings_new_row_check check (match_new = '{}' or operation in ('insert', 'update')),
    constraint event_mappings_changed_columns_check check (changed_columns = '{}' or operation = 'update'),
    constraint event_mappings_columns_check check (
        array_position(changed_columns, null) is null and array_position(ignored_columns, null) is null
        and array_position(key_columns, null) is null and array_position(redact_columns, null) is null
        and array_position(payload_columns, null) is null and key_columns <> '{}' and payload_columns <> '{}'),
    constraint event_mappings_redact_check check (not redact_columns && key_columns),
    -- Every event must have a decidable audience, or private rows would leak.
    constraint event_mappings_audience_check check (audience in ('everyone', 'owner', 'row')),
    constraint event_mappings_owner_check
        check (audience <> 'owner' or user_column is not null or tenant_column is not null),
    constraint event_mappings_visibility_check check ((audience = 'row') = (visibility_column is not null)),
    constraint event_mappings_truncate_check check (operation <> 'truncate' or audience = 'everyone')
);

comment on table event_mappings is 'Rules: a row change that fits raises the event. Switch a rule off with enabled = false.';
comment on column event_mappings.source_table is 'schema.table as the catalog spells it; a bare name means public. May name a table that does not exist yet.';
comment on column event_mappings.match_new is 'Filter on the new row; {} takes every row.';
comment on column event_mappings.match_old is 'Filter on the old row; {} takes every row. Needs replica identity full.';
comment on column event_mappings.changed_columns is 'One of these must have changed; empty: any change will do.';
comment on column event_mappings.ignored_columns is 'An update that changes nothing else raises nothing.';
comment on column event_mappings.key_columns is 'What identifies the row in the event; null: its replica identity or primary key.';
comment on column event_mappings.audience is
    'everyone; owner: the user or tenant named by the row; row: everyone when visibility_column says public, else the owner.';
comment on column event_mappings.payload_columns is 'Columns the event carries; null: all but redact_columns.';
comment on column event_mappings.priority is 'Several events of one change are ordered by priority, then by type.';

-- Hashes, because a filter may be larger than an index entry.
create unique index if not exists event_mappings_rule_key on event_mappings
    (source_table, operation, event_type, jsonb_hash_extended(match_new, 0), jsonb_hash_extended(match_old, 0), changed_columns);
create index if not exists idx_event_mappings_event on event_mappings (event_type);

-- Normalises source_table, and refuses a rule that names a column its table does not have: a misspelt owner column
-- would hide every event, a misspelt redaction would publish what it should hide.
create or replace function check_event_mapping() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    source  oid;
    kind    "char";
    columns text[];
    wrong   record;
begin
    if tg_op = 'UPDATE' and new is distinct from old then
        new.updated_at := now();
    end if;
    if position('.' in new.source_table) = 0 then
        new.source_table := 'public.' || new.source_table;
    end if;
    if not new.enabled then
        return new; -- a rule at rest may wait for its columns
    end if;

    select c.oid, c.relkind into source, kind
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = split_part(new.source_table, '.', 1) and c.relname = split_part(new.source_table, '.', 2);
    if source is null then
        return new; -- dormant until the table is made
    end if;
    if kind not in ('r', 'p') then
        raise exception '% is not a table: only tables have row changes', new.source_table
            using errcode = 'wrong_object_type';
    end if;

    select array_agg(attname::text order by attnum) into columns
    from pg_attribute where attrelid = source and attnum > 0 and not attisdropped;

    select given.setting, given.name into wrong
    from (
        select 'user_column' as setting, new.user_column as name
        union all select 'tenant_column', new.tenant_column
        union all select 'visibility_column', new.visibility_column
        union all select 'key_columns', unnest(new.key_columns)
        union all select 'redact_columns', unnest(new.redact_columns)
        union all select 'payload_columns', unnest(new.payload_columns)
        union all select 'changed_columns', unnest(new.changed_columns)
        -- updated_at is the default, whether or not the table has it.
        union all select 'ignored_columns', unnest(array_remove(new.ignored_columns, 'updated_at'))
        -- A filter's own operators begin with $; a doubled $ spells a column that does.
        union all select 'match_new', regexp_replace(key, '^\$\$', '$')
            from jsonb_object_keys(case jsonb_typeof(new.match_new) when 'object' then new.match_new else '{}' end) as key
            where key !~ '^\$([^$]|$)'
        union all select 'match_old', regexp_replace(key, '^\$\$', '$')
            from jsonb_object_keys(case jsonb_typeof(new.match_old) when 'object' then new.match_old else '{}' end) as key
            where key !~ '^\$([^$]|$)'
    ) as given
    where given.name is not null and given.name <> all (columns)
    limit 1;
    if found then
        raise exception '% names column "%", which table % does not have', wrong.setting, wrong.name, new.source_table
            using errcode = 'undefined_column', hint = 'It has: ' || array_to_string(columns, ', ') || '.';
    end if;
    return new;
end
$$;

-- What a rollback set aside comes back, but rules whose event is gone. The trigger is made afterwards: rules return as
-- they were, with their updated_at. The copy's columns are in table order.
drop trigger if exists check_event_mapping on event_mappings;
do $$
begin
    if to_regclass('migration_backup.event_mappings_016') is not null then
        insert into event_mappings
        select b.* from migration_backup.event_mappings_016 b
        join zapier_webhook_events e on e.event_type = b.event_type
        on conflict do nothing;
        drop table migration_backup.event_mappings_016;
    end if;
end
$$;
create trigger check_event_mapping
    before insert or update on event_mappings
    for each row execute function check_event_mapping();

-- The rules of the platform's tables, for a table that has no rules yet: one that was deleted stays deleted. On a
-- database whose table lacks a column, its rule is stored switched off.
do $$
declare
    rule event_mappings;
begin
    if exists (select from event_mappings) then
        return;
    end if;
    for rule in
        select 'default:' || source || ':' || op || ':' || event, event, 'public.' || source, op, match_new::jsonb, match_old::jsonb,
               changed::text[], '{updated_at}'::text[], null::text[], audience,
               user_col, tenant_col, visibility_col, '{}'::text[], null::text[], 100, true, now(), now()
        from (values
            ('agents', 'insert', 'agent.created', '{}', '{}', '{}'),
            ('agents', 'update', 'agent.updated', '{}', '{}', '{}'),
            ('agents', 'delete', 'agent.deleted', '{}', '{}', '{}'),
            ('workflow_runs', 'insert', 'workflow.started', '{"status": "running"}', '{}', '{}'),
            ('workflow_runs', 'update', 'workflow.started', '{"status": "running"}', '{"status": "pending"}', '{status}'),
            ('workflow_runs', 'update', 'workflow.completed', '{"status": "completed"}', '{}', '{status}'),
            ('workflow_runs', 'update', 'workflow.failed', '{"status": "failed"}', '{}', '{status}'),
            ('things', 'insert', 'agent.created', '{"type": "Agent"}', '{}', '{}'),
            ('things', 'insert', 'function.created', '{"type": "Function"}', '{}', '{}'),
            ('things', 'insert', 'service.created', '{"type": "Service"}', '{}', '{}'),
            ('things', 'insert', 'thing.created', '{}', '{}', '{}'),
            ('things', 'update', 'thing.updated', '{}', '{}', '{}'),
            ('relationships', 'insert', 'app.installed', '{"type": "installs"}', '{}', '{}')
        ) as rules (source, op, event, match_new, match_old, changed)
        join (values
            ('agents', 'owner', 'user_id', 'tenant_id', null),
            ('workflow_runs', 'owner', 'user_id', 'tenant_id', null),
            ('things', 'row', null, null, 'visibility'),
            ('relationships', 'row', null, null, 'visibility')
        ) as audiences (source, audience, user_col, tenant_col, visibility_col) using (source)
        join zapier_webhook_events e on e.event_type = rules.event
    loop
        begin
            insert into event_mappings select rule.*;
        exception when undefined_column then
            raise notice 'rule % is stored switched off: %', rule.id, sqlerrm;
            rule.enabled := false;
            insert into event_mappings select rule.*;
        end;
    end loop;
end
$$;

-- Payload schemas of the platform's events, where the registry still has the empty one. They stay at a rollback.
with fragments as (
    select '{"type": ["string", "null"]}'::jsonb as optional,
           '{"type": ["string", "null"], "format": "date-time"}'::jsonb as moment,
           '{"enum": ["public", "unlisted", "private"]}'::jsonb as visibility,
           '{"type": "string"}'::jsonb as string
), tables as (
    select jsonb_build_object('type', 'object', 'required', '["id", "name"]'::jsonb, 'properties', jsonb_build_object(
               'id', string, 'user_id', optional, 'tenant_id', optional, 'name', string, 'type', optional, 'instructions', optional,
               'model', optional, 'status', optional, 'created_at', moment, 'updated_at', moment)) as agent,
           jsonb_build_object('type', 'object', 'required', '["id", "status"]'::jsonb, 'properties', jsonb_build_object(
               'id', string, 'workflow_id', optional, 'user_id', optional, 'tenant_id', optional, 'status', string, 'input', '{}'::jsonb,
               'output', '{}'::jsonb, 'error', optional, 'started_at', moment, 'completed_at', moment)) as run,
           jsonb_build_object('type', 'object', 'required', '["ns", "id", "type"]'::jsonb, 'properties', jsonb_build_object(
               'ns', string, 'id', string, 'type', string, 'content', optional, 'code', optional, 'data', '{}'::jsonb,
               'visibility', visibility, 'created_at', moment, 'updated_at', moment)) as thing,
           jsonb_build_object('type', 'object', 'required', '["ns", "id", "type"]'::jsonb, 'properties', jsonb_build_object(
               'ns', string, 'id', string, 'type', string, 'from_ns', string, 'from_id', string, 'to_ns', string, 'to_id', string,
               'data', '{}'::jsonb, 'code', optional, 'visibility', visibility,
               'created_at', moment, 'updated_at', moment)) as relationship,
           jsonb_build_object('type', 'object', 'required', '["id"]'::jsonb, 'properties', jsonb_build_object(
               'ns', optional, 'id', string, 'input', '{}'::jsonb, 'output', '{}'::jsonb, 'error', optional)) as call
    from fragments
)
update zapier_webhook_events e
set payload_schema = s.payload_schema
from (
    -- An agent is a row of agents, or a thing of type Agent.
    select 'agent.created' as event_type,
           jsonb_build_object('type', 'object', 'anyOf', jsonb_build_array(agent, thing)) as payload_schema from tables
    union all select unnest(array['agent.updated', 'agent.deleted']), agent from tables
    union all select unnest(array['workflow.started', 'workflow.completed', 'workflow.failed']), run from tables
    union all select unnest(array['function.created', 'service.created', 'thing.created', 'thing.updated']), thing from tables
    union all select 'app.installed', relationship from tables
    union all select 'function.called', call from tables
) s
where e.event_type = s.event_type and e.payload_schema = '{"type": "object"}';

commit;
