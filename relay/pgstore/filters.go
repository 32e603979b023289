package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dot-do/relay/relay"
)

// StoredFilter is a filter as it stands in the database, compiled or not.
type StoredFilter struct {
	Table     string // zapier_webhooks or event_mappings
	ID        string // of the row
	Column    string // filters, match_new or match_old
	EventType string
	Text      string
}

// Every statement names its row first, so that pages can begin behind one. What is
// null in the database is JSON's null here, which is no filter either.
const (
	selectWebhookFilters = `
		select 'zapier_webhooks', id, 'filters', event_type, coalesce(filters::text, 'null')
		from zapier_webhooks where id > $1 order by id limit $2`
	selectMappingFilters = `
		select 'event_mappings', m.id, c.name, m.event_type, coalesce(c.value::text, 'null')
		from (select * from event_mappings where id > $1 order by id limit $2) m
		cross join lateral (values ('match_new', m.match_new), ('match_old', m.match_old)) as c (name, value)
		order by m.id, c.name`
)

// StoredFilters calls fn for every filter of zapier_webhooks and then of
// event_mappings, in the order of their ids, a page at a time; the pages are not of
// one moment. An error of fn ends it.
func (s *Store) StoredFilters(ctx context.Context, fn func(StoredFilter) error) error {
	if err := s.storedFilters(ctx, "zapier_webhooks", selectWebhookFilters, 1, fn); err != nil {
		return err
	}
	return s.storedFilters(ctx, "event_mappings", selectMappingFilters, 2, fn)
}

func (s *Store) storedFilters(ctx context.Context, table, sql string, perRow int, fn func(StoredFilter) error) error {
	for after, more := "", true; more; {
		page, err := s.filterPage(ctx, sql, after)
		if err != nil {
			return fmt.Errorf("read the filters of %s: %w", table, grantable(err))
		}
		for _, f := range page {
			if err := fn(f); err != nil {
				return err
			}
			after = f.ID
		}
		more = len(page) == perRow*pageRows
	}
	return nil
}

func (s *Store) filterPage(ctx context.Context, sql, after string) ([]StoredFilter, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, sql, after, pageRows)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[StoredFilter])
}

// CountFilters returns how many filters StoredFilters has to tell of just now.
func (s *Store) CountFilters(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	var n int
	err := s.pool.QueryRow(ctx, `select (select count(*) from zapier_webhooks) + 2 * (select count(*) from event_mappings)`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count filters: %w", grantable(err))
	}
	return n, nil
}

// Webhook is what decides which events a subscription gets, as it stands in the
// database.
type Webhook struct {
	Filter    StoredFilter
	Owner     relay.Owner
	Active    bool
	CreatedAt time.Time
}

// Webhook reads one row of zapier_webhooks; nil when there is none.
func (s *Store) Webhook(ctx context.Context, id string) (*Webhook, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	w := Webhook{Filter: StoredFilter{Table: "zapier_webhooks", ID: id, Column: "filters"}}
	err := s.pool.QueryRow(ctx, `
		select event_type, coalesce(filters::text, 'null'), user_id, coalesce(tenant_id, ''), status = 'active',
		       case when isfinite(created_at) and created_at <= clock_timestamp() then created_at else 'epoch' end
		from zapier_webhooks where id = $1`, id).
		Scan(&w.Filter.EventType, &w.Filter.Text, &w.Owner.UserID, &w.Owner.TenantID, &w.Active, &w.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read webhook %q: %w", id, grantable(err))
	}
	return &w, nil
}

// EventType is a row of the registry, with the mappings that raise the event.
type EventType struct {
	Name    string
	Enabled bool
	Schema  []byte        // JSON Schema of data
	Sources []EventSource // none: only the outbox states it
}

// EventSource is one mapping of an event type, and what the log tells of its table.
type EventSource struct {
	Mapping string
	Enabled bool
	Table   string // schema.table
	Op      relay.Op
	Missing bool // the table does not exist
	// KeyOnly lists the tables, quoted for SQL, of whose old rows the log carries the
	// key at most: the table itself and its partitions without REPLICA IDENTITY FULL.
	KeyOnly []string
}

// EventType reads one event type; nil when it is not registered.
func (s *Store) EventType(ctx context.Context, name string) (*EventType, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	t := EventType{Name: name}
	var schema string
	err := s.pool.QueryRow(ctx, `select enabled, payload_schema::text from zapier_webhook_events where event_type = $1`, name).
		Scan(&t.Enabled, &schema)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read event type %q: %w", name, grantable(err))
	}
	t.Schema = []byte(schema)
	rows, err := s.pool.Query(ctx, `
		select m.id, m.enabled, m.source_table, m.operation, c.oid is null, coalesce((
		    select array_agg(format('%I.%I', n.nspname, r.relname) order by r.oid)
		    from (select c.oid as relid union select relid::oid from pg_partition_tree(c.oid)) t
		    join pg_class r on r.oid = t.relid and r.relkind in ('r', 'p') and r.relreplident <> 'f'
		    join pg_namespace n on n.oid = r.relnamespace), '{}')
		from event_mappings m
		left join (pg_class c join pg_namespace cn on cn.oid = c.relnamespace)
		    on cn.nspname = split_part(m.source_table, '.', 1) and c.relname = split_part(m.source_table, '.', 2)
		where m.event_type = $1 order by m.id`, name)
	if err != nil {
		return nil, fmt.Errorf("read the mappings of event type %q: %w", name, grantable(err))
	}
	if t.Sources, err = pgx.CollectRows(rows, eventSource); err != nil {
		return nil, fmt.Errorf("read the mappings of event type %q: %w", name, grantable(err))
	}
	return &t, nil
}

func eventSource(row pgx.CollectableRow) (EventSource, error) {
	var (
		src EventSource
		op  string
	)
	if err := row.Scan(&src.Mapping, &src.Enabled, &src.Table, &op, &src.Missing, &src.KeyOnly); err != nil {
		return src, err
	}
	for _, known := range []relay.Op{relay.OpInsert, relay.OpUpdate, relay.OpDelete, relay.OpTruncate} {
		if known.String() == op {
			src.Op = known
		}
	}
	return src, nil
}

// grantable says what a role that may not read the filters lacks.
func grantable(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == insufficientPrivilege {
		return fmt.Errorf("%w; GRANT SELECT ON zapier_webhooks, zapier_webhook_events, event_mappings TO the role", clean(err))
	}
	return clean(err)
}

// insufficientPrivilege is SQLSTATE insufficient_privilege.
const insufficientPrivilege = "42501"
