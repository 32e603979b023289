package filters_test

import (
	"strings"

	"github.com/dot-do/relay/filters"
)

// Filters of the whole language and the events to ask them about. A filter is made
// around an event, so that it often holds or nearly so: bounds lie next to the values,
// prefixes are those of the strings, what is said to have changed often has.

// asFilter doubles the first dollar of every key, as a filter must write it.
func asFilter(v any) any {
	switch v := v.(type) {
	case members:
		out := make(members, len(v))
		for i, p := range v {
			out[i] = pair{filterKey(p.key), asFilter(p.value)}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = asFilter(v[i])
		}
		return out
	}
	return v
}

func filterKey(key string) string {
	if strings.HasPrefix(key, "$") {
		return "$" + key
	}
	return key
}

// inquiry makes a filter around an event, and keeps its scalars to make other events of.
func (g *generator) inquiry(e happening) members {
	for {
		g.known = nil
		f := g.rootFilter(e, 2, true)
		if alternatives(f) <= filters.MaxAlternatives {
			g.remember(f)
			return f
		}
	}
}

// alternatives counts them in the strictest way.
func alternatives(f any) int {
	n := 1
	switch f := f.(type) {
	case members:
		for _, p := range f {
			if list, ok := p.value.([]any); ok && p.key == "$or" {
				sum := 0
				for _, part := range list {
					sum += alternatives(part)
				}
				n *= sum
			} else {
				n *= alternatives(p.value)
			}
		}
	case []any:
		for _, element := range f {
			n *= alternatives(element)
		}
	}
	return min(n, 1<<20)
}

// remember collects the scalars of a filter.
func (g *generator) remember(f any) {
	switch f := f.(type) {
	case members:
		for _, p := range f {
			g.remember(p.value)
		}
	case []any:
		for _, element := range f {
			g.remember(element)
		}
	case string, decimalText:
		g.known = append(g.known, f)
	}
}

// rootFilter makes what may stand at the root. changes allows conditions on a change.
func (g *generator) rootFilter(e happening, depth int, changes bool) members {
	var f members
	add := func(key string, value any) {
		if !f.has(key) {
			f = append(f, pair{key, value})
		}
	}
	for range 1 + g.IntN(3) {
		switch n := g.IntN(100); {
		case n < 20 && depth > 0:
			key, operand := g.logic(func() any { return g.rootFilter(e, depth-1, changes) })
			add(key, operand)
		case n < 26 && changes:
			add("$op", g.ops(e.op))
		case n < 38 && changes:
			add("$changed", g.changed(e))
		case n < 46 && changes:
			past := e
			past.data, past.before = e.before, nil
			if e.op == "delete" {
				past.data = e.data
			}
			add("$before", g.rootFilter(past, depth-1, false))
		default:
			key := g.keyOf(e.data)
			was := any(nothing{})
			if changes {
				was = e.before.at(key)
			}
			add(filterKey(key), g.operand(e.data.at(key), was, 2, changes))
		}
	}
	return f
}

// logic makes $and, $or or $not over parts.
func (g *generator) logic(part func() any) (key string, operand any) {
	if g.chance(35) {
		return "$not", part()
	}
	list := make([]any, 1+g.IntN(3))
	for i := range list {
		list[i] = part()
	}
	return pick(g, []string{"$and", "$or", "$or"}), list
}

// keyOf returns a key of v, seldom another one.
func (g *generator) keyOf(v members) string {
	if len(v) > 0 && g.chance(85) {
		return pick(g, v).key
	}
	return g.key()
}

// operand makes what may be said of a value. was is the value before; moves allows $from
// and $to.
func (g *generator) operand(v, was any, depth int, moves bool) any {
	switch n := g.IntN(100); {
	case n < 25:
		if _, missing := v.(nothing); missing {
			v = g.value(1)
		}
		return g.plain(v)
	case n < 50 && depth > 0:
		switch x := v.(type) {
		case members:
			return g.pattern(x, was, depth, moves)
		case []any:
			return g.elements(x, depth)
		}
	}
	return g.operators(v, was, depth, moves)
}

// plain is a value as a filter would write it, cut and sometimes changed.
func (g *generator) plain(v any) any {
	v = g.cut(v)
	if g.chance(25) {
		v = g.mutate(v)
	}
	return asFilter(once(v))
}

// pattern makes an object with plain keys, perhaps logic beside them.
func (g *generator) pattern(v members, was any, depth int, moves bool) any {
	var f members
	for range g.IntN(3) {
		key := g.keyOf(v)
		if name := filterKey(key); !f.has(name) {
			f = append(f, pair{name, g.operand(v.at(key), childOf(was, key), depth-1, moves)})
		}
	}
	if g.chance(35) {
		key, operand := g.logic(func() any {
			if g.chance(40) {
				return g.pattern(v, was, depth-1, moves)
			}
			return g.operators(v, was, depth-1, moves)
		})
		if len(f) == 0 {
			f = append(f, pair{filterKey(g.keyOf(v)), members{{"$exists", g.chance(50)}}})
		}
		f = append(f, pair{key, operand})
	}
	return f
}

// elements makes an array of which each element speaks of some element.
func (g *generator) elements(v []any, depth int) any {
	list := make([]any, g.IntN(3))
	for i := range list {
		element := any(nothing{})
		if len(v) > 0 {
			element = pick(g, v)
		}
		list[i] = g.operand(element, nothing{}, depth-1, false)
	}
	return list
}
