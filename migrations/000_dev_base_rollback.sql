-- 000_dev_base_rollback.sql: drop what 000 made, as long as it is empty and nothing else uses it.
begin;

set local lock_timeout = '10s';

do $$
declare
    target text;
    filled boolean;
begin
    foreach target in array array['accounts', 'users'] loop -- the child first
        continue when obj_description(to_regclass(target), 'pg_class') is distinct from 'made by relay 000_dev_base';
        execute format('lock table %I in access exclusive mode', target);
        execute format('select exists (select from %I)', target) into filled;
        if filled then
            raise notice '% holds rows and stays', target;
            continue;
        end if;
        begin
            execute format('drop table %I', target);
        exception when dependent_objects_still_exist then
            raise notice '% is in use and stays', target;
        end;
    end loop;

    if obj_description(to_regprocedure('update_updated_at_column()'), 'pg_proc') = 'made by relay 000_dev_base' then
        begin
            drop function update_updated_at_column();
        exception when dependent_objects_still_exist then
            raise notice 'update_updated_at_column() is in use and stays';
        end;
    end if;
end
$$;

commit;
