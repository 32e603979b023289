-- 023_webhook_disabled_rollback.sql: withdraw the event, and set its row aside, unless somebody subscribed to it or it was raised.
--
-- The row goes to migration_backup.zapier_webhook_events_023, from where 023 takes it back.
begin;

set local lock_timeout = '10s';

do $$
begin
    if to_regclass('zapier_webhook_events') is null
        or exists (select from zapier_webhooks where event_type = 'webhook.disabled')
        or exists (select from outbox_events where event_type = 'webhook.disabled')
        or exists (select from event_mappings where event_type = 'webhook.disabled') then
        return;
    end if;
    create schema if not exists migration_backup;
    revoke all on schema migration_backup from public;
    create table migration_backup.zapier_webhook_events_023 as
        select * from zapier_webhook_events where event_type = 'webhook.disabled';
    revoke all on migration_backup.zapier_webhook_events_023 from public;
    delete from zapier_webhook_events where event_type = 'webhook.disabled';
end
$$;

commit;
