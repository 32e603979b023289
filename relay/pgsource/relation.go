package pgsource

import (
	"context"
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
// log, so what the stream does tell goes before it, and what neither knows is left
// plain. It is used by one goroutine at a time.
type catalog struct {
	url       secret.String
	conn      *pgx.Conn
	types     map[uint32]typeRow
	announced map[uint32]typeName // what the stream said of types that are not built in
	keys      map[uint32][]string // of the relations described so far
}

// relation is a described relation, with what is needed to read its old rows.
type relation struct {
	*relay.Relation

	message    *pgoutput.Relation // that announced it
	composites []int              // columns whose types hold composites: these change without an announcement
	looked     time.Time          // when their types were read
	misfit     bool               // and did not fit a value
	// Postgres calls the old row of a partition full when the partitioned table's
	// identity is, whatever the partition's own: nulls may then stand for values
	// that were not sent.
	partitioned bool
	// bareNulls: no such null can be told from a real one by looking at the row.
	bareNulls bool
}

// describe builds the relation that a message announces.
func (c *catalog) describe(ctx context.Context, m *pgoutput.Relation) (*relation, error) {
	if _, known := c.keys[m.OID]; known {
		c.types = nil // something was altered; composites are not announced by themselves
	}
	var rel *relation
	err := c.ask(ctx, func(ctx context.Context) (err error) {
		rel, err = c.lookUp(ctx, m)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up relation %s.%s: %w", m.Namespace, m.Name, err)
	}
	return rel, nil
}

// ask runs a look-up in bounded time, over a new connection when the old one broke.
func (c *catalog) ask(ctx context.Context, lookUp func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	err := lookUp(ctx)
	if err != nil && c.conn.IsClosed() && ctx.Err() == nil {
		if err = c.reconnect(ctx); err == nil {
			err = lookUp(ctx)
		}
	}
	return err
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
	if c.keys == nil {
		c.keys = map[uint32][]string{}
	}
	c.keys[m.OID] = key
	rel := &relation{message: m, Relation: &relay.Relation{
		OID: m.OID, Schema: m.Namespace, Name: m.Name, ReplicaIdentity: byte(m.ReplicaIdentity),
		Columns: make([]relay.Column, len(m.Columns)),
	}}
	for i, col := range m.Columns {
		rel.Columns[i] = relay.Column{Name: col.Name, Key: slices.Contains(key, col.Name)}
	}
	if err := c.setTypes(ctx, rel); err != nil {
		return nil, err
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

// key returns the columns of the primary key, or of the replica identity index. Under
// the default identity the message tells them as they were. Of a table that has no
// index any more, what is known is the identity, and the key that was found before.
func (c *catalog) key(ctx context.Context, m *pgoutput.Relation) ([]string, error) {
	var identity []string
	for _, col := range m.Columns {
		if col.Key && m.ReplicaIdentity != pgoutput.IdentityFull { // which marks every column
			identity = append(identity, col.Name)
		}
	}
	if m.ReplicaIdentity == pgoutput.IdentityDefault && len(identity) > 0 {
		return identity, nil
	}
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
	switch {
	case err != nil || len(key) > 0:
		return key, err
	case len(identity) > 0:
		return identity, nil
	}
	return c.keys[m.OID], nil
}
