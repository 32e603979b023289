package filters

import (
	"hash/maphash"
	"math/bits"
	"slices"
)

// What is looked up lies all over the memory, and to wait for one line of it after the
// other is most of what a match costs among very many filters. So the look-ups of a row are
// made together, in stages: in each the lines of all of them are asked for before the first
// is used, and the processor waits for several at once.

// ask is one look-up of spots by a hash.
type ask[T comparable] struct {
	hash    uint64
	segment *segment[spot[T]] // nil when it is done
	at      int               // the group there
	left    int               // groups to come
	tags    uint64
	direct  *shape
	a, b    aspect // of a look-up among what is filed
	v, w    *found // the values it was made for; many values of one slot lead to several look-ups
}

// candidate is a spot that a look-up came by.
type candidate[T comparable] struct {
	spot   *spot[T]
	by     int // index of the look-up
	ranged *found
	more   *contents[T]
}

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
	m.lookNow(s)
	m.found = s.loose.all(emptied(m.found))
	m.askFound(m.found, false)
	if len(m.withheld) > 0 {
		m.askWithheld(s)
	}
}

// asksAtOnce bounds the memory of one stage.
const asksAtOnce = 64

// lookFor notes a look-up, to be made with others.
func (m *Matches[T]) lookFor(s *shelf[T], q ask[T]) {
	if m.asks = append(m.asks, q); len(m.asks) >= asksAtOnce {
		m.lookNow(s)
	}
}

// lookNow makes the look-ups that were noted.
func (m *Matches[T]) lookNow(s *shelf[T]) {
	if len(m.asks) == 0 {
		return
	}
	direct, filed := s.spots.dir.Load(), s.access.dir.Load()
	for i := range m.asks {
		q, d := &m.asks[i], direct
		if q.direct == nil {
			d = filed
		}
		if d != nil {
			q.segment, q.at, q.left = d.of(q.hash).Load(), groupOf(q.hash), groups
		}
	}
	for more := true; more; {
		for i := range m.asks {
			if q := &m.asks[i]; q.segment != nil {
				q.tags = q.segment.groups[q.at].tags.Load()
			}
		}
		more = false
		for i := range m.asks {
			if q := &m.asks[i]; q.segment != nil {
				m.gather(q, i)
				more = more || q.segment != nil
			}
		}
	}
	warmed := uint32(0) // or the compiler leaves out what is read ahead
	for i := range m.candidates {
		warmed += m.candidates[i].spot.shape
	}
	m.check()
	for i := range m.candidates {
		if c := m.candidates[i].more; c != nil {
			warmed += uint32(c.few)
		}
	}
	m.warmed += int32(warmed)
	m.takeAll()
	clear(m.asks)
	clear(m.candidates)
	m.asks, m.candidates = m.asks[:0], m.candidates[:0]
}

// gather notes the spots that a look-up comes by in one group, and goes on to the next.
func (m *Matches[T]) gather(q *ask[T], by int) {
	for hits := marks(q.tags, tagOf(q.hash)*ones); hits != 0; hits &= hits - 1 {
		if e := q.segment.groups[q.at].items[bits.TrailingZeros64(hits)/8].Load(); e != nil {
			m.candidates = append(m.candidates, candidate[T]{spot: e, by: by})
		}
	}
	if q.left--; q.left > 0 && marks(q.tags, tagFree*ones) == 0 {
		if q.at++; q.at == groups {
			q.at = 0
		}
		return
	}
	q.segment, q.at, q.left = q.segment.next.Load(), groupOf(q.hash), groups
}

// check keeps the candidates whose routes the row has.
func (m *Matches[T]) check() {
	kept := m.candidates[:0]
	for _, c := range m.candidates {
		q := &m.asks[c.by]
		switch {
		case q.direct != nil && c.spot.shape != q.direct.id:
			continue
		case q.direct == nil && (m.newer(c.spot) || len(m.passed) > 0 && slices.Contains(m.passed, c.spot.shape)):
			continue
		}
		route := c.spot.route()
		ranged, ok := m.holds(route, q.v, q.w)
		if !ok || q.direct == nil && !route.filedAt(c.spot.where, q.a, q.b) {
			continue
		}
		c.ranged, c.more = ranged, c.spot.more.Load()
		kept = append(kept, c)
	}
	clear(m.candidates[len(kept):])
	m.candidates = kept
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
		leaf, ok := r.leaf(a, v)
		if !ok {
			continue
		}
		if g.alone {
			m.visit(s, leaf, a, noAspect, v, nil)
		}
		for _, b := range g.others {
			for w := r.at(b.slot); w != nil; w = r.afterOf(w, b) {
				if other, ok := r.leaf(b, w); ok {
					m.visit(s, pairHash(leaf, other), a, b, v, w)
				}
			}
		}
	}
}

// prefixLeaf is the hash of the beginning of a value, kept as pairs need it again and again.
type prefixLeaf struct {
	aspect aspect
	round  uint32 // of the reading
	ok     bool
	leaf   uint64
}

// leaf returns the hash of what a value has at an aspect.
func (r *reading) leaf(p aspect, v *found) (hash uint64, ok bool) {
	if p.how == isWhole {
		ok = v.hash()
		return mix(v.sum, probe{slot: p.slot}.place()), ok
	}
	if p.how < 0 {
		return p.leaf(v)
	}
	kept := &r.prefixes[uint32(p.slot*5+p.how)%uint32(len(r.prefixes))]
	if kept.round != r.round || kept.aspect != p {
		hash, ok = p.leaf(v)
		*kept = prefixLeaf{aspect: p, round: r.round, leaf: hash, ok: ok}
	}
	return kept.leaf, kept.ok
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

// visit notes a look-up among the routes that are filed, for one value or two.
func (m *Matches[T]) visit(s *shelf[T], hash uint64, a, b aspect, v, w *found) {
	if s.signs.may(hash) {
		m.lookFor(s, ask[T]{hash: hash, a: a, b: b, v: v, w: w})
	}
}

// newer reports whether the spot may be newer than the match, so that its slots may have
// another meaning than the row was read with.
func (m *Matches[T]) newer(e *spot[T]) bool {
	if m.topic.newest.Load() <= m.stamp {
		return false
	}
	sh := m.topic.shapeByID(e.shape)
	return sh == nil || sh.born > m.stamp
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
		m.lookFor(s, ask[T]{hash: finish(sum), direct: sh})
		return
	}
	place := sh.probes[0].place()
	for v := r.at(sh.probes[0].slot); v != nil; v = r.after(v) {
		if v.hash() {
			m.lookFor(s, ask[T]{hash: finish(sum + mix(v.sum, place)), direct: sh, v: v})
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

// holds reports whether the row has what the legs of a route ask for, all but that a value
// is in a range: it returns that value. Where one of several values may do, it is v or w if
// they are of the same slot.
func (m *Matches[T]) holds(route legs, v, w *found) (ranged *found, ok bool) {
	r := m.match.data.reading
	for route != "" {
		l, rest := route.cut()
		at := r.at(l.slot)
		if at == nil {
			return nil, false
		}
		switch l.op {
		case legPresent:
			route = rest
			continue
		case legRange:
			if kindOf(at.raw[0]) != l.kind {
				return nil, false
			}
			ranged, route = at, rest
			continue
		case legMany:
			if v != nil && v.slot == l.slot {
				at = v
			} else if w != nil && w.slot == l.slot {
				at = w
			}
		case legWhole, legPrefix:
		}
		behind, equal := equalsRaw(l.kind, string(rest), at.raw, l.op == legPrefix)
		if !equal {
			return nil, false
		}
		route = legs(behind)
	}
	return ranged, true
}

// takeAll answers for what the routes of the candidates lead to.
func (m *Matches[T]) takeAll() {
	others := 0
	for i := range m.candidates {
		found := &m.candidates[i]
		c := found.more
		if c == nil {
			m.Yes = append(m.Yes, found.spot.one)
			continue
		}
		m.Yes = c.all(m.Yes)
		if c.others != nil {
			m.candidates[others].more, m.candidates[others].ranged = c, found.ranged
			others++
		}
	}
	m.found, m.edge = emptied(m.found), emptied(m.edge)
	for i := range others {
		o, ranged := m.candidates[i].more.others, m.candidates[i].ranged
		if ranged == nil {
			m.found = o.members.all(m.found)
		} else if at, ok := point(kindOf(ranged.raw[0]), ranged.raw); ok {
			m.found, m.edge = o.ranges.holding(at, m.found, m.edge)
		}
	}
	m.askFound(m.found, true)
	m.askFound(m.edge, false)
}
