package filters

import (
	"slices"
)

// need is something that a row must have for a filter to hold: what an index looks for.
type need struct {
	op    needOp
	at    int    // the value, as an index into the program's data
	below []path // into its elements, and theirs: each path begins at an element
	with  *node  // of needEqual and needPrefix
	list  []node // of needOneOf
	order kind   // of needRange: number or text
	low   uint64 // both ends belong to it; see numberPoint and textPoint
	high  uint64
}

type needOp uint8

const (
	needPresent needOp = iota // the value is there
	needEqual                 // it is this scalar; below, one of the elements is
	needOneOf
	needPrefix
	needRange
)

const (
	maxRoutes = 256 // ways to one filter; what would take more is looked for less exactly
	allPoints = ^uint64(0)
)

// ways returns what a row must have for the filter to hold: all the needs of at least one
// of the ways. A way without needs is open to every row.
func (p *program) ways() [][]need {
	list := p.needs(&p.root)
	var out [][]need
	for i, way := range list {
		out = append(out, spread(way, maxRoutes-len(out)-(len(list)-i))...)
	}
	return out
}

func (p *program) needs(c *cond) [][]need {
	switch c.op {
	case condAll:
		ways := [][]need{nil}
		for i := range c.subs {
			var next [][]need
			for _, more := range p.needs(&c.subs[i]) {
				for _, way := range ways {
					next = append(next, slices.Concat(way, more))
				}
			}
			ways = next
		}
		return ways
	case condAny:
		var ways [][]need
		for i := range c.subs {
			ways = append(ways, p.needs(&c.subs[i])...)
		}
		return ways
	case condNot, condAbsent, condOpIs, condHadRow, condChanged, condChangedBeside:
		return [][]need{nil}
	default:
		if c.old {
			return [][]need{nil}
		}
		return [][]need{p.ofValue(c)}
	}
}

// ofValue returns the needs of a condition on a value that must be there.
func (p *program) ofValue(c *cond) []need {
	n := need{op: needPresent, at: c.at}
	switch c.op {
	case condEqual:
		n.op, n.with = needEqual, &c.with
	case condIn:
		n.op, n.list = needOneOf, c.list
	case condPrefix:
		n.op, n.with = needPrefix, &c.with
	case condAbove, condAtLeast:
		n.op, n.order, n.low, n.high = needRange, c.with.kind, c.with.point(), allPoints
	case condBelow, condAtMost:
		n.op, n.order, n.high = needRange, c.with.kind, c.with.point()
	case condArray:
		if below, with := c.elements.selective(); with != nil {
			return []need{n, {op: needEqual, at: c.at, below: below, with: with}}
		}
	default: // that it is there is all that can be looked for
	}
	return []need{n}
}

// selective returns a scalar that the elements must have, and where; nil for none.
func (e *elements) selective() (below []path, with *node) {
	if len(e.scalars) > 0 {
		return []path{nil}, &e.scalars[len(e.scalars)-1] // strings come after literals and numbers
	}
	for i := range e.filters {
		f := &e.filters[i]
		ways := f.needs(&f.root)
		if len(ways) != 1 {
			continue
		}
		for _, n := range ways[0] {
			if n.op == needEqual {
				return slices.Concat([]path{f.data[n.at]}, n.below), n.with
			}
		}
	}
	return nil, nil
}

func (n *node) point() uint64 {
	if n.kind == number {
		return numberPoint(string(n.number().appendText(nil)))
	}
	return textPoint(n.text)
}

// spread makes a way for each value of the shortest list of a way that has nothing better
// to be found by.
func spread(way []need, most int) [][]need {
	best := -1
	for i := range way {
		switch n := &way[i]; {
		case n.op == needEqual:
			return [][]need{way}
		case n.op == needOneOf && (best < 0 || len(n.list) < len(way[best].list)):
			best = i
		}
	}
	if best < 0 || len(way[best].list) > most {
		return [][]need{way}
	}
	out := make([][]need, len(way[best].list))
	for i := range out {
		out[i] = slices.Clone(way)
		out[i][best] = need{op: needEqual, at: way[best].at, with: &way[best].list[i]}
	}
	return out
}

// plain returns the conditions of a filter that asks for nothing but scalars; nil for any
// other filter.
func (p *program) plain() []cond {
	conds := []cond{p.root}
	if p.root.op == condAll {
		conds = p.root.subs
	}
	if len(conds) == 0 {
		return nil
	}
	for i := range conds {
		if conds[i].op != condEqual || conds[i].old {
			return nil
		}
		for j := range i {
			if conds[j].at == conds[i].at {
				return nil
			}
		}
	}
	return conds
}
