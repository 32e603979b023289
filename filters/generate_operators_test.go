package filters_test

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// Filters of the whole language and the events to ask them about. A filter is made
// around an event, so that it often holds or nearly so: bounds lie next to the values,
// prefixes are those of the strings, what is said to have changed often has.

// happening is an event that generator makes: its rows as values, op "" when unknown.
type happening struct {
	op                string
	data, before      members
	unsent, unsentOld []string
}

// nothing is the value of a place where there is none.
type nothing struct{}

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

// inquiry makes a filter around an event, and keeps its scalars to make other events of.
func (g *generator) inquiry(e happening) members {
	for {
		g.known = nil
		f := g.rootFilter(e, 2, true)
		if alternatives(f) <= filtersAlternatives {
			g.remember(f)
			return f
		}
	}
}

// filtersAlternatives is how far the expansion of a filter's $or may go.
const filtersAlternatives = 64

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

// operators makes an operator object.
func (g *generator) operators(v, was any, depth int, moves bool) any {
	var f members
	add := func(key string, value any) {
		for _, name := range []string{key, aliases[key]} {
			if f.has(name) {
				return
			}
		}
		if name := aliases[key]; name != "" && g.chance(30) {
			key = name
		}
		f = append(f, pair{key, value})
	}
	for len(f) == 0 || g.chance(25) {
		switch {
		case depth > 0 && g.chance(25):
			add(g.logic(func() any { return g.object1(g.operand(v, was, depth-1, moves), v) }))
		case moves && g.chance(15):
			for _, p := range g.move(v, was) {
				add(p.key, p.value)
			}
		default:
			add(g.leaf(v))
		}
	}
	return f
}

// aliases are the other spellings; each stands for the other here.
var aliases = map[string]string{
	"$ne": "$neq", "$exists": "$exist", "$prefix": "$startsWith", "$suffix": "$endsWith",
	"$neq": "$ne", "$exist": "$exists", "$startsWith": "$prefix", "$endsWith": "$suffix",
}

// object1 makes an operand of logic of f, which must be an object.
func (g *generator) object1(f, v any) any {
	if _, ok := f.(members); ok {
		return f
	}
	return members{g.leafPair(v)}
}

func (g *generator) leafPair(v any) pair {
	key, operand := g.leaf(v)
	return pair{key, operand}
}

// move makes $from, $to or both.
func (g *generator) move(v, was any) members {
	side := func(v any) any {
		if _, missing := v.(nothing); missing {
			v = g.value(1)
		}
		return g.plain(v)
	}
	switch g.IntN(3) {
	case 0:
		return members{{"$from", side(was)}}
	case 1:
		return members{{"$to", side(v)}}
	default:
		return members{{"$from", side(was)}, {"$to", side(v)}}
	}
}

// leaf makes one operator around a value.
func (g *generator) leaf(v any) (key string, operand any) {
	if g.chance(12) {
		v = g.value(1) // perhaps of a foreign kind
	}
	if _, missing := v.(nothing); missing || g.chance(10) {
		if g.chance(60) {
			return "$exists", missing == g.chance(20)
		}
		v = g.scalar()
	}
	if g.chance(15) {
		return pick(g, []string{"$in", "$nin"}), g.scalars(v)
	}
	switch x := v.(type) {
	case decimalText:
		if g.chance(75) {
			return pick(g, []string{"$gt", "$gte", "$lt", "$lte"}), g.nearNumber(x)
		}
	case string:
		switch n := g.IntN(100); {
		case n < 35:
			return pick(g, []string{"$gt", "$gte", "$lt", "$lte"}), g.nearString(x)
		case n < 80:
			return pick(g, []string{"$prefix", "$suffix", "$contains"}), g.part(x)
		}
	}
	if g.chance(30) {
		v = g.mutate(v)
	}
	return pick(g, []string{"$eq", "$eq", "$ne"}), asFilter(once(v))
}

// scalars makes a list with v in it, often.
func (g *generator) scalars(v any) []any {
	list := make([]any, 1+g.IntN(4))
	for i := range list {
		list[i] = g.scalar()
	}
	switch v.(type) {
	case members, []any, nothing:
	default:
		if g.chance(60) {
			list[g.IntN(len(list))] = v
		}
	}
	return list
}

// nearNumber returns a number that is equal or next to n, seldom another.
func (g *generator) nearNumber(n decimalText) any {
	digits := n.digits
	if digits == "" {
		digits = "0"
	}
	switch g.IntN(7) {
	case 0, 1:
		return n
	case 2: // a little further from zero
		if n.exp > -300 {
			return decimalText{n.negative, strings.TrimLeft(digits, "0") + "1", n.exp - 1}
		}
	case 3:
		if last := len(digits) - 1; digits[last] != '0' && n.exp > -300 { // a little nearer to zero
			nearer := strings.TrimLeft(digits[:last]+string(digits[last]-1)+"9", "0")
			return decimalText{n.negative, nearer, n.exp - 1}
		}
	case 4:
		return decimalText{!n.negative, digits, n.exp}
	case 5:
		if n.exp < 1000 {
			return decimalText{n.negative, digits, n.exp + 1}
		}
	}
	return pick(g, someNumbers)
}

// nearString returns a string that is equal or next to s, seldom another.
func (g *generator) nearString(s string) any {
	runes := []rune(s)
	switch g.IntN(6) {
	case 0, 1:
		return s
	case 2:
		return s + pick(g, []string{"a", "\u0001", " ", "😀"})
	case 3:
		if len(runes) > 0 {
			return string(runes[:len(runes)-1])
		}
	case 4:
		if len(runes) > 0 && runes[0] > 1 && runes[0] < 0xd000 {
			return string(append([]rune{runes[0] - 1}, runes[1:]...))
		}
	}
	return pick(g, someStrings)
}

// part returns a part of s that is not empty, seldom another string.
func (g *generator) part(s string) any {
	runes := []rune(s)
	if len(runes) > 0 && g.chance(85) {
		from := g.IntN(len(runes))
		to := from + 1 + g.IntN(len(runes)-from)
		switch g.IntN(4) {
		case 0:
			from = 0
		case 1:
			to = len(runes)
		case 2:
			return string(runes[from:to]) + pick(g, []string{"", "a"})
		}
		return string(runes[from:to])
	}
	for {
		if other := pick(g, someStrings); other != "" {
			return other
		}
	}
}

// newGenerator returns the generator of a seed; salt sets apart what one seed is used for.
func newGenerator(seed, salt uint64) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, salt))}
}
