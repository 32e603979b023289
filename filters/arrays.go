package filters

import "math/bits"

// array reports whether each of the elements is found in the array raw. The array is
// read once; what has been found is not looked for again.
func (m *match) array(want *elements, raw string) bool {
	missing := len(want.scalars) + len(want.filters)
	if missing == 0 {
		return true
	}
	if m.left -= walkCost + len(raw); m.left < 0 {
		return false
	}
	plans := want.plans()
	var found, holds set
	for i, more := m.first(raw); more; {
		var v string
		v, i, more = m.next(raw, i)
		if len(want.scalars) > 0 {
			if at := findScalar(want.scalars, kindOf(v[0]), v); at >= 0 && !found.has(at) {
				found.put(at)
				missing--
			}
		}
		for at := range want.filters {
			if holds.has(at) || m.left < 0 {
				continue
			}
			m.left -= pairCost
			if m.element(&want.filters[at], &plans[at], v) {
				holds.put(at)
				missing--
			}
		}
		if missing == 0 || m.left < 0 {
			break
		}
	}
	return missing == 0
}

// element reports whether a filter holds of an element of an array.
func (m *match) element(p *program, how *plan, raw string) bool {
	if k := kindOf(raw[0]); p.only != invalid && k != p.only {
		return false
	}
	if m.left -= walkCost + len(raw); m.left < 0 {
		return false
	}
	if m.depth == len(m.inner) {
		m.inner = append(m.inner, new(reading))
	}
	outer, r := m.data, m.inner[m.depth]
	r.size(how.size)
	r.scan(how.root, raw) // it has been checked
	m.depth++
	m.data = row{reading: r, slots: how.slots, paths: p.data}
	v := m.verdict(&p.root)
	m.data = outer
	m.depth--
	return v == Yes
}

// first returns where the first element of an array or the first key of an object
// begins, and whether there is one. The text has been checked.
func (m *match) first(raw string) (i int, more bool) {
	i = skipSpace(raw, 1)
	return i, raw[i] != ']' && raw[i] != '}'
}

// next returns the value that begins at i, and where the one behind it does, if there is
// one.
func (m *match) next(raw string, i int) (v string, behind int, more bool) {
	end := m.nest.skip(raw, i, 0)
	behind = skipSpace(raw, end)
	more = raw[behind] == ','
	if more {
		behind = skipSpace(raw, behind+1)
	}
	return raw[i:end], behind, more
}

// key returns the key that begins at i, in quotes, and where its value begins.
func (m *match) key(raw string, i int) (key string, value int) {
	end := m.nest.skipString(raw, i)
	value = skipSpace(raw, end) + 1 // the colon
	return raw[i:end], skipSpace(raw, value)
}

// set is a set of members or elements by index; MaxLeaves bounds how many there are.
type set [MaxLeaves / 64]uint64

func (s *set) has(i int) bool { return s[i/64]>>(i%64)&1 == 1 }

func (s *set) put(i int) { s[i/64] |= 1 << (i % 64) }

func (s *set) drop(i int) { s[i/64] &^= 1 << (i % 64) }

func (s *set) len() int {
	n := 0
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}
