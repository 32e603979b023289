package filters

import (
	"hash/maphash"
	"slices"
)

// look finds the filters of a shelf.
func (m *Matches[T]) look(s *shelf[T]) {
	m.direct = nil
	filed := s.filed.Load() > 0 // before direct: what is no longer counted here is direct there
	if list := s.direct.Load(); list != nil {
		m.direct = *list
	}
	m.match.data.reading.thin()
	for _, u := range m.direct {
		m.lookUp(s, u.shape, allPoints, nil)
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

// lookByValue finds the routes that are filed under values of the row.
func (m *Matches[T]) lookByValue(s *shelf[T]) {
	r, anchored := m.match.data.reading, s.anchored.Load() > 0
	for i, slot := range r.taken {
		v := &r.slots[slot]
		if v.round != r.round || int(v.from) != i+1 {
			continue // a later value of the same key counts
		}
		if anchored {
			if a := s.accessOf(presence(slot)); a != nil {
				m.lookUnder(s, a, &here{slots: [2]int32{slot, -1}, present: true})
			}
		}
		for ; v != nil; v = r.after(v) {
			if v.hash() {
				leaf := mix(v.sum, probe{slot: slot}.place())
				if a := s.accessOf(leaf); a != nil {
					m.lookUnder(s, a, &here{slots: [2]int32{slot, -1}, values: [2]*found{v}})
					m.lookWithPartners(s, a, slot, v, leaf)
				}
			}
		}
	}
}

// lookWithPartners finds the routes that are filed under a value and a second one.
func (m *Matches[T]) lookWithPartners(s *shelf[T], a *access[T], slot int32, value *found, leaf uint64) {
	p := a.partners.Load()
	if p == nil {
		return
	}
	r := m.match.data.reading
	for _, second := range p.slots {
		if int(second) >= len(r.slots) || r.slots[second].round != r.round {
			continue
		}
		for v := &r.slots[second]; v != nil; v = r.after(v) {
			if !v.hash() {
				continue
			}
			partner := mix(v.sum, probe{slot: second}.place())
			if !p.has(partner) {
				continue
			}
			if both := s.accessOf(pairHash(leaf, partner)); both != nil {
				m.lookUnder(s, both, &here{slots: [2]int32{slot, second}, values: [2]*found{value, v}})
			}
		}
	}
}

// here is where routes are filed that are looked at: those that are filed elsewhere are met
// there.
type here struct {
	slots   [2]int32 // -1 for no second one
	values  [2]*found
	present bool
}

// value returns the value by which the routes are filed if it is that of a slot, else nil.
func (h *here) value(slot int32) *found {
	switch {
	case h == nil || h.present:
		return nil
	case h.slots[0] == slot:
		return h.values[0]
	case h.slots[1] == slot:
		return h.values[1]
	default:
		return nil
	}
}

func (h *here) has(sh *shape, where filing) bool {
	switch {
	case h == nil:
		return true
	case !where.filed():
		return false
	case where[0] >= filedPresent:
		return h.present && sh.anchors[where[0]-filedPresent] == h.slots[0]
	case h.present || sh.probes[where[0]].slot != h.slots[0]:
		return false
	case where[1] == filedNowhere:
		return h.slots[1] < 0
	default:
		return sh.probes[where[1]].slot == h.slots[1]
	}
}

// lookUnder looks up the row for the shapes that are filed at an access.
func (m *Matches[T]) lookUnder(s *shelf[T], a *access[T], by *here) {
	for f := a.uses.Load(); f != nil; f = f.next.Load() {
		if since := f.use.since.Load(); since != 0 && (since <= m.stamp || slices.Contains(m.direct, f.use)) {
			continue
		}
		m.lookUp(s, f.use.shape, f.mask.Load(), by)
	}
}

// lookUp looks up the row for one shape.
func (m *Matches[T]) lookUp(s *shelf[T], sh *shape, mask uint64, by *here) {
	r := m.match.data.reading
	if sh.born > m.stamp {
		return
	}
	for _, slot := range sh.present {
		if r.slots[slot].round != r.round {
			return
		}
	}
	sum, probes := sh.start(), sh.probes
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
		m.lookAt(s, sh, finish(sum), mask, nil, by)
		return
	}
	first := &r.slots[sh.probes[0].slot]
	if first.round != r.round {
		return
	}
	place := sh.probes[0].place()
	if v := by.value(sh.probes[0].slot); v != nil { // the routes with another value are filed there
		m.lookAt(s, sh, finish(sum+mix(v.sum, place)), mask, v, by)
		return
	}
	for v := first; v != nil; v = r.after(v) {
		if v.hash() {
			m.lookAt(s, sh, finish(sum+mix(v.sum, place)), mask, v, by)
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

// lookAt finds the filters of one shape whose values have the hash.
func (m *Matches[T]) lookAt(s *shelf[T], sh *shape, hash, mask uint64, many *found, by *here) {
	if mask>>(hash>>58)&1 == 0 {
		return
	}
	q := s.spots.find(hash)
	for e := q.next(); e != nil; e = q.next() {
		if m.holds(sh, e.route(), many) && by.has(sh, e.where()) {
			m.take(sh, e)
		}
	}
}

// holds compares the values of a route with the row's.
func (m *Matches[T]) holds(sh *shape, values string, many *found) bool {
	id := uint32(values[0]) | uint32(values[1])<<8 | uint32(values[2])<<16 | uint32(values[3])<<24
	if id != sh.id {
		return false
	}
	values = values[4:]
	r := m.match.data.reading
	for _, p := range sh.probes {
		v := &r.slots[p.slot]
		if p.many {
			v = many
		}
		var equal bool
		if values, equal = equalsRaw(values, v.raw, p.prefix > 0); !equal {
			return false
		}
	}
	return true
}

// take answers for what a route leads to.
func (m *Matches[T]) take(sh *shape, e *spot[T]) {
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
	if sh.ranged < 0 {
		m.found = o.members.all(emptied(m.found))
		m.askFound(m.found, true)
		return
	}
	v := &m.match.data.reading.slots[sh.ranged]
	if v.round != m.match.data.reading.round {
		return
	}
	k := kindOf(v.raw[0])
	if k != sh.order {
		return
	}
	if at, ok := point(k, v.raw); ok {
		m.found, m.edge = o.ranges.Load().holding(at, emptied(m.found), emptied(m.edge))
		m.askFound(m.found, true)
		m.askFound(m.edge, false)
	}
}
