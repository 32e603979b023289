-- 021_stream_audit_rollback.sql: drop the audit of the stream, and set it aside.
--
-- The rows go to migration_backup.relay_stream_audits_021 and relay_stream_holes_021, from where 021 takes them back. When
-- 021 will not return, purge them with
--     drop schema migration_backup cascade;
begin;

set local lock_timeout = '10s';

do $$
begin
    if to_regclass('relay_stream_holes') is not null then
        -- Nobody may write between the copy and the drop.
        lock table relay_stream_audits, relay_stream_holes in access exclusive mode;
        create schema if not exists migration_backup;
        revoke all on schema migration_backup from public;
        create table migration_backup.relay_stream_audits_021 as table relay_stream_audits;
        create table migration_backup.relay_stream_holes_021 as table relay_stream_holes;
        revoke all on migration_backup.relay_stream_audits_021, migration_backup.relay_stream_holes_021 from public;
    end if;
end
$$;

drop table if exists relay_stream_holes;
drop table if exists relay_stream_audits;

commit;
