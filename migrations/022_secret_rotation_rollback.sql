-- 022_secret_rotation_rollback.sql: drop the previous signing secrets, and set them aside.
--
-- They go to migration_backup.webhook_previous_secrets_022, from where 022 takes them back. When 022 will not return,
-- purge them with
--     drop schema migration_backup cascade;
begin;

set local lock_timeout = '10s';

do $$
begin
    if to_regclass('webhook_previous_secrets') is not null then
        -- Nobody may write between the copy and the drop.
        lock table webhook_previous_secrets in access exclusive mode;
        create schema if not exists migration_backup;
        revoke all on schema migration_backup from public;
        create table migration_backup.webhook_previous_secrets_022 as table webhook_previous_secrets;
        revoke all on migration_backup.webhook_previous_secrets_022 from public;
    end if;
end
$$;

drop table if exists webhook_previous_secrets;

commit;
