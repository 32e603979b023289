package relay

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/dot-do/relay/internal/schema"
)

// Schemas are the payload schemas of one Catalog, compiled: what the data of an event
// has to satisfy before it is published. They are used by one goroutine.
type Schemas struct {
	types   map[string]*contract // every registered type
	decoder schema.Decoder
	last    struct { // the data that was checked last: several events of a row have the same
		data string
		doc  schema.Document
	}
}

// contract is what the registry says of one event type.
type contract struct {
	raw     string // payload_schema as it stands
	enabled bool
	schema  *schema.Schema // nil: nothing is checked
	broken  *SchemaError   // no event can be checked, so none is published
}

// held reports whether events of the type are to be checked at all.
func (c *contract) held() bool { return c.schema != nil || c.broken != nil }

// SchemaError reports a payload schema that cannot be used.
type SchemaError struct {
	EventType string
	Err       error
}

// Error names the event type, the reason and the remedy.
func (e *SchemaError) Error() string {
	return fmt.Sprintf("payload_schema of event type %s cannot be used: %v; its events are parked until it is corrected in zapier_webhook_events, and published by `relay parked retry` then", e.EventType, e.Err)
}

// Unwrap returns the reason.
func (e *SchemaError) Unwrap() error { return e.Err }

// Schemas compiles the payload schemas of all registered types. Those that earlier, the
// schemas of another version of the catalog or nil, has already are not compiled again.
// Schemas that cannot be used are reported in the order of their types.
func (c *Catalog) Schemas(earlier *Schemas) (*Schemas, []*SchemaError) {
	s := &Schemas{types: make(map[string]*contract, len(c.Events))}
	var errs []*SchemaError
	for _, name := range slices.Sorted(maps.Keys(c.Events)) {
		var row struct {
			Enabled bool            `json:"enabled"`
			Schema  json.RawMessage `json:"payload_schema"`
		}
		if err := json.Unmarshal(c.Events[name], &row); err != nil {
			continue // a type that is not registered, to the mappings too
		}
		t := &contract{raw: string(row.Schema), enabled: row.Enabled}
		if known := earlier.of(name); known != nil && known.raw == t.raw {
			t.schema, t.broken = known.schema, known.broken
		} else if len(row.Schema) > 0 {
			var err error
			if t.schema, err = schema.Compile(row.Schema); err != nil {
				t.broken = &SchemaError{EventType: name, Err: err}
			}
		}
		if t.broken != nil {
			errs = append(errs, t.broken)
		}
		s.types[name] = t
	}
	return s, errs
}

func (s *Schemas) of(eventType string) *contract {
	if s == nil {
		return nil
	}
	return s.types[eventType]
}

// Enforced counts the types whose events are checked.
func (s *Schemas) Enforced() (n int) {
	for _, t := range s.types {
		if t.schema != nil {
			n++
		}
	}
	return n
}

// Check returns why the event may not be published: its type is not registered or not
// enabled, or its data violates the type's schema. The reason has no value of the data.
//
// Data that is not whole cannot be judged: what is missing may be what the schema wants.
// Such an event is published, and whole is false.
func (s *Schemas) Check(e *Event) (whole bool, err error) {
	switch t := s.types[e.Type]; {
	case t == nil:
		return true, fmt.Errorf("event type %s is not in zapier_webhook_events", e.Type)
	case !t.enabled:
		return true, fmt.Errorf("event type %s is disabled in zapier_webhook_events", e.Type)
	case t.held():
		return s.check(t, e)
	}
	return true, nil
}

func (s *Schemas) check(t *contract, e *Event) (whole bool, err error) {
	if t.broken != nil {
		return true, t.broken
	}
	if len(e.Unavailable) > 0 || e.Unlisted {
		return false, nil
	}
	if s.last.data == "" || s.last.data != string(e.Data) {
		s.last.data, s.last.doc = string(e.Data), s.decoder.Decode(e.Data)
	}
	if err := t.schema.Check(s.last.doc); err != nil {
		return true, err
	}
	return true, nil
}
