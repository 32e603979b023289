-- 001_dev_samples.sql: the platform's tables in miniature, for trying the relay and for its tests.
--
-- `relay migrate up` runs this file only on a database without tables of its own, or with --samples. Nothing here
-- updates updated_at by itself: as on the platform, the writer does. The comments mark what the rollback may drop.
begin;

set local lock_timeout = '10s';

do $$
begin
    if to_regclass('things') is null then
        create table things (
            ns         text        not null,
            id         text        not null,
            type       text        not null,
            content    text,
            code       text,
            data       jsonb       default '{}',
            visibility text        not null default 'public',
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            constraint things_pkey primary key (ns, id),
            constraint things_visibility_check check (visibility in ('public', 'unlisted', 'private'))
        );
        create index idx_things_type on things (type);
        comment on table things is 'made by relay 001_dev_samples';
    end if;

    if to_regclass('relationships') is null then
        create table relationships (
            ns         text        not null,
            id         text        not null,
            type       text        not null,
            from_ns    text        not null,
            from_id    text        not null,
            to_ns      text        not null,
            to_id      text        not null,
            data       jsonb       default '{}',
            code       text,
            visibility text        not null default 'public',
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            constraint relationships_pkey primary key (ns, id),
            constraint relationships_visibility_check check (visibility in ('public', 'unlisted', 'private'))
        );
        create index idx_relationships_from on relationships (from_ns, from_id, type);
        create index idx_relationships_to on relationships (to_ns, to_id, type);
        comment on table relationships is 'made by relay 001_dev_samples';
    end if;

    -- Owners are plain text here: the platform's own tables differ in what they refer to.
    if to_regclass('agents') is null then
        create table agents (
            id           text        not null default gen_random_uuid()::text,
            user_id      text,
            tenant_id    text,
            name         text        not null,
            type         text        not null default 'chat',
            instructions text,
            model        text,
            status       text        not null default 'active',
            created_at   timestamptz not null default now(),
            updated_at   timestamptz not null default now(),
            constraint agents_pkey primary key (id)
        );
        comment on table agents is 'made by relay 001_dev_samples';
        comment on column agents.type is 'chat, task or workflow';
    end if;

    if to_regclass('workflows') is null then
        create table workflows (
            id          text        not null default gen_random_uuid()::text,
            user_id     text,
            tenant_id   text,
            name        text        not null,
            description text,
            status      text        not null default 'active',
            created_at  timestamptz not null default now(),
            updated_at  timestamptz not null default now(),
            constraint workflows_pkey primary key (id)
        );
        comment on table workflows is 'made by relay 001_dev_samples';
    end if;

    if to_regclass('workflow_runs') is null then
        create table workflow_runs (
            id           text        not null default gen_random_uuid()::text,
            workflow_id  text,
            user_id      text,
            tenant_id    text,
            status       text        not null default 'pending',
            input        jsonb,
            output       jsonb,
            error        text,
            started_at   timestamptz,
            completed_at timestamptz,
            constraint workflow_runs_pkey primary key (id)
        );
        create index idx_workflow_runs_workflow on workflow_runs (workflow_id);
        comment on table workflow_runs is 'made by relay 001_dev_samples';
        comment on column workflow_runs.status is 'pending, running, completed, failed or cancelled';
    end if;
end
$$;

commit;
