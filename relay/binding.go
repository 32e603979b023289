package relay

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dot-do/relay/filters"
)

// rule is a Mapping bound to the columns of one Relation.
type rule struct {
	*Mapping
	user, tenant, visibility int    // column indexes, -1 for none
	changed                  []int  // any of them must have changed
	ignored                  []bool // by column: does not count as a change
	key                      []int
	include                  []bool    // by column: is in data and previous; nil when all are
	undecided                bool      // a change that could not be decided was reported
	contract                 *contract // what its events are held to; nil: nothing
}

// binding is everything the mapper knows about one Relation.
type binding struct {
	relation *Relation
	table    string // its full name
	rules    []rule
	keys     []int          // the relation's own key columns
	outbox   *outboxColumns // of the outbox table, which has no rules
}

// bind binds the table's mappings to the relation as the log describes it now.
// A mapping that this relation cannot decide is refused by name.
func (m *Mapper) bind(rel *Relation) *binding {
	b := &binding{relation: rel, table: rel.FullName()}
	if b.table == m.outbox {
		b.outbox = findOutboxColumns(rel)
		return b
	}
	for i := range rel.Columns {
		if rel.Columns[i].Key {
			b.keys = append(b.keys, i)
		}
	}
	mappings := m.mappings[b.table]
	for i := range mappings {
		mp := &mappings[i]
		r, err := b.rule(mp)
		if err != nil {
			m.refuse(mp.ID, &MappingError{Mapping: mp.ID, Err: err})
			continue
		}
		m.refuse(mp.ID, nil)
		if t := m.schemas.of(mp.EventType); t != nil && t.held() {
			r.contract = t
		}
		b.rules = append(b.rules, r)
	}
	return b
}

func (b *binding) rule(m *Mapping) (rule, error) {
	rel := b.relation
	// A column to redact that is gone may only have been renamed.
	for _, name := range slices.Concat(m.rowColumns(), m.Redact) {
		if rel.Column(name) < 0 {
			return rule{}, fmt.Errorf("column %q is not published for table %s; it has %s", name, b.table, columnNames(rel))
		}
	}
	if err := identityDecides(m, rel); err != nil {
		return rule{}, err
	}
	r := rule{
		Mapping: m,
		user:    optionalColumn(rel, m.UserColumn), tenant: optionalColumn(rel, m.TenantColumn),
		visibility: optionalColumn(rel, m.Visibility),
		ignored:    make([]bool, len(rel.Columns)),
		key:        b.keys,
	}
	for _, name := range m.ChangedColumns {
		r.changed = append(r.changed, rel.Column(name))
	}
	for _, name := range m.IgnoredColumns { // a table without updated_at has nothing to ignore
		if i := rel.Column(name); i >= 0 {
			r.ignored[i] = true
		}
	}
	if len(m.KeyColumns) > 0 {
		r.key = nil
		for _, name := range m.KeyColumns {
			r.key = append(r.key, rel.Column(name))
		}
	}
	if len(m.Redact) > 0 { // a redacted key column leaves no trace in source.key either
		r.key = slices.DeleteFunc(slices.Clone(r.key), func(i int) bool { return slices.Contains(m.Redact, rel.Columns[i].Name) })
	}
	if len(m.Payload) > 0 || len(m.Redact) > 0 {
		r.include = make([]bool, len(rel.Columns))
		for i := range rel.Columns {
			name := rel.Columns[i].Name
			r.include[i] = (len(m.Payload) == 0 || slices.Contains(m.Payload, name)) && !slices.Contains(m.Redact, name)
		}
	}
	return r, nil
}

// identityDecides checks that the log carries the old row where the mapping needs
// it. With less, "nothing changed", "this column changed" and "whose row was it"
// would be guesses.
func identityDecides(m *Mapping, rel *Relation) error {
	if rel.ReplicaIdentity == IdentityFull || (m.Op != OpUpdate && m.Op != OpDelete) {
		return nil
	}
	if m.Op == OpDelete && keyDecidesDelete(m, rel) {
		return nil
	}
	return fmt.Errorf("table %s has replica identity %s, so the log does not carry the old row that this %s rule needs; run: ALTER TABLE %s REPLICA IDENTITY FULL",
		rel.FullName(), identityName(rel.ReplicaIdentity), m.Op, quoteTable(rel))
}

// keyDecidesDelete reports whether the key columns alone answer the rule.
func keyDecidesDelete(m *Mapping, rel *Relation) bool {
	if rel.ReplicaIdentity == IdentityNothing {
		return false
	}
	for _, name := range m.rowColumns() {
		if i := rel.Column(name); i < 0 || !rel.Columns[i].Key {
			return false
		}
	}
	return true
}

func identityName(c byte) string {
	switch c {
	case IdentityDefault:
		return "default"
	case IdentityIndex:
		return "index"
	case IdentityNothing:
		return "nothing"
	}
	return "full"
}

func optionalColumn(rel *Relation, name string) int {
	if name == "" {
		return -1
	}
	return rel.Column(name)
}

func columnNames(rel *Relation) string {
	names := make([]string, len(rel.Columns))
	for i := range rel.Columns {
		names[i] = rel.Columns[i].Name
	}
	return strings.Join(names, ", ")
}

// quoteTable writes the table for the SQL of a remedy.
func quoteTable(rel *Relation) string {
	quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
	return quote(rel.Schema) + "." + quote(rel.Name)
}

// changedColumns tells of each column whether the update changed it: Unknown where
// the log carried the new value but not the old one. A column sent as unchanged did
// not change.
func changedColumns(dst []filters.Verdict, c *Change) []filters.Verdict {
	dst = dst[:0]
	for i := range c.New {
		before := Value{Kind: Unavailable}
		if i < len(c.Old) {
			before = c.Old[i]
		}
		dst = append(dst, valueChanged(before, c.New[i]))
	}
	return dst
}

func valueChanged(before, after Value) filters.Verdict {
	switch {
	case after.Kind == Unavailable:
		return filters.No
	case before.Kind == Unavailable:
		return filters.Unknown
	case before.Kind != after.Kind || string(before.Data) != string(after.Data):
		return filters.Yes
	}
	return filters.No
}

// touched decides whether an update counts for the rule: one of the named columns
// changed, or, with none named, anything outside the ignored ones.
func (r *rule) touched(changed []filters.Verdict) filters.Verdict {
	verdict := filters.No
	if len(r.changed) > 0 {
		for _, i := range r.changed {
			if i < len(changed) {
				verdict = max(verdict, changed[i])
			}
		}
		return verdict
	}
	for i, v := range changed {
		if !r.ignored[i] {
			verdict = max(verdict, v)
		}
	}
	return verdict
}

// audience returns owner and visibility of the row, fail closed: what the row
// does not say makes the event its owner's, or nobody's.
func (r *rule) audience(row Tuple) (Owner, Visibility) {
	owner := Owner{UserID: textOf(row, r.user), TenantID: textOf(row, r.tenant)}
	switch r.Audience {
	case AudienceEveryone:
		return owner, VisibleToEveryone
	case AudienceRow:
		if textOf(row, r.visibility) == "public" {
			return owner, VisibleToEveryone
		}
	case AudienceOwner:
	}
	return owner, VisibleToOwner
}

// hidesOld decides whether an update's old values stay out of the event: they do
// when the row was not for all of those who see the event now.
func (r *rule) hidesOld(c *Change, owner Owner, visibility Visibility) bool {
	if c.Old == nil {
		return false
	}
	oldOwner, oldVisibility := r.audience(c.Old)
	if oldVisibility == VisibleToEveryone {
		return false
	}
	return visibility == VisibleToEveryone || oldOwner != owner
}

func textOf(row Tuple, i int) string {
	if i < 0 || i >= len(row) || row[i].Kind != Text {
		return ""
	}
	return string(row[i].Data)
}
