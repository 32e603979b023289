-- 013_oauth_clients.sql: this platform as an OAuth 2.0 provider: clients, one-time codes and tokens, secrets as hashes only.
begin;

set local lock_timeout = '10s';

-- An older Zapier migration made a table of this name; `if not exists` would accept it and fail obscurely later.
do $$
begin
    if to_regclass('oauth_clients') is not null and not exists (
        select from pg_attribute
        where attrelid = to_regclass('oauth_clients') and attname = 'client_secret_hash' and not attisdropped
    ) then
        raise exception 'oauth_clients exists with another shape (no client_secret_hash column)'
            using hint = 'Rename the existing table, then run this migration again.';
    end if;
end
$$;

create table if not exists oauth_clients (
    id                     text        not null default gen_random_uuid()::text,
    client_id              text        not null,
    client_secret_hash     text,
    name                   text        not null,
    description            text,
    logo_url               text,
    homepage_url           text,
    redirect_uris          text[]      not null,
    allowed_scopes         text[]      not null default '{}',
    client_type            text        not null default 'confidential',
    access_token_lifetime  integer     not null default 3600,
    refresh_token_lifetime integer     not null default 2592000,
    require_pkce           boolean     not null default true,
    status                 text        not null default 'pending',
    status_reason          text,
    status_changed_at      timestamptz not null default now(),
    total_authorizations   bigint      not null default 0,
    total_tokens_issued    bigint      not null default 0,
    rate_limit_per_hour    integer     not null default 1000,
    webhook_url            text,
    webhook_secret         text,
    webhook_events         text[]      not null default '{}',
    last_used_at           timestamptz,
    metadata               jsonb       not null default '{}',
    created_by             text        references users (id) on delete set null,
    created_at             timestamptz not null default now(),
    updated_at             timestamptz not null default now(),
    constraint oauth_clients_pkey primary key (id),
    constraint oauth_clients_client_id_key unique (client_id),
    -- No colon: it separates user and password in HTTP Basic.
    constraint oauth_clients_client_id_check check (client_id ~ '^[A-Za-z0-9._~-]{1,128}$'),
    constraint oauth_clients_name_check check (btrim(name) <> '' and char_length(name) <= 255),
    constraint oauth_clients_client_type_check check (client_type in ('public', 'confidential')),
    -- bcrypt, cost 10 or more.
    constraint oauth_clients_client_secret_hash_check
        check (client_secret_hash ~ '^\$2[aby]\$(1[0-9]|2[0-9]|3[01])\$[./A-Za-z0-9]{53}$'),
    constraint oauth_clients_secret_by_type_check check ((client_type = 'confidential') = (client_secret_hash is not null)),
    constraint oauth_clients_public_pkce_check check (client_type <> 'public' or require_pkce),
    -- Shown as links and images on the consent page.
    constraint oauth_clients_logo_url_check check (logo_url ~* '^https?://[^[:space:][:cntrl:]]+$'),
    constraint oauth_clients_homepage_url_check check (homepage_url ~* '^https?://[^[:space:][:cntrl:]]+$'),
    constraint oauth_clients_redirect_uris_check
        check (cardinality(redirect_uris) between 1 and 50 and array_position(redirect_uris, null) is null),
    constraint oauth_clients_allowed_scopes_check check (array_position(allowed_scopes, null) is null),
    constraint oauth_clients_access_token_lifetime_check check (access_token_lifetime between 60 and 86400),
    constraint oauth_clients_refresh_token_lifetime_check check (refresh_token_lifetime between 3600 and 31536000),
    constraint oauth_clients_status_check check (status in ('active', 'suspended', 'revoked', 'pending')),
    constraint oauth_clients_status_reason_check
        check (status not in ('suspended', 'revoked') or coalesce(btrim(status_reason), '') <> ''),
    constraint oauth_clients_counters_check check (total_authorizations >= 0 and total_tokens_issued >= 0),
    constraint oauth_clients_rate_limit_per_hour_check check (rate_limit_per_hour >= 1),
    constraint oauth_clients_webhook_url_check check (webhook_url ~* '^https://[^[:space:][:cntrl:]]+$'),
    constraint oauth_clients_webhook_secret_check check (webhook_url is null or coalesce(webhook_secret, '') <> ''),
    constraint oauth_clients_webhook_events_check check (array_position(webhook_events, null) is null),
    constraint oauth_clients_metadata_check check (jsonb_typeof(metadata) = 'object')
);

comment on table oauth_clients is 'Applications that may ask for tokens of this platform.';
comment on column oauth_clients.client_secret_hash is 'bcrypt; a confidential client has one, a public client has none.';
comment on column oauth_clients.webhook_secret is 'HMAC key for token events: sealed by the application, not hashed, because signing needs it back.';
comment on column oauth_clients.access_token_lifetime is 'Seconds.';
comment on column oauth_clients.refresh_token_lifetime is 'Seconds.';

create table if not exists oauth_authorization_codes (
    id                    text        not null default gen_random_uuid()::text,
    code_hash             text        not null,
    client_id             text        not null references oauth_clients (client_id) on delete cascade,
    user_id               text        not null references users (id) on delete cascade,
    redirect_uri          text        not null,
    scopes                text[]      not null default '{}',
    code_challenge        text,
    code_challenge_method text,
    state                 text,
    nonce                 text,
    ip_address            inet,
    user_agent            text,
    expires_at            timestamptz not null default now() + interval '10 minutes',
    used_at               timestamptz,
    created_at            timestamptz not null default now(),
    constraint oauth_authorization_codes_pkey primary key (id),
    constraint oauth_authorization_codes_code_hash_key unique (code_hash),
    constraint oauth_authorization_codes_code_hash_check check (code_hash ~ '^[0-9a-f]{64}$'),
    constraint oauth_authorization_codes_redirect_uri_check check (btrim(redirect_uri) <> ''),
    constraint oauth_authorization_codes_scopes_check check (array_position(scopes, null) is null),
    constraint oauth_authorization_codes_pkce_pair_check check ((code_challenge is null) = (code_challenge_method is null)),
    constraint oauth_authorization_codes_code_challenge_check check (code_challenge ~ '^[A-Za-z0-9_-]{43,128}$'),
    constraint oauth_authorization_codes_code_challenge_method_check check (code_challenge_method in ('S256', 'plain')),
    constraint oauth_authorization_codes_expires_at_check
        check (expires_at > created_at and expires_at <= created_at + interval '10 minutes'),
    constraint oauth_authorization_codes_used_at_check check (used_at >= created_at)
);

comment on table oauth_authorization_codes is 'One-time codes, ten minutes at most. A used code stays, so that its replay is seen.';
comment on column oauth_authorization_codes.code_hash is 'SHA-256 of the code in lower-case hex; the code itself is never stored.';

create table if not exists oauth_tokens (
    id                       text        not null default gen_random_uuid()::text,
    access_token_hash        text        not null,
    refresh_token_hash       text,
    client_id                text        not null references oauth_clients (client_id) on delete cascade,
    user_id                  text        not null references users (id) on delete cascade,
    authorization_code_id    text        references oauth_authorization_codes (id) on delete set null,
    parent_token_id          text        references oauth_tokens (id) on delete set null,
    family_id                text        not null default gen_random_uuid()::text,
    scopes                   text[]      not null default '{}',
    access_token_expires_at  timestamptz not null,
    refresh_token_expires_at timestamptz,
    revoked_at               timestamptz,
    revoked_reason           text,
    last_used_at             timestamptz,
    use_count                bigint      not null default 0,
    ip_address               inet,
    user_agent               text,
    created_at               timestamptz not null default now(),
    constraint oauth_tokens_pkey primary key (id),
    constraint oauth_tokens_access_token_hash_key unique (access_token_hash),
    constraint oauth_tokens_refresh_token_hash_key unique (refresh_token_hash),
    constraint oauth_tokens_access_token_hash_check check (access_token_hash ~ '^[0-9a-f]{64}$'),
    constraint oauth_tokens_refresh_token_hash_check check (refresh_token_hash ~ '^[0-9a-f]{64}$'),
    constraint oauth_tokens_distinct_hashes_check check (refresh_token_hash <> access_token_hash),
    constraint oauth_tokens_refresh_pair_check check ((refresh_token_hash is null) = (refresh_token_expires_at is null)),
    constraint oauth_tokens_scopes_check check (array_position(scopes, null) is null),
    constraint oauth_tokens_access_token_expires_at_check check (access_token_expires_at > created_at),
    constraint oauth_tokens_refresh_token_expires_at_check check (refresh_token_expires_at > created_at),
    constraint oauth_tokens_revoked_pair_check check ((revoked_at is null) = (revoked_reason is null)),
    constraint oauth_tokens_revoked_reason_check check (revoked_reason in (
        'rotated', 'logout', 'user', 'client', 'admin', 'code_reuse', 'refresh_reuse', 'client_suspended', 'expired')),
    constraint oauth_tokens_use_count_check check (use_count >= 0)
);

comment on table oauth_tokens is 'Issued token pairs. Rotation adds a row with the same family_id; replay revokes the family.';
comment on column oauth_tokens.access_token_hash is 'SHA-256 in lower-case hex. A fast hash is right because tokens are 256 random bits.';

-- No index on last_used_at, use_count or the totals: they change often, and unindexed columns keep such updates HOT.
create index if not exists idx_oauth_clients_status on oauth_clients (status);
create index if not exists idx_oauth_clients_active on oauth_clients (client_id) where status = 'active';
create index if not exists idx_oauth_clients_created_by on oauth_clients (created_by, created_at);
create index if not exists idx_oauth_clients_redirect_uris on oauth_clients using gin (redirect_uris);
create index if not exists idx_oauth_clients_allowed_scopes on oauth_clients using gin (allowed_scopes);
create index if not exists idx_oauth_clients_metadata on oauth_clients using gin (metadata jsonb_path_ops);
create index if not exists idx_oauth_clients_search
    on oauth_clients using gin (to_tsvector('english', name || ' ' || coalesce(description, '')));

create index if not exists idx_oauth_codes_client_created on oauth_authorization_codes (client_id, created_at);
create index if not exists idx_oauth_codes_user on oauth_authorization_codes (user_id);
create index if not exists idx_oauth_codes_expires_unused on oauth_authorization_codes (expires_at) where used_at is null;
create index if not exists idx_oauth_codes_created on oauth_authorization_codes (created_at);

create index if not exists idx_oauth_tokens_client_created on oauth_tokens (client_id, created_at);
create index if not exists idx_oauth_tokens_user on oauth_tokens (user_id);
create index if not exists idx_oauth_tokens_live on oauth_tokens (user_id, client_id) where revoked_at is null;
create index if not exists idx_oauth_tokens_access_expires on oauth_tokens (access_token_expires_at) where revoked_at is null;
create index if not exists idx_oauth_tokens_refresh_expires on oauth_tokens (refresh_token_expires_at)
    where revoked_at is null and refresh_token_hash is not null;
create index if not exists idx_oauth_tokens_family on oauth_tokens (family_id);
create index if not exists idx_oauth_tokens_parent on oauth_tokens (parent_token_id) where parent_token_id is not null;
create index if not exists idx_oauth_tokens_code on oauth_tokens (authorization_code_id) where authorization_code_id is not null;
create index if not exists idx_oauth_tokens_revoked on oauth_tokens (revoked_at) where revoked_at is not null;
create index if not exists idx_oauth_tokens_scopes on oauth_tokens using gin (scopes);

create or replace function update_oauth_clients_updated_at() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.updated_at := now();
    if new.status is distinct from old.status then
        new.status_changed_at := now();
    end if;
    return new;
end
$$;

create or replace trigger update_oauth_clients_updated_at
    before update on oauth_clients
    for each row execute function update_oauth_clients_updated_at();

-- What a rollback set aside comes back. The copies were made with select *, so their columns are in table order.
-- Whoever was deleted meanwhile stays deleted: their codes and tokens are skipped, their clients lose created_by.
do $$
begin
    if to_regclass('migration_backup.oauth_clients_013') is not null then
        update migration_backup.oauth_clients_013 b set created_by = null
        where not exists (select from users u where u.id = b.created_by);
        insert into oauth_clients select * from migration_backup.oauth_clients_013 on conflict do nothing;
        drop table migration_backup.oauth_clients_013;
    end if;
    if to_regclass('migration_backup.oauth_authorization_codes_013') is not null then
        insert into oauth_authorization_codes
        select b.* from migration_backup.oauth_authorization_codes_013 b
        join users u on u.id = b.user_id
        join oauth_clients c on c.client_id = b.client_id
        on conflict do nothing;
        drop table migration_backup.oauth_authorization_codes_013;
    end if;
    if to_regclass('migration_backup.oauth_tokens_013') is not null then
        delete from migration_backup.oauth_tokens_013 b
        where not exists (select from users u where u.id = b.user_id)
           or not exists (select from oauth_clients c where c.client_id = b.client_id);
        update migration_backup.oauth_tokens_013 b set parent_token_id = null
        where not exists (select from migration_backup.oauth_tokens_013 p where p.id = b.parent_token_id);
        update migration_backup.oauth_tokens_013 b set authorization_code_id = null
        where not exists (select from oauth_authorization_codes c where c.id = b.authorization_code_id);
        insert into oauth_tokens select * from migration_backup.oauth_tokens_013 on conflict do nothing;
        drop table migration_backup.oauth_tokens_013;
    end if;
end
$$;

-- Clients in service, for people: no hash, no webhook secret.
create or replace view active_oauth_clients as
select id, client_id, name, description, logo_url, homepage_url, client_type, redirect_uris, allowed_scopes,
       require_pkce, access_token_lifetime, refresh_token_lifetime, rate_limit_per_hour, total_authorizations,
       total_tokens_issued, last_used_at, created_at
from oauth_clients
where status = 'active';

-- Tokens per client. A token counts once: as revoked, else by its access token as expired or active.
-- Filter or page it; every client at once reads every token.
create or replace view oauth_client_stats as
select c.client_id,
       c.name,
       c.client_type,
       c.status,
       t.unique_users,
       t.total_tokens,
       t.active_tokens,
       t.expired_tokens,
       t.revoked_tokens,
       t.tokens_last_hour,
       round(100.0 * t.tokens_last_hour / c.rate_limit_per_hour, 2) as rate_limit_used_pct,
       c.total_authorizations,
       c.total_tokens_issued,
       t.last_issued_at,
       c.last_used_at
from oauth_clients c
cross join lateral (
    select count(distinct k.user_id)                                                                   as unique_users,
           count(*)                                                                                    as total_tokens,
           count(*) filter (where k.revoked_at is null and k.access_token_expires_at > now())          as active_tokens,
           count(*) filter (where k.revoked_at is null and k.access_token_expires_at <= now())         as expired_tokens,
           count(*) filter (where k.revoked_at is not null)                                            as revoked_tokens,
           count(*) filter (where k.created_at > now() - interval '1 hour')                            as tokens_last_hour,
           max(k.created_at)                                                                           as last_issued_at
    from oauth_tokens k
    where k.client_id = c.client_id
) t;

commit;
