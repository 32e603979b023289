-- 017_webhook_logs_partitions_rollback.sql: one plain table of delivery logs again, with every row.
--
-- Copies the rows, and locks zapier_webhook_logs exclusively meanwhile. Where two months hold a row of one id, which
-- happens only to rows written by hand, the later one gets a new id.
begin;

set local lock_timeout = '10s';

do $$
declare
    item   record;
    lines  text[] := '{}';
    line   text;
    parent oid := to_regclass('zapier_webhook_logs');
    owner  name;
begin
    if parent is null or (select relkind from pg_class where oid = parent) <> 'p' then
        return;
    end if;
    lock table zapier_webhooks in share row exclusive mode;
    lock table zapier_webhook_logs in access exclusive mode;
    select pg_get_userbyid(relowner) into owner from pg_class where oid = parent;
    create table zapier_webhook_logs_plain (like zapier_webhook_logs including defaults including constraints
        including comments including storage);
    execute format('alter table zapier_webhook_logs_plain owner to %I', owner);
    insert into zapier_webhook_logs_plain select * from zapier_webhook_logs;
    update zapier_webhook_logs_plain p set id = gen_random_uuid()::text
    from (select ctid as place, row_number() over (partition by id order by created_at) as n from zapier_webhook_logs_plain) d
    where p.ctid = d.place and d.n > 1;

    lines := array(
        select pg_get_indexdef(indexrelid) from pg_index where indrelid = parent and not indisprimary);
    lines := array(select replace(l, ' ON ONLY ', ' ON ') from unnest(lines) l);
    lines := lines || format('comment on table zapier_webhook_logs is %L', obj_description(parent, 'pg_class'));
    lines := lines || array(
        select format('grant %s on zapier_webhook_logs to %s%s', a.privilege_type,
            case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
            case when a.is_grantable then ' with grant option' else '' end)
        from pg_class c cross join lateral aclexplode(c.relacl) a where c.oid = parent);
    for item in
        select c.oid, c.oid::regclass::text as name, pg_get_viewdef(c.oid) as body, c.reloptions, c.relacl,
               pg_get_userbyid(c.relowner) as owner, obj_description(c.oid, 'pg_class') as remark
        from pg_class c
        where c.relkind = 'v' and c.oid in (
            select r.ev_class from pg_depend d join pg_rewrite r on r.oid = d.objid
            where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = parent)
    loop
        lines := lines || format('create view %s%s as %s', item.name,
            coalesce(' with (' || array_to_string(item.reloptions, ', ') || ')', ''), item.body);
        lines := lines || format('alter view %s owner to %I', item.name, item.owner);
        if item.remark is not null then
            lines := lines || format('comment on view %s is %L', item.name, item.remark);
        end if;
        lines := lines || array(
            select format('grant %s on %s to %s%s', a.privilege_type, item.name,
                case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                case when a.is_grantable then ' with grant option' else '' end)
            from aclexplode(item.relacl) a);
        execute format('drop view %s', item.name);
    end loop;

    drop table zapier_webhook_logs;
    alter table zapier_webhook_logs_plain rename to zapier_webhook_logs;
    alter table zapier_webhook_logs add constraint zapier_webhook_logs_pkey primary key (id);
    alter table zapier_webhook_logs add constraint zapier_webhook_logs_webhook_id_fkey
        foreign key (webhook_id) references zapier_webhooks (id) on delete set null;
    foreach line in array lines loop
        execute line;
    end loop;
end
$$;

drop function if exists ensure_zapier_webhook_log_partitions(integer);
drop function if exists drop_old_zapier_webhook_log_partitions(integer);

commit;
