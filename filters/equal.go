package filters

import (
	"slices"
	"strconv"
	"strings"
)

// exactly reports whether raw equals n as jsonb values do: objects member by member,
// arrays element by element in their order.
func (m *match) exactly(n *node, raw string) bool {
	if kindOf(raw[0]) != n.kind {
		return false
	}
	switch n.kind {
	case array:
		return m.exactArray(n, raw)
	case object:
		return m.exactObject(n, raw)
	default:
		return n.equals(raw)
	}
}

func (m *match) exactArray(n *node, raw string) bool {
	if m.left -= walkCost + len(raw); m.left < 0 {
		return false
	}
	elements, count := n.whole.elements, 0
	for i, more := m.first(raw); more; count++ {
		var v string
		v, i, more = m.next(raw, i)
		if count == len(elements) || !m.exactly(&elements[count], v) {
			return false
		}
	}
	return count == len(elements)
}

func (m *match) exactObject(n *node, raw string) bool {
	if m.left -= walkCost + len(raw); m.left < 0 {
		return false
	}
	var holds set
	for i, more := m.first(raw); more; {
		var key, v string
		key, i = m.key(raw, i)
		v, i, more = m.next(raw, i)
		at := n.member(key)
		switch {
		case at < 0:
			return false
		case m.exactly(&n.whole.members[at].value, v): // of a repeated key the last counts
			holds.put(at)
		default:
			holds.drop(at)
		}
	}
	return holds.len() == len(n.whole.members)
}

// changed decides whether one of the values differs between the two rows.
func (m *match) changed(pairs []changed) Verdict {
	if v, decided := m.nothingBefore(); decided {
		return v
	}
	verdict := No
	for _, p := range pairs {
		verdict = max(verdict, m.differs(p))
		if verdict == Yes {
			break
		}
	}
	return verdict
}

// nothingBefore answers for the operations that have no row before to compare with.
func (m *match) nothingBefore() (v Verdict, decided bool) {
	switch m.event.Op {
	case OpDelete, OpTruncate:
		return No, true
	case OpUnknown:
		return Unknown, true
	default:
		return No, false
	}
}

func (m *match) differs(p changed) Verdict {
	after, sent := m.data.value(p.data, &m.left)
	keys, e := m.data.paths[p.data], &m.event
	if !sent && e.Op == OpUpdate && !m.old.unknown && !slices.Contains(e.Before.unavailable, keys[0]) {
		return No // the WAL leaves out what did not change
	}
	before, told := m.old.value(p.old, &m.left)
	switch {
	case !told:
		return Unknown
	case sent:
		return verdictOf(!m.equal(before, after))
	case e.Op != OpUpdate && len(keys) == 1: // a column was not there before, and is now
		return Yes
	default:
		return Unknown
	}
}

// equal reports whether two values are the same; "" is one that is missing.
func (m *match) equal(a, b string) bool {
	return m.equalBeside(a, b, nil)
}

// equalBeside reports whether two values are the same when what is at the paths is left
// out of both.
func (m *match) equalBeside(a, b string, beside []path) bool {
	if a == b {
		return true
	}
	if a == "" || b == "" {
		return false
	}
	k := kindOf(a[0])
	if k != kindOf(b[0]) {
		return false
	}
	switch k {
	case number:
		d, _ := parseDecimal(b)
		return readFigure(a).compare(d) == 0
	case text:
		s, storable := decodeString(a)
		t, alike := decodeString(b)
		return s == t && storable && alike
	case array:
		return m.equalArrays(a, b)
	case object:
		return m.equalObjects(a, b, beside)
	default:
		return true
	}
}

func (m *match) equalArrays(a, b string) bool {
	if m.left -= 2*walkCost + len(a) + len(b); m.left < 0 {
		return false
	}
	i, moreA := m.first(a)
	j, moreB := m.first(b)
	for moreA && moreB {
		var v, w string
		v, i, moreA = m.next(a, i)
		w, j, moreB = m.next(b, j)
		if !m.equal(v, w) {
			return false
		}
	}
	return !moreA && !moreB
}

func (m *match) equalObjects(a, b string, beside []path) bool {
	if m.left -= 2*walkCost + len(a) + len(b); m.left < 0 {
		return false
	}
	x, y := m.members(a), m.members(b)
	for len(x) > 0 || len(y) > 0 {
		var key, v, w string
		key, v, w, x, y = pairUp(x, y)
		if whole, below := under(beside, key); !whole && !m.equalBeside(v, w, below) {
			return false
		}
	}
	return true
}

// under returns of the paths those that go on below key, without it, and whether one of
// them ends there.
func under(paths []path, key string) (whole bool, below []path) {
	for _, p := range paths {
		if p[0] == key {
			if len(p) == 1 {
				return true, nil
			}
			below = append(below, p[1:])
		}
	}
	return false, below
}

// told is a member of an object of a document.
type told struct{ key, value string }

// members returns the members of an object by key, of a repeated key the last.
func (m *match) members(raw string) []told {
	var list []told
	for i, more := m.first(raw); more; {
		var key, v string
		key, i = m.key(raw, i)
		v, i, more = m.next(raw, i)
		name, storable := decodeString(key)
		if !storable {
			name = key // as it is written, so that it is not taken for another one
		}
		list = append(list, told{name, v})
	}
	slices.SortStableFunc(list, func(x, y told) int { return strings.Compare(x.key, y.key) })
	kept := list[:0]
	for i := range list {
		if i+1 == len(list) || list[i+1].key != list[i].key {
			kept = append(kept, list[i])
		}
	}
	return kept
}

// changedBeside decides whether something outside the paths differs between the rows.
func (m *match) changedBeside(beside []path) Verdict {
	if v, decided := m.nothingBefore(); decided {
		return v
	}
	if m.old.unknown {
		return Unknown
	}
	e := &m.event
	after, before := m.members(trimmed(e.Data.json)), []told(nil)
	verdict := No
	switch e.Op {
	case OpUpdate:
		before = m.members(trimmed(e.Before.json))
		for _, name := range e.Before.unavailable {
			if whole, _ := under(beside, name); !whole {
				verdict = Unknown
			}
		}
	default: // every column is new
		for _, name := range e.Data.unavailable {
			if whole, _ := under(beside, name); !whole {
				return Yes
			}
		}
	}
	for len(after) > 0 || len(before) > 0 {
		var key, v, w string
		key, v, w, after, before = pairUp(after, before)
		if w == "" && e.Partial || slices.Contains(e.Data.unavailable, key) || slices.Contains(e.Before.unavailable, key) {
			continue // it is as it was, or it is not known
		}
		if whole, below := under(beside, key); !whole && !m.equalBeside(v, w, below) {
			return Yes
		}
	}
	return verdict
}

// pairUp takes the members of the least key from two lists in the order of their keys.
func pairUp(x, y []told) (key, v, w string, restX, restY []told) {
	switch {
	case len(y) == 0 || len(x) > 0 && x[0].key < y[0].key:
		return x[0].key, x[0].value, "", x[1:], y
	case len(x) == 0 || y[0].key < x[0].key:
		return y[0].key, "", y[0].value, x, y[1:]
	default:
		return x[0].key, x[0].value, y[0].value, x[1:], y[1:]
	}
}

// trimmed returns the text of an object without blanks around it; of no row, an empty one.
func trimmed(s string) string {
	if s = strings.Trim(s, " \t\r\n"); s == "" {
		return "{}"
	}
	return s
}

// member returns the member of an object of the given name.
func (m *match) member(s, name string) (value string, told bool) {
	for _, t := range m.members(trimmed(s)) {
		if t.key == name {
			return t.value, true
		}
	}
	return "", false
}

// follow returns the value to which keys lead in raw, "" when it is missing. A key is also
// the index of an element.
func follow(raw string, keys path, left *int) string {
	var m match
	for _, key := range keys {
		if raw == "" {
			return ""
		}
		if *left -= walkCost + len(raw); *left < 0 {
			return ""
		}
		switch kindOf(raw[0]) {
		case object:
			raw, _ = m.member(raw, key)
		case array:
			raw = m.at(raw, key)
		default:
			return ""
		}
	}
	return raw
}

// at returns the element of an array at an index, "" when there is none.
func (m *match) at(raw, index string) string {
	wanted, err := strconv.Atoi(index)
	if err != nil || !isIndex(index) {
		return ""
	}
	for i, more := m.first(raw); more; wanted-- {
		var v string
		v, i, more = m.next(raw, i)
		if wanted == 0 {
			return v
		}
	}
	return ""
}
