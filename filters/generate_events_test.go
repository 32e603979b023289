package filters_test

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// happening is an event that generator makes: its rows as values, op "" when unknown.
type happening struct {
	op                string
	data, before      members
	unsent, unsentOld []string
}

// nothing is the value of a place where there is none.
type nothing struct{}

// once drops keys that are said before, so that a value can be a filter.
func once(v any) any {
	switch v := v.(type) {
	case members:
		var out members
		for _, p := range v {
			if !out.has(p.key) {
				out = append(out, pair{p.key, once(p.value)})
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = once(v[i])
		}
		return out
	}
	return v
}

// at returns the value of a key, the last one when it is repeated.
func (o members) at(key string) any {
	for _, p := range slices.Backward(o) {
		if p.key == key {
			return p.value
		}
	}
	return nothing{}
}

func childOf(v any, key string) any {
	if o, ok := v.(members); ok {
		return o.at(key)
	}
	return nothing{}
}

// happening makes an event.
func (g *generator) happening() happening {
	g.duplicates = g.chance(10)
	depth := 1 + g.IntN(3)
	var e happening
	for range 2 + g.IntN(5) {
		if key := g.key(); g.duplicates || !e.data.has(key) {
			e.data = append(e.data, pair{key, g.value(depth)})
		}
	}
	e.op = g.op()
	e.before = g.changeRow(e.data)
	if g.chance(20) {
		e.unsent = g.columns(e.data)
	}
	if g.chance(20) {
		e.unsentOld = g.columns(e.before)
	}
	return e
}

func (g *generator) op() string {
	return pick(g, []string{"update", "update", "update", "update", "update", "update", "insert", "insert", "delete", "delete", "read", "truncate", ""})
}

// columns names some columns, of the row or not.
func (g *generator) columns(row members) []string {
	var list []string
	for range 1 + g.IntN(2) {
		if len(row) > 0 && g.chance(85) {
			list = append(list, pick(g, row).key)
		} else {
			list = append(list, g.key())
		}
	}
	return list
}

// changeRow changes the values of a few columns, seldom which columns there are.
func (g *generator) changeRow(row members) members {
	out := slices.Clone(row)
	for range g.IntN(3) {
		if len(out) == 0 || g.chance(15) {
			out = g.mutate(out).(members)
			continue
		}
		switch i := g.IntN(len(out)); {
		case g.chance(10): // of another kind, perhaps
			out[i].value = g.scalar()
		default:
			out[i].value = g.mutate(out[i].value)
		}
	}
	return out
}

// like makes an event that differs a little from e.
func (g *generator) like(e happening) happening {
	for range 1 + g.IntN(2) {
		switch g.IntN(10) {
		case 0, 1, 2:
			e.data = g.changeRow(e.data)
		case 3, 4:
			e.before = g.changeRow(e.before)
		case 5:
			e.before = g.changeRow(e.data)
		case 6:
			e.data, e.before = e.before, e.data
		case 7:
			e.op = g.op()
		case 8:
			e.unsent = nil
			if g.chance(60) {
				e.unsent = g.columns(e.data)
			}
		case 9:
			e.unsentOld = nil
			if g.chance(60) {
				e.unsentOld = g.columns(e.before)
			}
		}
	}
	return e
}

func (g *generator) ops(op string) any {
	if op == "" || g.chance(40) {
		op = pick(g, []string{"insert", "update", "delete", "truncate", "read"})
	}
	if g.chance(40) {
		return op
	}
	list := []any{op}
	for g.chance(50) {
		list = append(list, pick(g, []string{"insert", "update", "delete", "truncate", "read"}))
	}
	return list
}

// changed makes the operand of $changed from paths of the rows.
func (g *generator) changed(e happening) any {
	row := e.data
	if g.chance(30) {
		row = e.before
	}
	outside := g.chance(35)
	if !outside {
		list := make([]any, 1+g.IntN(3))
		for i := range list {
			list[i] = g.path(row, true)
		}
		return list
	}
	list := make([]any, g.IntN(4))
	for i := range list {
		list[i] = g.path(row, false)
	}
	return members{{"outside", list}}
}

// path writes the path of a value, in one of its two notations.
func (g *generator) path(v any, indexes bool) string {
	var segments []string
	for {
		switch x := v.(type) {
		case members:
			key := g.keyOf(x)
			segments, v = append(segments, key), x.at(key)
		case []any:
			segment := g.key()
			if i := g.IntN(len(x) + 1); indexes && g.chance(90) {
				segment = pick(g, []string{"0", "1", "2", "3", "01", "-1", "1e0"}[:min(7, i+2)])
				if i < len(x) && len(segment) == 1 && int(segment[0]-'0') < len(x) {
					v = x[segment[0]-'0']
				}
			}
			segments = append(segments, segment)
		default:
			v = nil
		}
		if v == nil || len(segments) > 0 && g.chance(50) {
			break
		}
		if _, ok := v.(nothing); ok {
			break
		}
	}
	if len(segments) == 0 {
		segments = []string{g.key()}
	}
	for _, s := range segments {
		if s == "" || strings.ContainsAny(s, "./") || g.chance(30) {
			return pointer(segments)
		}
	}
	return strings.Join(segments, ".")
}

func pointer(segments []string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteString("/" + strings.ReplaceAll(strings.ReplaceAll(s, "~", "~0"), "/", "~1"))
	}
	return b.String()
}

// newGenerator returns the generator of a seed; salt sets apart what one seed is used for.
func newGenerator(seed, salt uint64) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, salt))}
}
