-- 016_event_mappings_rollback.sql: drop the event mappings, and set them aside.
--
-- The rules go to migration_backup.event_mappings_016, from where 016 takes them back. The payload schemas that 016
-- wrote into the registry stay: they describe the events, with rules or without. When 016 will not return, purge with
--     drop schema migration_backup cascade;
begin;

set local lock_timeout = '10s';

do $$
begin
    if to_regclass('event_mappings') is not null then
        -- Nobody may write between the copy and the drop.
        lock table event_mappings in access exclusive mode;
        create schema if not exists migration_backup;
        revoke all on schema migration_backup from public;
        create table migration_backup.event_mappings_016 as table event_mappings;
        revoke all on migration_backup.event_mappings_016 from public;
    end if;
end
$$;

drop table if exists event_mappings;
drop function if exists check_event_mapping();

commit;
