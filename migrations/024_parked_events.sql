-- 024_parked_events.sql: events that are not published because their data violates the schema of their type.
begin;

set local lock_timeout = '10s';

-- It is in the publication: the commit that releases an event is the place in the log at which the event is published.
create table if not exists relay_parked_events (
    slot_name    text        not null,
    event_id     text        not null,
    event_type   text        not null,
    commit_lsn   pg_lsn      not null,
    ordinal      bigint      not null,
    event_index  bigint      not null,
    lineage      text        not null,
    source_table text        not null,
    subject      text        not null default '',
    user_id      text        not null default '',
    tenant_id    text        not null default '',
    visibility   text        not null default 'owner',
    occurred_at  timestamptz not null,
    body         text        not null,
    reason       text        not null,
    parked_at    timestamptz not null default now(),
    released_at  timestamptz,
    released_by  text,
    constraint relay_parked_events_pkey primary key (slot_name, event_id),
    constraint relay_parked_events_visibility_check check (visibility in ('owner', 'everyone')),
    constraint relay_parked_events_released_check check (released_by is null or released_at is not null)
);

-- An event is large, so its body is in the log with the old row only when it is released.
alter table relay_parked_events replica identity full;

comment on table relay_parked_events is 'Events that wait because their data violates the schema of their type. Use `relay parked`.';
comment on column relay_parked_events.commit_lsn is 'With ordinal and event_index the place in the log at which it was parked.';
comment on column relay_parked_events.body is 'What is published once the event is released, byte for byte.';
comment on column relay_parked_events.released_at is 'Set to publish the event. Is it refused again, the relay takes it back.';

create index if not exists idx_relay_parked_events_waiting on relay_parked_events (slot_name, commit_lsn, ordinal, event_index)
    where released_at is null;
create index if not exists idx_relay_parked_events_released on relay_parked_events (released_at) where released_at is not null;

-- What a rollback set aside comes back.
do $$
begin
    if to_regclass('migration_backup.relay_parked_events_024') is not null then
        insert into relay_parked_events select * from migration_backup.relay_parked_events_024 on conflict do nothing;
        drop table migration_backup.relay_parked_events_024;
    end if;
end
$$;

commit;
