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
	maxKept       = 1 << 12
)

// catalog looks up what the stream does not tell of a relation: its key and how
// its types are built. It reads the present catalog, which may be newer than the
// log, so what the stream does tell goes before it, and what neither knows is left
// plain. It is used by one goroutine at a time.
type catalog struct {
	url       secret.String
	conn      *pgx.Conn
	xid       uint32 // the transaction that is being read
	types     map[uint32]typeRow
	newer     uint32              // the first later transaction that altered one of them; 0: none
	announced map[uint32]typeName // by the stream, for the relation that comes next
	keys      map[uint32][]string // of the relations described so far
}

// relation is a described relation, with what is needed to read its old rows.
type relation struct {
	*relay.Relation

	message    *pgoutput.Relation // that announced it
	told       []typeName         // what the stream said of its columns' types
	composites []int              // columns whose types hold composites: these change without an announcement
	looked     time.Time          // when their types were read
	newer      uint32             // from which transaction on they may be others
	misfit     bool               // they did not fit a value
	// Postgres calls the old row of a partition full when the partitioned table's
	// identity is, whatever the partition's own: nulls may then stand for values
	// that were not sent.
	partitioned bool
	// bareNulls: no such null can be told from a real one by looking at the row.
	bareNulls bool
}

// describe builds the relation that a message announces.
func (c *catalog) describe(ctx context.Context, m *pgoutput.Relation) (*relation, error) {
	if _, known := c.keys[m.OID]; known || len(c.types) > maxKept {
		c.forget() // something was altered; composites are not announced by themselves
	}
	var rel *relation
	err := c.ask(ctx, func(ctx context.Context) (err error) {
		rel, err = c.lookUp(ctx, m)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up relation %s.%s: %w", m.Namespace, m.Name, err)
	}
	clear(c.announced)
	return rel, nil
}

// gone tells which of the relations do not exist any more, and a position of the log
// behind the last row of any of them.
func (c *catalog) gone(ctx context.Context, oids []uint32) (dead []uint32, end relay.LSN, err error) {
	err = c.ask(ctx, func(ctx context.Context) error {
		var at string
		err := c.conn.QueryRow(ctx, `
			select array(select o from unnest($1::oid[]) o where not exists (select from pg_class where oid = o)), pg_current_wal_insert_lsn()::text`, oids).
			Scan(&dead, &at)
		if err == nil {
			end, err = relay.ParseLSN(at)
		}
		return err
	})
	return dead, end, wrap(err, "look up dropped tables")
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
	rel.told = make([]typeName, len(m.Columns))
	for i, col := range m.Columns {
		rel.Columns[i] = relay.Column{Name: col.Name, Key: slices.Contains(key, col.Name)}
		rel.told[i] = c.announced[col.TypeOID]
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
// the default identity the message tells them as they were. Of a table that is gone,
// what is known is the identity, and the key that was found before.
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
	now, err := c.keyNow(ctx, m.OID)
	switch {
	case err != nil:
		return nil, err
	case len(now.Key) > 0:
		return now.then(m, c.keys[m.OID]), nil
	case len(now.Columns) > 0 || len(identity) > 0:
		return identity, nil
	}
	return c.keys[m.OID], nil
}

// keyNow is the key of a table as it is today, among the columns that can be published.
type keyNow struct {
	Key     []string
	Columns []string
	Types   []uint32
}

func (c *catalog) keyNow(ctx context.Context, oid uint32) (keyNow, error) {
	rows, err := c.conn.Query(ctx, `
		select array(select a.attname::text
		             from (select indrelid, indkey, indnkeyatts from pg_index
		                   where indrelid = $1 and (indisprimary or indisreplident)
		                   order by indisprimary desc limit 1) i
		             join pg_attribute a on a.attrelid = i.indrelid
		              and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])),
		       coalesce(array_agg(attname::text order by attnum), '{}'), coalesce(array_agg(atttypid order by attnum), '{}')
		from pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped and attgenerated = ''`, oid)
	if err != nil {
		return keyNow{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[keyNow])
}

// then returns the names that today's key had when m was sent. A column that m does not
// have was renamed since, if it is not left out: the key that was found before holds,
// or the place among columns that have the types of today.
func (k keyNow) then(m *pgoutput.Relation, before []string) []string {
	had := func(name string) bool {
		return slices.ContainsFunc(m.Columns, func(col pgoutput.Column) bool { return col.Name == name })
	}
	missing := func(key []string) bool { return slices.ContainsFunc(key, func(name string) bool { return !had(name) }) }
	if !missing(k.Key) {
		return k.Key
	}
	if len(before) > 0 && !missing(before) {
		return before
	}
	same := func(t uint32, col pgoutput.Column) bool { return t == col.TypeOID }
	if !slices.EqualFunc(k.Types, m.Columns, same) {
		return k.Key
	}
	var key []string
	for i, name := range k.Columns {
		if slices.Contains(k.Key, name) {
			key = append(key, m.Columns[i].Name)
		}
	}
	return key
}
