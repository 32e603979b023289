-- 013_oauth_clients_rollback.sql: drop the OAuth provider's tables, and set their rows aside.
--
-- The rows go to migration_backup.oauth_clients_013, oauth_authorization_codes_013 and oauth_tokens_013, from where 013
-- takes them back. They are personal data and hashes: when 013 will not return, purge every such copy with
--     drop schema migration_backup cascade;
begin;

set local lock_timeout = '10s';

do $$
begin
    if to_regclass('zapier_webhooks') is not null then
        raise exception 'zapier_webhooks refers to oauth_clients: roll back 014 first';
    end if;
    if to_regclass('oauth_clients') is not null then
        -- Nobody may write between the copy and the drop.
        lock table oauth_clients, oauth_authorization_codes, oauth_tokens in access exclusive mode;
        create schema if not exists migration_backup;
        revoke all on schema migration_backup from public;
        create table migration_backup.oauth_clients_013 as select * from oauth_clients;
        create table migration_backup.oauth_authorization_codes_013 as select * from oauth_authorization_codes;
        create table migration_backup.oauth_tokens_013 as select * from oauth_tokens;
        revoke all on migration_backup.oauth_clients_013, migration_backup.oauth_authorization_codes_013,
            migration_backup.oauth_tokens_013 from public;
    end if;
end
$$;

drop view if exists oauth_client_stats;
drop view if exists active_oauth_clients;
drop table if exists oauth_tokens;
drop table if exists oauth_authorization_codes;
drop table if exists oauth_clients;
drop function if exists update_oauth_clients_updated_at();

commit;
