package filters

import (
	"hash/maphash"
	"slices"
)

// look finds the filters of a shelf.
func (m *Matches[T]) look(s *shelf[T]) {
	m.direct, m.passed = nil, m.passed[:0]
	filed := s.filed.Load() > 0 // before direct: what is no longer counted here is direct there
	if list := s.direct.Load(); list != nil {
		m.direct = *list
	}
	m.match.data.reading.thin()
	for _, u := range m.direct {
		if u.mixed.Load() {
			m.passed = append(m.passed, u.shape.id)
		}
		m.lookUp(s, u.shape)
	}
	if filed {
		m.lookByValue(s)
	}
	m.found = s.loose.all(emptied(m.found))
	m.askFound(m.found, false)
	if len(m.withheld) > 0 {
		m.askWithheld(s)
	}
}

// lookByValue finds the routes that are filed under what the row has.
func (m *Matches[T]) lookByValue(s *shelf[T]) {
	r := m.match.data.reading
	for i, slot := range r.taken {
		v := &r.slots[slot]
		if v.round != r.round || int(v.from) != i+1 {
			continue // a later value of the same key counts
		}
		for _, g := range s.guides.of(slot) {
			m.follow(s, aspect{slot, g.how}, v, g)
		}
	}
}

// follow looks where a guide leads.
func (m *Matches[T]) follow(s *shelf[T], a aspect, v *found, g guide) {
	r := m.match.data.reading
	for ; v != nil; v = r.afterOf(v, a) {
		leaf, ok := a.leaf(v)
		if !ok {
			continue
		}
		if g.alone {
			m.visit(s, leaf, a, noAspect, v, nil)
		}
		for _, b := range g.others {
			for w := r.at(b.slot); w != nil; w = r.afterOf(w, b) {
				if other, ok := b.leaf(w); ok {
					m.visit(s, pairHash(leaf, other), a, b, v, w)
				}
			}
		}
	}
}

// afterOf returns the next value for a place: only of whole values each counts.
func (r *reading) afterOf(v *found, p aspect) *found {
	if p.how != isWhole {
		return nil
	}
	return r.after(v)
}

// leaf returns the hash of what a value has at a place.
func (p aspect) leaf(v *found) (hash uint64, ok bool) {
	switch p.how {
	case isPresent:
		return presence(p.slot), true
	case isNumber:
		return inRange(p.slot, number), kindOf(v.raw[0]) == number
	case isText:
		return inRange(p.slot, text), v.raw[0] == '"'
	default:
		return probe{slot: p.slot, prefix: p.how}.leaf(v)
	}
}

// visit looks at the routes that are filed under a hash, of one value or two.
func (m *Matches[T]) visit(s *shelf[T], hash uint64, a, b aspect, v, w *found) {
	if !s.signs.may(hash) {
		return
	}
	q := s.access.find(hash)
	for e := q.next(); e != nil; e = q.next() {
		if m.newer(e) || len(m.passed) > 0 && slices.Contains(m.passed, e.shape) {
			continue
		}
		route := e.route()
		if ranged, ok := m.holds(route, v, w); ok && route.filedAt(e.where, a, b) {
			m.take(e, ranged)
		}
	}
}

// lookUp looks up the row for one shape.
func (m *Matches[T]) lookUp(s *shelf[T], sh *shape) {
	r := m.match.data.reading
	if sh.born > m.stamp {
		return
	}
	for _, slot := range sh.present {
		if r.slots[slot].round != r.round {
			return
		}
	}
	if sh.ranged >= 0 && r.slots[sh.ranged].round != r.round {
		return
	}
	sum, probes := sh.base, sh.probes
	many := len(probes) > 0 && probes[0].many
	if many {
		probes = probes[1:]
	}
	for _, p := range probes {
		v := &r.slots[p.slot]
		if v.round != r.round {
			return
		}
		leaf, ok := p.leaf(v)
		if !ok {
			return
		}
		sum += leaf
	}
	if !many {
		m.lookAt(s, sh, finish(sum), nil)
		return
	}
	place := sh.probes[0].place()
	for v := r.at(sh.probes[0].slot); v != nil; v = r.after(v) {
		if v.hash() {
			m.lookAt(s, sh, finish(sum+mix(v.sum, place)), v)
		}
	}
}

// leaf returns the hash of what a value has at a probe.
func (p probe) leaf(v *found) (hash uint64, ok bool) {
	if p.prefix == 0 {
		ok = v.hash()
		return mix(v.sum, p.place()), ok
	}
	if v.raw[0] != '"' {
		return 0, false
	}
	s, storable := decodeString(v.raw)
	if !storable || len(s) < int(p.prefix) {
		return 0, false
	}
	return mix(maphash.String(hashSeed, s[:p.prefix]), p.place()), true
}

// lookAt finds the filters of one shape whose routes have the hash.
func (m *Matches[T]) lookAt(s *shelf[T], sh *shape, hash uint64, many *found) {
	q := s.spots.find(hash)
	for e := q.next(); e != nil; e = q.next() {
		if e.shape != sh.id {
			continue
		}
		if ranged, ok := m.holds(e.route(), many, nil); ok {
			m.take(e, ranged)
		}
	}
}

// holds reports whether the row has what the legs of a route ask for, all but that a value
// is in a range: it returns that value. Where one of several values may do, it is v or w if
// they are of the same slot.
func (m *Matches[T]) holds(route legs, v, w *found) (ranged *found, ok bool) {
	r := m.match.data.reading
	for route != "" {
		st, rest := route.cut()
		at := r.at(st.slot)
		if at == nil {
			return nil, false
		}
		switch st.op {
		case legPresent:
			route = rest
			continue
		case legRange:
			if kindOf(at.raw[0]) != st.kind {
				return nil, false
			}
			ranged, route = at, rest
			continue
		case legMany:
			if v != nil && v.slot == st.slot {
				at = v
			} else if w != nil && w.slot == st.slot {
				at = w
			}
		case legWhole, legPrefix:
		}
		behind, equal := equalsRaw(st.kind, string(rest), at.raw, st.op == legPrefix)
		if !equal {
			return nil, false
		}
		route = legs(behind)
	}
	return ranged, true
}

// take answers for what a route leads to. With ranged it asks for a value in a range.
func (m *Matches[T]) take(e *spot[T], ranged *found) {
	c := e.more.Load()
	if c == nil {
		m.Yes = append(m.Yes, e.one)
		return
	}
	m.Yes = c.subscribers.all(m.Yes)
	o := c.others.Load()
	if o == nil {
		return
	}
	if ranged == nil {
		m.found = o.members.all(emptied(m.found))
		m.askFound(m.found, true)
		return
	}
	if at, ok := point(kindOf(ranged.raw[0]), ranged.raw); ok {
		m.found, m.edge = o.ranges.Load().holding(at, emptied(m.found), emptied(m.edge))
		m.askFound(m.found, true)
		m.askFound(m.edge, false)
	}
}
