-- 018_delivery_queue_rollback.sql: drop the delivery queue, and set retries and dead letters aside.
--
-- The rows go to migration_backup.webhook_deliveries_018 and webhook_dead_letters_018, from where 018 takes them back.
-- Bodies are personal data: when 018 will not return, purge every such copy with
--     drop schema migration_backup cascade;
begin;

set local lock_timeout = '10s';

do $$
begin
    if to_regclass('webhook_deliveries') is not null then
        -- Nobody may write between the copy and the drop.
        lock table webhook_deliveries, webhook_dead_letters in access exclusive mode;
        create schema if not exists migration_backup;
        revoke all on schema migration_backup from public;
        create table migration_backup.webhook_deliveries_018 as table webhook_deliveries;
        create table migration_backup.webhook_dead_letters_018 as table webhook_dead_letters;
        revoke all on migration_backup.webhook_deliveries_018, migration_backup.webhook_dead_letters_018 from public;
    end if;
end
$$;

drop table if exists rate_limit_windows;
drop table if exists webhook_dead_letters;
drop table if exists webhook_deliveries;

commit;
