package filters

import "slices"

// Matches is the answer of an index, and memory for the next one. It belongs to one
// goroutine.
type Matches[T comparable] struct {
	Yes     []T // whose filter matches
	Unknown []T // whose filter needs a value that is not known, or reached its work limit

	match      match
	topic      *topic[T]
	stamp      uint64 // what is newer is passed by
	limit      int    // work of one filter
	quick      int    // work of one filter before all others were asked
	spare      int    // work of all filters that need more
	dear       []dear[T]
	oldRead    bool
	direct     []*use[T]
	passed     []uint32 // ids of shapes that are direct, with routes that are filed as well
	asks       []ask[T] // scratch, as are candidates
	candidates []candidate[T]
	warmed     int32        // see lookNow
	found      []*listed[T] // scratch, as is edge
	edge       []*listed[T]
	shapes     []*use[T] // scratch, as is spots
	spots      []*spot[T]
	seen       []*listed[T] // filters with several ways to them that were asked
	seenMany   map[*listed[T]]bool
	withheld   map[int32]bool // slots of which nothing is known
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
	m.askDear()
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
	size := e.size()
	m.limit = workFloor + workFactor*size
	m.quick, m.spare = quickFloor+quickFactor*size, spareFloor+spareFactor*size
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
	m.found, m.edge, m.seen, m.dear = emptied(m.found), emptied(m.edge), emptied(m.seen), emptied(m.dear)
	m.shapes, m.spots = emptied(m.shapes), emptied(m.spots)
}

// emptied returns the list without anything in it, so that nothing that is gone is kept.
func emptied[E any](list []E) []E {
	clear(list)
	return list[:0]
}

// askFound answers for the filters that were found. Those whose route tells everything
// need not be asked, if it was their route that led to them.
func (m *Matches[T]) askFound(list []*listed[T], told bool) {
	for _, l := range list { // see lookNow
		m.warmed += l.notAt
	}
	for _, l := range list {
		if l.born > m.stamp || l.several && !m.first(l) {
			continue
		}
		verdict := Yes
		switch {
		case !told || !l.told:
			var late bool
			if verdict, late = m.askQuickly(l.bound, told); late {
				m.dear = append(m.dear, dear[T]{bound: l.bound, listed: l})
				continue
			}
		case !l.hasNot || m.match.data.reading.differs(l.notAt, l.not, l.nots):
		case m.match.data.reading.excludes(l.bound.not):
			verdict = No
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

// What one event may cost beyond looking for its filters: each filter has quick work, and
// those that need more, or did the last time, share what is spare, so that they hold up
// each other and nobody else. Counted as workFloor and workFactor are.
const (
	quickFloor  = 64 << 10
	quickFactor = 4
	spareFloor  = 4 << 20
	spareFactor = 32
)

// dear is a filter that needs more than quick work, of one subscriber if it is not listed.
type dear[T comparable] struct {
	bound  *bound
	listed *listed[T]
	v      T
}

// askQuickly decides a filter with quick work. It is late when that is not enough, or was
// not the last time: the filter waits for the others.
func (m *Matches[T]) askQuickly(b *bound, told bool) (v Verdict, late bool) {
	if b.dear.Load() {
		return Unknown, true
	}
	v = m.ask(b, told, m.quick)
	if m.match.left < 0 {
		b.dear.Store(true)
		return Unknown, true
	}
	return v, false
}

// askDear asks the filters that need much work, until no more may be done: the others are
// Unknown. Each time another one comes first.
func (m *Matches[T]) askDear() {
	for i := range m.dear {
		d := m.dear[(i+int(m.match.data.reading.round))%len(m.dear)]
		verdict := Unknown
		if budget := min(m.limit, m.spare); budget > 0 {
			verdict = m.ask(d.bound, false, budget)
			used := budget - m.match.left
			m.spare -= used
			d.bound.dear.Store(used > m.quick)
		}
		switch {
		case verdict == No:
		case d.listed == nil && verdict == Yes:
			m.Yes = append(m.Yes, d.v)
		case d.listed == nil:
			m.Unknown = append(m.Unknown, d.v)
		case verdict == Yes:
			m.Yes = d.listed.subscribers.all(m.Yes)
		default:
			m.Unknown = d.listed.subscribers.all(m.Unknown)
		}
	}
}

// ask decides a filter with so much work. With told its route has said everything but rest.
func (m *Matches[T]) ask(b *bound, told bool, work int) Verdict {
	a, p := &m.match, &b.filter.program
	e := &a.event
	a.left = work
	if (len(p.old) > 0 || p.beside) && !m.oldRead {
		m.oldRead = true
		a.old = row{reading: a.old.reading}
		a.old.reading.size(int(m.topic.old.size.Load()))
		a.readOld(m.topic.old.root)
	}
	if len(p.old) > 0 && b.gone.Load() {
		return No // the row before was read after it was found: maybe by another filter's fields
	}
	a.data = row{reading: a.data.reading, slots: b.data, rest: p.dataRest, paths: p.data, unsent: e.Data.unavailable}
	a.old.slots, a.old.rest, a.old.paths = b.old, p.oldRest, p.old
	v := Yes
	if told && b.told {
		if a.data.reading.excludes(b.not) {
			return No
		}
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
		verdict = m.plain(h.route.legs)
	case h.bound != nil && h.bound.born <= m.stamp:
		var late bool
		if verdict, late = m.askQuickly(h.bound, false); late {
			m.dear = append(m.dear, dear[T]{bound: h.bound, v: h.v})
			return
		}
	}
	switch verdict {
	case Yes:
		m.Yes = append(m.Yes, h.v)
	case Unknown:
		m.Unknown = append(m.Unknown, h.v)
	case No:
	}
}

// plain decides a plain filter by the legs of the route to it.
func (m *Matches[T]) plain(route legs) Verdict {
	r, verdict := m.match.data.reading, Yes
	for route != "" {
		l, rest := route.cut()
		v := r.at(l.slot)
		raw := ""
		if v != nil {
			raw = v.raw
		}
		behind, equal := equalsRaw(l.kind, string(rest), raw, false)
		switch {
		case len(m.withheld) > 0 && m.withheld[l.slot]:
			verdict = Unknown
		case !equal:
			return No
		}
		route = legs(behind)
	}
	return verdict
}
