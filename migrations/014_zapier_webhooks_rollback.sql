-- 014_zapier_webhooks_rollback.sql: drop registry, subscriptions and delivery logs, and set their rows aside.
--
-- The rows go to migration_backup.zapier_webhook_events_014, zapier_webhooks_014 and zapier_webhook_logs_014, from
-- where 014 takes them back. They are personal data, payloads and secrets: when 014 will not return, purge every such
-- copy with
--     drop schema migration_backup cascade;
begin;

set local lock_timeout = '10s';

do $$
begin
    if to_regclass('webhook_previous_secrets') is not null then
        raise exception 'webhook_previous_secrets refers to zapier_webhooks: roll back 022 first';
    end if;
    if to_regclass('webhook_deliveries') is not null then
        raise exception 'webhook_deliveries refers to zapier_webhooks: roll back 018 first';
    end if;
    if to_regclass('event_mappings') is not null then
        raise exception 'event_mappings refers to zapier_webhook_events: roll back 016 first';
    end if;
    if to_regclass('outbox_events') is not null then
        raise exception 'outbox_events refers to zapier_webhook_events: roll back 015 first';
    end if;
    if to_regclass('zapier_webhooks') is not null then
        -- Nobody may write between the copy and the drop.
        lock table zapier_webhook_events, zapier_webhooks, zapier_webhook_logs in access exclusive mode;
        create schema if not exists migration_backup;
        revoke all on schema migration_backup from public;
        create table migration_backup.zapier_webhook_events_014 as select * from zapier_webhook_events;
        create table migration_backup.zapier_webhooks_014 as select * from zapier_webhooks;
        create table migration_backup.zapier_webhook_logs_014 as select * from zapier_webhook_logs;
        revoke all on migration_backup.zapier_webhook_events_014, migration_backup.zapier_webhooks_014,
            migration_backup.zapier_webhook_logs_014 from public;
    end if;
end
$$;

drop view if exists recent_zapier_webhook_deliveries;
drop view if exists zapier_webhook_health;
drop view if exists active_zapier_webhooks_by_event;
drop table if exists zapier_webhook_logs;
drop table if exists zapier_webhooks;
drop table if exists zapier_webhook_events;
drop function if exists cleanup_old_zapier_webhook_logs(integer);
drop function if exists update_zapier_webhooks_updated_at();

commit;
