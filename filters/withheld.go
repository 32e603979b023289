package filters

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

// askWithheld asks every filter that looks at a value which is not known: by such a value
// it cannot be found. Where a shape that has many filters looks at it, that takes the
// longer the more filters there are.
func (m *Matches[T]) askWithheld(s *shelf[T]) {
	m.shapes = s.shapes.all(emptied(m.shapes))
	for _, u := range m.shapes {
		if u.shape.born > m.stamp || !m.touches(u.shape) {
			continue
		}
		if u.direct.Load() { // only some of its routes were filed
			s.spots.each(m.askSpot)
			return
		}
	}
	for _, u := range m.shapes {
		if u.shape.born <= m.stamp && m.touches(u.shape) {
			m.spots = u.spots.all(emptied(m.spots))
			for _, e := range m.spots {
				m.askSpot(e)
			}
		}
	}
}

// askSpot asks the filters of a spot, if they look at a value that is not known.
func (m *Matches[T]) askSpot(e *spot[T]) {
	route := e.route()
	if m.newer(e) || !m.touched(route) {
		return
	}
	c := e.more.Load()
	if c == nil {
		if m.plain(route) == Unknown {
			m.Unknown = append(m.Unknown, e.one)
		}
		return
	}
	if !c.plainEmpty() && m.plain(route) == Unknown {
		m.Unknown = c.all(m.Unknown)
	}
	if o := c.others; o != nil {
		m.found = o.members.all(emptied(m.found))
		m.found = o.ranges.all(m.found)
		m.askFound(m.found, false)
	}
}

// touched reports whether a leg is about a value that is not known.
func (m *Matches[T]) touched(route legs) bool {
	for route != "" {
		l, rest := route.cut()
		if m.withheld[l.slot] {
			return true
		}
		route = l.skip(rest)
	}
	return false
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
