package pgsource

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
)

// Facts is what a server tells that decides whether capture works and for how long.
// They are facts only: what they mean is for the caller to say.
type Facts struct {
	Version    int // server_version_num: 150013
	WALLevel   string
	InRecovery bool
	Encoding   string // of the database

	Slots, MaxSlots     int // in use, and at most
	Senders, MaxSenders int
	SenderTimeout       time.Duration // 0: the server waits for ever
	SlotLimit           int64         // max_slot_wal_keep_size in bytes; negative: none
	IdleTimeout         time.Duration // idle_replication_slot_timeout, from version 18 on; 0: none
	Standbys            int           // that stream from this server

	Role        string
	Superuser   bool
	Replication bool
	SeesAll     bool // sees the transactions of all roles

	Slot   *SlotFacts // nil: there is none
	Oldest *OpenTransaction
	Tables []TableFacts // the mapped ones that exist
	Extra  []string     // published tables that no mapping names
}

// SlotFacts is what the server tells of the slot.
type SlotFacts struct {
	Active    bool
	Status    string // wal_status
	Retained  int64
	Safe      int64         // bytes until it is lost; negative: no limit
	Failover  bool          // from version 17 on
	Synced    bool          // kept on a standby
	Inactive  time.Duration // nobody has read it for so long; from version 17 on
	Confirmed relay.LSN
}

// TableFacts is what the server tells of a mapped table.
type TableFacts struct {
	Name      string // schema.table
	OldRows   bool   // its mappings need old rows
	Identity  string // d, n, f or i, as in pg_class.relreplident; of a partitioned table the worst of its partitions'
	Key       bool   // the identity finds a row: there is a primary key, or the index
	Published bool
	Filtered  bool     // the publication leaves rows out
	Unlisted  []string // columns that the publication leaves out
	Large     []string // columns outside of the key whose values may be stored out of line
	Generated []string // stored generated columns
}

// Examine reads the facts. It changes nothing and needs no more than the right to
// connect; what the role may not see is left at its zero value.
func Examine(ctx context.Context, cfg Config) (Facts, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return Facts{}, err
	}
	conn, err := connectSQL(ctx, cfg.URL)
	if err != nil {
		return Facts{}, err
	}
	defer closeSQL(ctx, conn)
	var f Facts
	for _, read := range []func(context.Context, *pgx.Conn, Config) error{f.readServer, f.readSlot, f.readTables} {
		if err := read(ctx, conn, cfg); err != nil {
			return f, err
		}
	}
	f.Oldest, err = oldestTransaction(ctx, conn, defaultOpenFor)
	return f, err
}

func (f *Facts) readServer(ctx context.Context, conn *pgx.Conn, _ Config) error {
	var senderTimeout, idleTimeout int64
	err := conn.QueryRow(ctx, `
		with s as (select name, setting from pg_settings)
		select current_setting('server_version_num')::int, current_setting('wal_level'), pg_is_in_recovery(), current_setting('server_encoding'),
		       (select count(*)::int from pg_replication_slots), current_setting('max_replication_slots')::int,
		       (select count(*)::int from pg_stat_activity where backend_type = 'walsender'), current_setting('max_wal_senders')::int,
		       coalesce((select setting::bigint from s where name = 'wal_sender_timeout'), 0),
		       coalesce((select case when setting::bigint < 0 then -1 else setting::bigint << 20 end from s where name = 'max_slot_wal_keep_size'), -1),
		       coalesce((select setting::bigint * case unit when 'min' then 60 else 1 end from pg_settings where name = 'idle_replication_slot_timeout'), 0),
		       (select count(*)::int from pg_replication_slots where slot_type = 'physical' and active),
		       r.rolname::text, r.rolsuper,
		       r.rolsuper or r.rolreplication or exists (
		           select from pg_roles g where g.rolname = 'rds_replication' and pg_has_role(r.oid, g.oid, 'member')),
		       pg_has_role('pg_read_all_stats', 'usage')
		from pg_roles r where r.rolname = current_user`).
		Scan(&f.Version, &f.WALLevel, &f.InRecovery, &f.Encoding, &f.Slots, &f.MaxSlots, &f.Senders, &f.MaxSenders,
			&senderTimeout, &f.SlotLimit, &idleTimeout, &f.Standbys, &f.Role, &f.Superuser, &f.Replication, &f.SeesAll)
	f.SenderTimeout, f.IdleTimeout = time.Duration(senderTimeout)*time.Millisecond, time.Duration(idleTimeout)*time.Second
	return wrap(err, "examine the server")
}

func (f *Facts) readSlot(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	if f.InRecovery {
		return nil
	}
	var (
		s         SlotFacts
		confirmed string
		inactive  float64
	)
	// Columns of later versions are looked up by name.
	err := conn.QueryRow(ctx, `
		select s.active, coalesce(s.wal_status, ''), coalesce(pg_current_wal_lsn() - s.restart_lsn, 0)::bigint, coalesce(s.safe_wal_size, -1),
		       coalesce((to_jsonb(s) ->> 'failover')::bool, false), coalesce((to_jsonb(s) ->> 'synced')::bool, false),
		       coalesce(extract(epoch from clock_timestamp() - (to_jsonb(s) ->> 'inactive_since')::timestamptz), 0)::float8,
		       coalesce(s.confirmed_flush_lsn, '0/0')::text
		from pg_replication_slots s where s.slot_name = $1`, cfg.Slot).
		Scan(&s.Active, &s.Status, &s.Retained, &s.Safe, &s.Failover, &s.Synced, &inactive, &confirmed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil {
		s.Confirmed, err = relay.ParseLSN(confirmed)
	}
	s.Inactive = time.Duration(inactive) * time.Second
	f.Slot = &s
	return wrap(err, "examine slot %q", cfg.Slot)
}

func (f *Facts) readTables(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	schemas, names := make([]string, len(cfg.Tables)), make([]string, len(cfg.Tables))
	for i, need := range cfg.Tables {
		schemas[i], names[i], _ = strings.Cut(need.Name, ".")
	}
	filtered := "false, '{}'::text[]"
	if f.Version >= 150000 { // pg_publication_tables is what a subscriber gets
		filtered = `coalesce((select pt.rowfilter is not null from pg_publication_tables pt where pt.pubname = $3 and pt.schemaname = n.nspname and pt.tablename = c.relname limit 1), false),
		       coalesce((select array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
		                  and a.attname <> all (pt.attnames) order by a.attnum)
		                 from pg_publication_tables pt where pt.pubname = $3 and pt.schemaname = n.nspname and pt.tablename = c.relname limit 1), '{}')`
	}
	rows, err := conn.Query(ctx, `
		select (w.ord - 1)::int,
		       coalesce((select (array_agg(p.relreplident::text order by position(p.relreplident in 'ndif')))[1]
		                 from pg_partition_tree(c.oid) t join pg_class p on p.oid = t.relid where t.isleaf), c.relreplident::text),
		       exists (select from pg_index i where i.indrelid = c.oid and case when c.relreplident = 'i' then i.indisreplident else i.indisprimary end),
		       exists (select from pg_publication_tables pt where pt.pubname = $3 and pt.schemaname = n.nspname and pt.tablename = c.relname),
		       `+filtered+`,
		       array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attstorage in ('x', 'e')
		             and not exists (select from pg_index i where i.indrelid = c.oid and a.attnum = any (i.indkey) and case when c.relreplident = 'i' then i.indisreplident else i.indisprimary end)
		             order by a.attnum),
		       array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> '' order by a.attnum)
		from unnest($1::text[], $2::text[]) with ordinality as w(schema, name, ord)
		join pg_namespace n on n.nspname = w.schema
		join pg_class c on c.relnamespace = n.oid and c.relname = w.name and c.relkind in ('r', 'p')
		order by w.ord`, schemas, names, cfg.Publication)
	if err != nil {
		return fmt.Errorf("examine the tables: %w", err)
	}
	f.Tables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (TableFacts, error) {
		var (
			t  TableFacts
			at int
		)
		err := row.Scan(&at, &t.Identity, &t.Key, &t.Published, &t.Filtered, &t.Unlisted, &t.Large, &t.Generated)
		if err == nil {
			t.Name, t.OldRows = cfg.Tables[at].Name, cfg.Tables[at].OldRows
		}
		return t, err
	})
	if err != nil {
		return fmt.Errorf("examine the tables: %w", err)
	}
	named := append([]string(nil), cfg.ControlTables...)
	for _, need := range cfg.Tables {
		named = append(named, need.Name)
	}
	rows, err = conn.Query(ctx, `
		select schemaname || '.' || tablename from pg_publication_tables
		where pubname = $1 and schemaname || '.' || tablename <> all ($2::text[]) order by 1`, cfg.Publication, named)
	if err != nil {
		return fmt.Errorf("examine the publication: %w", err)
	}
	f.Extra, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return wrap(err, "examine the publication")
}
