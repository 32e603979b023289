package relay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/dot-do/relay/filters"
)

// ReadBody takes the body as the event's own, and finds in it what filters see. The
// parts alias it.
func (e *Event) ReadBody(body []byte) error {
	if !validJSON(body) {
		return errors.New("body is not JSON")
	}
	s := scanner{b: body}
	s.space()
	if s.b[s.i] != '{' {
		return errors.New("body is no JSON object")
	}
	e.Body, e.Op, e.Data, e.Previous, e.Unavailable, e.PreviousUnavailable = body, 0, nil, nil, nil, nil
	oversize, listed := false, false
	for s.member() {
		key, value := s.pair()
		switch string(key) {
		case `"source"`:
			e.Op = readOp(value)
		case `"data"`:
			e.Data = value
		case `"previous"`:
			e.Previous = value
		case `"unavailable"`:
			listed = true
			if err := json.Unmarshal(value, &e.Unavailable); err != nil {
				return fmt.Errorf("unavailable: %w", err)
			}
		case `"previous_unavailable"`:
			if err := json.Unmarshal(value, &e.PreviousUnavailable); err != nil {
				return fmt.Errorf("previous_unavailable: %w", err)
			}
		case `"oversize"`:
			oversize = string(value) == "true"
		}
	}
	e.Unlisted = oversize && !listed
	if e.Data == nil {
		return errors.New("body has no data")
	}
	return nil
}

// validJSON is json.Valid for objects of as many levels as filters read: json.Valid
// ends at 10,000, and jsonb does not.
func validJSON(object []byte) bool {
	if json.Valid(object) {
		return true
	}
	all, err := filters.Compile([]byte(`{}`))
	return err == nil && all.Match(object) == filters.Yes
}

// readOp finds the operation in the value of "source". It is zero when there is none.
func readOp(source []byte) Op {
	if source[0] != '{' {
		return 0
	}
	s, op := scanner{b: source}, Op(0)
	for s.member() {
		if key, value := s.pair(); string(key) == `"op"` {
			op = parseOp(bytes.Trim(value, `"`))
		}
	}
	return op
}

func parseOp(name []byte) Op {
	for op := OpInsert; op <= OpRead; op++ {
		if op.String() == string(name) {
			return op
		}
	}
	return 0
}

// ForFilters returns the event as filters see it: of the old row what an update tells
// of it, and nothing at all of what is unavailable. An event that is Unlisted misleads
// the filters to which it Hides something.
func (e *Event) ForFilters() filters.Event {
	fe := filters.Event{Op: filters.Op(e.Op), Data: filters.NewDoc(e.Data, e.Unavailable)}
	if e.Op == OpUpdate {
		fe.Partial = true
		fe.Before = filters.NewDoc(e.Previous, e.PreviousUnavailable)
		if len(e.Previous) == 0 || e.Previous[0] != '{' { // so nothing is known of what was before
			fe.Before = filters.NewDoc([]byte(`{}`), append(memberNames(e.Data), e.Unavailable...))
		}
	}
	return fe
}

// Hides reports whether the event is Unlisted, and the filter reads more than is in
// Data. What it says of the event means nothing then: nobody knows.
func (e *Event) Hides(f *filters.Filter) bool {
	if !e.Unlisted {
		return false
	}
	told := memberNames(e.Data)
	return f.NeedsOld() || slices.ContainsFunc(f.Keys(), func(key string) bool { return !slices.Contains(told, key) })
}

// FilterEvent reads a whole body, as it is in the stream and in a webhook, into the
// event that filters are asked about.
func FilterEvent(body []byte) (filters.Event, error) {
	var e Event
	if err := e.ReadBody(body); err != nil {
		return filters.Event{}, err
	}
	if e.Unlisted {
		return filters.Event{}, errors.New("the event was too large for the stream, and so were the names of its columns: no filter on them can be decided")
	}
	return e.ForFilters(), nil
}
