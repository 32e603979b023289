package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/relay/pgsource"
)

// judgePostgres says what the facts of the server mean for capture. What makes it
// impossible, the plan of setup has said already.
func judgePostgres(f *pgsource.Facts, cfg config.Source) []finding {
	var out findings
	out.minor(f.Version)
	out.room(f)
	out.limits(f, cfg)
	out.failover(f, cfg.Slot)
	if f.Encoding == "SQL_ASCII" {
		out.add(sevWarning, "postgres", "the database's encoding is SQL_ASCII: what is no UTF-8 cannot be put into JSON", "move the data to a database with encoding UTF8")
	}
	if f.Superuser {
		out.add(sevNote, "postgres", fmt.Sprintf("role %s is a superuser; the relay needs less", f.Role), "give it a role of its own: docs/how-to/your-own-database.md")
	}
	if !f.SeesAll {
		out.add(sevNote, "postgres", fmt.Sprintf("role %s does not see other roles' transactions: one that holds the log cannot be named", f.Role),
			"let a superuser run: GRANT pg_read_all_stats TO "+quoteIdent(f.Role)+";")
	}
	if f.Oldest != nil {
		out.add(sevWarning, "postgres", fmt.Sprintf("the server keeps all log since the begin of the %s", f.Oldest), "end it, or wait for it: SELECT pg_terminate_backend(pid)")
	}
	for i := range f.Tables {
		out.table(&f.Tables[i], f.Version)
	}
	if n := len(f.Extra); n > 0 {
		out.add(sevNote, "publication", fmt.Sprintf("%s no mapping: %s; the changes are read and thrown away", plural(n, "published table has", "published tables have"), listed(f.Extra)),
			"make mappings for them, or take them out: ALTER PUBLICATION … DROP TABLE")
	}
	return out
}

// findings collects them in the order of the path.
type findings []finding

func (l *findings) add(severity, area, what, remedy string) {
	*l = append(*l, finding{severity, area, what, remedy})
}

// fixedIn is the first minor release, by major, in which logical decoding no longer
// loses changes of transactions that run while a table is altered under a weak lock.
func fixedIn() map[int]int { return map[int]int{13: 21, 14: 18, 15: 13, 16: 9, 17: 5} }

// losesChanges reports whether a server version (150012) may leave changes out of the
// stream, and the version to move to.
func losesChanges(version int) (bad bool, upgrade string) {
	major, minor := version/10000, version%10000
	fixed, listed := fixedIn()[major]
	if !listed || minor >= fixed {
		return false, ""
	}
	return true, fmt.Sprintf("%d.%d", major, fixed)
}

func (l *findings) minor(version int) {
	if bad, upgrade := losesChanges(version); bad {
		l.add(sevError, "postgres", fmt.Sprintf("PostgreSQL %d.%d can leave changes out of logical decoding when a publication or a type is altered meanwhile", version/10000, version%10000),
			"upgrade to "+upgrade+" or later; a minor upgrade needs no dump")
		return
	}
	l.add(sevOK, "postgres", fmt.Sprintf("PostgreSQL %d.%d has no known loss in logical decoding", version/10000, version%10000), "")
}

// room looks at slots and senders: a relay needs one of each, and a standby none
// until it takes over.
func (l *findings) room(f *pgsource.Facts) {
	active := f.Slot != nil && f.Slot.Active
	switch {
	case f.Senders >= f.MaxSenders && !active:
		l.add(sevError, "postgres", fmt.Sprintf("all %d WAL senders are in use: the relay cannot connect", f.MaxSenders), "let a superuser run: ALTER SYSTEM SET max_wal_senders = "+fmt.Sprint(f.MaxSenders+5)+"; then restart the server")
	case f.Senders >= f.MaxSenders:
		l.add(sevWarning, "postgres", fmt.Sprintf("all %d WAL senders are in use: a relay that lost its connection may not get another", f.MaxSenders), "raise max_wal_senders, and restart the server")
	case f.Slot == nil && f.Slots == f.MaxSlots: // the plan has said it
	default:
		l.add(sevOK, "postgres", fmt.Sprintf("%d of %d replication slots and %d of %d WAL senders are in use", f.Slots, f.MaxSlots, f.Senders, f.MaxSenders), "")
	}
	switch {
	case f.SenderTimeout == 0:
		l.add(sevWarning, "postgres", "wal_sender_timeout is 0: a relay that freezes keeps the slot for ever, and no standby takes over", "ALTER SYSTEM SET wal_sender_timeout = '30s'; SELECT pg_reload_conf()")
	case f.SenderTimeout > 2*time.Minute:
		l.add(sevNote, "postgres", fmt.Sprintf("wal_sender_timeout is %s: so long it takes until a standby takes over from a frozen relay", f.SenderTimeout), "ALTER SYSTEM SET wal_sender_timeout = '30s'; SELECT pg_reload_conf()")
	}
}

// limits looks at what ends a slot, and at what fills the disk otherwise.
func (l *findings) limits(f *pgsource.Facts, cfg config.Source) {
	budget := int64(cfg.WALBudget)
	switch {
	case f.SlotLimit < 0 && cfg.WALPolicy != config.PolicyDropSlot:
		l.add(sevWarning, "wal", "max_slot_wal_keep_size is -1: while the relay is away, the slot can fill the server's disk",
			"ALTER SYSTEM SET max_slot_wal_keep_size = '50GB', or what the disk has to spare; SELECT pg_reload_conf(); beyond it the slot is lost, and the relay halts")
	case f.SlotLimit >= 0 && budget > 0 && f.SlotLimit <= budget:
		l.add(sevNote, "wal", fmt.Sprintf("the slot is lost when it keeps more than %s of log (max_slot_wal_keep_size); the relay warns at 70 %% of that, not of RELAY_WAL_BUDGET", config.Bytes(f.SlotLimit)), "")
	}
	if s := f.Slot; s != nil {
		limit := budget
		if f.SlotLimit >= 0 && (limit == 0 || f.SlotLimit < limit) {
			limit = f.SlotLimit
		}
		if limit > 0 && s.Retained >= limit*7/10 {
			l.add(sevWarning, "wal", fmt.Sprintf("the slot keeps %d MB of log, %d %% of the %s that it may", s.Retained>>20, s.Retained*100/limit, config.Bytes(limit)),
				"find out what holds it: a relay that is away, NATS that is away, or an open transaction")
		}
	}
	if f.IdleTimeout > 0 {
		severity := sevNote
		if f.IdleTimeout < 24*time.Hour {
			severity = sevWarning
		}
		l.add(severity, "wal", fmt.Sprintf("idle_replication_slot_timeout is %s: a relay that is away for longer loses its slot", f.IdleTimeout), "set it to 0, or to longer than the relay can ever be away")
	}
}

// failover looks at what becomes of the slot when a standby is promoted.
func (l *findings) failover(f *pgsource.Facts, slot string) {
	switch {
	case f.Standbys == 0 || f.Slot == nil:
	case f.Version < 170000:
		l.add(sevNote, "slot", "the server has standbys, and before PostgreSQL 17 a slot does not survive a failover: the relay will halt with slot_missing", "know what to do then: docs/how-to/operate.md")
	case !f.Slot.Failover:
		l.add(sevWarning, "slot", "the server has standbys, and the slot is not made to survive a failover: the relay would halt with slot_missing",
			"stop the relay and send ALTER_REPLICATION_SLOT "+slot+" (FAILOVER true) over a replication connection; set sync_replication_slots on the standby and synchronized_standby_slots here")
	}
}

// table looks at the replica identity against what the mappings need.
func (l *findings) table(t *pgsource.TableFacts, version int) {
	full := t.Identity == "f"
	keyless := t.Identity == "n" || (!full && !t.Key)
	switch {
	case t.Published && keyless:
		l.add(sevError, "identity", t.Name+" is published without a replica identity: every UPDATE and DELETE of it fails for the application", "ALTER TABLE "+quoteTable(t.Name)+" REPLICA IDENTITY FULL")
	case t.Published && t.OldRows && !full:
		l.add(sevWarning, "identity", t.Name+" logs only the key of old rows: mappings of updates and deletes are refused where they need more", "ALTER TABLE "+quoteTable(t.Name)+" REPLICA IDENTITY FULL; it counts for changes written afterwards")
	}
	if t.Published && t.OldRows && !full && !keyless && len(t.Large) > 0 {
		l.add(sevNote, "identity", fmt.Sprintf("%s: large values that an update does not touch are not in the log; events list them as unavailable: %s", t.Name, listed(t.Large)),
			"set REPLICA IDENTITY FULL where a filter or a subscriber needs them")
	}
	if t.Filtered {
		l.add(sevWarning, "publication", t.Name+" is published with a row filter: other rows raise no event, and an update into or out of it comes as an insert or a delete", "take the WHERE out, and use the mapping's match_new")
	}
	if n := len(t.Unlisted); n > 0 {
		l.add(sevWarning, "publication", fmt.Sprintf("%s is published without %s: they are in no event, and a mapping that names one is refused", t.Name, listed(t.Unlisted)), "publish the table without a column list, and use the mapping's redaction")
	}
	if len(t.Generated) > 0 && version < 180000 {
		l.add(sevNote, "publication", fmt.Sprintf("%s: generated columns are not in the log: %s", t.Name, listed(t.Generated)), "")
	}
}

// quoteTable quotes schema.table for a statement to copy.
func quoteTable(name string) string {
	schema, table, _ := strings.Cut(name, ".")
	return quoteIdent(schema) + "." + quoteIdent(table)
}

// listed joins names, the first few of them.
func listed(names []string) string {
	const most = 8
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// quoteIdent quotes one name for a statement to copy.
func quoteIdent(name string) string { return pgx.Identifier{name}.Sanitize() }
