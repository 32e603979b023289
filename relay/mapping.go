package relay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/dot-do/relay/filters"
)

// Audience is who may receive the events of a mapping.
type Audience string

// The audiences a mapping can state.
const (
	AudienceEveryone Audience = "everyone"
	AudienceOwner    Audience = "owner" // the user or tenant named by the row
	AudienceRow      Audience = "row"   // everyone when the visibility column says "public", else the owner
)

// Mapping is one row of event_mappings: which change of which table raises which
// event, and who may see it.
type Mapping struct {
	ID             string
	EventType      string
	Table          string // schema.table
	Op             Op
	MatchNew       *filters.Filter // on the change: the new row, the operation, and of an update the old row; nil: any
	MatchOld       *filters.Filter // on the old row alone; nil: any
	ChangedColumns []string        // at least one of them must have changed; empty: no such condition
	IgnoredColumns []string        // an update that changes nothing else raises nothing
	KeyColumns     []string        // empty: the relation's key
	Audience       Audience
	UserColumn     string
	TenantColumn   string
	Visibility     string   // visibility column
	Redact         []string // columns that never leave the relay
	Payload        []string // empty: all published columns
	Priority       int
	Enabled        bool
}

type mappingRow struct {
	ID               string          `json:"id"`
	EventType        string          `json:"event_type"`
	SourceTable      string          `json:"source_table"`
	Operation        string          `json:"operation"`
	MatchNew         json.RawMessage `json:"match_new"`
	MatchOld         json.RawMessage `json:"match_old"`
	ChangedColumns   []string        `json:"changed_columns"`
	IgnoredColumns   []string        `json:"ignored_columns"`
	KeyColumns       []string        `json:"key_columns"`
	Audience         Audience        `json:"audience"`
	UserColumn       string          `json:"user_column"`
	TenantColumn     string          `json:"tenant_column"`
	VisibilityColumn string          `json:"visibility_column"`
	RedactColumns    []string        `json:"redact_columns"`
	PayloadColumns   []string        `json:"payload_columns"`
	Priority         int             `json:"priority"`
	Enabled          bool            `json:"enabled"`
}

// ParseMapping reads a row of event_mappings from its JSON form, to_jsonb(row)
// or the rendered row of a Change. The error names the mapping and what is wrong
// with it; the row's table and id are returned with it, so that the mapping can
// be reported and left out.
func ParseMapping(row []byte) (Mapping, error) {
	var r mappingRow
	if err := json.Unmarshal(row, &r); err != nil {
		return Mapping{}, fmt.Errorf("read a row of event_mappings: %w", err)
	}
	m := Mapping{
		ID: r.ID, EventType: r.EventType, Table: r.SourceTable,
		ChangedColumns: r.ChangedColumns, IgnoredColumns: r.IgnoredColumns, KeyColumns: r.KeyColumns,
		Audience: r.Audience, UserColumn: r.UserColumn, TenantColumn: r.TenantColumn, Visibility: r.VisibilityColumn,
		Redact: r.RedactColumns, Payload: r.PayloadColumns, Priority: r.Priority, Enabled: r.Enabled,
	}
	switch r.Operation {
	case "insert":
		m.Op = OpInsert
	case "update":
		m.Op = OpUpdate
	case "delete":
		m.Op = OpDelete
	case "truncate":
		m.Op = OpTruncate
	default:
		return m, m.refused(fmt.Errorf("operation %q is none of insert, update, delete, truncate", r.Operation))
	}
	var err error
	if m.MatchNew, err = compileRule(r.MatchNew, filters.Compile); err != nil {
		return m, m.refused(fmt.Errorf("match_new: %w", err))
	}
	if m.MatchOld, err = compileRule(r.MatchOld, filters.CompileOld); err != nil {
		return m, m.refused(fmt.Errorf("match_old: %w", err))
	}
	if err := m.decidable(); err != nil {
		return m, m.refused(err)
	}
	if err := m.ends(); err != nil {
		return m, m.refused(err)
	}
	return m, nil
}

// MappingError tells why a mapping cannot be used.
type MappingError struct {
	Mapping string // its id
	Err     error
}

// Error names the mapping and what is wrong with it.
func (e *MappingError) Error() string { return "mapping " + e.Mapping + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *MappingError) Unwrap() error { return e.Err }

func (m *Mapping) refused(err error) error { return &MappingError{Mapping: m.ID, Err: err} }

// compileRule compiles a match column; an absent or empty one is no condition.
func compileRule(src json.RawMessage, compile func([]byte) (*filters.Filter, error)) (*filters.Filter, error) {
	if len(src) == 0 || bytes.Equal(src, []byte("null")) {
		return nil, nil
	}
	f, err := compile(src)
	if err != nil {
		return nil, NewFilterError(err)
	}
	if f.IsAll() {
		return nil, nil
	}
	return f, nil
}

// decidable checks what can be known without the table: the audience, and
// conditions that the operation can never answer.
func (m *Mapping) decidable() error {
	hasOwner := m.UserColumn != "" || m.TenantColumn != ""
	switch m.Audience {
	case AudienceEveryone:
	case AudienceOwner:
		if !hasOwner {
			return fmt.Errorf("audience owner needs user_column or tenant_column")
		}
	case AudienceRow:
		if m.Visibility == "" {
			return fmt.Errorf("audience row needs visibility_column")
		}
	default:
		return fmt.Errorf("audience %q is none of everyone, owner, row", m.Audience)
	}
	switch {
	case m.Op == OpTruncate && m.Audience != AudienceEveryone:
		return fmt.Errorf("a truncate has no row: its audience can only be everyone")
	case m.Op == OpTruncate && (m.MatchNew != nil || m.MatchOld != nil):
		return fmt.Errorf("a truncate has no row to match")
	case m.Op == OpInsert && m.MatchOld != nil:
		return fmt.Errorf("an insert has no old row: use match_new")
	case m.Op == OpInsert && m.MatchNew != nil && m.MatchNew.NeedsOld():
		return fmt.Errorf("match_new asks for the row before, and an insert has none: take $changed, $before, $from and $to out of it, or use operation update")
	case m.Op == OpDelete && m.MatchNew != nil:
		return fmt.Errorf("a delete has no new row: use match_old")
	case m.Op != OpUpdate && len(m.ChangedColumns) > 0:
		return fmt.Errorf("changed_columns needs operation update")
	}
	return nil
}

// ends refuses what would go on without end: the relay writes some tables because it
// publishes or delivers, so that each event about them would raise the next one, and
// with two subscribers the next two.
func (m *Mapping) ends() error {
	table, ours := strings.CutPrefix(m.Table, "public.")
	if !ours {
		return nil
	}
	switch table {
	case "webhook_deliveries", "webhook_dead_letters", "rate_limit_windows",
		"relay_checkpoints", "relay_catalog_versions", "relay_backfills", "relay_backfill_chunks", "relay_stream_audits", "relay_stream_holes":
		return errEndless(m.Table)
	case "zapier_webhooks":
		counters := []string{
			"total_triggers", "success_count", "failure_count", "consecutive_failures", "last_triggered_at", "last_success_at", "last_failure_at",
		}
		counts := func(column string) bool { return slices.Contains(counters, column) }
		if m.Op == OpUpdate && (len(m.ChangedColumns) == 0 || slices.ContainsFunc(m.ChangedColumns, counts)) {
			return fmt.Errorf("the relay writes counters into %s when it delivers: each event would raise the next one; "+
				"name other columns in changed_columns", m.Table)
		}
	}
	if strings.HasPrefix(table, "zapier_webhook_logs") { // and its partitions
		return errEndless(m.Table)
	}
	return nil
}

func errEndless(table string) error {
	return fmt.Errorf("the relay writes %s when it publishes and delivers: each event would raise the next one", table)
}

// rowColumns returns the columns that the mapping names, to be checked against a
// relation. Filters contribute the top-level keys that they read, of either row.
func (m *Mapping) rowColumns() []string {
	cols := slices.Concat(m.KeyColumns, m.ChangedColumns, m.Payload)
	for _, c := range []string{m.UserColumn, m.TenantColumn, m.Visibility} {
		if c != "" {
			cols = append(cols, c)
		}
	}
	for _, f := range []*filters.Filter{m.MatchNew, m.MatchOld} {
		if f != nil {
			cols = append(cols, f.Keys()...)
		}
	}
	return cols
}
