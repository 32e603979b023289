package relay

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Catalog is the event registry and the mappings as of one commit: what the
// Mapper works from. It is kept as the rows' JSON, so that the same value can be
// built from a query, from the log, and from a stored version.
type Catalog struct {
	Events   map[string]json.RawMessage `json:"events"`   // zapier_webhook_events rows by event_type
	Mappings map[string]json.RawMessage `json:"mappings"` // event_mappings rows by id
}

// NewCatalog returns a catalog without rows.
func NewCatalog() *Catalog {
	return &Catalog{Events: map[string]json.RawMessage{}, Mappings: map[string]json.RawMessage{}}
}

// Clone returns a copy whose rows can be replaced without touching c.
func (c *Catalog) Clone() *Catalog {
	return &Catalog{Events: maps.Clone(c.Events), Mappings: maps.Clone(c.Mappings)}
}

// Compile returns the enabled mappings whose event type is registered and
// enabled, in the order in which one change raises events: by priority, then by
// type, then by id. Rows that cannot be used are reported by name, one error
// each, and never stop the others.
func (c *Catalog) Compile() ([]Mapping, []*MappingError) {
	var (
		out  []Mapping
		errs []*MappingError
	)
	for _, id := range slices.Sorted(maps.Keys(c.Mappings)) {
		m, err := ParseMapping(c.Mappings[id])
		if err != nil {
			if wrong := (*MappingError)(nil); errors.As(err, &wrong) {
				err = wrong.Err
			}
			errs = append(errs, &MappingError{Mapping: id, Err: err})
			continue
		}
		if !m.Enabled {
			continue
		}
		switch on, known := c.eventEnabled(m.EventType); {
		case !known:
			errs = append(errs, &MappingError{Mapping: id, Err: fmt.Errorf("event type %s is not in zapier_webhook_events", m.EventType)})
		case on:
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, compareMappings)
	return out, errs
}

func compareMappings(a, b Mapping) int {
	return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.EventType, b.EventType))
}

func (c *Catalog) eventEnabled(eventType string) (enabled, known bool) {
	row, ok := c.Events[eventType]
	if !ok {
		return false, false
	}
	var r struct {
		Enabled bool `json:"enabled"`
	}
	if err := json.Unmarshal(row, &r); err != nil {
		return false, false
	}
	return r.Enabled, true
}

// Tables returns the tables that enabled mappings read, with what the rules need
// from their replica identity. Dormant mappings (their table does not exist) are
// included: only the database knows.
func (c *Catalog) Tables() []TableNeed {
	mappings, _ := c.Compile()
	byName := map[string]TableNeed{}
	for i := range mappings {
		m := &mappings[i]
		need := byName[m.Table]
		need.Name = m.Table
		need.OldRows = need.OldRows || m.Op == OpUpdate || m.Op == OpDelete
		byName[m.Table] = need
	}
	out := make([]TableNeed, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out
}

// TableNeed is a table that must be in the publication.
type TableNeed struct {
	Name    string // schema.table
	OldRows bool   // rules compare or deliver old rows: REPLICA IDENTITY FULL
}
