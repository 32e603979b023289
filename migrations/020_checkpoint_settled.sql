-- 020_checkpoint_settled.sql: up to where the stream is known to be on disk, in each checkpoint.
begin;

set local lock_timeout = '10s';

alter table relay_checkpoints
    add column if not exists settled_seq bigint,
    add column if not exists settled_lsn pg_lsn;
comment on column relay_checkpoints.settled_seq is 'Sequence in the stream behind which the slot still holds everything; empty: last_seq.';
comment on column relay_checkpoints.settled_lsn is 'The confirmed_lsn for which settled_seq is true: a relay that does not know these columns leaves them behind.';

commit;
