-- 017_webhook_logs_partitions.sql: delivery logs by month of created_at (UTC), so that old ones go by dropping a table.
--
-- The table of 014 becomes the first partition as it is: no row is copied. It covers everything up to the end of this
-- month, zapier_webhook_logs_until_yYYYYmMM; later months have zapier_webhook_logs_yYYYYmMM, and what no month
-- takes goes to zapier_webhook_logs_default, so that an insert always finds a place.
--
-- Locks: zapier_webhook_logs exclusively, and zapier_webhooks against writing, while one index is built and the table is
-- read once to check its bounds. Deliveries wait for that long and lose nothing. It gives up when the locks are not to
-- be had within 10 s.
--
-- The primary key has to hold the partition key and becomes (id, created_at). The columns, and every query by id, stay as
-- they were; each partition has a unique index on the id alone besides, so that two writers of one row still clash.
begin;

set local lock_timeout = '10s';
set local timezone = 'UTC';

do $$
declare
    bound   timestamptz := date_trunc('month', now()) + interval '1 month';
    legacy  text := 'zapier_webhook_logs_until_' || to_char(date_trunc('month', now()), '"y"YYYY"m"MM');
    item    record;
    indexes text[] := '{}';
    views   text[] := '{}';
    rights  text[] := '{}';
    line    text;
    old     oid := 'zapier_webhook_logs'::regclass;
    owner   name;
    remark  text := obj_description('zapier_webhook_logs'::regclass, 'pg_class');
begin
    if (select relkind from pg_class where oid = old) = 'p' then
        return;
    end if;
    if exists (select from pg_trigger where tgrelid = old and not tgisinternal)
        or exists (select from pg_policy where polrelid = old)
        or exists (select from pg_attribute where attrelid = old and attacl is not null) then
        raise exception 'zapier_webhook_logs has triggers, policies or column privileges, which would not move to its partitioned form'
            using hint = 'Drop them, run this migration again, and put them back.';
    end if;
    lock table zapier_webhooks in share row exclusive mode;
    lock table zapier_webhook_logs in access exclusive mode;
    select pg_get_userbyid(relowner) into owner from pg_class where oid = old;

    -- Views are bound to the table and not to its name: they are made anew.
    for item in
        select c.oid, c.oid::regclass::text as name, pg_get_viewdef(c.oid) as body, c.reloptions, c.relacl,
               pg_get_userbyid(c.relowner) as owner, obj_description(c.oid, 'pg_class') as remark
        from pg_class c
        where c.relkind = 'v' and c.oid in (
            select r.ev_class from pg_depend d join pg_rewrite r on r.oid = d.objid
            where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = old)
    loop
        views := views || format('create view %s%s as %s', item.name,
            coalesce(' with (' || array_to_string(item.reloptions, ', ') || ')', ''), item.body);
        views := views || format('alter view %s owner to %I', item.name, item.owner);
        if item.remark is not null then
            views := views || format('comment on view %s is %L', item.name, item.remark);
        end if;
        views := views || array(
            select format('grant %s on %s to %s%s', a.privilege_type, item.name,
                case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                case when a.is_grantable then ' with grant option' else '' end)
            from aclexplode(item.relacl) a);
        execute format('drop view %s', item.name);
    end loop;
    rights := array(
        select format('grant %s on zapier_webhook_logs to %s%s', a.privilege_type,
            case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
            case when a.is_grantable then ' with grant option' else '' end)
        from pg_class c cross join lateral aclexplode(c.relacl) a where c.oid = old);

    for item in
        select i.indexrelid::regclass::text as name, x.relname, pg_get_indexdef(i.indexrelid) as body
        from pg_index i join pg_class x on x.oid = i.indexrelid
        where i.indrelid = old and not i.indisprimary
    loop
        indexes := indexes || item.body;
        execute format('alter index %s rename to %I', item.name, left(item.relname, 55) || '_before');
    end loop;
    alter table zapier_webhook_logs drop constraint zapier_webhook_logs_pkey;
    execute format('alter table zapier_webhook_logs rename to %I', legacy);
    execute format('alter table %I add primary key (id, created_at)', legacy);
    execute format('create unique index %I on %I (id)', legacy || '_id_key', legacy);

    execute format('create table zapier_webhook_logs (like %I including defaults including constraints including comments
        including storage) partition by range (created_at)', legacy);
    execute format('alter table zapier_webhook_logs owner to %I', owner);
    alter table zapier_webhook_logs add constraint zapier_webhook_logs_pkey primary key (id, created_at);
    alter table zapier_webhook_logs add constraint zapier_webhook_logs_webhook_id_fkey
        foreign key (webhook_id) references zapier_webhooks (id) on delete set null;
    execute format('comment on table zapier_webhook_logs is %L', remark);
    foreach line in array indexes loop
        execute line;
    end loop;
    create table zapier_webhook_logs_default partition of zapier_webhook_logs default;
    execute format('alter table zapier_webhook_logs_default owner to %I', owner);
    create unique index zapier_webhook_logs_default_id_key on zapier_webhook_logs_default (id);
    -- A clock that was ahead wrote into the future.
    execute format('with gone as (delete from %I where created_at >= $1 returning *)
        insert into zapier_webhook_logs_default select * from gone', legacy) using bound;
    execute format('alter table zapier_webhook_logs attach partition %I for values from (minvalue) to (%L)', legacy, bound);
    foreach line in array rights || views loop
        execute line;
    end loop;
end
$$;

-- The functions run with the rights of the tables' owner, which whoever delivers need not be, and see no temporary table in
-- the place of a real one.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Makes the partitions of this month and the next ones, and returns how many it made. Rows that waited in the default
-- partition move. A month whose locks are not to be had at once is left for the next call: nobody waits behind it.
create or replace function ensure_zapier_webhook_log_partitions(months_ahead integer default 3) returns integer
    language plpgsql
    security definer
    set search_path from current
    set timezone = 'UTC'
    set lock_timeout = '200ms'
as $$
declare
    first timestamptz;
    name  text;
    made  integer := 0;
begin
    if months_ahead is null or months_ahead not between 0 and 120 then
        raise exception 'months_ahead must be 0 to 120, got %', coalesce(months_ahead::text, 'null')
            using errcode = 'invalid_parameter_value';
    end if;
    for n in 0..months_ahead loop
        first := date_trunc('month', now()) + make_interval(months => n);
        name := 'zapier_webhook_logs_' || to_char(first, '"y"YYYY"m"MM');
        continue when to_regclass(name) is not null
            or to_regclass('zapier_webhook_logs_until_' || to_char(first, '"y"YYYY"m"MM')) is not null;
        begin
            -- Nothing may come in between the move and the bounds.
            lock table zapier_webhook_logs_default in access exclusive mode;
            execute format('create table %I (like zapier_webhook_logs including all)', name);
            execute format('create unique index %I on %I (id)', name || '_id_key', name);
            execute format('with moved as (delete from zapier_webhook_logs_default where created_at >= %L and created_at < %L
                returning *) insert into %I select * from moved', first, first + interval '1 month', name);
            execute format('alter table zapier_webhook_logs attach partition %I for values from (%L) to (%L)',
                name, first, first + interval '1 month');
            made := made + 1;
        exception when lock_not_available then null;
        end;
    end loop;
    return made;
end
$$;

comment on function ensure_zapier_webhook_log_partitions(integer) is
    'Makes the monthly partitions of delivery logs from this month to months_ahead; returns how many it made.';

-- Drops the partitions whose rows are all older than the given days, and returns their names. One that holds an open
-- row stays whole: pending, or retrying without a later attempt. cleanup_old_zapier_webhook_logs takes the rest of it.
create or replace function drop_old_zapier_webhook_log_partitions(days_to_keep integer default 90) returns text[]
    language plpgsql
    security definer
    set search_path from current
    set timezone = 'UTC'
    set lock_timeout = '200ms'
as $$
declare
    item    record;
    cutoff  timestamptz;
    open    boolean;
    dropped text[] := '{}';
begin
    if days_to_keep is null or days_to_keep < 1 then
        raise exception 'days_to_keep must be 1 or more, got %', coalesce(days_to_keep::text, 'null')
            using errcode = 'invalid_parameter_value';
    end if;
    cutoff := now() - make_interval(days => days_to_keep);
    for item in
        select c.oid::regclass::text as ident, c.relname::text as name
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'zapier_webhook_logs'::regclass
          and c.relname ~ '^zapier_webhook_logs_(until_)?y\d{4}m\d{2}$'
          and to_date(right(c.relname, 7), 'YYYY"m"MM') + interval '1 month' <= cutoff
        order by right(c.relname, 7)
    loop
        begin
            -- Readers go on; the exclusive lock is for the drop alone.
            execute format('lock table %s in share row exclusive mode', item.ident);
            execute format('select exists (select from %s l where l.status = ''pending'' or l.status = ''retrying'' and not exists (
                select from zapier_webhook_logs later
                where later.event_id = l.event_id and later.webhook_id is not distinct from l.webhook_id
                  and later.attempt > l.attempt))', item.ident) into open;
            if not open then
                execute format('drop table %s', item.ident);
                dropped := dropped || item.name;
            end if;
        exception when lock_not_available then null; -- the next call tries again
        end;
    end loop;
    return dropped;
end
$$;

comment on function drop_old_zapier_webhook_log_partitions(integer) is
    'Drops monthly partitions older than days_to_keep days (1 or more) without open retries; returns their names.';

revoke execute on function ensure_zapier_webhook_log_partitions(integer) from public;
revoke execute on function drop_old_zapier_webhook_log_partitions(integer) from public;

-- Not left to the first run of the relay: the month may end before it.
select ensure_zapier_webhook_log_partitions(3);

commit;
