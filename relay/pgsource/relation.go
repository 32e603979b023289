package pgsource

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgoutput"
)

const (
	lookupTimeout = 30 * time.Second
	maxTypeDepth  = 16 // of arrays and composites within each other
)

// catalog looks up what the stream does not tell of a relation: its key and how
// its types are built. It reads the present catalog, which may be newer than the
// log; what it does not find is left plain. It is used by one goroutine at a time.
type catalog struct {
	url   secret.String
	conn  *pgx.Conn
	types map[uint32]typeRow
	known map[uint32]bool // relations described so far
}

// relation is a described relation, with what is needed to read its old rows.
type relation struct {
	*relay.Relation

	// Postgres calls the old row of a partition full when the partitioned table's
	// identity is, whatever the partition's own: nulls may then stand for values
	// that were not sent.
	partitioned bool
	// bareNulls: no such null can be told from a real one by looking at the row.
	bareNulls bool
}

// typeRow is what pg_type tells of a type.
type typeRow struct {
	OID        uint32
	Base       uint32 // of a domain
	Elem       uint32 // of a true array
	Delim      string // of an element
	FieldNames []string
	FieldTypes []uint32
}

// describe builds the relation that a message announces.
func (c *catalog) describe(ctx context.Context, m *pgoutput.Relation) (*relation, error) {
	if c.known[m.OID] {
		c.types = nil // something was altered; composites are not announced by themselves
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	rel, err := c.lookUp(ctx, m)
	if err != nil && c.conn.IsClosed() && ctx.Err() == nil {
		if err = c.reconnect(ctx); err == nil {
			rel, err = c.lookUp(ctx, m)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("look up relation %s.%s: %w", m.Namespace, m.Name, err)
	}
	if c.known == nil {
		c.known = map[uint32]bool{}
	}
	c.known[m.OID] = true
	return rel, nil
}

func (c *catalog) reconnect(ctx context.Context) error {
	conn, err := connectSQL(ctx, c.url)
	if err != nil {
		return err
	}
	c.conn = conn
	return nil
}

func (c *catalog) lookUp(ctx context.Context, m *pgoutput.Relation) (*relation, error) {
	key, err := c.key(ctx, m)
	if err != nil {
		return nil, err
	}
	oids := make([]uint32, len(m.Columns))
	for i, col := range m.Columns {
		oids[i] = col.TypeOID
	}
	if err := c.load(ctx, oids); err != nil {
		return nil, err
	}
	rel := &relation{Relation: &relay.Relation{
		OID: m.OID, Schema: m.Namespace, Name: m.Name, ReplicaIdentity: byte(m.ReplicaIdentity),
		Columns: make([]relay.Column, len(m.Columns)),
	}}
	for i, col := range m.Columns {
		rel.Columns[i] = relay.Column{
			Name: col.Name, Type: c.build(col.TypeOID, maxTypeDepth), Key: slices.Contains(key, col.Name),
		}
	}
	if m.ReplicaIdentity != pgoutput.IdentityFull {
		return rel, nil
	}
	err = c.conn.QueryRow(ctx, `
		select count(*) > 0, coalesce(bool_or(p.isleaf and l.relreplident <> 'f' and (l.relreplident <> 'd' or $2)), false)
		from pg_partition_tree($1::oid::regclass) p join pg_class l on l.oid = p.relid
		where exists (select from pg_class where oid = $1 and relkind = 'p')`, m.OID, len(key) == 0).
		Scan(&rel.partitioned, &rel.bareNulls)
	return rel, err
}

// key returns the columns of the primary key, or of the replica identity index.
// For a table that is gone, the message itself tells the identity.
func (c *catalog) key(ctx context.Context, m *pgoutput.Relation) ([]string, error) {
	rows, err := c.conn.Query(ctx, `
		select a.attname::text
		from (select indrelid, indkey, indnkeyatts from pg_index
		      where indrelid = $1 and (indisprimary or indisreplident)
		      order by indisprimary desc limit 1) i
		join pg_attribute a on a.attrelid = i.indrelid
		 and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])`, m.OID)
	if err != nil {
		return nil, err
	}
	key, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(key) > 0 || m.ReplicaIdentity == pgoutput.IdentityFull {
		return key, err
	}
	for _, col := range m.Columns {
		if col.Key {
			key = append(key, col.Name)
		}
	}
	return key, nil
}

// load reads the given types and all that they are built of.
func (c *catalog) load(ctx context.Context, oids []uint32) error {
	if c.types == nil {
		c.types = map[uint32]typeRow{}
	}
	for range maxTypeDepth {
		var missing []uint32
		for _, oid := range oids {
			if _, ok := c.types[oid]; !ok && oid != 0 && !slices.Contains(missing, oid) {
				missing = append(missing, oid)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		found, err := c.typeRows(ctx, missing)
		if err != nil {
			return err
		}
		for _, oid := range missing {
			c.types[oid] = typeRow{OID: oid} // a dropped type stays plain
		}
		oids = oids[:0]
		for _, t := range found {
			c.types[t.OID] = t
			oids = append(append(oids, t.Base, t.Elem), t.FieldTypes...)
		}
	}
	return nil
}

func (c *catalog) typeRows(ctx context.Context, oids []uint32) ([]typeRow, error) {
	// Only the array type that belongs to an element is written with braces:
	// int2vector and the like have elements too.
	rows, err := c.conn.Query(ctx, `
		select t.oid, case when t.typtype = 'd' then t.typbasetype else 0 end,
		       case when t.typtype <> 'd' and e.typarray = t.oid then e.oid else 0 end, t.typdelim::text,
		       array(select attname::text from pg_attribute
		             where attrelid = t.typrelid and attnum > 0 and not attisdropped order by attnum),
		       array(select atttypid from pg_attribute
		             where attrelid = t.typrelid and attnum > 0 and not attisdropped order by attnum)
		from pg_type t left join pg_type e on e.oid = t.typelem
		where t.oid = any ($1::oid[])`, oids)
	if err != nil {
		return nil, errors.Join(errors.New("read types"), err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[typeRow])
}

// build assembles a type from its rows.
func (c *catalog) build(oid uint32, depth int) *relay.Type {
	row := c.types[oid]
	switch {
	case depth == 0:
		return &relay.Type{OID: oid}
	case row.Base != 0:
		return c.build(row.Base, depth-1)
	case row.Elem != 0:
		t := &relay.Type{OID: oid, Kind: relay.Array, Elem: c.build(row.Elem, depth-1), Delim: ','}
		if elem := c.types[row.Elem]; elem.Delim != "" {
			t.Delim = elem.Delim[0]
		}
		return t
	case len(row.FieldNames) > 0:
		t := &relay.Type{OID: oid, Kind: relay.Composite, Fields: make([]relay.Field, len(row.FieldNames))}
		for i, name := range row.FieldNames {
			t.Fields[i] = relay.Field{Name: name, Type: c.build(row.FieldTypes[i], depth-1)}
		}
		return t
	}
	return &relay.Type{OID: oid}
}
