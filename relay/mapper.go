package relay

import (
	"strings"

	"github.com/dot-do/relay/filters"
)

// Mapper turns row changes into events by the mappings of one Catalog. It holds
// no goroutine, clock or I/O, and is used by one goroutine.
type Mapper struct {
	identity Identity
	maxBody  int
	outbox   string // full name of outbox_events
	refuse   func(mapping string, err error)

	unchecked func(eventType string)

	mappings map[string][]Mapping // by table
	schemas  *Schemas             // of all registered types
	bound    map[uint32]*binding  // by relation OID
	last     *binding             // changes of one table come in runs

	// Of the change at hand:
	newRow, oldRow image
	changed        []filters.Verdict // by column, of an update
	asked          filters.Event     // that match_new is asked about
	key            []byte
	working        string // the mapping at work
}

// maxBound limits the relations a Mapper remembers: tables that are made and
// dropped all the time leave their OIDs behind. They are bound again when needed.
const maxBound = 1 << 12

// MapperConfig configures a Mapper.
type MapperConfig struct {
	Identity Identity
	Catalog  *Catalog
	Outbox   string // schema.table of the outbox table; empty: none
	MaxBody  int    // bytes; a larger body is reduced to its key. 0: no limit
	// Refuse is told of every mapping that cannot be used, and with a nil error
	// of those that can. Required.
	Refuse func(mapping string, err error)
	// Broken is told of every payload schema that cannot be used. Optional.
	Broken func(*SchemaError)
	// Unchecked is told of every event that was not held to its schema because its data
	// is not whole. Optional.
	Unchecked func(eventType string)
	// Earlier are schemas that need not be compiled again. Optional.
	Earlier *Schemas
}

// NewMapper compiles the catalog. Mappings that do not compile are refused by
// name and left out.
func NewMapper(cfg MapperConfig) *Mapper {
	m := &Mapper{
		identity: cfg.Identity, maxBody: cfg.MaxBody, outbox: cfg.Outbox, refuse: cfg.Refuse,
		mappings: map[string][]Mapping{}, bound: map[uint32]*binding{}, unchecked: cfg.Unchecked,
	}
	compiled, errs := cfg.Catalog.Compile()
	for _, err := range errs {
		m.refuse(err.Mapping, err)
	}
	for _, c := range compiled {
		m.mappings[c.Table] = append(m.mappings[c.Table], c)
	}
	var broken []*SchemaError
	m.schemas, broken = cfg.Catalog.Schemas(cfg.Earlier)
	for _, err := range broken {
		if cfg.Broken != nil {
			cfg.Broken(err)
		}
	}
	return m
}

// Map appends the events that the change raises to dst, in the order of the
// mappings, with bodies rendered into buf. One change may raise several events,
// or none. Nothing in them aliases the change.
func (m *Mapper) Map(dst []Event, buf *Buffer, c *Change) []Event {
	b := m.binding(c.Relation)
	if b.outbox != nil {
		return m.mapOutbox(dst, buf, c, b)
	}
	if len(b.rules) == 0 {
		return dst
	}
	op := c.Op
	if op == OpRead {
		op = OpInsert // a backfilled row is new to the subscribers
	}
	m.newRow.reset()
	m.oldRow.reset()
	if op == OpUpdate {
		m.changed = changedColumns(m.changed, c)
	}
	index := uint32(0)
	for i := range b.rules {
		r := &b.rules[i]
		m.working = r.ID
		if r.Op != op || !m.holds(r, c) {
			continue
		}
		pos := c.Position
		pos.Index = index
		index++
		dst = append(dst, m.event(r, b, c, pos, buf))
	}
	return dst
}

// binding returns what is known about the relation, and binds its mappings when
// the log described it anew.
func (m *Mapper) binding(rel *Relation) *binding {
	if m.last != nil && m.last.relation == rel {
		return m.last
	}
	b := m.bound[rel.OID]
	if b == nil || b.relation != rel {
		if len(m.bound) >= maxBound {
			clear(m.bound)
		}
		b = m.bind(rel)
		m.bound[rel.OID] = b
	}
	m.last = b
	return b
}

// adopt binds the relations that an earlier Mapper met, so that mappings of them
// which cannot be used are refused now and not at the table's next change.
func (m *Mapper) adopt(earlier *Mapper) {
	for _, b := range earlier.bound {
		m.binding(b.relation)
	}
}

// holds decides whether the change raises the rule's event. A change that cannot
// be decided raises nothing, and is reported once.
func (m *Mapper) holds(r *rule, c *Change) bool {
	verdict := filters.Yes
	if r.Op == OpUpdate {
		verdict = r.touched(m.changed)
	}
	if verdict != filters.No && r.MatchNew != nil {
		verdict = min(verdict, m.matchNew(r.MatchNew, c))
	}
	if verdict != filters.No && r.MatchOld != nil {
		verdict = min(verdict, r.MatchOld.MatchDoc(m.oldRow.of(c.Relation, c.Old)))
	}
	if verdict == filters.Unknown && !r.undecided {
		r.undecided = true
		m.refuse(r.ID, &UndecidedError{Mapping: r.ID, Table: c.Relation.FullName(), Columns: missingColumns(c)})
	}
	return verdict == filters.Yes
}

// matchNew asks a filter about the change as a whole.
func (m *Mapper) matchNew(f *filters.Filter, c *Change) filters.Verdict {
	m.asked = filters.Event{Op: filters.Op(c.Op), Data: m.newRow.of(c.Relation, c.New)}
	if c.Op == OpUpdate && f.NeedsOld() {
		m.asked.Before = m.oldRow.of(c.Relation, c.Old)
	}
	return f.MatchEvent(&m.asked)
}

// missingColumns names the columns that either row of the change came without.
func missingColumns(c *Change) []string {
	var names []string
	for i := range c.Relation.Columns {
		if notSent(c.New, i) || (c.Op == OpUpdate && c.Old == nil) || notSent(c.Old, i) {
			names = append(names, c.Relation.Columns[i].Name)
		}
	}
	return names
}

func notSent(row Tuple, i int) bool { return i < len(row) && row[i].Kind == Unavailable }

// UndecidedError reports a change that a rule could not decide because the log
// did not carry a value, or, without Columns, because the filter reached its work
// limit. The rule stays in use; the change raised no event by it.
type UndecidedError struct {
	Mapping, Table string
	Columns        []string
}

// Error names the mapping, the columns and the remedy.
func (e *UndecidedError) Error() string {
	if len(e.Columns) == 0 {
		return "mapping " + e.Mapping + ": a row of " + e.Table +
			" is too large for the arrays in match_new or match_old, so a change could not be decided and raised nothing; match fewer array elements"
	}
	return "mapping " + e.Mapping + ": the log did not carry " + strings.Join(e.Columns, ", ") + " of " + e.Table +
		", so a change could not be decided and raised nothing; REPLICA IDENTITY FULL on the table, and on each of its partitions, makes it decidable"
}

func (m *Mapper) event(r *rule, b *binding, c *Change, pos Position, buf *Buffer) Event {
	row := c.New
	if c.Op == OpDelete {
		row = c.Old
	}
	owner, visibility := r.audience(row)
	e := Event{
		ID: EventID(m.identity, c.XID, c.CommitTime, pos, r.EventType), Type: r.EventType, Position: pos,
		Owner: owner, Visibility: visibility, Table: b.table, Key: m.keyText(row, r.key),
		OccurredAt: c.CommitTime, CommittedAt: c.CommitTime, Op: c.Op,
	}
	m.render(&e, r, c, row, buf)
	if r.contract != nil {
		m.hold(r.contract, &e)
	}
	return e
}

// hold notes in the event why it may not be published, if so.
func (m *Mapper) hold(t *contract, e *Event) {
	whole, err := m.schemas.check(t, e)
	e.violation = err
	if !whole && m.unchecked != nil {
		m.unchecked(e.Type)
	}
}

// keyText joins the key's values for ce-subject.
func (m *Mapper) keyText(row Tuple, key []int) string {
	if row == nil { // a truncate has no row
		return ""
	}
	m.key = m.key[:0]
	for n, i := range key {
		if n > 0 {
			m.key = append(m.key, '/')
		}
		if i < len(row) && row[i].Kind == Text {
			m.key = append(m.key, row[i].Data...)
		}
	}
	text := string(m.key)
	m.key = trimmed(m.key)
	return text
}

// unavailable names the included columns whose value the log did not carry.
func unavailable(rel *Relation, row Tuple, include []bool) []string {
	var names []string
	for i := range row {
		if row[i].Kind == Unavailable && (include == nil || include[i]) {
			names = append(names, rel.Columns[i].Name)
		}
	}
	return names
}

// image is a row of the change at hand as filters see it: JSON of all columns,
// made when a rule first asks for it, and then once for all rules.
type image struct {
	json []byte
	doc  filters.Doc
	made bool
}

func (i *image) reset() {
	i.json, i.doc, i.made = trimmed(i.json)[:0], filters.Doc{}, false
}

// of returns the row as a document. Of a row that the log did not carry, nothing is
// known.
func (i *image) of(rel *Relation, row Tuple) filters.Doc {
	if !i.made {
		i.json = appendRow(i.json, rel, row, nil)
		missing := unavailable(rel, row, nil)
		if row == nil {
			for n := range rel.Columns {
				missing = append(missing, rel.Columns[n].Name)
			}
		}
		i.doc = filters.NewDoc(i.json, missing)
		i.made = true
	}
	return i.doc
}

// trimmed returns scratch memory that a huge row needed to the collector.
func trimmed(b []byte) []byte {
	if cap(b) > 1<<20 {
		return nil
	}
	return b
}
