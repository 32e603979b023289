-- 014_zapier_webhooks.sql: the event registry, the webhook subscriptions to it, and one log row per delivery attempt.
begin;

set local lock_timeout = '10s';

-- An older Zapier migration made tables of these names; `if not exists` would accept them and fail obscurely later.
do $$
begin
    if to_regclass('zapier_webhooks') is not null and not exists (
        select from pg_attribute
        where attrelid = to_regclass('zapier_webhooks') and attname = 'event_type' and not attisdropped
    ) then
        raise exception 'zapier_webhooks exists with another shape (no event_type column)'
            using hint = 'Rename zapier_webhooks and zapier_webhook_logs, then run this migration again.';
    end if;
end
$$;

create table if not exists zapier_webhook_events (
    event_type     text        not null,
    category       text        not null,
    description    text        not null,
    payload_schema jsonb       not null default '{"type": "object"}',
    enabled        boolean     not null default true,
    created_at     timestamptz not null default now(),
    constraint zapier_webhook_events_pkey primary key (event_type),
    constraint zapier_webhook_events_event_type_check
        check (event_type ~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$' and char_length(event_type) <= 100),
    constraint zapier_webhook_events_category_check check (btrim(category) <> ''),
    constraint zapier_webhook_events_payload_schema_check check (jsonb_typeof(payload_schema) = 'object')
);

comment on table zapier_webhook_events is 'Events that may be subscribed to, named noun.verb.';
comment on column zapier_webhook_events.payload_schema is 'JSON Schema of the event''s data.';
comment on column zapier_webhook_events.enabled is 'False withdraws the event from new subscriptions and from delivery.';

create table if not exists zapier_webhooks (
    id                     text        not null default gen_random_uuid()::text,
    user_id                text        not null references users (id) on delete cascade,
    tenant_id              text,
    client_id              text        references oauth_clients (client_id) on delete set null,
    target_url             text        not null,
    event_type             text        not null references zapier_webhook_events (event_type) on delete restrict,
    filters                jsonb       not null default '{}',
    status                 text        not null default 'active',
    total_triggers         bigint      not null default 0,
    success_count          bigint      not null default 0,
    failure_count          bigint      not null default 0,
    consecutive_failures   integer     not null default 0,
    max_retries            integer     not null default 5,
    retry_backoff_seconds  integer     not null default 5,
    max_triggers_per_hour  integer     not null default 1000,
    signing_secret         text,
    zapier_subscription_id text,
    zapier_metadata        jsonb       not null default '{}',
    last_triggered_at      timestamptz,
    last_success_at        timestamptz,
    last_failure_at        timestamptz,
    created_at             timestamptz not null default now(),
    updated_at             timestamptz not null default now(),
    constraint zapier_webhooks_pkey primary key (id),
    constraint zapier_webhooks_target_url_event_type_key unique (target_url, event_type),
    -- The length is in bytes because the unique index cannot hold more than about 2700.
    constraint zapier_webhooks_target_url_check
        check (target_url ~* '^https?://[^/?#[:space:][:cntrl:]][^[:space:][:cntrl:]]*$' and octet_length(target_url) <= 2048),
    constraint zapier_webhooks_filters_check check (jsonb_typeof(filters) = 'object'),
    constraint zapier_webhooks_filters_size_check check (octet_length(filters::text) <= 16384),
    constraint zapier_webhooks_status_check check (status in ('active', 'inactive')),
    constraint zapier_webhooks_counters_check
        check (total_triggers >= 0 and success_count >= 0 and failure_count >= 0 and consecutive_failures >= 0),
    constraint zapier_webhooks_max_retries_check check (max_retries between 0 and 100),
    constraint zapier_webhooks_retry_backoff_seconds_check check (retry_backoff_seconds between 1 and 86400),
    constraint zapier_webhooks_max_triggers_per_hour_check check (max_triggers_per_hour >= 1),
    constraint zapier_webhooks_signing_secret_check check (btrim(signing_secret) <> ''),
    constraint zapier_webhooks_zapier_metadata_check check (jsonb_typeof(zapier_metadata) = 'object')
);

comment on table zapier_webhooks is 'Subscriptions: which events go to which endpoint, for whom.';
comment on column zapier_webhooks.filters is 'What the event must look like to be delivered; {} takes every event.';
comment on column zapier_webhooks.total_triggers is 'Deliveries begun; success_count and failure_count count attempts.';
comment on column zapier_webhooks.max_retries is 'Attempts after the first one.';
comment on column zapier_webhooks.signing_secret is 'whsec_ key, or the envelope it was sealed in; null sends unsigned.';
comment on column zapier_webhooks.zapier_metadata is 'Free for the integration; "disabled" holds why and when the relay switched the row off.';

create table if not exists zapier_webhook_logs (
    id               text        not null default gen_random_uuid()::text,
    webhook_id       text        references zapier_webhooks (id) on delete set null,
    event_type       text        not null,
    event_id         text,
    target_url       text,
    status           text        not null default 'pending',
    attempt          integer     not null default 1,
    request_headers  jsonb,
    payload          jsonb,
    response_status  integer,
    response_headers jsonb,
    response_body    text,
    duration_ms      integer,
    error_message    text,
    next_retry_at    timestamptz,
    delivered_at     timestamptz,
    created_at       timestamptz not null default now(),
    constraint zapier_webhook_logs_pkey primary key (id),
    constraint zapier_webhook_logs_status_check
        check (status in ('pending', 'success', 'failed', 'retrying', 'dead', 'skipped')),
    constraint zapier_webhook_logs_next_retry_at_check check (status <> 'retrying' or next_retry_at is not null),
    constraint zapier_webhook_logs_delivered_at_check check (status <> 'success' or delivered_at is not null),
    constraint zapier_webhook_logs_attempt_check check (attempt >= 1),
    constraint zapier_webhook_logs_response_status_check check (response_status between 100 and 599),
    constraint zapier_webhook_logs_response_body_check check (octet_length(response_body) <= 65536),
    constraint zapier_webhook_logs_duration_ms_check check (duration_ms >= 0)
);

comment on table zapier_webhook_logs is 'One row per attempt, written once.';
comment on column zapier_webhook_logs.webhook_id is 'Null once the subscription is deleted: unsubscribing must not erase the trail.';
comment on column zapier_webhook_logs.status is
    'success; retrying: another attempt is planned; dead or failed: none is; skipped: not sent, error_message says why; pending: not yet known.';

-- Matching reads active rows by event and owner and evaluates filters outside Postgres ("filters contained in the
-- payload" is a test GIN cannot serve); the GIN indexes are for searching subscriptions. No index on counters or
-- last_*_at: every delivery changes them, and unindexed columns keep those updates HOT.
create index if not exists idx_zapier_webhooks_match on zapier_webhooks (event_type, user_id) where status = 'active';
create index if not exists idx_zapier_webhooks_user_created on zapier_webhooks (user_id, created_at);
create index if not exists idx_zapier_webhooks_tenant on zapier_webhooks (tenant_id) where tenant_id is not null;
create index if not exists idx_zapier_webhooks_client on zapier_webhooks (client_id) where client_id is not null;
create index if not exists idx_zapier_webhooks_status_event on zapier_webhooks (status, event_type);
create index if not exists idx_zapier_webhooks_filters on zapier_webhooks using gin (filters jsonb_path_ops);
create index if not exists idx_zapier_webhooks_metadata on zapier_webhooks using gin (zapier_metadata jsonb_path_ops);
create unique index if not exists zapier_webhooks_zapier_subscription_id_key on zapier_webhooks (zapier_subscription_id)
    where zapier_subscription_id is not null;

create index if not exists idx_zapier_webhook_logs_webhook_created on zapier_webhook_logs (webhook_id, created_at);
create index if not exists idx_zapier_webhook_logs_event_created on zapier_webhook_logs (event_type, created_at);
create index if not exists idx_zapier_webhook_logs_event_id on zapier_webhook_logs (event_id);
create index if not exists idx_zapier_webhook_logs_created on zapier_webhook_logs (created_at);
create index if not exists idx_zapier_webhook_logs_failures on zapier_webhook_logs (created_at)
    where status in ('failed', 'retrying', 'dead');
create index if not exists idx_zapier_webhook_logs_next_retry on zapier_webhook_logs (next_retry_at)
    where status = 'retrying';
create index if not exists idx_zapier_webhook_logs_http_errors on zapier_webhook_logs (response_status, created_at)
    where response_status >= 400;
create index if not exists idx_zapier_webhook_logs_payload on zapier_webhook_logs using gin (payload jsonb_path_ops);
create index if not exists idx_zapier_webhook_logs_error_search
    on zapier_webhook_logs using gin (to_tsvector('simple', error_message)) where error_message is not null;

create index if not exists idx_zapier_webhook_events_category on zapier_webhook_events (category, event_type);
create index if not exists idx_zapier_webhook_events_enabled on zapier_webhook_events (event_type) where enabled;

create or replace function update_zapier_webhooks_updated_at() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.updated_at := now();
    return new;
end
$$;

-- Only what an owner configures moves updated_at; the counters of a delivery do not.
create or replace trigger update_zapier_webhooks_updated_at
    before update on zapier_webhooks
    for each row
    when ((old.user_id, old.tenant_id, old.client_id, old.target_url, old.event_type, old.filters, old.status,
           old.max_retries, old.retry_backoff_seconds, old.max_triggers_per_hour, old.signing_secret,
           old.zapier_subscription_id, old.zapier_metadata)
        is distinct from
          (new.user_id, new.tenant_id, new.client_id, new.target_url, new.event_type, new.filters, new.status,
           new.max_retries, new.retry_backoff_seconds, new.max_triggers_per_hour, new.signing_secret,
           new.zapier_subscription_id, new.zapier_metadata))
    execute function update_zapier_webhooks_updated_at();

-- Deletes log rows older than the given days, oldest first, 10,000 in one statement, and returns how many went.
-- Open work stays: a pending row, and a retrying row that no later attempt of its delivery has followed.
create or replace function cleanup_old_zapier_webhook_logs(days_to_keep integer default 90) returns bigint
    language plpgsql
    set search_path from current
as $$
declare
    cutoff  timestamptz;
    reached timestamptz := '-infinity'; -- nothing deletable is older: skips what this call left dead
    batch   bigint;
    deleted bigint := 0;
begin
    if days_to_keep is null or days_to_keep < 1 then
        raise exception 'days_to_keep must be 1 or more, got %', coalesce(days_to_keep::text, 'null')
            using errcode = 'invalid_parameter_value';
    end if;
    cutoff := now() - make_interval(days => days_to_keep);
    loop
        with old as (
            select l.id
            from zapier_webhook_logs l
            where l.created_at >= reached
              and l.created_at < cutoff
              and l.status <> 'pending'
              and (l.status <> 'retrying' or exists (
                  select from zapier_webhook_logs later
                  where later.event_id = l.event_id
                    and later.webhook_id is not distinct from l.webhook_id
                    and later.attempt > l.attempt))
            order by l.created_at, l.attempt
            limit 10000
        ), gone as (
            delete from zapier_webhook_logs l using old where l.id = old.id returning l.created_at
        )
        select count(*), coalesce(max(gone.created_at), reached) into batch, reached from gone;
        deleted := deleted + batch;
        exit when batch < 10000;
    end loop;
    return deleted;
end
$$;

comment on function cleanup_old_zapier_webhook_logs(integer) is
    'Deletes delivery logs older than days_to_keep days (1 or more) except open retries; returns the number deleted.';

-- What a rollback set aside comes back. The copies were made with select *, so their columns are in table order.
-- The registry comes first, so that an event switched off stays off. Subscriptions of deleted users are skipped;
-- their log rows return without the subscription, as they would be had it been deleted in place.
do $$
begin
    if to_regclass('migration_backup.zapier_webhook_events_014') is not null then
        insert into zapier_webhook_events select * from migration_backup.zapier_webhook_events_014 on conflict do nothing;
        drop table migration_backup.zapier_webhook_events_014;
    end if;
    if to_regclass('migration_backup.zapier_webhooks_014') is not null then
        update migration_backup.zapier_webhooks_014 b set client_id = null
        where not exists (select from oauth_clients c where c.client_id = b.client_id);
        insert into zapier_webhooks
        select b.* from migration_backup.zapier_webhooks_014 b
        join users u on u.id = b.user_id
        on conflict do nothing;
        drop table migration_backup.zapier_webhooks_014;
    end if;
    if to_regclass('migration_backup.zapier_webhook_logs_014') is not null then
        update migration_backup.zapier_webhook_logs_014 b set webhook_id = null
        where not exists (select from zapier_webhooks w where w.id = b.webhook_id);
        insert into zapier_webhook_logs select * from migration_backup.zapier_webhook_logs_014 on conflict do nothing;
        drop table migration_backup.zapier_webhook_logs_014;
    end if;
end
$$;

insert into zapier_webhook_events (event_type, category, description) values
    ('agent.created', 'agent', 'An agent was created.'),
    ('agent.updated', 'agent', 'An agent was changed.'),
    ('agent.deleted', 'agent', 'An agent was deleted.'),
    ('workflow.started', 'workflow', 'A workflow run began.'),
    ('workflow.completed', 'workflow', 'A workflow run ended well.'),
    ('workflow.failed', 'workflow', 'A workflow run ended in an error.'),
    ('function.created', 'function', 'A function was created.'),
    ('function.called', 'function', 'A function was called.'),
    ('service.created', 'service', 'A service was created.'),
    ('thing.created', 'thing', 'A thing was created.'),
    ('thing.updated', 'thing', 'A thing was changed.'),
    ('app.installed', 'app', 'An app was installed.')
on conflict (event_type) do nothing;

-- Every registered event with its active subscriptions, those without any included.
create or replace view active_zapier_webhooks_by_event as
select e.event_type,
       e.category,
       e.description,
       e.enabled,
       count(w.id)                               as active_webhooks,
       count(distinct w.user_id)                 as unique_users,
       coalesce(sum(w.total_triggers), 0)::bigint as total_triggers,
       coalesce(sum(w.success_count), 0)::bigint as success_count,
       coalesce(sum(w.failure_count), 0)::bigint as failure_count,
       max(w.last_triggered_at)                  as last_triggered_at
from zapier_webhook_events e
left join zapier_webhooks w on w.event_type = e.event_type and w.status = 'active'
group by e.event_type;

-- How each subscription fares. Rows that were not sent (pending, skipped) are no attempts. Filter or page it; every
-- subscription at once reads a day of logs.
create or replace view zapier_webhook_health as
select w.id as webhook_id,
       w.user_id,
       w.event_type,
       w.target_url,
       w.status,
       case
           when w.status = 'inactive' then 'inactive'
           when w.consecutive_failures >= 5 or (l.attempts_24h > 0 and l.failures_24h = l.attempts_24h) then 'failing'
           when l.failures_24h * 5 > l.attempts_24h then 'degraded'
           when l.attempts_24h = 0 then 'idle'
           else 'healthy'
       end as health_status,
       w.total_triggers,
       w.success_count,
       w.failure_count,
       w.consecutive_failures,
       round(100.0 * w.success_count / nullif(w.success_count + w.failure_count, 0), 2) as success_rate_pct,
       l.attempts_24h,
       l.failures_24h,
       l.max_attempt_24h,
       l.avg_duration_ms,
       l.p95_duration_ms,
       round(100.0 * l.triggers_last_hour / w.max_triggers_per_hour, 2) as rate_limit_used_pct,
       w.last_triggered_at,
       w.last_success_at,
       w.last_failure_at
from zapier_webhooks w
cross join lateral (
    select count(*)                                                               as attempts_24h,
           count(*) filter (where g.status <> 'success')                          as failures_24h,
           max(g.attempt)                                                         as max_attempt_24h,
           round(avg(g.duration_ms), 1)                                           as avg_duration_ms,
           percentile_disc(0.95) within group (order by g.duration_ms)            as p95_duration_ms,
           count(*) filter (where g.attempt = 1 and g.created_at > now() - interval '1 hour') as triggers_last_hour
    from zapier_webhook_logs g
    where g.webhook_id = w.id
      and g.created_at > now() - interval '24 hours'
      and g.status not in ('pending', 'skipped')
) l;

comment on view zapier_webhook_health is
    'failing: five failures in a row, or every attempt of 24 h failed; degraded: over 20 % failed; idle: no attempt in 24 h.';

-- The last day's attempts, without payloads; user_id is null once the subscription is deleted.
create or replace view recent_zapier_webhook_deliveries as
select l.id, l.webhook_id, w.user_id, l.event_type, l.event_id, l.target_url, l.status, l.attempt, l.response_status,
       l.duration_ms, l.error_message, l.next_retry_at, l.delivered_at, l.created_at
from zapier_webhook_logs l
left join zapier_webhooks w on w.id = l.webhook_id
where l.created_at > now() - interval '24 hours';

commit;
