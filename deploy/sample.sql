-- sample.sql: a few row changes on the sample tables, each of which is an event.
-- It can run any number of times.

-- agent.created
insert into agents (user_id, name, type, model)
values ('user-1', 'Concierge', 'chat', 'small');

-- thing.created the first time, thing.updated from then on
insert into things (ns, id, type, data)
values ('onet', '15-1252.00', 'Occupation', '{"title": "Software Developers", "runs": 1}')
on conflict (ns, id) do update
set data = jsonb_set(things.data, '{runs}', to_jsonb((things.data ->> 'runs')::int + 1)),
    updated_at = now();

-- workflow.started, then workflow.completed: two transactions
insert into workflow_runs (id, workflow_id, user_id, status, started_at)
values ('sample-' || txid_current(), 'workflow-1', 'user-1', 'running', now());

update workflow_runs
set status = 'completed', output = '{"answer": 42}', completed_at = now()
where id like 'sample-%' and status = 'running';
