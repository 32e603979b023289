-- 001_dev_samples_rollback.sql: drop the sample tables that 001 made and nobody filled or built on.
begin;

set local lock_timeout = '10s';

do $$
declare
    target text;
    filled boolean;
begin
    foreach target in array array['workflow_runs', 'workflows', 'agents', 'relationships', 'things'] loop
        continue when obj_description(to_regclass(target), 'pg_class') is distinct from 'made by relay 001_dev_samples';
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
end
$$;

commit;
