-- 023_webhook_disabled_rollback.sql: nothing to take back.
--
-- The event stays registered: subscriptions and outbox events may name it, a registry row that nobody raises disturbs
-- nobody, and the rollback of 014 sets it aside with the others.
begin;
commit;
