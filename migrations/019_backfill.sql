-- 019_backfill.sql: requests to publish the rows that tables already have, and the watermarks of their chunks.
--
-- Whoever asks writes a row of relay_backfills; the relay that streams the slot does the work. A row of
-- relay_backfill_chunks is in the publication: its commit is the place in the log at which the chunk's rows are published.
begin;

set local lock_timeout = '10s';

create table if not exists relay_backfills (
    id             text        not null default left(replace(gen_random_uuid()::text, '-', ''), 12),
    slot_name      text        not null,
    kind           text        not null default 'backfill',
    source_table   text        not null,
    where_sql      text,
    event_type     text,
    rate           integer,
    state          text        not null default 'queued',
    owner          text,
    key_columns    text[],
    cursor         text[],
    chunk          bigint      not null default 0,
    rows_estimated bigint,
    rows_read      bigint      not null default 0,
    rows_published bigint      not null default 0,
    rows_overtaken bigint      not null default 0,
    events         bigint      not null default 0,
    note           text,
    requested_at   timestamptz not null default now(),
    started_at     timestamptz,
    finished_at    timestamptz,
    updated_at     timestamptz not null default now(),
    constraint relay_backfills_pkey primary key (id),
    constraint relay_backfills_kind_check check (kind in ('backfill', 'snapshot')),
    constraint relay_backfills_source_table_check check (source_table ~ '^[^."[:cntrl:]]+\.[^."[:cntrl:]]+$'),
    constraint relay_backfills_rate_check check (rate > 0),
    constraint relay_backfills_state_check check (state in ('queued', 'running', 'done', 'cancelled', 'failed')),
    constraint relay_backfills_finished_check
        check ((finished_at is not null) = (state in ('done', 'cancelled', 'failed')))
);

comment on table relay_backfills is 'Requests to publish the rows of a table as events with op "read", and how far they are. Use `relay backfill`.';
comment on column relay_backfills.where_sql is 'An SQL condition on the table''s columns; null: every row.';
comment on column relay_backfills.rate is 'Rows a second at most; null: no limit.';
comment on column relay_backfills.owner is 'The session that works on it: an older one finds itself replaced.';
comment on column relay_backfills.cursor is 'Key of the last row that was taken into a chunk.';
comment on column relay_backfills.rows_overtaken is 'Rows left to their own change events, because they changed at every attempt to read them.';
comment on column relay_backfills.note is 'What it waits for, or why it failed.';

create index if not exists idx_relay_backfills_open on relay_backfills (slot_name, requested_at)
    where state in ('queued', 'running');

create table if not exists relay_backfill_chunks (
    backfill_id text   not null references relay_backfills (id) on delete cascade,
    number      bigint not null,
    slot_name   text   not null,
    keys        json   not null,
    redo        json   not null default '[]',
    constraint relay_backfill_chunks_pkey primary key (backfill_id, number),
    constraint relay_backfill_chunks_keys_check check (json_typeof(keys) = 'array'),
    constraint relay_backfill_chunks_redo_check check (json_typeof(redo) = 'array')
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

comment on table relay_backfill_chunks is 'Chunks whose rows are perhaps not yet safe in the stream. The relay alone writes here.';
comment on column relay_backfill_chunks.keys is 'Keys of the rows published at this row''s commit, in that order.';
comment on column relay_backfill_chunks.redo is 'Keys of rows that have to be read again.';

-- What a rollback set aside comes back, and goes on where it was.
do $$
begin
    if to_regclass('migration_backup.relay_backfills_019') is not null then
        insert into relay_backfills select * from migration_backup.relay_backfills_019 on conflict do nothing;
        insert into relay_backfill_chunks select * from migration_backup.relay_backfill_chunks_019 on conflict do nothing;
        drop table migration_backup.relay_backfill_chunks_019;
        drop table migration_backup.relay_backfills_019;
    end if;
end
$$;

commit;
