-- 023_webhook_disabled.sql: the event that the relay itself raises when it switches a webhook off.
begin;

set local lock_timeout = '10s';

insert into zapier_webhook_events (event_type, category, description, payload_schema) values
    ('webhook.disabled', 'webhook', 'A webhook was switched off because its endpoint is gone or kept failing.',
     '{"type": "object",
       "required": ["webhook_id", "event_type", "reason", "at"],
       "properties": {
           "webhook_id": {"type": "string"},
           "event_type": {"type": "string"},
           "reason": {"type": "string", "enum": ["endpoint_gone", "failing"]},
           "at": {"type": "string", "format": "date-time"},
           "response_status": {"type": ["integer", "null"]},
           "failing_since": {"type": ["string", "null"], "format": "date-time"}
       }}')
on conflict (event_type) do nothing;

commit;
