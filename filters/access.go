package filters

import (
	"math"
	"slices"
	"sync/atomic"
)

// The routes whose shape is not direct are filed under two of their legs, those that the
// fewest others are filed under, or under one if they have no more. A row looks under what
// it has: guides say of each slot where it can lead, signs where nothing is.

// aspect is what routes may ask of a slot: the whole value, the beginning of a string with
// so many bytes, or that there is a value (isPresent) or one in a range (isNumber, isText).
type aspect struct {
	slot int32
	how  int32
}

const (
	isWhole   = 0
	isPresent = -1
	isNumber  = -2
	isText    = -3
)

// guide is where an aspect of a slot leads: to routes that are filed under it alone, and to
// those filed under it and another aspect. A guide never changes.
type guide struct {
	how    int32
	alone  bool
	others []aspect
}

// guides are those of all slots.
type guides struct {
	bySlot atomic.Pointer[[]atomic.Pointer[[]guide]]
	pairs  map[[2]aspect]*pairing // for who changes them
}

// pairing counts the routes that are filed under two aspects. The guide of first names the
// second.
type pairing struct {
	first, second aspect
	count         int
}

// noAspect is the second of a pair for routes that are filed under one aspect.
var noAspect = aspect{slot: -1} //nolint:gochecknoglobals // a mark, never changed

// of returns the guides of a slot.
func (g *guides) of(slot int32) []guide {
	if list := g.bySlot.Load(); list != nil && int(slot) < len(*list) {
		if of := (*list)[slot].Load(); of != nil {
			return *of
		}
	}
	return nil
}

func (g *guides) set(slot int32, of []guide) {
	list := g.bySlot.Load()
	if list == nil || int(slot) >= len(*list) {
		next := make([]atomic.Pointer[[]guide], 2*int(slot)+2)
		if list != nil {
			for i := range *list {
				next[i].Store((*list)[i].Load())
			}
		}
		list = &next
		g.bySlot.Store(list)
	}
	(*list)[slot].Store(&of)
}

// pairKey is the same for two aspects in any order.
func pairKey(a, b aspect) [2]aspect {
	if b != noAspect && (a.slot > b.slot || a.slot == b.slot && a.how > b.how) {
		a, b = b, a
	}
	return [2]aspect{a, b}
}

// lead makes rows find what is filed under two aspects, or one and noAspect.
func (g *guides) lead(a, b aspect) {
	key := pairKey(a, b)
	if p := g.pairs[key]; p != nil {
		p.count++
		return
	}
	if b != noAspect && g.leads(b) < g.leads(a) { // an aspect with few others is in few rows
		a, b = b, a
	}
	if g.pairs == nil {
		g.pairs = map[[2]aspect]*pairing{}
	}
	g.pairs[key] = &pairing{first: a, second: b, count: 1}
	g.change(a, func(made *guide) {
		if b == noAspect {
			made.alone = true
		} else {
			made.others = append(slices.Clone(made.others), b)
		}
	})
}

// leads returns how many other aspects the guide of an aspect names.
func (g *guides) leads(a aspect) int {
	for _, made := range g.of(a.slot) {
		if made.how == a.how {
			return len(made.others)
		}
	}
	return 0
}

// forget is the opposite of lead.
func (g *guides) forget(a, b aspect) {
	key := pairKey(a, b)
	p := g.pairs[key]
	if p.count--; p.count > 0 {
		return
	}
	delete(g.pairs, key)
	g.change(p.first, func(made *guide) {
		if p.second == noAspect {
			made.alone = false
			return
		}
		i := slices.Index(made.others, p.second)
		made.others = slices.Delete(slices.Clone(made.others), i, i+1)
	})
}

// change replaces the guide of an aspect, which is left out when it leads nowhere.
func (g *guides) change(a aspect, edit func(*guide)) {
	next := slices.Clone(g.of(a.slot))
	i := slices.IndexFunc(next, func(made guide) bool { return made.how == a.how })
	if i < 0 {
		i, next = len(next), append(next, guide{how: a.how})
	}
	edit(&next[i])
	if !next[i].alone && len(next[i].others) == 0 {
		next = slices.Delete(next, i, i+1)
	}
	g.set(a.slot, next)
}

// weights say how many routes are filed under each leaf, more or less: leaves share cells,
// which become more with the routes.
type weights struct {
	cells []uint32
	total int
}

func (w *weights) cell(leaf uint64) *uint32 { return &w.cells[leaf&uint64(len(w.cells)-1)] }

func (w *weights) of(leaf uint64) int {
	if len(w.cells) == 0 {
		return 0
	}
	return int(*w.cell(leaf))
}

func (w *weights) add(leaf uint64) {
	if w.total++; 4*w.total > len(w.cells) {
		w.cells = append(w.cells, w.cells...) // what two leaves share now counts for both
		if len(w.cells) == 0 {
			w.cells = make([]uint32, 16)
		}
	}
	*w.cell(leaf)++
}

func (w *weights) sub(leaf uint64) {
	w.total--
	if c := w.cell(leaf); *c > 0 {
		*c--
	}
}

// filing says where a route is filed: the indexes of two legs.
type filing [2]byte

const (
	filedNowhere = 255
	filedMost    = 100 // of the legs of a route are looked at
)

func (f filing) filed() bool { return f[0] != filedNowhere }

// hashFiled is the hash of the legs by which a spot is filed.
func hashFiled[T comparable](e *spot[T]) uint64 {
	hash, _ := filedHash(e.where, e.route().at(e.where))
	return hash
}

// pairHash is the hash of two leaves, in any order.
func pairHash(a, b uint64) uint64 { return mix(a+b, 1<<58) }

// filedLeg is a leg by which a route may be filed.
type filedLeg struct {
	aspect aspect
	leaf   uint64
}

// aspect returns what the leg asks of its slot.
func (st leg) aspect(rest legs) aspect {
	p := aspect{slot: st.slot}
	switch {
	case st.op == legPresent:
		p.how = isPresent
	case st.op == legRange && st.kind == number:
		p.how = isNumber
	case st.op == legRange:
		p.how = isText
	default:
		p.how = st.probe(rest).prefix
	}
	return p
}

// choose returns the two legs to file a route by.
func (s *shelf[T]) choose(route legs) (at filing, by [2]filedLeg) {
	at = filing{filedNowhere, filedNowhere}
	least, many := [2]int{math.MaxInt, math.MaxInt}, false
	for i := 0; route != "" && i < filedMost; i++ {
		st, rest := route.cut()
		leaf, behind := st.leaf(rest)
		weight := s.weights.of(leaf)
		if st.op == legMany {
			many, weight = weight > 0, -1 // so that it is known which of many values led here
		}
		switch {
		case weight < least[0]:
			at, by[1] = filing{byte(i), at[0]}, by[0]
			by[0] = filedLeg{st.aspect(rest), leaf}
			least = [2]int{weight, least[0]}
		case weight < least[1]:
			at[1], by[1], least[1] = byte(i), filedLeg{st.aspect(rest), leaf}, weight
		}
		route = behind
	}
	if least[0] <= 0 && !many { // nobody to be told apart from
		at[1] = filedNowhere
	}
	return at, by
}

// at returns the legs with the indexes.
func (s legs) at(where filing) (by [2]filedLeg) {
	for i := 0; s != ""; i++ {
		st, rest := s.cut()
		leaf, behind := st.leaf(rest)
		for j := range where {
			if where[j] != filedNowhere && i == int(where[j]) {
				by[j] = filedLeg{st.aspect(rest), leaf}
			}
		}
		s = behind
	}
	return by
}

// filedAt reports whether the legs with the indexes are about these aspects.
func (s legs) filedAt(where filing, a, b aspect) bool {
	for i := 0; s != ""; i++ {
		st, rest := s.cut()
		if i == int(where[0]) || i == int(where[1]) {
			if is := st.aspect(rest); is != a && is != b {
				return false
			}
		}
		s = st.skip(rest)
	}
	return (where[1] == filedNowhere) == (b == noAspect)
}

// filedHash returns the hash of the legs a route is filed by, and the second aspect.
func filedHash(where filing, by [2]filedLeg) (hash uint64, second aspect) {
	if where[1] == filedNowhere {
		return by[0].leaf, noAspect
	}
	return pairHash(by[0].leaf, by[1].leaf), by[1].aspect
}

// file puts a spot where rows find it, by the legs that were chosen, and reports whether
// many others are there.
func (s *shelf[T]) file(e *spot[T], by [2]filedLeg) (crowded bool) {
	hash, second := filedHash(e.where, by)
	s.weights.add(by[0].leaf)
	if second != noAspect {
		s.weights.add(by[1].leaf)
	}
	s.access.put(e, hashFiled[T])
	if !s.signs.add(hash) {
		s.fillSigns()
	}
	s.guides.lead(by[0].aspect, second)
	there := 0
	q := s.access.find(hash)
	for there <= crowd && q.next() != nil {
		there++
	}
	return there > crowd
}

// unfile takes a spot from where it is filed.
func (s *shelf[T]) unfile(e *spot[T]) {
	by := e.route().at(e.where)
	hash, second := filedHash(e.where, by)
	s.weights.sub(by[0].leaf)
	if second != noAspect {
		s.weights.sub(by[1].leaf)
	}
	s.guides.forget(by[0].aspect, second)
	s.access.drop(e, hash)
	if !s.signs.sub() {
		s.fillSigns()
	}
}

func (s *shelf[T]) fillSigns() {
	s.signs.fill(s.access.count, func(set func(hash uint64)) {
		s.access.each(func(e *spot[T]) { set(hashFiled(e)) })
	})
}
