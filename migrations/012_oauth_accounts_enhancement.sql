-- 012_oauth_accounts_enhancement.sql: let a user hold several outside connections, and tell when their tokens end.
--
-- The new columns have no default, so adding them rewrites nothing. Building the indexes blocks writers for the
-- length of a table scan; on a large accounts table build them beforehand, under these names, with
-- `create index concurrently`: this file then finds them. A build that failed leaves an invalid index, which
-- `if not exists` would accept for good, so invalid leftovers are dropped first.
begin;

set local lock_timeout = '10s';

-- Stop before the first change when this is not the schema the file was written for.
do $$
declare
    missing text;
begin
    if exists (
        select from pg_attribute
        where attrelid = to_regclass('accounts') and attname = 'userId' and not attisdropped
    ) then
        raise exception 'accounts has camelCase column names ("userId"), migration 012 needs snake_case (user_id)'
            using hint = 'Configure better-auth for snake_case and rename its columns, then run this migration again.';
    end if;

    select string_agg(need.what, ', ') into missing
    from (values
        ('users.email', exists (
            select from pg_attribute
            where attrelid = to_regclass('users') and attname = 'email' and not attisdropped)),
        ('accounts.user_id', exists (
            select from pg_attribute
            where attrelid = to_regclass('accounts') and attname = 'user_id' and not attisdropped)),
        ('update_updated_at_column()', to_regprocedure('update_updated_at_column()') is not null)
    ) as need (what, present)
    where not need.present;
    if missing is not null then
        raise exception 'migration 012 builds on the platform schema, which lacks: %', missing
            using hint = 'Apply the platform''s own migrations first, or 000_dev_base.sql on a development database.';
    end if;

    if exists (select from pg_class where oid = to_regclass('oauth_connections') and relkind <> 'v') then
        raise exception 'oauth_connections exists and is not a view, migration 012 creates a view of that name'
            using hint = 'Rename the existing relation, then run this migration again.';
    end if;
end
$$;

do $$
declare
    leftover regclass;
begin
    for leftover in
        select indexrelid::regclass from pg_index
        where indrelid = to_regclass('accounts') and not indisvalid
          and indexrelid in (
              to_regclass('accounts_oauth_connection_key'), to_regclass('idx_accounts_provider_type'),
              to_regclass('idx_accounts_user_provider'), to_regclass('idx_accounts_expires_at'),
              to_regclass('idx_accounts_provider_team'), to_regclass('idx_accounts_token_data'))
    loop
        execute format('drop index %s', leftover);
    end loop;
end
$$;

alter table accounts
    add column if not exists provider_type           text,
    add column if not exists team_id                 text,
    add column if not exists tenant_id               text,
    add column if not exists refresh_token_encrypted text,
    add column if not exists expires_at_timestamp    bigint,
    add column if not exists scope_granted           text,
    add column if not exists token_data              jsonb;

comment on column accounts.provider_type is 'Which platform the connection reaches; null for a plain sign-in account.';
comment on column accounts.team_id is 'Team or organization at the provider (Vercel team, Netlify site owner); null for a personal connection.';
comment on column accounts.tenant_id is 'Directory or project at the provider (Azure tenant, GCP project); null where there is none.';
comment on column accounts.refresh_token_encrypted is 'Refresh token as an AES-256-GCM envelope, sealed and opened by the application only.';
comment on column accounts.expires_at_timestamp is 'When the access token ends, in Unix milliseconds; null for a token that never expires.';
comment on column accounts.scope_granted is 'Scopes the provider granted, separated by spaces; may be fewer than were asked for.';
comment on column accounts.token_data is 'What else the provider said about the token, as JSON; never a secret.';

-- Not valid, then validated: the scan runs without blocking writers.
do $$
begin
    if not exists (
        select from pg_constraint
        where conrelid = 'accounts'::regclass and conname = 'accounts_provider_type_check'
    ) then
        alter table accounts add constraint accounts_provider_type_check check (provider_type in (
            'vercel', 'netlify', 'aws', 'gcp', 'azure', 'cloudflare', 'zapier', 'github', 'google', 'microsoft'
        )) not valid;
    end if;
    -- Past the year 9999 to_timestamp may fail, and one such row would break oauth_connections for everyone.
    if not exists (
        select from pg_constraint
        where conrelid = 'accounts'::regclass and conname = 'accounts_expires_at_timestamp_check'
    ) then
        alter table accounts add constraint accounts_expires_at_timestamp_check
            check (expires_at_timestamp between 0 and 253402300799999) not valid;
    end if;
end
$$;
alter table accounts validate constraint accounts_provider_type_check;
alter table accounts validate constraint accounts_expires_at_timestamp_check;

-- One row per connection. A null team or tenant must equal another null, which a plain unique constraint denies and
-- nulls not distinct grants on 15 and later only; sign-in accounts stay outside.
create unique index if not exists accounts_oauth_connection_key
    on accounts (user_id, provider_type, account_id, coalesce(team_id, ''), coalesce(tenant_id, ''))
    where provider_type is not null;

create index if not exists idx_accounts_provider_type on accounts (provider_type) where provider_type is not null;
create index if not exists idx_accounts_user_provider on accounts (user_id, provider_type);
create index if not exists idx_accounts_expires_at on accounts (expires_at_timestamp) where expires_at_timestamp is not null;
create index if not exists idx_accounts_provider_team on accounts (provider_type, team_id, tenant_id) where team_id is not null;
create index if not exists idx_accounts_token_data on accounts using gin (token_data jsonb_path_ops);

-- What a rollback set aside comes back before the trigger exists, so restored rows keep their updated_at.
drop trigger if exists update_accounts_updated_at on accounts;
do $$
begin
    if to_regclass('migration_backup.accounts_012') is not null then
        update accounts a
        set provider_type           = b.provider_type,
            team_id                 = b.team_id,
            tenant_id               = b.tenant_id,
            refresh_token_encrypted = b.refresh_token_encrypted,
            expires_at_timestamp    = b.expires_at_timestamp,
            scope_granted           = b.scope_granted,
            token_data              = b.token_data
        from migration_backup.accounts_012 b
        where a.id = b.id;
        drop table migration_backup.accounts_012;
    end if;
end
$$;

create trigger update_accounts_updated_at
    before update on accounts
    for each row execute function update_updated_at_column();

-- Connections for people and dashboards: no token, no token_data. A token without an expiry never ends.
create or replace view oauth_connections as
select a.id,
       a.user_id,
       u.email                                 as user_email,
       a.provider_type,
       a.account_id                            as provider_account_id,
       a.team_id,
       a.tenant_id,
       a.scope_granted,
       t.expires_at,
       case
           when t.expires_at is null then 'no_expiry'
           when t.expires_at <= now() then 'expired'
           when t.expires_at < now() + interval '24 hours' then 'expiring'
           else 'valid'
       end                                     as token_status,
       (a.refresh_token_encrypted is not null
           or a.refresh_token is not null)     as has_refresh_token,
       floor(extract(epoch from t.expires_at - now()))::bigint as seconds_until_expiry,
       a.created_at,
       a.updated_at
from accounts a
join users u on u.id = a.user_id
cross join lateral (select to_timestamp(a.expires_at_timestamp / 1000.0) as expires_at) t
where a.provider_type is not null;

comment on view oauth_connections is 'Outside connections of users, without secrets. seconds_until_expiry is negative once expired, null without an expiry.';

commit;
