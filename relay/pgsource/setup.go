package pgsource

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
)

// Dormant is a mapped table that cannot be published, and why. Its mappings raise
// nothing until it can.
type Dormant struct {
	Table   string // schema.table
	Reason  string
	Missing bool // the table does not exist
}

// Steps is what the database still needs.
type Steps struct {
	SQL     []string // statements in the order in which they have to run, without semicolons
	Dormant []Dormant
	Refused bool // our role may not run all of SQL, or should not: a superuser has to
}

// Plan returns the steps that are left to do before the slot can be streamed. It
// changes nothing. Statements that our own role could not run are included.
func Plan(ctx context.Context, cfg Config) (Steps, error) {
	return withSetup(ctx, cfg, func(ctx context.Context, conn *pgx.Conn, cfg Config, with pieces) (Steps, error) {
		p, err := makePlan(ctx, conn, cfg, with)
		return p.result(), err
	})
}

// Setup does what Plan returns, and returns what it did. When the role may not do
// all of it, nothing is done and a *relay.SetupError holds the SQL.
func Setup(ctx context.Context, cfg Config) (Steps, error) {
	return withSetup(ctx, cfg, ensure)
}

// EnsureTables publishes tables that mappings began to name while the source is
// running. It uses a connection of its own, and may be called from another
// goroutine. A *relay.SetupError holds the SQL when the role may not.
func (s *Source) EnsureTables(ctx context.Context, tables []relay.TableNeed) ([]Dormant, error) {
	cfg := s.cfg
	cfg.Tables = tables
	conn, err := connectSQL(ctx, cfg.URL)
	if err != nil {
		return nil, err
	}
	defer closeSQL(ctx, conn)
	steps, err := ensure(ctx, conn, cfg, pieces{})
	return steps.Dormant, err
}

func withSetup(ctx context.Context, cfg Config, f func(context.Context, *pgx.Conn, Config, pieces) (Steps, error)) (Steps, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return Steps{}, err
	}
	conn, err := connectSQL(ctx, cfg.URL)
	if err != nil {
		return Steps{}, err
	}
	defer closeSQL(ctx, conn)
	state, err := inspectSlot(ctx, conn, cfg.Slot)
	if err != nil {
		return Steps{}, err
	}
	cfg.CreateSlot = true
	create, err := state.decide(cfg)
	if err != nil && !errors.Is(err, relay.ErrSlotActive) { // a relay may be running
		return Steps{}, err
	}
	return f(ctx, conn, cfg, pieces{role: true, slot: create, dropSlot: create && state.found})
}

// pieces says what a plan looks after, beside the publication and its tables.
type pieces struct {
	role     bool // the right to replicate
	slot     bool // a slot is to be made in SQL
	dropSlot bool // in place of a lost one
}

// ensure plans and executes. Somebody else may be doing the same: what exists by
// now is planned away.
func ensure(ctx context.Context, conn *pgx.Conn, cfg Config, with pieces) (Steps, error) {
	const attempts = 3
	var err error
	for range attempts {
		var p plan
		if p, err = makePlan(ctx, conn, cfg, with); err != nil {
			return Steps{}, err
		}
		if p.forbidden || p.narrow {
			return p.result(), p.refused(nil)
		}
		if err = p.execute(ctx, conn, cfg); err == nil || !raced(err) {
			return p.result(), err
		}
	}
	return Steps{}, err
}

// raced tells that somebody else did the same at the same moment.
func raced(err error) bool {
	return hasCode(err, codeDuplicateObject) || hasCode(err, codeUniqueViolation) || hasCode(err, codeInternal)
}

// plan is an ordered list of statements. They are run only together: half a
// publication would capture half of the tables.
type plan struct {
	server    server
	sql       []string
	dormant   []Dormant
	forbidden bool // some statement is not for our role
	narrow    bool // somebody made the publication narrower than it is needed
}

func (p *plan) add(allowed bool, sql string) {
	p.sql = append(p.sql, sql)
	p.forbidden = p.forbidden || !allowed && !p.server.Superuser
}

func (p *plan) result() Steps {
	return Steps{SQL: p.sql, Dormant: p.dormant, Refused: p.forbidden || p.narrow}
}

// refused is the error for a role that may not run the plan.
func (p *plan) refused(cause error) error {
	err := fmt.Errorf("role %q may not prepare database %q", p.server.Role, p.server.Database)
	if p.narrow {
		err = errors.New("the publication leaves out changes that mappings need, and a publication that somebody else narrowed is not widened without a word")
	}
	if cause != nil {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return &relay.SetupError{
		Err:    err,
		Remedy: "let a superuser run there:\n" + strings.Join(p.sql, ";\n") + ";",
	}
}

func (p *plan) execute(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	for _, sql := range p.sql {
		if _, err := conn.Exec(ctx, sql); err != nil {
			switch {
			case hasCode(err, codeInsufficientPrivilege):
				return p.refused(err)
			case hasCode(err, codeLockNotAvailable):
				return fmt.Errorf("run %s: %w; another transaction holds the table, it will be tried again", sql, err)
			}
			return fmt.Errorf("run %s: %w", sql, err)
		}
		cfg.Logger.InfoContext(ctx, "database prepared", "sql", sql)
	}
	return nil
}

// makePlan compares what is there with what the needs ask for.
func makePlan(ctx context.Context, conn *pgx.Conn, cfg Config, with pieces) (plan, error) {
	s, err := inspectServer(ctx, conn)
	if err != nil {
		return plan{}, err
	}
	if err := s.usable(); err != nil {
		return plan{}, err
	}
	if with.slot && !with.dropSlot {
		if err := s.roomForSlot(); err != nil {
			return plan{}, err
		}
	}
	p := plan{server: s}
	pub, err := inspectPublication(ctx, conn, cfg.Publication)
	if err != nil {
		return plan{}, err
	}
	needs := cfg.needs()
	tables, stores, err := inspectTables(ctx, conn, s, pub, needs)
	if err != nil {
		return plan{}, err
	}
	if with.role && !s.Replication {
		p.add(false, replicationSQL(s.Role))
	}
	tables = p.leaveOut(cfg, needs, tables)
	p.identities(needs, tables, stores)
	p.publication(cfg.Publication, pub, tables)
	if with.slot {
		p.slot(cfg, with.dropSlot)
	}
	return p, nil
}

// leaveOut reports what cannot be published and returns the rest. A control table
// that does not exist yet is not worth a word: the relay runs without it.
func (p *plan) leaveOut(cfg Config, needs []relay.TableNeed, tables []table) []table {
	found := make([]bool, len(needs))
	usable := tables[:0]
	for _, t := range tables {
		found[t.Ord] = true
		if reason := unpublishable(t); reason != "" {
			p.dormant = append(p.dormant, Dormant{Table: needs[t.Ord].Name, Reason: reason})
			continue
		}
		usable = append(usable, t)
	}
	for i, need := range needs {
		if !found[i] && !cfg.isControl(need.Name) {
			p.dormant = append(p.dormant, Dormant{Table: need.Name, Reason: "does not exist", Missing: true})
		}
	}
	return usable
}

func unpublishable(t table) string {
	switch {
	case t.Kind != "r" && t.Kind != "p":
		return "is not a table: only tables have row changes in the log"
	case t.Persistence == "u":
		return "is an unlogged table: its changes are not in the log"
	case t.Persistence == "t":
		return "is a temporary table"
	case t.Schema == "pg_catalog" || t.Schema == "information_schema":
		return "is a system table"
	}
	return ""
}

// identities comes before the publication: the moment a table without any identity
// is published, updates and deletes of it begin to fail for the application.
func (p *plan) identities(needs []relay.TableNeed, tables []table, stores []storage) {
	for _, st := range stores {
		named := slices.ContainsFunc(tables, func(t table) bool { return t.Ord == st.Ord })
		keyed := st.Identity == "i" || st.Identity == "d" && (st.PrimaryKey || st.Kind == "p")
		if !named || st.Identity == "f" || keyed && !needs[st.Ord].OldRows {
			continue
		}
		p.add(st.Owned, fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL", quote(st.Schema, st.Name)))
	}
}

func (p *plan) publication(name string, pub publication, tables []table) {
	var missing []string
	owned, partitioned := true, false
	for _, t := range tables {
		partitioned = partitioned || t.Kind == "p"
		if !t.Published && !pub.AllTables {
			missing = append(missing, quote(t.Schema, t.Name))
			owned = owned && t.Owned
		}
	}
	list := strings.Join(missing, ", ")
	if pub.OID == 0 {
		tablesSQL := ""
		if list != "" {
			tablesSQL = " FOR TABLE " + list
		}
		// Mappings name the partitioned table, not its partitions.
		p.add(p.server.Create && owned, "CREATE PUBLICATION "+quote(name)+tablesSQL+" WITH (publish_via_partition_root = true)")
		return
	}
	// Widening a publication may break updates of tables that somebody else put in,
	// and changes the names under which others see partitions: a person has to do it.
	if !pub.AllOps {
		p.narrow = true
		p.add(false, "ALTER PUBLICATION "+quote(name)+" SET (publish = 'insert, update, delete, truncate')")
	}
	if partitioned && !pub.ViaRoot {
		p.narrow = true
		p.add(false, "ALTER PUBLICATION "+quote(name)+" SET (publish_via_partition_root = true)")
	}
	if list != "" {
		p.add(pub.Owned && owned, "ALTER PUBLICATION "+quote(name)+" ADD TABLE "+list)
	}
}

// slot comes after the publication: the plugin looks the publication up as it was
// when a change was written, and fails where it was not there yet.
func (p *plan) slot(cfg Config, drop bool) {
	if drop {
		p.add(p.server.Replication, "SELECT pg_drop_replication_slot("+literal(cfg.Slot)+")")
	}
	p.add(p.server.Replication, "SELECT pg_create_logical_replication_slot("+literal(cfg.Slot)+", 'pgoutput')")
}
