-- 018_delivery_queue.sql: deliveries in trouble, those given up, and the counters of rate limits.
--
-- First attempts run straight from the stream; a delivery comes here when it must wait. The tables are small and busy,
-- so they leave room for updates in place and are vacuumed early.
begin;

set local lock_timeout = '10s';

create table if not exists webhook_deliveries (
    event_id        text        not null,
    webhook_id      text        not null references zapier_webhooks (id) on delete cascade,
    event_type      text        not null,
    user_id         text,
    tenant_id       text,
    body            bytea       not null,
    stream_seq      bigint,
    commit_lsn      pg_lsn,
    state           text        not null,
    attempt         integer     not null default 0,
    next_attempt_at timestamptz not null default now(),
    last_status     integer,
    last_error      text,
    locked_by       text,
    locked_until    timestamptz,
    ordering_key    text,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    constraint webhook_deliveries_pkey primary key (event_id, webhook_id),
    constraint webhook_deliveries_state_check check (state in ('retrying', 'deferred')),
    constraint webhook_deliveries_attempt_check check (attempt >= 0 and (attempt >= 1 or state <> 'retrying')),
    constraint webhook_deliveries_last_status_check check (last_status between 100 and 599),
    constraint webhook_deliveries_stream_seq_check check (stream_seq >= 1),
    constraint webhook_deliveries_lease_check check ((locked_by is null) = (locked_until is null))
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200,
        autovacuum_analyze_scale_factor = 0.05);

comment on table webhook_deliveries is 'Deliveries that wait: failed and to be tried again, or not yet tried (rate limit, pause, full lane).';
comment on column webhook_deliveries.body is 'The bytes to send: the same in every attempt.';
comment on column webhook_deliveries.attempt is 'Attempts made so far; only a deferred delivery may have none.';
comment on column webhook_deliveries.locked_by is 'The process that holds the delivery until locked_until; past that, anyone may take it.';

-- The lease is not indexed, so taking and extending one stays an update in place.
create index if not exists idx_webhook_deliveries_due on webhook_deliveries (next_attempt_at);
create index if not exists idx_webhook_deliveries_webhook on webhook_deliveries (webhook_id, next_attempt_at);

create table if not exists webhook_dead_letters (
    id          text        not null default gen_random_uuid()::text,
    event_id    text        not null,
    webhook_id  text        references zapier_webhooks (id) on delete set null,
    event_type  text        not null,
    target_url  text        not null,
    body        bytea       not null,
    attempts    integer     not null,
    reason      text        not null,
    last_status integer,
    last_error  text,
    user_id     text,
    tenant_id   text,
    created_at  timestamptz not null default now(),
    replayed_at timestamptz,
    replayed_by text,
    constraint webhook_dead_letters_pkey primary key (id),
    constraint webhook_dead_letters_attempts_check check (attempts >= 0),
    constraint webhook_dead_letters_reason_check check (btrim(reason) <> ''),
    constraint webhook_dead_letters_last_status_check check (last_status between 100 and 599),
    constraint webhook_dead_letters_replay_check check (replayed_by is null or replayed_at is not null)
);

comment on table webhook_dead_letters is 'Deliveries given up, kept until somebody replays or deletes them.';
comment on column webhook_dead_letters.webhook_id is 'Null once the subscription is deleted: then it can be read, not replayed.';
comment on column webhook_dead_letters.replayed_at is 'When it was put back into webhook_deliveries; null while nobody did.';

create index if not exists idx_webhook_dead_letters_webhook on webhook_dead_letters (webhook_id, created_at);
create index if not exists idx_webhook_dead_letters_event on webhook_dead_letters (event_id);
create index if not exists idx_webhook_dead_letters_open on webhook_dead_letters (created_at) where replayed_at is null;

create table if not exists rate_limit_windows (
    scope        text        not null,
    key          text        not null,
    window_start timestamptz not null,
    used         integer     not null default 0,
    constraint rate_limit_windows_pkey primary key (scope, key, window_start),
    constraint rate_limit_windows_used_check check (used >= 0)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200);

comment on table rate_limit_windows is 'How much of a limit was used in the window that began at window_start.';
comment on column rate_limit_windows.scope is 'Which limit counts, for example webhook or client.';

create index if not exists idx_rate_limit_windows_start on rate_limit_windows (window_start);

-- What a rollback set aside comes back. Retries of deleted subscriptions are skipped; dead letters return without theirs.
do $$
begin
    if to_regclass('migration_backup.webhook_deliveries_018') is not null then
        insert into webhook_deliveries
        select b.* from migration_backup.webhook_deliveries_018 b
        join zapier_webhooks w on w.id = b.webhook_id
        on conflict do nothing;
        drop table migration_backup.webhook_deliveries_018;
    end if;
    if to_regclass('migration_backup.webhook_dead_letters_018') is not null then
        update migration_backup.webhook_dead_letters_018 b set webhook_id = null
        where not exists (select from zapier_webhooks w where w.id = b.webhook_id);
        insert into webhook_dead_letters select * from migration_backup.webhook_dead_letters_018 on conflict do nothing;
        drop table migration_backup.webhook_dead_letters_018;
    end if;
end
$$;

commit;
