package pgsource

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgoutput"
)

// typesKept is for how long the types of a composite column pass for known. The
// stream has no word about an altered composite, nor about the tables that use it.
const typesKept = time.Second

// typeRow is what pg_type tells of a type.
type typeRow struct {
	OID        uint32
	Name       typeName
	Composite  bool
	Base       uint32   // of a domain
	Elem       uint32   // of a true array
	Delim      string   // of an element
	FieldNames []string // of a composite, as far as they are as old as the rows at hand
	FieldTypes []uint32
	Newer      uint32 // the first transaction that altered other fields; 0: none did
}

type typeName struct{ schema, name string }

// builtIn reports that the name means the same type in every database and for ever.
func (n typeName) builtIn() bool { return n.schema == "pg_catalog" }

// announce remembers, until the relation comes that uses it, what the stream says of a
// type: of a domain, the name of the type below all domains. It is true of the time of
// the rows, whatever has become of the type since.
func (c *catalog) announce(m *pgoutput.Type) {
	if c.announced == nil {
		c.announced = map[uint32]typeName{}
	}
	c.announced[m.OID] = typeName{m.Namespace, m.Name}
}

// setTypes looks up the types of a relation's columns.
func (c *catalog) setTypes(ctx context.Context, rel *relation) error {
	b := builder{c: c, made: map[place]*relay.Type{}}
	oids := make([]uint32, len(rel.Columns))
	for i, col := range rel.message.Columns {
		oids[i] = col.TypeOID
	}
	if err := c.load(ctx, oids); err != nil {
		return err
	}
	rel.composites, rel.looked, rel.newer = nil, time.Now(), c.newer
	for i, oid := range oids {
		t, err := b.column(ctx, oid, rel.told[i])
		if err != nil {
			return err
		}
		rel.Columns[i].Type = t
		if holdsComposite(t) {
			rel.composites = append(rel.composites, i)
		}
	}
	return nil
}

// builder assembles the types of one relation. What is made is used again: types
// within types may be many more on paper than in the catalog.
type builder struct {
	c    *catalog
	made map[place]*relay.Type
}

type place struct {
	oid   uint32
	depth int // that is left
	sure  bool
}

// column builds the type of a column, of which the stream may have said more than is
// known today.
func (b *builder) column(ctx context.Context, oid uint32, told typeName) (*relay.Type, error) {
	now := b.c.base(oid).Name
	if told == (typeName{}) || told == now {
		return b.build(oid, maxTypeDepth, now.builtIn()), nil
	}
	if !told.builtIn() && now != (typeName{}) { // renamed
		return b.build(oid, maxTypeDepth, false), nil
	}
	// The type was dropped, and perhaps something else has its number now.
	base, err := b.c.named(ctx, told)
	if err != nil {
		return nil, err
	}
	return b.build(base, maxTypeDepth, told.builtIn()), nil
}

// build assembles a type from its rows. It is sure if it was so when the value was
// written: built-in types and arrays of them never change.
func (b *builder) build(oid uint32, depth int, sure bool) *relay.Type {
	at := place{oid, depth, sure}
	if t, ok := b.made[at]; ok {
		return t
	}
	t := &relay.Type{OID: oid, Unsure: !sure}
	row := b.c.types[oid]
	switch {
	case depth == 0:
	case row.Base != 0:
		t = b.build(row.Base, depth-1, sure)
	case row.Elem != 0:
		t.Kind, t.Elem, t.Delim = relay.Array, b.build(row.Elem, depth-1, sure), ','
		if elem := b.c.types[row.Elem]; elem.Delim != "" {
			t.Delim = elem.Delim[0]
		}
	case row.Composite:
		t.Kind, t.Fields = relay.Composite, make([]relay.Field, len(row.FieldNames))
		for i, name := range row.FieldNames {
			t.Fields[i] = relay.Field{Name: name, Type: b.build(row.FieldTypes[i], depth-1, false)}
		}
	}
	b.made[at] = t
	return t
}

// base is the type below all domains.
func (c *catalog) base(oid uint32) typeRow {
	row := c.types[oid]
	for range maxTypeDepth {
		if row.Base == 0 {
			break
		}
		row = c.types[row.Base]
	}
	return row
}

// named loads a type by its name; 0 means that there is none.
func (c *catalog) named(ctx context.Context, name typeName) (uint32, error) {
	rows, err := c.conn.Query(ctx, `
		select t.oid from pg_type t join pg_namespace n on n.oid = t.typnamespace where n.nspname = $1 and t.typname = $2`, name.schema, name.name)
	if err != nil {
		return 0, fmt.Errorf("find a type: %w", err)
	}
	oids, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil || len(oids) == 0 {
		return 0, wrap(err, "find a type")
	}
	return oids[0], c.load(ctx, oids[:1:1])
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
		oids = nil
		for _, t := range found {
			c.types[t.OID] = t
			if t.Newer != 0 && (c.newer == 0 || precedes(t.Newer, c.newer)) {
				c.newer = t.Newer
			}
			oids = append(append(oids, t.Base, t.Elem), t.FieldTypes...)
		}
	}
	return nil
}

// typeRows reads pg_type. A field that was added, renamed or retyped by a later
// transaction than the one at hand is left out: with as many fields as are left, a
// value is sure to have exactly these.
func (c *catalog) typeRows(ctx context.Context, oids []uint32) ([]typeRow, error) {
	// Only the array type that belongs to an element is written with braces:
	// int2vector and the like have elements too. Frozen rows keep their xmin, so one
	// that lies ahead is in truth very old.
	rows, err := c.conn.Query(ctx, `
		select t.oid, n.nspname::text, t.typname::text, t.typtype = 'c', case when t.typtype = 'd' then t.typbasetype else 0 end,
		       case when t.typtype <> 'd' and e.typarray = t.oid then e.oid else 0 end, t.typdelim::text,
		       coalesce(f.names, '{}'), coalesce(f.types, '{}'), coalesce(f.newer, 0)
		from pg_type t join pg_namespace n on n.oid = t.typnamespace left join pg_type e on e.oid = t.typelem
		cross join lateral (
		    select array_agg(name order by num) filter (where not later) as names, array_agg(type order by num) filter (where not later) as types,
		           (array_agg(by order by age desc) filter (where later))[1] as newer
		    from (select attnum as num, attname::text as name, atttypid as type, age(xmin) as age, xmin::text::int8 as by,
		                 $2::int8 > 0 and age(xmin) between 0 and age($2::text::xid) - 1 as later
		          from pg_attribute where attrelid = t.typrelid and attnum > 0 and not attisdropped) a) f
		where t.oid = any ($1::oid[])`, oids, int64(c.xid))
	if err != nil {
		return nil, fmt.Errorf("read types: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t typeRow, err error) {
		err = row.Scan(&t.OID, &t.Name.schema, &t.Name.name, &t.Composite, &t.Base, &t.Elem, &t.Delim, &t.FieldNames, &t.FieldTypes, &t.Newer)
		return t, err
	})
}

// at tells which transaction is being read. What was looked up for earlier ones is
// forgotten when it may be another by now.
func (c *catalog) at(xid uint32) {
	c.xid = xid
	if c.newer != 0 && !precedes(xid, c.newer) {
		c.forget()
	}
}

func (c *catalog) forget() { c.types, c.newer = nil, 0 }

// precedes compares transaction numbers, which go round.
func precedes(a, b uint32) bool { return int32(a-b) < 0 }

// refresh reads the types of composite columns again when they may have been altered:
// now and then, and when a row does not fit them. A relation whose types did change
// is a new one. What cannot be read now is left as it is.
func (c *catalog) refresh(ctx context.Context, rel *relation, rows ...pgoutput.Tuple) *relation {
	due := rel.newer != 0 && !precedes(c.xid, rel.newer) || time.Since(rel.looked) > typesKept
	if !due && (rel.misfit || rel.fits(rows)) {
		return rel
	}
	now := *rel
	now.Relation = &relay.Relation{
		OID: rel.OID, Schema: rel.Schema, Name: rel.Name, ReplicaIdentity: rel.ReplicaIdentity, Columns: slices.Clone(rel.Columns),
	}
	c.forget()
	err := c.ask(ctx, func(ctx context.Context) error { return c.setTypes(ctx, &now) })
	if err != nil {
		now = *rel
	} else if reflect.DeepEqual(now.Relation, rel.Relation) {
		now.Relation = rel.Relation
	}
	now.looked = time.Now()
	now.misfit = !now.fits(rows)
	return &now
}

// fits reports whether the values of composite columns have as many fields as their types.
func (rel *relation) fits(rows []pgoutput.Tuple) bool {
	for _, row := range rows {
		for _, i := range rel.composites {
			if i < len(row) && row[i].Kind == pgoutput.Text && !rel.Columns[i].Type.Fits(row[i].Data) {
				return false
			}
		}
	}
	return true
}

func holdsComposite(t *relay.Type) bool {
	return t.Kind == relay.Composite || t.Kind == relay.Array && holdsComposite(t.Elem)
}
