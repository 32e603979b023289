-- 012_oauth_accounts_enhancement_rollback.sql: take the connection columns off accounts, and set their values aside.
--
-- The values go to migration_backup.accounts_012, from where 012 takes them back. They are personal data and
-- ciphertext: when 012 will not return, purge every such copy with
--     drop schema migration_backup cascade;
begin;

set local lock_timeout = '10s';

do $$
begin
    if exists (
        select from pg_attribute
        where attrelid = to_regclass('accounts') and attname = 'provider_type' and not attisdropped
    ) then
        -- Nobody may write between the copy and the drop.
        lock table accounts in access exclusive mode;
        create schema if not exists migration_backup;
        revoke all on schema migration_backup from public;
        create table migration_backup.accounts_012 as
        select id, provider_type, team_id, tenant_id, refresh_token_encrypted, expires_at_timestamp, scope_granted, token_data
        from accounts
        where num_nonnulls(provider_type, team_id, tenant_id, refresh_token_encrypted, expires_at_timestamp,
                           scope_granted, token_data) > 0;
        revoke all on migration_backup.accounts_012 from public;
    end if;
    -- A table of this name was there before 012 refused to run; only its own view is dropped.
    if exists (select from pg_class where oid = to_regclass('oauth_connections') and relkind = 'v') then
        drop view oauth_connections;
    end if;
end
$$;

drop trigger if exists update_accounts_updated_at on accounts;

-- Indexes and checks go with their columns.
alter table if exists accounts
    drop column if exists provider_type,
    drop column if exists team_id,
    drop column if exists tenant_id,
    drop column if exists refresh_token_encrypted,
    drop column if exists expires_at_timestamp,
    drop column if exists scope_granted,
    drop column if exists token_data;

commit;
