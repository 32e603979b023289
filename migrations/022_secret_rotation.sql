-- 022_secret_rotation.sql: signing secrets that were replaced, and until when requests carry their signature too.
--
-- A table of its own: zapier_webhooks keeps its shape. The relay reads a row when it reads its subscription, which a
-- rotation changes in the same transaction.
begin;

set local lock_timeout = '10s';

create table if not exists webhook_previous_secrets (
    webhook_id     text        not null references zapier_webhooks (id) on delete cascade,
    signing_secret text        not null,
    valid_until    timestamptz not null,
    created_at     timestamptz not null default now(),
    constraint webhook_previous_secrets_pkey primary key (webhook_id),
    constraint webhook_previous_secrets_signing_secret_check check (btrim(signing_secret) <> ''),
    constraint webhook_previous_secrets_valid_until_check check (isfinite(valid_until))
);

comment on table webhook_previous_secrets is 'The secret that a webhook had before its present one.';
comment on column webhook_previous_secrets.signing_secret is
    'Plain or in its envelope, as it stood in zapier_webhooks.signing_secret: a rotation copies it as it is.';
comment on column webhook_previous_secrets.valid_until is 'Until then requests carry a signature of either secret.';

-- What a rollback set aside comes back. Secrets of deleted subscriptions are skipped.
do $$
begin
    if to_regclass('migration_backup.webhook_previous_secrets_022') is not null then
        insert into webhook_previous_secrets
        select b.* from migration_backup.webhook_previous_secrets_022 b
        join zapier_webhooks w on w.id = b.webhook_id
        on conflict do nothing;
        drop table migration_backup.webhook_previous_secrets_022;
    end if;
end
$$;

commit;
