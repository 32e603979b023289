-- 025_delivery_order.sql: deliveries that go out one after the other, key by key.
--
-- Ordered deliveries have an ordering_key. They have an index of their own, and are not in the others: however many wait
-- behind one that fails, looking for what is due costs the same.
begin;

set local lock_timeout = '10s';

create index if not exists idx_webhook_deliveries_order on webhook_deliveries (webhook_id, ordering_key, stream_seq)
    where ordering_key is not null;
create index if not exists idx_webhook_deliveries_due_unordered on webhook_deliveries (next_attempt_at) where ordering_key is null;
create index if not exists idx_webhook_deliveries_webhook_unordered on webhook_deliveries (webhook_id, next_attempt_at)
    where ordering_key is null;
-- By the subscription alone: for its deletion, and to count what waits for it.
create index if not exists idx_webhook_deliveries_subscription on webhook_deliveries (webhook_id);
drop index if exists idx_webhook_deliveries_due;
drop index if exists idx_webhook_deliveries_webhook;

comment on column webhook_deliveries.ordering_key is
    'Deliveries of a subscription with the same key go out one after the other, by stream_seq; null waits for no other.';

commit;
