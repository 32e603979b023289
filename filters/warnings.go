package filters

// Warning is a remark about a filter that is good but hardly meant.
type Warning struct {
	Code    WarningCode `json:"code"`
	Pointer string      `json:"pointer"` // where: a JSON Pointer; "" is the whole filter
	Message string      `json:"message"`
}

// WarningCode names a kind of warning. Codes are stable.
type WarningCode string

const (
	// MatchesAll means that the filter is {}, which every event of a type matches.
	MatchesAll WarningCode = "matches_all"
	// NeverMatches means conditions that no value satisfies together.
	NeverMatches WarningCode = "never_matches"
	// UnknownPath means a path that the schema of the event type does not have.
	UnknownPath WarningCode = "unknown_path"
)

// Warnings returns what is worth telling whoever wrote the filter.
func (f *Filter) Warnings() []Warning { return f.warnings }

// warnings returns the remarks about a pattern of a row.
func (p *pattern) warnings() []Warning {
	if p.kind == object && len(p.members) == 0 && len(p.ops) == 0 {
		return []Warning{{Code: MatchesAll, Message: "the filter matches every event of the type"}}
	}
	return nil
}
