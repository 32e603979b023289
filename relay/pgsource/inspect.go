package pgsource

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
)

const oldestServer = 140000

// server is what the cluster, the database and our role allow.
type server struct {
	Version     int
	WALLevel    string
	MaxSlots    int
	UsedSlots   int
	MaxSenders  int
	InRecovery  bool
	Role        string
	Database    string
	Superuser   bool
	Replication bool // may start a walsender
	Create      bool // may create objects in the database, publications among them
}

func inspectServer(ctx context.Context, conn *pgx.Conn) (server, error) {
	// Members of rds_replication replicate without the role attribute.
	rows, err := conn.Query(ctx, `
		select current_setting('server_version_num')::int, current_setting('wal_level'),
		       current_setting('max_replication_slots')::int, (select count(*)::int from pg_replication_slots),
		       current_setting('max_wal_senders')::int, pg_is_in_recovery(),
		       r.rolname::text, current_database()::text, r.rolsuper,
		       r.rolsuper or r.rolreplication or exists (
		           select from pg_roles g where g.rolname = 'rds_replication' and pg_has_role(r.oid, g.oid, 'member')),
		       has_database_privilege(current_database(), 'create')
		from pg_roles r where r.rolname = current_user`)
	if err != nil {
		return server{}, fmt.Errorf("inspect the server: %w", err)
	}
	s, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[server])
	if err != nil {
		return server{}, fmt.Errorf("inspect the server: %w", err)
	}
	return s, nil
}

// usable reports what no role can change while the server runs.
func (s server) usable() error {
	switch {
	case s.Version < oldestServer:
		return setupError(fmt.Sprintf("the server is PostgreSQL %d", s.Version/10000), "PostgreSQL 14 or later is needed")
	case s.InRecovery:
		return fmt.Errorf("the server is a standby, the slot and the publication are on the primary; add target_session_attrs=read-write to the database URL")
	case s.WALLevel != "logical":
		return setupError(fmt.Sprintf("wal_level is %s, row changes are not in the log", s.WALLevel),
			"let a superuser run: ALTER SYSTEM SET wal_level = 'logical'; then restart the server")
	case s.MaxSenders == 0:
		return setupError("max_wal_senders is 0, nobody can read the log",
			"let a superuser run: ALTER SYSTEM SET max_wal_senders = 10; then restart the server")
	}
	return nil
}

// roomForSlot reports that no slot can be made. Slots, unlike connections, do not
// go away by themselves.
func (s server) roomForSlot() error {
	if s.UsedSlots < s.MaxSlots {
		return nil
	}
	return setupError(fmt.Sprintf("all %d replication slots of the server are in use", s.MaxSlots),
		fmt.Sprintf("drop one that nobody reads (SELECT slot_name, active, restart_lsn FROM pg_replication_slots;), "+
			"or let a superuser run: ALTER SYSTEM SET max_replication_slots = %d; then restart the server", s.MaxSlots+5))
}

// publication is a row of pg_publication.
type publication struct {
	OID       uint32
	Owned     bool
	AllTables bool
	AllOps    bool
	ViaRoot   bool
}

// inspectPublication returns the zero publication when there is none.
func inspectPublication(ctx context.Context, conn *pgx.Conn, name string) (publication, error) {
	rows, err := conn.Query(ctx, `
		select oid, pg_has_role(pubowner, 'usage'), puballtables,
		       pubinsert and pubupdate and pubdelete and pubtruncate, pubviaroot
		from pg_publication where pubname = $1`, name)
	if err != nil {
		return publication{}, fmt.Errorf("inspect publication %q: %w", name, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[publication])
	if err != nil || len(found) == 0 {
		return publication{}, wrap(err, "inspect publication %q", name)
	}
	return found[0], nil
}

// table is one relation that a mapping names.
type table struct {
	Ord         int // index of the need
	OID         uint32
	Kind        string // relkind
	Persistence string
	Schema      string
	Name        string
	Owned       bool
	Published   bool
}

// storage is a relation that holds rows of a table, or the table itself: each
// partition has a replica identity of its own.
type storage struct {
	Ord        int // index of the need
	Schema     string
	Name       string
	Kind       string
	Identity   string
	PrimaryKey bool
	Owned      bool
}

func inspectTables(ctx context.Context, conn *pgx.Conn, s server, pub publication, needs []relay.TableNeed) ([]table, []storage, error) {
	schemas, names := make([]string, len(needs)), make([]string, len(needs))
	for i, need := range needs {
		schemas[i], names[i], _ = strings.Cut(need.Name, ".")
	}
	bySchema := ""
	if s.Version >= 150000 {
		bySchema = "or exists (select from pg_publication_namespace pn where pn.pnpubid = $3 and pn.pnnspid = c.relnamespace)"
	}
	rows, err := conn.Query(ctx, `
		select (w.ord - 1)::int, c.oid, c.relkind::text, c.relpersistence::text, n.nspname::text, c.relname::text,
		       pg_has_role(c.relowner, 'usage'),
		       exists (select from pg_publication_rel pr where pr.prpubid = $3
		               and (pr.prrelid = c.oid or pr.prrelid in (select relid from pg_partition_ancestors(c.oid)))) `+bySchema+`
		from unnest($1::text[], $2::text[]) with ordinality as w(schema, name, ord)
		join pg_namespace n on n.nspname = w.schema
		join pg_class c on c.relnamespace = n.oid and c.relname = w.name
		order by 1`, schemas, names, pub.OID)
	if err != nil {
		return nil, nil, fmt.Errorf("inspect tables: %w", err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	if err != nil {
		return nil, nil, fmt.Errorf("inspect tables: %w", err)
	}
	ords, oids := make([]int, len(tables)), make([]uint32, len(tables))
	for i, t := range tables {
		ords[i], oids[i] = t.Ord, t.OID
	}
	rows, err = conn.Query(ctx, `
		select w.ord::int, n.nspname::text, c.relname::text, c.relkind::text, c.relreplident::text,
		       exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary),
		       pg_has_role(c.relowner, 'usage')
		from unnest($1::int[], $2::oid[]) as w(ord, oid)
		cross join lateral (select w.oid as relid union select relid::oid from pg_partition_tree(w.oid)) t
		join pg_class c on c.oid = t.relid and c.relkind in ('r', 'p')
		join pg_namespace n on n.oid = c.relnamespace
		order by w.ord, c.oid`, ords, oids)
	if err != nil {
		return nil, nil, fmt.Errorf("inspect replica identities: %w", err)
	}
	stores, err := pgx.CollectRows(rows, pgx.RowToStructByPos[storage])
	if err != nil {
		return nil, nil, fmt.Errorf("inspect replica identities: %w", err)
	}
	return tables, stores, nil
}

// wrap adds what was attempted to an error; nil stays nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
