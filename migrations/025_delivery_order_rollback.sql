-- 025_delivery_order_rollback.sql: the indexes of 018 again.
begin;

set local lock_timeout = '10s';

create index if not exists idx_webhook_deliveries_due on webhook_deliveries (next_attempt_at);
create index if not exists idx_webhook_deliveries_webhook on webhook_deliveries (webhook_id, next_attempt_at);
drop index if exists idx_webhook_deliveries_order;
drop index if exists idx_webhook_deliveries_due_unordered;
drop index if exists idx_webhook_deliveries_webhook_unordered;
drop index if exists idx_webhook_deliveries_subscription;
comment on column webhook_deliveries.ordering_key is null;

commit;
