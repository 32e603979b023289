-- 015_outbox.sql: an append-only log for events that applications state themselves, and where each reader of the log stands.
begin;

set local lock_timeout = '10s';

-- The form of every event id: evt_ and 128 bits in lower-case base32 (RFC 4648, no padding). A random UUID fixes
-- six bits, in its bytes 6 and 8, so sixteen free bytes are gathered from two.
create or replace function relay_random_event_id() returns text
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    with random as materialized (
        select uuid_send(gen_random_uuid()) as a, uuid_send(gen_random_uuid()) as b
    ), bits as materialized (
        select ('x' || encode(substr(a, 1, 6) || substr(a, 10, 7) || substr(b, 1, 3), 'hex') || '00')::bit(136) as v
        from random
    )
    select 'evt_' || string_agg(
        substr('abcdefghijklmnopqrstuvwxyz234567', substring(v from i * 5 + 1 for 5)::bit(5)::integer + 1, 1), '' order by i)
    from bits, generate_series(0, 25) as i
$$;

comment on function relay_random_event_id() is 'A new event id for an event that no row change explains: evt_ and 26 base32 characters.';

create table if not exists outbox_events (
    seq            bigint      generated always as identity,
    event_id       text        not null default relay_random_event_id(),
    event_type     text        not null references zapier_webhook_events (event_type) on delete restrict,
    aggregate_type text,
    aggregate_ns   text,
    aggregate_id   text,
    user_id        text,
    tenant_id      text,
    visibility     text        not null default 'private',
    payload        jsonb       not null,
    metadata       jsonb       not null default '{}',
    source         text        not null default 'outbox',
    source_table   text,
    operation      text,
    commit_lsn     pg_lsn,
    xid            bigint,
    occurred_at    timestamptz not null default now(),
    recorded_at    timestamptz not null default clock_timestamp(),
    constraint outbox_events_pkey primary key (seq),
    constraint outbox_events_event_id_key unique (event_id),
    constraint outbox_events_event_id_check check (event_id ~ '^evt_[a-z2-7]{26}$'),
    constraint outbox_events_aggregate_check check (aggregate_id is null or aggregate_type is not null),
    constraint outbox_events_visibility_check check (visibility in ('public', 'unlisted', 'private')),
    constraint outbox_events_payload_check check (jsonb_typeof(payload) = 'object'),
    constraint outbox_events_metadata_check check (jsonb_typeof(metadata) = 'object'),
    constraint outbox_events_aggregate_version_check check (
        not metadata ? 'aggregate_version'
        or (aggregate_id is not null and metadata ->> 'aggregate_version' ~ '^[1-9][0-9]{0,17}$')),
    constraint outbox_events_source_check check (source in ('cdc', 'outbox', 'api', 'backfill')),
    constraint outbox_events_operation_check check (operation in ('insert', 'update', 'delete', 'truncate', 'read')),
    constraint outbox_events_xid_check check (xid >= 0)
);

comment on table outbox_events is 'Events stated by applications. Append-only: a correction is another event.';
comment on column outbox_events.seq is
    'Order of insertion, which is not the order of commits: a reader that polls by seq can miss rows. The relay reads the log.';
comment on column outbox_events.visibility is 'public reaches every subscriber, anything else only the user or tenant named here.';
comment on column outbox_events.metadata is
    'Free for the application, but aggregate_version: a whole number, unique within the aggregate, for optimistic locking.';
comment on column outbox_events.occurred_at is 'When it happened, as the application says; by default the start of its transaction.';

create index if not exists idx_outbox_events_aggregate on outbox_events (aggregate_type, aggregate_ns, aggregate_id, seq)
    where aggregate_id is not null;
create unique index if not exists outbox_events_aggregate_version_key
    on outbox_events (aggregate_type, coalesce(aggregate_ns, ''), aggregate_id, (metadata -> 'aggregate_version'))
    where metadata ? 'aggregate_version';
create index if not exists idx_outbox_events_type_occurred on outbox_events (event_type, occurred_at);
create index if not exists idx_outbox_events_recorded on outbox_events (recorded_at);
create index if not exists idx_outbox_events_user on outbox_events (user_id, seq) where user_id is not null;

create or replace function refuse_outbox_change() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception '% is append-only: % refused', tg_table_name, lower(tg_op)
        using errcode = 'restrict_violation', hint = 'Append an event that corrects the earlier one.';
end
$$;

create or replace trigger refuse_outbox_row_change
    before update or delete on outbox_events
    for each row execute function refuse_outbox_change();
create or replace trigger refuse_outbox_truncate
    before truncate on outbox_events
    for each statement execute function refuse_outbox_change();
-- Also while session_replication_role is replica, which turns ordinary triggers off.
alter table outbox_events enable always trigger refuse_outbox_row_change;
alter table outbox_events enable always trigger refuse_outbox_truncate;

-- States an event that no row change explains and returns its id; it is sent when the caller's transaction commits.
create or replace function emit_event(
    event_type text,
    payload    jsonb,
    user_id    text  default null,
    tenant_id  text  default null,
    visibility text  default 'private',
    metadata   jsonb default '{}'
) returns text
    language plpgsql
    set search_path from current
as $$
declare
    registered boolean;
    id         text;
begin
    select r.enabled into registered from zapier_webhook_events r where r.event_type = emit_event.event_type;
    if registered is null then
        raise exception 'event type "%" is not registered', coalesce(event_type, 'null')
            using errcode = 'foreign_key_violation', hint = 'Insert it into zapier_webhook_events first.';
    end if;
    if not registered then
        raise exception 'event type "%" is disabled', event_type
            using errcode = 'object_not_in_prerequisite_state', hint = 'Set enabled in its row of zapier_webhook_events.';
    end if;
    if payload is null or jsonb_typeof(payload) <> 'object' then
        raise exception 'the payload of "%" must be a JSON object', event_type
            using errcode = 'invalid_parameter_value';
    end if;

    insert into outbox_events (event_type, payload, user_id, tenant_id, visibility, metadata, source)
    values (emit_event.event_type, emit_event.payload, emit_event.user_id, emit_event.tenant_id,
            coalesce(emit_event.visibility, 'private'), coalesce(emit_event.metadata, '{}'), 'api')
    returning event_id into id;
    return id;
end
$$;

comment on function emit_event(text, jsonb, text, text, text, jsonb) is
    'Appends an event to the outbox and returns its id. Refuses a type that is unregistered or disabled.';

create table if not exists relay_checkpoints (
    consumer          text        not null,
    slot_name         text        not null,
    lineage           text        not null,
    system_identifier text,
    timeline          integer,
    confirmed_lsn     pg_lsn,
    position          text,
    stream            text,
    stream_created_at timestamptz,
    last_seq          bigint,
    updated_at        timestamptz not null default now(),
    constraint relay_checkpoints_pkey primary key (consumer, slot_name),
    constraint relay_checkpoints_lineage_check check (lineage <> ''),
    constraint relay_checkpoints_timeline_check check (timeline >= 1),
    constraint relay_checkpoints_position_check check (position ~ '^[0-9A-F]{1,8}/[0-9A-F]{1,8}:[0-9]+:[0-9]+$'),
    constraint relay_checkpoints_last_seq_check check (last_seq >= 0)
);

comment on table relay_checkpoints is 'Where each reader of a slot stands, and of which cluster and stream that is true.';
comment on column relay_checkpoints.lineage is 'Random, made with the slot, part of every event id: a slot made anew gives new ids.';
comment on column relay_checkpoints.position is 'The last published change as <commit LSN>:<ordinal>:<index>.';
comment on column relay_checkpoints.last_seq is 'Sequence of the last published message in the stream.';

create table if not exists relay_catalog_versions (
    slot_name  text        not null,
    lsn        pg_lsn      not null,
    catalog    jsonb       not null,
    created_at timestamptz not null default now(),
    constraint relay_catalog_versions_pkey primary key (slot_name, lsn),
    constraint relay_catalog_versions_catalog_check check (jsonb_typeof(catalog) = 'object')
);

comment on table relay_catalog_versions is
    'Registry and mappings in force from a commit on, so that a replay maps the same rows to the same events.';

-- What a rollback set aside comes back, but events whose type is gone. The copies' columns are in table order.
do $$
begin
    if to_regclass('migration_backup.outbox_events_015') is not null then
        insert into outbox_events overriding system value
        select b.* from migration_backup.outbox_events_015 b
        join zapier_webhook_events e on e.event_type = b.event_type
        order by b.seq
        on conflict do nothing;
        perform setval(pg_get_serial_sequence('outbox_events', 'seq'), (select max(seq) from outbox_events))
        where exists (select from outbox_events);
        drop table migration_backup.outbox_events_015;
    end if;
    if to_regclass('migration_backup.relay_checkpoints_015') is not null then
        insert into relay_checkpoints select * from migration_backup.relay_checkpoints_015 on conflict do nothing;
        drop table migration_backup.relay_checkpoints_015;
    end if;
    if to_regclass('migration_backup.relay_catalog_versions_015') is not null then
        insert into relay_catalog_versions select * from migration_backup.relay_catalog_versions_015 on conflict do nothing;
        drop table migration_backup.relay_catalog_versions_015;
    end if;
end
$$;

commit;
