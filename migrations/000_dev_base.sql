-- 000_dev_base.sql: what 012 builds on, made where it is missing, so that an empty database will do for development.
--
-- On a platform database, which has all of it, this file changes nothing. The comments mark what the rollback may drop.
begin;

set local lock_timeout = '10s';

do $$
begin
    if to_regprocedure('update_updated_at_column()') is null then
        create function update_updated_at_column() returns trigger
            language plpgsql
            set search_path = pg_catalog, pg_temp
        as $body$
        begin
            new.updated_at := now();
            return new;
        end
        $body$;
        comment on function update_updated_at_column() is 'made by relay 000_dev_base';
    end if;

    if to_regclass('users') is null then
        create table users (
            id              text        not null default gen_random_uuid()::text,
            name            text,
            email           text        not null,
            email_verified  boolean     not null default false,
            image           text,
            role            text        not null default 'user',
            workos_id       text,
            organization_id text,
            created_at      timestamptz not null default now(),
            updated_at      timestamptz not null default now(),
            constraint users_pkey primary key (id),
            constraint users_email_key unique (email),
            constraint users_workos_id_key unique (workos_id),
            constraint users_role_check check (role in ('user', 'admin', 'viewer'))
        );
        comment on table users is 'made by relay 000_dev_base';
    end if;

    if to_regclass('accounts') is null then
        create table accounts (
            id                       text        not null default gen_random_uuid()::text,
            account_id               text        not null,
            provider_id              text        not null,
            user_id                  text        not null references users (id) on delete cascade,
            access_token             text,
            refresh_token            text,
            id_token                 text,
            access_token_expires_at  timestamptz,
            refresh_token_expires_at timestamptz,
            scope                    text,
            password                 text,
            created_at               timestamptz not null default now(),
            updated_at               timestamptz not null default now(),
            constraint accounts_pkey primary key (id)
        );
        comment on table accounts is 'made by relay 000_dev_base';
    end if;
end
$$;

commit;
