-- 015_outbox_rollback.sql: drop the outbox and the relay's checkpoints, and set their rows aside.
--
-- The rows go to migration_backup.outbox_events_015, relay_checkpoints_015 and relay_catalog_versions_015, from where
-- 015 takes them back. Payloads are personal data: when 015 will not return, purge every such copy with
--     drop schema migration_backup cascade;
begin;

set local lock_timeout = '10s';

do $$
begin
    if to_regclass('outbox_events') is not null then
        -- Nobody may write between the copy and the drop.
        lock table outbox_events, relay_checkpoints, relay_catalog_versions in access exclusive mode;
        create schema if not exists migration_backup;
        revoke all on schema migration_backup from public;
        create table migration_backup.outbox_events_015 as table outbox_events;
        create table migration_backup.relay_checkpoints_015 as table relay_checkpoints;
        create table migration_backup.relay_catalog_versions_015 as table relay_catalog_versions;
        revoke all on migration_backup.outbox_events_015, migration_backup.relay_checkpoints_015,
            migration_backup.relay_catalog_versions_015 from public;
    end if;
end
$$;

drop function if exists emit_event(text, jsonb, text, text, text, jsonb);
drop table if exists relay_catalog_versions;
drop table if exists relay_checkpoints;
drop table if exists outbox_events;
drop function if exists refuse_outbox_change();
drop function if exists relay_random_event_id();

commit;
