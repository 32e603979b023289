package filters

import (
	"hash/maphash"
	"slices"
)

// Matches is the answer of an index, and memory for the next one. It belongs to one
// goroutine.
type Matches[T comparable] struct {
	Yes     []T // whose filter matches
	Unknown []T // whose filter needs a value that is not known, or reached its work limit

	match    match
	topic    *topic[T]
	stamp    uint64 // what is newer is passed by
	limit    int    // work of one filter
	oldRead  bool
	direct   []*use
	found    []*listed[T] // scratch, as is edge
	edge     []*listed[T]
	seen     []*listed[T] // filters with several ways to them that were asked
	seenMany map[*listed[T]]bool
	withheld map[int32]bool // slots of which nothing is known
}

// Match finds the filters of an event type that match the event: with an owner those of
// the owner only. The answer is in m, until the next call.
func (x *Index[T]) Match(m *Matches[T], eventType, owner string, e *Event) {
	m.Yes, m.Unknown = emptied(m.Yes), emptied(m.Unknown)
	m.stamp = x.stamp.Load()
	t := x.topic(eventType)
	if t == nil {
		return
	}
	if !m.read(t, e) {
		m.release()
		return
	}
	// Only now: what is found here goes with the row as it was just read.
	if owner == "" {
		m.look(&t.wide)
	} else if c := t.corner(owner); c != nil {
		m.lookIn(c)
	}
	m.release()
}

// lookIn finds the filters of an owner.
func (m *Matches[T]) lookIn(c *corner[T]) {
	// The shelf of a list that grew is there before the list is gone.
	list := c.list.Load()
	if s := c.shelf.Load(); s != nil {
		m.look(s)
		return
	}
	for i := range *list {
		m.askHeld(&(*list)[i])
	}
}

// read reads the row for all filters of the topic.
func (m *Matches[T]) read(t *topic[T], e *Event) bool {
	a := &m.match
	if a.data.reading == nil {
		a.data.reading, a.old.reading = new(reading), new(reading)
	}
	m.topic, m.oldRead = t, false
	m.limit = workFloor + workFactor*(len(e.Data.json)+len(e.Before.json))
	a.event, a.depth = *e, 0
	a.event.settle()
	e = &a.event
	r := a.data.reading
	r.size(int(t.data.size.Load()))
	if !readRow(r, t.data.root, e) {
		return false
	}
	clear(m.withheld)
	if len(e.Data.unavailable) > 0 {
		m.withhold(e.Data.unavailable)
	}
	return true
}

// release lets go of the event and of the filters.
func (m *Matches[T]) release() {
	m.match.end()
	m.topic, m.direct = nil, nil
	clear(m.seenMany)
	m.found, m.edge, m.seen = emptied(m.found), emptied(m.edge), emptied(m.seen)
}

// emptied returns the list without anything in it, so that nothing that is gone is kept.
func emptied[E any](list []E) []E {
	clear(list)
	return list[:0]
}

// withhold forgets the values of columns that are not known, whatever the text has.
func (m *Matches[T]) withhold(columns []string) {
	if m.withheld == nil {
		m.withheld = map[int32]bool{}
	}
	r := m.match.data.reading
	var below func(f *field)
	below = func(f *field) {
		m.withheld[f.slot] = true
		if int(f.slot) < len(r.slots) {
			r.slots[f.slot].round = 0
		}
		if e := f.elem.Load(); e != nil {
			below(e)
		}
		if kids := f.kids.Load(); kids != nil {
			for i := range kids.slots {
				if kid := kids.slots[i].Load(); kid != nil && kid != removed {
					below(kid)
				}
			}
		}
	}
	for _, name := range columns {
		if f := m.topic.data.find(path{name}); f != nil {
			below(f)
		}
	}
}

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
	r := m.match.data.reading
	for i, slot := range r.taken {
		v := &r.slots[slot]
		if v.round != r.round || int(v.from) != i+1 {
			continue // a later value of the same key counts
		}
		if a := s.accessOf(presence(slot)); a != nil {
			m.lookUnder(s, a, &here{slots: [2]int32{slot, -1}, present: true})
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
func (m *Matches[T]) lookWithPartners(s *shelf[T], a *access, slot int32, value *found, leaf uint64) {
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
func (m *Matches[T]) lookUnder(s *shelf[T], a *access, by *here) {
	uses := a.uses.Load()
	if uses == nil {
		return
	}
	for _, f := range *uses {
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

// askFound answers for the filters that were found. Those whose route tells everything
// need not be asked, if it was their route that led to them.
func (m *Matches[T]) askFound(list []*listed[T], told bool) {
	for _, l := range list {
		if l.born > m.stamp || l.several && !m.first(l) {
			continue
		}
		verdict := Yes
		if !told || !l.told {
			verdict = m.ask(l.bound, told)
		}
		switch verdict {
		case Yes:
			m.Yes = l.subscribers.all(m.Yes)
		case Unknown:
			m.Unknown = l.subscribers.all(m.Unknown)
		case No:
		}
	}
}

// first reports whether the filter was not asked before.
func (m *Matches[T]) first(l *listed[T]) bool {
	const few = 16
	if len(m.seen) < few {
		if slices.Contains(m.seen, l) {
			return false
		}
		m.seen = append(m.seen, l)
		return true
	}
	if m.seenMany == nil {
		m.seenMany = map[*listed[T]]bool{}
	}
	if len(m.seenMany) == 0 {
		for _, l := range m.seen {
			m.seenMany[l] = true
		}
	}
	if m.seenMany[l] {
		return false
	}
	m.seenMany[l] = true
	return true
}

// ask decides a filter. With told its route has said everything but rest.
func (m *Matches[T]) ask(b *bound, told bool) Verdict {
	a, p := &m.match, &b.filter.program
	e := &a.event
	if (len(p.old) > 0 || p.beside) && !m.oldRead {
		m.oldRead = true
		a.old = row{reading: a.old.reading}
		a.old.reading.size(int(m.topic.old.size.Load()))
		a.readOld(m.topic.old.root)
	}
	if len(p.old) > 0 && b.gone.Load() {
		return No // the row before was read after it was found: maybe by another filter's fields
	}
	a.left = m.limit
	a.data = row{reading: a.data.reading, slots: b.data, rest: p.dataPlan.rest, paths: p.data, unsent: e.Data.unavailable}
	a.old.slots, a.old.rest, a.old.paths = b.old, p.oldPlan.rest, p.old
	v := Yes
	if told && b.told {
		for _, i := range b.rest {
			v = min(v, a.verdict(&p.root.subs[i]))
		}
	} else {
		v = a.verdict(&p.root)
	}
	if a.left < 0 {
		return Unknown
	}
	return v
}

// askHeld answers for one filter of an owner.
func (m *Matches[T]) askHeld(h *held[T]) {
	verdict := No
	switch {
	case h.bound == nil && h.route.shape.born <= m.stamp:
		verdict = m.plain(h.route.shape, h.route.values)
	case h.bound != nil && h.bound.born <= m.stamp:
		verdict = m.ask(h.bound, false)
	}
	switch verdict {
	case Yes:
		m.Yes = append(m.Yes, h.v)
	case Unknown:
		m.Unknown = append(m.Unknown, h.v)
	case No:
	}
}

// plain decides a plain filter by its values.
func (m *Matches[T]) plain(sh *shape, values string) Verdict {
	r, verdict := m.match.data.reading, Yes
	values = values[4:]
	for _, p := range sh.probes {
		raw := ""
		if v := &r.slots[p.slot]; v.round == r.round {
			raw = v.raw
		}
		var equal bool
		values, equal = equalsRaw(values, raw, false)
		switch {
		case len(m.withheld) > 0 && m.withheld[p.slot]:
			verdict = Unknown
		case !equal:
			return No
		}
	}
	return verdict
}

// askWithheld asks every filter that looks at a value which is not known: by such a value
// it cannot be found. That takes the longer the more filters there are, and is rare.
func (m *Matches[T]) askWithheld(s *shelf[T]) {
	s.spots.each(func(e *spot[T]) {
		values := e.route()
		sh := m.topic.shapeOf(values)
		if sh == nil || sh.born > m.stamp || !m.touches(sh) {
			return
		}
		c := e.more.Load()
		if c == nil {
			if m.plain(sh, values) == Unknown {
				m.Unknown = append(m.Unknown, e.one)
			}
			return
		}
		if c.subscribers.some() && m.plain(sh, values) == Unknown {
			m.Unknown = c.subscribers.all(m.Unknown)
		}
		if o := c.others.Load(); o != nil {
			m.found = o.members.all(emptied(m.found))
			m.found = o.ranges.Load().all(m.found)
			m.askFound(m.found, false)
		}
	})
}

func (m *Matches[T]) touches(sh *shape) bool {
	for _, p := range sh.probes {
		if m.withheld[p.slot] {
			return true
		}
	}
	for _, slot := range sh.present {
		if m.withheld[slot] {
			return true
		}
	}
	return m.withheld[sh.ranged]
}
