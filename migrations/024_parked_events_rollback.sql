-- 024_parked_events_rollback.sql: drop the parked events, and set them aside.
--
-- They go to migration_backup.relay_parked_events_024, from where 024 takes them back. When 024 will not return, purge
-- them with
--     drop schema migration_backup cascade;
begin;

set local lock_timeout = '10s';

do $$
begin
    if to_regclass('relay_parked_events') is not null then
        -- Nobody may write between the copy and the drop.
        lock table relay_parked_events in access exclusive mode;
        create schema if not exists migration_backup;
        revoke all on schema migration_backup from public;
        create table migration_backup.relay_parked_events_024 as table relay_parked_events;
        revoke all on migration_backup.relay_parked_events_024 from public;
    end if;
end
$$;

drop table if exists relay_parked_events;

commit;
