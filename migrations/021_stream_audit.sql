-- 021_stream_audit.sql: what the audit of a slot's stream remembers, and the holes that it found.
begin;

set local lock_timeout = '10s';

create table if not exists relay_stream_audits (
    slot_name         text        not null,
    stream            text        not null,
    stream_created_at timestamptz not null,
    first_mark        json        not null default '{}',
    marks             json        not null default '[]',
    audited_seq       bigint      not null default 0,
    audited_position  text,
    whole_at          timestamptz,
    updated_at        timestamptz not null default now(),
    constraint relay_stream_audits_pkey primary key (slot_name),
    constraint relay_stream_audits_first_mark_check check (json_typeof(first_mark) = 'object'),
    constraint relay_stream_audits_marks_check check (json_typeof(marks) = 'array')
);

comment on table relay_stream_audits is 'How far the stream of a slot is audited, and how old its messages are. The relay alone writes here.';
comment on column relay_stream_audits.first_mark is 'The first message of the stream when it was last looked at.';
comment on column relay_stream_audits.marks is 'Sequences with the time before which no message of that sequence was stored.';
comment on column relay_stream_audits.audited_seq is 'The message up to which the chain of positions was followed.';
comment on column relay_stream_audits.whole_at is 'When it was last begun to follow the chain from the first message.';

create table if not exists relay_stream_holes (
    slot_name         text        not null,
    stream            text        not null,
    stream_created_at timestamptz not null,
    reason            text        not null,
    after_seq         bigint      not null,
    after_position    text,
    before_seq        bigint      not null,
    before_position   text,
    from_lsn          pg_lsn,
    to_lsn            pg_lsn,
    missing           bigint      not null default 0,
    parts             integer     not null default 1,
    found_at          timestamptz not null default now(),
    recorded_seq      bigint,
    settled_at        timestamptz,
    constraint relay_stream_holes_pkey primary key (slot_name, stream_created_at, reason, after_seq, before_seq),
    constraint relay_stream_holes_reason_check check (reason in ('stream_hole', 'stream_purged', 'stream_order')),
    constraint relay_stream_holes_seq_check check (after_seq < before_seq)
);

comment on table relay_stream_holes is 'Ranges of the stream whose messages are gone before their time. Set settled_at once you have dealt with one.';
comment on column relay_stream_holes.after_seq is 'Sequence in front of the range.';
comment on column relay_stream_holes.before_seq is 'Sequence behind the range.';
comment on column relay_stream_holes.parts is 'How many ranges were put together in this row.';
comment on column relay_stream_holes.recorded_seq is 'Sequence of the message on relay.control.gap that tells subscribers.';
comment on column relay_stream_holes.settled_at is 'When an operator has dealt with it: relay doctor and the metric leave it out from then on.';

-- What a rollback set aside comes back.
do $$
begin
    if to_regclass('migration_backup.relay_stream_holes_021') is not null then
        insert into relay_stream_audits select * from migration_backup.relay_stream_audits_021 on conflict do nothing;
        insert into relay_stream_holes select * from migration_backup.relay_stream_holes_021 on conflict do nothing;
        drop table migration_backup.relay_stream_holes_021;
        drop table migration_backup.relay_stream_audits_021;
    end if;
end
$$;

commit;
