package pgsource

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgoutput"
)

// described is a table as the log would describe it, and how its rows are read.
type described struct {
	name, schema, table string
	oid                 uint32
	kind                string
	filter              string // of the publication; empty: none
	relation            *relay.Relation
	key                 []string // columns, in the order in which the table is read
	columns             []int    // where they are in the relation
	types               []string // of the key, as SQL
}

// describe locks the table against alterations and looks it up. The snapshot of the
// transaction is taken behind the lock, so that it shows the table as it is read.
func (t *Tables) describe(ctx context.Context, tx pgx.Tx, table string) (*described, error) {
	d := &described{name: table}
	var ok bool
	if d.schema, d.table, ok = strings.Cut(table, "."); !ok {
		return nil, setupError(fmt.Sprintf("table name %q", table), "write it as schema.table")
	}
	if _, err := tx.Exec(ctx, "LOCK TABLE "+quote(d.schema, d.table)+" IN ACCESS SHARE MODE"); err != nil {
		switch {
		case hasCode(err, codeUndefinedTable), hasCode(err, codeInvalidSchemaName):
			return nil, setupError(fmt.Sprintf("table %s does not exist", table), "name it as the catalog spells it, schema.table")
		case hasCode(err, codeWrongObjectType):
			return nil, setupError(table+" is not a table", "name the table that the rows come from")
		case hasCode(err, codeInsufficientPrivilege):
			return nil, readError(err, t.server, table)
		}
		return nil, fmt.Errorf("lock %s for reading: %w", table, err)
	}
	message, err := t.published(ctx, tx, d)
	if err != nil {
		return nil, err
	}
	if err := t.walkedBy(ctx, tx, d, byte(message.ReplicaIdentity)); err != nil {
		return nil, err
	}
	t.catalog.types = nil // something may have been altered
	rel, err := t.catalog.lookUp(ctx, message)
	if err != nil {
		return nil, fmt.Errorf("look up relation %s: %w", table, err)
	}
	d.relation = rel.Relation
	for _, name := range d.key {
		i := d.relation.Column(name)
		if i < 0 {
			return nil, setupError(fmt.Sprintf("column %q of the key of %s is not published", name, table), "add it to the publication's column list")
		}
		d.columns = append(d.columns, i)
	}
	return d, nil
}

// published looks up the columns that the publication sends, as a message of the
// log would tell them.
func (t *Tables) published(ctx context.Context, tx pgx.Tx, d *described) (*pgoutput.Relation, error) {
	extra := "null::text[], null::text"
	if t.server.Version >= 150000 {
		extra = "p.attnames::text[], p.rowfilter"
	}
	generated := "a.attgenerated = ''"
	if t.server.Version >= 180000 {
		generated = "true" // attnames says which generated columns are sent
	}
	var identity string
	var names []string
	var filter *string
	var there bool
	err := tx.QueryRow(ctx, `
		select c.oid, c.relkind::text, c.relreplident::text, p.tablename is not null, `+extra+`
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		left join pg_publication_tables p on p.pubname = $3 and p.schemaname = n.nspname and p.tablename = c.relname
		where n.nspname = $1 and c.relname = $2`, d.schema, d.table, t.cfg.Publication).
		Scan(&d.oid, &d.kind, &identity, &there, &names, &filter)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, setupError(fmt.Sprintf("table %s does not exist", d.name), "name it as the catalog spells it, schema.table")
	case err != nil:
		return nil, fmt.Errorf("look up %s: %w", d.name, err)
	case d.kind != "r" && d.kind != "p":
		return nil, setupError(d.name+" is not a table", "name the table that the rows come from")
	case !there:
		return nil, t.unpublished(ctx, tx, d)
	}
	if filter != nil {
		d.filter = *filter
	}
	rows, err := tx.Query(ctx, `
		select a.attname::text, a.atttypid from pg_attribute a
		where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped and `+generated+`
		  and ($2::text[] is null or a.attname::text = any ($2)) order by a.attnum`, d.oid, names)
	if err != nil {
		return nil, fmt.Errorf("look up the columns of %s: %w", d.name, err)
	}
	m := &pgoutput.Relation{OID: d.oid, Namespace: d.schema, Name: d.table, ReplicaIdentity: pgoutput.ReplicaIdentity(identity[0])}
	var col pgoutput.Column
	_, err = pgx.ForEachRow(rows, []any{&col.Name, &col.TypeOID}, func() error {
		m.Columns = append(m.Columns, col)
		return nil
	})
	return m, wrap(err, "look up the columns of %s", d.name)
}

func (t *Tables) unpublished(ctx context.Context, tx pgx.Tx, d *described) error {
	var root string
	err := tx.QueryRow(ctx, `
		select coalesce((select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		                 join pg_publication_tables p on p.pubname = $2 and p.schemaname = n.nspname and p.tablename = c.relname
		                 where c.oid in (select relid from pg_partition_ancestors($1::oid)) limit 1), '')`, d.oid, t.cfg.Publication).Scan(&root)
	if err != nil {
		return fmt.Errorf("look up publication %q: %w", t.cfg.Publication, err)
	}
	if root != "" {
		return setupError(fmt.Sprintf("the changes of %s are published as those of %s, of which it is a partition", d.name, root), "backfill "+root+", with --where for a part of it")
	}
	return setupError(fmt.Sprintf("table %s is not in publication %q", d.name, t.cfg.Publication),
		"give it an enabled mapping: `relay run` then adds it; or run: ALTER PUBLICATION "+quote(t.cfg.Publication)+" ADD TABLE "+quote(d.schema, d.table)+";")
}

// walkedBy finds the columns to read the table along: unique, never null, and in the
// log with every update and delete. That is what identifies the rows there, or for a
// table whose old rows are sent whole its primary key or any unique index.
func (t *Tables) walkedBy(ctx context.Context, tx pgx.Tx, d *described, identity byte) error {
	rows, err := tx.Query(ctx, `
		select k.names, k.types
		from pg_index i
		cross join lateral (
		    select array_agg(a.attname::text order by o.ord) as names, array_agg(format_type(a.atttypid, a.atttypmod) order by o.ord) as types,
		           bool_and(a.attnotnull) as filled
		    from unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) with ordinality as o(num, ord)
		    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = o.num) k
		where i.indrelid = $1 and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null and i.indexprs is null and k.filled
		  and case $2 when 'i' then i.indisreplident when 'f' then true else i.indisprimary end
		order by i.indisprimary desc, i.indexrelid limit 1`, d.oid, string(rune(identity)))
	if err != nil {
		return fmt.Errorf("look up the key of %s: %w", d.name, err)
	}
	_, err = pgx.ForEachRow(rows, []any{&d.key, &d.types}, func() error { return nil })
	if err != nil {
		return fmt.Errorf("look up the key of %s: %w", d.name, err)
	}
	if len(d.key) > 0 {
		return nil
	}
	return setupError(fmt.Sprintf("table %s has no key to read it along", d.name),
		"give it a primary key, or a unique index over columns that are NOT NULL and run: ALTER TABLE "+quote(d.schema, d.table)+" REPLICA IDENTITY USING INDEX …;")
}

// from names the table for a SELECT. Rows of child tables, other than partitions, go
// under their own names in the log.
func (d *described) from() string {
	if d.kind == "p" {
		return quote(d.schema, d.table)
	}
	return "ONLY " + quote(d.schema, d.table)
}

// where joins the conditions. A line of its own ends a comment in --where.
func (d *described) where(conditions ...string) string {
	conditions = append(slices.Clone(conditions), d.filter)
	conditions = slices.DeleteFunc(conditions, func(c string) bool { return c == "" })
	if len(conditions) == 0 {
		return ""
	}
	return " WHERE (\n" + strings.Join(conditions, "\n) AND (\n") + "\n)"
}

// query builds the SELECT of a chunk.
func (d *described) query(q relay.ChunkQuery) (sql string, params [][]byte) {
	columns := make([]string, len(d.relation.Columns))
	for i, c := range d.relation.Columns {
		columns[i] = quote(d.schema, d.table, c.Name)
	}
	key, given := make([]string, len(d.key)), make([]string, len(d.key))
	for i, name := range d.key {
		key[i] = quote(d.schema, d.table, name)
		given[i] = "$" + strconv.Itoa(i+1) + "::" + d.types[i]
	}
	keys := strings.Join(key, ", ")
	sql = "SELECT " + strings.Join(columns, ", ") + " FROM " + d.from()
	if q.Only != nil {
		return d.only(sql, key, q)
	}
	behind := ""
	if q.After != nil {
		behind = "(" + keys + ") > (" + strings.Join(given, ", ") + ")"
		for _, part := range q.After {
			params = append(params, []byte(part))
		}
	}
	return sql + d.where(q.Where, behind) + " ORDER BY " + keys + " LIMIT " + strconv.Itoa(q.Limit), params
}

// only selects the rows of the given keys, in their order.
func (d *described) only(sql string, key []string, q relay.ChunkQuery) (string, [][]byte) {
	arrays, names, joined := make([]string, len(key)), make([]string, len(key)), make([]string, len(key))
	params := make([][]byte, len(key))
	for i := range key {
		arrays[i] = "$" + strconv.Itoa(i+1) + "::text[]"
		names[i] = "relay_key_" + strconv.Itoa(i+1)
		joined[i] = key[i] + " = relay_given." + names[i] + "::" + d.types[i]
		params[i] = textArray(q.Only, i)
	}
	return sql + " JOIN unnest(" + strings.Join(arrays, ", ") + ") WITH ORDINALITY AS relay_given(" + strings.Join(names, ", ") + ", relay_order) ON " +
		strings.Join(joined, " AND ") + d.where(q.Where) + " ORDER BY relay_given.relay_order", params
}

// textArray writes one part of all keys as a Postgres array.
func textArray(keys []relay.RowKey, part int) []byte {
	b := []byte{'{'}
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		for _, c := range []byte(key[part]) {
			if c == '"' || c == '\\' {
				b = append(b, '\\')
			}
			b = append(b, c)
		}
		b = append(b, '"')
	}
	return append(b, '}')
}
