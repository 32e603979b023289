package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
)

// Current implements relay.Registry. Both tables are read as of one moment: that
// of the exported snapshot, or now.
func (s *Store) Current(ctx context.Context, snapshot string) (*relay.Catalog, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	c := relay.NewCatalog()
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, s.pool, opts, func(tx pgx.Tx) error {
		if snapshot != "" {
			if !isSnapshotID(snapshot) {
				return fmt.Errorf("%q is no id of an exported snapshot", snapshot)
			}
			if _, err := tx.Exec(ctx, "set transaction snapshot '"+snapshot+"'"); err != nil {
				return fmt.Errorf("read in snapshot %s: %w", snapshot, err)
			}
		}
		if err := readRows(ctx, tx, c.Events, `select event_type, to_jsonb(t)::text from zapier_webhook_events t`); err != nil {
			return fmt.Errorf("read zapier_webhook_events: %w", err)
		}
		if err := readRows(ctx, tx, c.Mappings, `select id, to_jsonb(t)::text from event_mappings t`); err != nil {
			return fmt.Errorf("read event_mappings: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, clean(err)
	}
	return c, nil
}

func readRows(ctx context.Context, tx pgx.Tx, into map[string]json.RawMessage, sql string) error {
	rows, err := tx.Query(ctx, sql)
	if err != nil {
		return err
	}
	var id, row string
	_, err = pgx.ForEachRow(rows, []any{&id, &row}, func() error {
		into[id] = json.RawMessage(row)
		return nil
	})
	return err
}

// isSnapshotID accepts what pg_export_snapshot and the replication protocol give
// out, such as 00000003-0000001B-1: the command that takes it takes no parameter.
func isSnapshotID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'F', c >= 'a' && c <= 'f', c == '-':
		default:
			return false
		}
	}
	return true
}

// AsOf implements relay.Registry.
func (s *Store) AsOf(ctx context.Context, slot string, at relay.LSN) (*relay.Catalog, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	var text string
	err := s.pool.QueryRow(ctx, `
		select catalog::text from relay_catalog_versions
		where slot_name = $1 and lsn < $2::text::pg_lsn order by lsn desc limit 1`, slot, at.String()).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read relay_catalog_versions of slot %q: %w", slot, clean(err))
	}
	c := relay.NewCatalog()
	if err := json.Unmarshal([]byte(text), c); err != nil {
		return nil, fmt.Errorf("relay_catalog_versions of slot %q before %s: %w", slot, at, err)
	}
	return c, nil
}

// SaveAsOf implements relay.Registry.
func (s *Store) SaveAsOf(ctx context.Context, slot string, at relay.LSN, c *relay.Catalog, keep relay.LSN) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode the catalog of slot %q: %w", slot, err)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			insert into relay_catalog_versions (slot_name, lsn, catalog) values ($1, $2::text::pg_lsn, $3::text::jsonb)
			on conflict (slot_name, lsn) do update set catalog = excluded.catalog`, slot, at.String(), string(text))
		if err != nil {
			return err
		}
		// Versions of later commits come again with their changes, or belong to a
		// history that was left.
		_, err = tx.Exec(ctx, `
			delete from relay_catalog_versions where slot_name = $1 and lsn > $2::text::pg_lsn`, slot, at.String())
		if err != nil {
			return err
		}
		// The version in force at keep is the last one before it; older ones are not
		// asked for again.
		_, err = tx.Exec(ctx, `
			delete from relay_catalog_versions where slot_name = $1 and lsn < (
			    select max(lsn) from relay_catalog_versions where slot_name = $1 and lsn < $2::text::pg_lsn)`, slot, keep.String())
		return err
	})
	if err != nil {
		return fmt.Errorf("write relay_catalog_versions of slot %q: %w", slot, clean(err))
	}
	return nil
}

// WALPosition returns where the server's log ends. What is committed later ends behind it.
func (s *Store) WALPosition(ctx context.Context) (relay.LSN, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	var text string
	if err := s.pool.QueryRow(ctx, `select pg_current_wal_insert_lsn()::text`).Scan(&text); err != nil {
		return 0, fmt.Errorf("look where the log ends: %w", clean(err))
	}
	return relay.ParseLSN(text)
}

// Unpublished returns those of the tables, each as schema.table, that exist and could
// be in the publication, but are not. A table that is dropped leaves it, and another one
// under its name does not come into it by itself.
func (s *Store) Unpublished(ctx context.Context, publication string, tables []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	schemas, names := make([]string, len(tables)), make([]string, len(tables))
	for i, t := range tables {
		schemas[i], names[i], _ = strings.Cut(t, ".")
	}
	rows, err := s.pool.Query(ctx, `
		select w.schema || '.' || w.name from unnest($1::text[], $2::text[]) as w(schema, name)
		join pg_namespace n on n.nspname = w.schema and n.nspname not in ('pg_catalog', 'information_schema')
		join pg_class c on c.relnamespace = n.oid and c.relname = w.name and c.relkind in ('r', 'p') and c.relpersistence = 'p'
		join pg_class t on t.oid = c.oid or t.oid in (select relid from pg_partition_ancestors(c.oid)) or t.oid in (select relid from pg_partition_tree(c.oid))
		join pg_namespace tn on tn.oid = t.relnamespace
		group by 1
		having not bool_or(
		    exists (select from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where p.pubname = $3 and r.prrelid = c.oid)
		    or exists (select from pg_publication where pubname = $3 and puballtables)
		    or exists (select from pg_publication_tables p where p.pubname = $3 and p.schemaname = tn.nspname and p.tablename = t.relname))`,
		schemas, names, publication)
	if err != nil {
		return nil, fmt.Errorf("look up tables: %w", clean(err))
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look up tables: %w", clean(err))
	}
	return found, nil
}
