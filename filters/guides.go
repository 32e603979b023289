package filters

import (
	"slices"
	"sync/atomic"
)

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
