-- 019_backfill_rollback.sql: drop the backfills, and set them aside.
--
-- The rows go to migration_backup.relay_backfills_019 and relay_backfill_chunks_019, from where 019 takes them back. They
-- hold keys of rows: when 019 will not return, purge them with
--     drop schema migration_backup cascade;
begin;

set local lock_timeout = '10s';

do $$
begin
    if to_regclass('relay_backfills') is not null then
        -- Nobody may write between the copy and the drop.
        lock table relay_backfills, relay_backfill_chunks in access exclusive mode;
        create schema if not exists migration_backup;
        revoke all on schema migration_backup from public;
        create table migration_backup.relay_backfills_019 as table relay_backfills;
        create table migration_backup.relay_backfill_chunks_019 as table relay_backfill_chunks;
        revoke all on migration_backup.relay_backfills_019, migration_backup.relay_backfill_chunks_019 from public;
    end if;
end
$$;

drop table if exists relay_backfill_chunks;
drop table if exists relay_backfills;

commit;
