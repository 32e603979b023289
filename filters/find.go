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
	found    []*listed[T] // scratch
	seen     []*listed[T] // filters with several ways to them that were asked
	seenMany map[*listed[T]]bool
	withheld map[int32]bool // slots of which nothing is known
}

// Match finds the filters of an event type that match the event: with an owner those of
// the owner only. The answer is in m, until the next call.
func (x *Index[T]) Match(m *Matches[T], eventType, owner string, e *Event) {
	m.Yes, m.Unknown = m.Yes[:0], m.Unknown[:0]
	m.stamp = x.stamp.Load()
	t := (*x.topics.Load())[eventType]
	if t == nil {
		return
	}
	if !m.read(t, e) {
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
		a.event = Event{}
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
	clear(m.found)
	clear(m.seen)
	clear(m.seenMany)
	m.found, m.seen = m.found[:0], m.seen[:0]
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
	if list := s.direct.Load(); list != nil {
		m.direct = *list
	}
	for _, u := range m.direct {
		m.lookUp(s, u.shape, allPoints, nil)
	}
	if s.filed.Load() > 0 {
		m.lookByValue(s)
	}
	m.found = s.loose.all(m.found[:0])
	m.askFound()
	if len(m.withheld) > 0 {
		m.askWithheld(s)
	}
}

// lookByValue finds the routes that are filed under a value of the row.
func (m *Matches[T]) lookByValue(s *shelf[T]) {
	r := m.match.data.reading
	for i := 0; i < len(r.taken); i++ {
		slot := r.taken[i]
		v := &r.slots[slot]
		if v.round != r.round || int(v.from) != i+1 {
			continue // a later value of the same key counts
		}
		m.lookUnder(s, presence(slot), &filing{slot: slot, present: true})
		for next := v; next != nil; next = r.after(next) {
			if next.hash() {
				m.lookUnder(s, mix(next.sum, probe{slot: slot}.place()), &filing{slot: slot})
			}
		}
	}
}

// filing is where routes are filed that are looked at: those that are filed elsewhere are
// met there.
type filing struct {
	slot    int32
	present bool
}

func (f *filing) has(sh *shape, where byte) bool {
	switch {
	case f == nil:
		return true
	case where == filedNowhere:
		return false
	case where >= filedPresent:
		return f.present && sh.anchors[where-filedPresent] == f.slot
	default:
		return !f.present && sh.probes[where].slot == f.slot
	}
}

// lookUnder looks up the row for the shapes that are filed under a leaf.
func (m *Matches[T]) lookUnder(s *shelf[T], leaf uint64, by *filing) {
	a := s.accessOf(leaf)
	if a == nil {
		return
	}
	for _, f := range *a.uses.Load() {
		if since := f.use.since.Load(); since != 0 && (since <= m.stamp || slices.Contains(m.direct, f.use)) {
			continue
		}
		m.lookUp(s, f.use.shape, f.mask.Load(), by)
	}
}

// lookUp looks up the row for one shape.
func (m *Matches[T]) lookUp(s *shelf[T], sh *shape, mask uint64, by *filing) {
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
	for v := first; v != nil; v = r.after(v) {
		if v.hash() {
			m.lookAt(s, sh, finish(sum+mix(v.sum, sh.probes[0].place())), mask, v, by)
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
func (m *Matches[T]) lookAt(s *shelf[T], sh *shape, hash, mask uint64, many *found, by *filing) {
	if mask>>(hash>>58)&1 == 0 {
		return
	}
	q := s.spots.find(hash)
	for e := q.next(); e != nil; e = q.next() {
		if m.holds(sh, e.values[1:], many) && by.has(sh, e.values[0]) {
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
	m.found = c.members.all(m.found[:0])
	if tree := c.ranges.Load(); tree != nil {
		v := &m.match.data.reading.slots[sh.ranged]
		if v.round != m.match.data.reading.round {
			return
		}
		k := kindOf(v.raw[0])
		if k != sh.order {
			return
		}
		if at, ok := point(k, v.raw); ok {
			m.found = tree.holding(at, m.found)
		}
	}
	m.askFound()
}

// askFound asks the filters that were found.
func (m *Matches[T]) askFound() {
	for _, l := range m.found {
		if l.born > m.stamp || l.several && !m.first(l) {
			continue
		}
		switch m.ask(l.bound) {
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

// ask decides a filter.
func (m *Matches[T]) ask(b *bound) Verdict {
	a, p := &m.match, &b.filter.program
	e := &a.event
	if (len(p.old) > 0 || p.beside) && !m.oldRead {
		m.oldRead = true
		a.old = row{reading: a.old.reading}
		a.old.reading.size(int(m.topic.old.size.Load()))
		a.readOld(m.topic.old.root)
	}
	a.left = m.limit
	a.data = row{reading: a.data.reading, slots: b.data, rest: p.dataPlan.rest, paths: p.data, unsent: e.Data.unavailable}
	a.old.slots, a.old.rest, a.old.paths = b.old, p.oldPlan.rest, p.old
	v := a.verdict(&p.root)
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
		verdict = m.ask(h.bound)
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
		values := e.values[1:]
		sh := m.topic.shapeOf(values)
		if sh == nil || sh.born > m.stamp || !m.touches(sh) {
			return
		}
		c := e.more.Load()
		subscribed := c == nil || c.subscribers.chunks.Load() != nil
		if subscribed && m.plain(sh, values) == Unknown {
			if c == nil {
				m.Unknown = append(m.Unknown, e.one)
			} else {
				m.Unknown = c.subscribers.all(m.Unknown)
			}
		}
		if c != nil {
			m.found = c.members.all(m.found[:0])
			m.found = c.ranges.Load().all(m.found)
			m.askFound()
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
