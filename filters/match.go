package filters

import (
	"slices"
	"strings"
	"sync"
	"unsafe"
)

// Verdict is the answer of a filter. Only Yes may deliver; Unknown is worth counting.
type Verdict uint8

// The verdicts are ordered: of several conditions that must all hold, the least verdict
// is the answer.
const (
	No      Verdict = iota // the document does not match
	Unknown                // a value that decides was not sent, or the work limit was reached
	Yes                    // the document matches
)

// String returns "no", "unknown" or "yes".
func (v Verdict) String() string {
	switch v {
	case Yes:
		return "yes"
	case Unknown:
		return "unknown"
	default:
		return "no"
	}
}

func verdictOf(holds bool) Verdict {
	if holds {
		return Yes
	}
	return No
}

// Doc is a document for any number of filters. The zero Doc, like a text that is not
// JSON or not an object, matches no filter at all.
type Doc struct {
	json        string
	unavailable []string
}

// NewDoc makes a document of data. It names in unavailable the top-level keys whose value
// is not known, such as columns that the WAL did not carry: every condition on one of
// them is Unknown, whatever data has in its place; only that the key is there is known.
// Neither data nor unavailable may change while the Doc is in use.
func NewDoc(data []byte, unavailable []string) Doc {
	// The string is only read, and only while the caller promises that the bytes stay
	// the same.
	return Doc{json: unsafe.String(unsafe.SliceData(data), len(data)), unavailable: unavailable} //nolint:gosec // nobody writes to data meanwhile
}

// Match reports whether the JSON object data matches the filter; conditions on how it
// changed are Unknown.
func (f *Filter) Match(data []byte) Verdict {
	return f.MatchEvent(&Event{Data: NewDoc(data, nil)})
}

// MatchDoc is Match for a document of which some values are not known.
func (f *Filter) MatchDoc(doc Doc) Verdict {
	return f.MatchEvent(&Event{Data: doc})
}

// MatchEvent reports whether the event matches the filter. It never fails, and the
// package documentation says how much work it may do.
func (f *Filter) MatchEvent(e *Event) Verdict {
	if f == nil || f.text == "" {
		return No
	}
	m := matchers.Get().(*match)
	defer matchers.Put(m)
	if !m.begin(e, &f.program, f.plans()) {
		return No
	}
	v := m.verdict(&f.program.root)
	m.end()
	if m.left < 0 {
		return Unknown
	}
	return v
}

// matchers are kept for their memory.
var matchers = sync.Pool{New: func() any { return new(match) }} //nolint:gochecknoglobals // memory that is used again

// What one match may do, counted in bytes: workFactor times the rows and workFloor.
// Walking a container costs its bytes and walkCost, pairing it with an element of a
// filter's array costs pairCost, whether it is then walked or not.
const (
	workFloor  = 256 << 10
	workFactor = 10
	walkCost   = 8
	pairCost   = 2
	longScalar = 64 // bytes of a number or string that is not read for nothing
)

// match is one filter being asked about one event.
type match struct {
	event     Event
	data, old row
	left      int        // work; below zero the match winds up, and its answer means nothing
	inner     []*reading // readings for elements of arrays, by depth
	depth     int
	nest      reading // for walking over values that have been checked
}

// row is a row as the conditions of one program read it.
type row struct {
	reading *reading
	slots   []int32 // by index of the path
	rest    []path  // nil, or by index of the path; see scanned
	paths   []path
	unsent  []string // columns that are there with a value that is not known
	unknown bool     // nothing is known of the row
	absent  bool     // there is no row
}

// begin reads the rows for the program. It reports whether there is a row to match.
func (m *match) begin(e *Event, p *program, plans *plans) bool {
	m.event, m.depth = *e, 0
	m.event.settle()
	m.left = workFloor + workFactor*e.size()
	if m.data.reading == nil {
		m.data.reading, m.old.reading = new(reading), new(reading)
	}
	r := m.data.reading
	r.size(plans.data.size)
	if !readRow(r, plans.data.root, e) {
		return false
	}
	m.data = row{reading: r, slots: plans.data.slots, rest: p.dataRest, paths: p.data, unsent: m.event.Data.unavailable}
	m.old = row{reading: m.old.reading, slots: plans.old.slots, rest: p.oldRest, paths: p.old}
	if len(p.old) > 0 || p.beside {
		m.old.reading.size(plans.old.size)
		m.readOld(plans.old.root)
	}
	return true
}

// end lets go of the event.
func (m *match) end() {
	m.event = Event{}
	m.data.unsent, m.old.unsent = nil, nil
}

// readRow reads the row as it is, of which a truncate has none.
func readRow(r *reading, root *field, e *Event) bool {
	s := e.Data.json
	if e.Op == OpTruncate {
		s = "{}"
	}
	i := skipSpace(s, 0)
	return i < len(s) && s[i] == '{' && r.scan(root, s)
}

// readOld reads the row before the change. A partial one is read over the row as it is:
// of a repeated key the last value counts.
func (m *match) readOld(root *field) {
	e, r := &m.event, m.old.reading
	switch e.Op {
	case OpInsert, OpRead, OpTruncate:
		m.old.absent = true
	case OpDelete:
		m.old.unsent = e.Data.unavailable
		m.old.unknown = !readRow(r, root, e)
	case OpUpdate:
		m.old.unsent = e.Before.unavailable
		if !e.Partial {
			s := e.Before.json
			i := skipSpace(s, 0)
			m.old.unknown = i >= len(s) || s[i] != '{' || !r.scan(root, s)
			return
		}
		m.old.unknown = !readRow(r, root, e) || !r.scanOver(root, e.Before.json)
		if m.old.unknown {
			return
		}
		for _, name := range e.Data.unavailable { // unless it is told what it was before
			if _, told := m.member(e.Before.json, name); !told {
				m.old.unsent = append(slices.Clip(m.old.unsent), name)
			}
		}
	default:
		m.old.unknown = true
	}
}

// verdict decides a condition.
func (m *match) verdict(c *cond) Verdict {
	switch c.op {
	case condAll:
		v := Yes
		for i := range c.subs {
			if v = min(v, m.verdict(&c.subs[i])); v == No {
				break
			}
		}
		return v
	case condAny:
		v := No
		for i := range c.subs {
			if v = max(v, m.verdict(&c.subs[i])); v == Yes {
				break
			}
		}
		return v
	case condNot:
		return Yes - m.verdict(&c.subs[0])
	case condOpIs:
		if m.event.Op == OpUnknown {
			return Unknown
		}
		return verdictOf(c.ops.has(m.event.Op))
	case condHadRow:
		if m.event.Op == OpUnknown {
			return Unknown
		}
		return verdictOf(m.event.Op == OpUpdate || m.event.Op == OpDelete)
	case condChanged:
		return m.changed(c.rows.changed)
	case condChangedBeside:
		return m.changedBeside(c.rows.beside)
	default:
		return m.onValue(c)
	}
}

// onValue decides a condition on a value of a row.
func (m *match) onValue(c *cond) Verdict {
	side := &m.data
	if c.old {
		side = &m.old
	}
	raw, sent := side.value(c.at, &m.left)
	if !sent {
		if len(side.paths[c.at]) == 1 && !side.unknown { // the column itself is there
			if c.op == condPresent || c.op == condAbsent {
				return verdictOf(c.op == condPresent)
			}
		}
		return Unknown
	}
	if raw == "" {
		return verdictOf(c.op == condAbsent)
	}
	return verdictOf(m.holds(c, raw))
}

// value returns a value of the row: "" when it is missing, not sent when it is not known.
// The work of a path that goes on from what a scan found is taken from left.
func (r *row) value(at int, left *int) (raw string, sent bool) {
	if r.unknown {
		return "", false
	}
	if r.absent {
		return "", true
	}
	if len(r.unsent) > 0 {
		if p := r.paths[at]; len(p) > 0 && slices.Contains(r.unsent, p[0]) {
			return "", false
		}
	}
	raw = r.reading.value(r.slots[at])
	if r.rest != nil && r.rest[at] != nil {
		return follow(raw, r.rest[at], left), true
	}
	return raw, true
}

// holds decides a condition on a value that is there.
func (m *match) holds(c *cond, raw string) bool {
	k := kindOf(raw[0])
	if len(raw) > longScalar && !m.affords(c.op, k, raw) {
		return false
	}
	switch c.op {
	case condEqual:
		return c.with.equals(raw)
	case condObject:
		return k == object
	case condArray:
		return k == array && m.array(c.elements, raw)
	case condExactly:
		return m.exactly(&c.with, raw)
	case condDiffers:
		return !m.exactly(&c.with, raw)
	case condAbove, condAtLeast, condBelow, condAtMost:
		order, ordered := c.with.order(raw)
		if !ordered {
			return false
		}
		switch c.op {
		case condAbove:
			return order > 0
		case condAtLeast:
			return order >= 0
		case condBelow:
			return order < 0
		default:
			return order <= 0
		}
	case condIn:
		return findScalar(c.list, k, raw) >= 0
	case condNotIn:
		return k < array && findScalar(c.list, k, raw) < 0
	case condPrefix, condSuffix, condSubstring:
		return k == text && hasPart(c.op, raw, c.with.text)
	default: // condPresent; condAbsent is No
		return c.op == condPresent
	}
}

// affords takes the work of a condition that goes through all of a long number or string
// from what is left, and reports whether there was as much.
func (m *match) affords(op condOp, k kind, raw string) bool {
	switch {
	case op == condPresent || k != number && k != text:
		return true
	case k == number, op == condSubstring, op != condEqual && strings.IndexByte(raw, '\\') >= 0:
		m.left -= len(raw)
	}
	return m.left >= 0
}

// hasPart decides the conditions on a part of a string.
func hasPart(op condOp, raw, part string) bool {
	s, storable := decodeString(raw)
	switch {
	case !storable:
		return false
	case op == condPrefix:
		return strings.HasPrefix(s, part)
	case op == condSuffix:
		return strings.HasSuffix(s, part)
	default:
		return strings.Contains(s, part)
	}
}

// order orders the value raw against the scalar n, if both are numbers or both strings.
func (n *node) order(raw string) (order int, ordered bool) {
	switch k := kindOf(raw[0]); {
	case k != n.kind:
		return 0, false
	case k == number:
		return readFigure(raw).compare(n.number()), true
	case k == text:
		if strings.IndexByte(raw, '\\') >= 0 {
			s, storable := decodeString(raw)
			return strings.Compare(s, n.text), storable
		}
		return strings.Compare(raw[1:len(raw)-1], n.text), true
	default:
		return 0, false
	}
}

// findScalar returns the index of the scalar raw of kind k in a list that is sorted by
// compareElements, -1 when it is not there.
func findScalar(list []node, k kind, raw string) int {
	var f figure
	if k == number {
		f = readFigure(raw)
	}
	low, high := 0, len(list)
	for low < high {
		mid := int(uint(low+high) / 2)
		c := int(k) - int(list[mid].kind)
		if c == 0 {
			switch k {
			case number:
				c = f.compare(list[mid].number())
			case text:
				c = compareString(raw, list[mid].text)
			default: // there is one null, one true and one false
			}
		}
		switch {
		case c == 0:
			return mid
		case c < 0:
			high = mid
		default:
			low = mid + 1
		}
	}
	return -1
}
