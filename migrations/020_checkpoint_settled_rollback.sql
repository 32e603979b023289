-- 020_checkpoint_settled_rollback.sql: checkpoints without settled_seq, which an older relay does not know.
begin;

set local lock_timeout = '10s';

alter table if exists relay_checkpoints drop column if exists settled_seq, drop column if exists settled_lsn;

commit;
