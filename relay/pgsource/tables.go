package pgsource

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dot-do/relay/relay"
)

var _ relay.Tables = (*Tables)(nil)

// Tables reads published tables on a connection of its own, beside the slot. It
// only ever reads, and is used by one goroutine.
type Tables struct {
	cfg     Config
	catalog *catalog
	last    *relay.Relation // as it was last described
	server  server
}

// OpenTables connects. Of cfg only URL, Publication, Slot and ControlTables count.
func OpenTables(ctx context.Context, cfg Config) (*Tables, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	conn, err := connectReading(ctx, cfg.URL)
	if err != nil {
		return nil, err
	}
	t := &Tables{cfg: cfg, catalog: &catalog{url: cfg.URL, conn: conn}}
	if t.server, err = inspectServer(ctx, conn); err == nil {
		err = t.server.usable()
	}
	if err != nil {
		t.Close() //nolint:contextcheck // an orderly end although ctx has ended
		return nil, err
	}
	return t, nil
}

// Close ends the connection.
func (t *Tables) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	closeSQL(ctx, t.catalog.conn)
}

// begin opens a read-only transaction whose snapshot is not yet taken.
func (t *Tables) begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := t.catalog.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("begin to read: %w", err)
	}
	return tx, nil
}

// end gives the transaction up: it has changed nothing.
func end(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	_ = tx.Rollback(ctx) // a broken connection is found by the next call
}

// Check reports what stands in the way of a backfill of the table.
func (t *Tables) Check(ctx context.Context, table, where string) (key []string, rows int64, err error) {
	tx, err := t.begin(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer end(ctx, tx)
	if err := t.marked(ctx, tx); err != nil {
		return nil, 0, err
	}
	d, err := t.describe(ctx, tx, table)
	if err != nil {
		return nil, 0, err
	}
	if err := t.condition(ctx, tx, d, where); err != nil {
		return nil, 0, err
	}
	rows, err = t.estimate(ctx, tx, d, where)
	return d.key, rows, err
}

// marked checks that watermarks will come along in the log.
func (t *Tables) marked(ctx context.Context, tx pgx.Tx) error {
	const chunks = "public.relay_backfill_chunks"
	if !t.cfg.isControl(chunks) {
		return nil
	}
	var there bool
	err := tx.QueryRow(ctx, `select exists (select from pg_publication_tables where pubname = $1 and schemaname = 'public' and tablename = 'relay_backfill_chunks')`,
		t.cfg.Publication).Scan(&there)
	if err != nil {
		return fmt.Errorf("look up publication %q: %w", t.cfg.Publication, err)
	}
	if !there {
		return setupError(fmt.Sprintf("table %s is not in publication %q, so the relay cannot know where in the log its rows belong", chunks, t.cfg.Publication),
			"restart `relay run`, which adds it, or let the publication's owner run: ALTER PUBLICATION "+quote(t.cfg.Publication)+" ADD TABLE "+quote("public", "relay_backfill_chunks")+";")
	}
	return nil
}

// condition lets Postgres judge --where, which is SQL of the operator: it must be
// one condition without parameters.
func (t *Tables) condition(ctx context.Context, tx pgx.Tx, d *described, where string) error {
	if where == "" {
		return nil
	}
	sql := "SELECT 1 FROM " + d.from() + " WHERE (\n" + where + "\n)"
	prepared, err := tx.Conn().PgConn().Prepare(ctx, "relay_where", sql, nil)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		remedy := "correct it: it is an SQL condition on the columns of " + d.name + ", such as status = 'active'"
		if refused.Hint != "" {
			remedy = strings.TrimSuffix(refused.Hint, ".") + "; " + remedy
		}
		return setupError(fmt.Sprintf("--where %q: Postgres says: %s", where, refused.Message), remedy)
	case err != nil:
		return fmt.Errorf("check --where: %w", err)
	case len(prepared.ParamOIDs) > 0:
		return setupError(fmt.Sprintf("--where %q has a parameter", where), "write the value itself in the place of $1")
	}
	_, err = tx.Exec(ctx, "DEALLOCATE relay_where")
	return wrap(err, "check --where")
}

// estimate guesses how many rows the backfill will read.
func (t *Tables) estimate(ctx context.Context, tx pgx.Tx, d *described, where string) (rows int64, err error) {
	var plan []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	sql := "EXPLAIN (FORMAT JSON) SELECT FROM " + d.from() + d.where(where, "")
	if err := tx.QueryRow(ctx, sql).Scan(&plan); err != nil {
		return 0, readError(err, t.server, d.name)
	}
	if len(plan) > 0 {
		rows = int64(plan[0].Plan.Rows)
	}
	return rows, nil
}

// Snapshot tells which transactions have ended by now.
func (t *Tables) Snapshot(ctx context.Context) (relay.Snapshot, error) {
	return snapshot(ctx, t.catalog.conn)
}

// querier is a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func snapshot(ctx context.Context, q querier) (relay.Snapshot, error) {
	var text string
	if err := q.QueryRow(ctx, "select pg_current_snapshot()::text").Scan(&text); err != nil {
		return relay.Snapshot{}, fmt.Errorf("read the snapshot: %w", err)
	}
	return relay.ParseSnapshot(text)
}

// Writers lists the transactions that hold a lock on the table, or on one of its
// partitions, as writing takes it. Postgres releases it after others see the
// transaction's rows.
func (t *Tables) Writers(ctx context.Context, table string) ([]relay.Writer, error) {
	schema, name, _ := strings.Cut(table, ".")
	rows, err := t.catalog.conn.Query(ctx, `
		select l.virtualtransaction, max(coalesce(l.pid, 0))
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		cross join lateral (select c.oid as relid union select relid::oid from pg_partition_tree(c.oid)) p
		join pg_locks l on l.locktype = 'relation' and l.relation = p.relid and l.granted
		 and l.mode in ('RowExclusiveLock', 'AccessExclusiveLock')
		 and l.database = (select oid from pg_database where datname = current_database())
		where n.nspname = $1 and c.relname = $2
		group by 1`, schema, name)
	if err != nil {
		return nil, fmt.Errorf("look up who writes %s: %w", table, err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[relay.Writer])
	return out, wrap(err, "look up who writes %s", table)
}

// Read reads a chunk in a snapshot of its own.
func (t *Tables) Read(ctx context.Context, q relay.ChunkQuery) (chunk relay.RowChunk, err error) {
	tx, err := t.begin(ctx)
	if err != nil {
		return chunk, err
	}
	defer end(ctx, tx)
	d, err := t.describe(ctx, tx, q.Table)
	if err != nil {
		return chunk, err
	}
	if chunk.Snapshot, err = snapshot(ctx, tx); err != nil {
		return chunk, err
	}
	chunk.Key, chunk.Relation = d.key, d.relation
	if t.last != nil && reflect.DeepEqual(t.last, d.relation) {
		chunk.Relation = t.last // mappings are bound to a relation by its address
	}
	t.last = chunk.Relation
	sql, params := d.query(q)
	return chunk, wrap(t.fill(ctx, tx, &chunk, d, q, sql, params), "read %s", q.Table)
}

// fill reads the rows in their text form. What comes behind the row that reaches the
// limit of bytes is not kept.
func (t *Tables) fill(ctx context.Context, tx pgx.Tx, chunk *relay.RowChunk, d *described, q relay.ChunkQuery, sql string, params [][]byte) error {
	result := tx.Conn().PgConn().ExecParams(ctx, sql, params, nil, nil, nil)
	size, count := 0, 0
	for result.NextRow() {
		if count++; size >= q.Bytes && size > 0 {
			continue
		}
		values := result.Values()
		if len(values) != len(d.relation.Columns) {
			_, err := result.Close()
			return errors.Join(fmt.Errorf("a row of %d values for %d columns", len(values), len(d.relation.Columns)), err)
		}
		row := make(relay.Tuple, len(values))
		for i, v := range values {
			size += len(v) + valueSize
			if v != nil {
				row[i] = relay.Value{Kind: relay.Text, Data: append([]byte(nil), v...)}
			}
		}
		key := make(relay.RowKey, len(d.columns))
		for i, c := range d.columns {
			key[i] = string(row[c].Data)
		}
		chunk.Rows, chunk.Keys = append(chunk.Rows, row), append(chunk.Keys, key)
	}
	if _, err := result.Close(); err != nil {
		return readError(err, t.server, q.Table)
	}
	chunk.More = count > len(chunk.Rows) || (q.Only == nil && count >= q.Limit)
	return nil
}

// readError explains why the rows cannot be had.
func readError(err error, s server, table string) error {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return err
	}
	schema, name, _ := strings.Cut(table, ".")
	switch {
	case refused.Code == codeInsufficientPrivilege && strings.Contains(refused.Message, "row-level security"):
		return &relay.SetupError{Err: fmt.Errorf("read %s: %w", table, err), Remedy: "row security would leave rows out in silence; let a superuser run: ALTER ROLE " + quote(s.Role) + " BYPASSRLS;"}
	case refused.Code == codeInsufficientPrivilege:
		return &relay.SetupError{
			Err:    fmt.Errorf("role %q may not read %s: %w", s.Role, table, err),
			Remedy: "let its owner run: GRANT SELECT ON " + quote(schema, name) + " TO " + quote(s.Role) + "; and, where it lacks that too: GRANT USAGE ON SCHEMA " + quote(schema) + " TO " + quote(s.Role) + ";",
		}
	case strings.HasPrefix(refused.Code, "22"):
		// A value that the condition cannot take: another attempt meets the same row.
		return setupError(fmt.Sprintf("read %s: Postgres says: %s", table, refused.Message), "write --where so that it takes every row of the table")
	}
	return err
}
