package filters_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

// slowMistake is one thing that the rules refuse, and the place it is at or inside of.
type slowMistake struct {
	code    filters.Code
	pointer string
}

// slowMistakes lists what the rules refuse of a filter as generator makes it, or of one on
// the old row only. It does not look for more inside of what it refuses.
func slowMistakes(filter any, oldRow bool) []slowMistake {
	var r reviewer
	root, ok := filter.(members)
	if !ok {
		return []slowMistake{{filters.NotObject, ""}}
	}
	r.object(root, "", standing{root: true, inside: oldRow})
	if len(r.found) == 0 && slowAlternatives(root) > filters.MaxAlternatives {
		r.refuse(filters.TooLarge, "")
	}
	return r.found
}

type reviewer struct{ found []slowMistake }

// standing is what is known of the place of an object.
type standing struct {
	root   bool // the whole row is meant
	inside bool // an array, $before or the old row: conditions on a change may not stand here
}

func (r *reviewer) refuse(code filters.Code, at string) {
	r.found = append(r.found, slowMistake{code, at})
}

func (r *reviewer) require(ok bool, at string) {
	if !ok {
		r.refuse(filters.BadOperand, at)
	}
}

func (r *reviewer) value(v any, at string, s standing) {
	switch v := v.(type) {
	case members:
		r.object(v, at, s)
	case []any:
		for i, element := range v {
			r.value(element, at+"/"+strconv.Itoa(i), standing{inside: true})
		}
	}
}

func (r *reviewer) object(o members, at string, s standing) {
	plain := slices.ContainsFunc(o, func(p pair) bool { _, operator := slowKey(p.key); return !operator })
	for i, p := range o {
		here := at + pointer([]string{p.key})
		name, operator := slowKey(p.key)
		switch {
		case o[:i].has(p.key):
			r.refuse(filters.BadJSON, here)
			continue
		case !operator:
			r.value(p.value, here, standing{inside: s.inside})
			continue
		case !slices.Contains(allOperators(), name):
			r.refuse(filters.UnknownOperator, here)
			continue
		case slices.ContainsFunc(o[:i], func(q pair) bool { other, _ := slowKey(q.key); return other == name }):
			r.refuse(filters.BadJSON, here)
			continue
		}
		ofEvent := name == "$op" || name == "$changed" || name == "$before"
		logic := name == "$and" || name == "$or" || name == "$not"
		moves := name == "$from" || name == "$to"
		switch {
		case (ofEvent || moves) && s.inside, ofEvent && !s.root, s.root && !ofEvent && !logic:
			r.refuse(filters.BadPosition, here)
		case plain && !logic && !ofEvent:
			r.refuse(filters.MixedObject, here)
		default:
			r.operand(name, p.value, here, s)
		}
	}
}

func (r *reviewer) operand(name string, v any, at string, s standing) {
	text, isText := v.(string)
	_, isNumber := v.(decimalText)
	_, isBool := v.(bool)
	object, isObject := v.(members)
	list, isList := v.([]any)
	switch name {
	case "$eq", "$ne", "$from", "$to":
		r.literal(v, at)
	case "$gt", "$gte", "$lt", "$lte":
		r.require(isText || isNumber, at)
	case "$prefix", "$suffix", "$contains":
		r.require(isText && text != "", at)
	case "$exists":
		r.require(isBool, at)
	case "$in", "$nin":
		r.require(len(list) > 0 && !slices.ContainsFunc(list, func(v any) bool { return !isScalar(v) }), at)
	case "$and", "$or":
		r.require(len(list) > 0 && !slices.ContainsFunc(list, func(v any) bool { _, ok := v.(members); return !ok }), at)
		for i, part := range list {
			if part, ok := part.(members); ok {
				r.object(part, at+"/"+strconv.Itoa(i), s)
			}
		}
	case "$not":
		r.require(isObject, at)
		r.object(object, at, s)
	case "$before":
		r.require(isObject, at)
		r.object(object, at, standing{root: true, inside: true})
	case "$op":
		if !isList {
			list = []any{v}
		}
		known := func(v any) bool {
			return slices.Contains([]any{"insert", "update", "delete", "truncate", "read"}, v)
		}
		r.require(len(list) > 0 && !slices.ContainsFunc(list, func(v any) bool { return !isScalar(v) || !known(v) }), at)
	case "$changed":
		if isObject {
			r.outside(object, at)
		} else {
			r.require(len(list) > 0 && slowPathsAreGood(list), at)
		}
	}
}

func (r *reviewer) outside(o members, at string) {
	for i, p := range o {
		name, operator := slowKey(p.key)
		switch here := at + pointer([]string{p.key}); {
		case o[:i].has(p.key):
			r.refuse(filters.BadJSON, here)
		case operator && !slices.Contains(allOperators(), name):
			r.refuse(filters.UnknownOperator, here)
		default:
			list, ok := p.value.([]any)
			r.require(p.key == "outside" && ok && slowPathsAreGood(list), here)
		}
	}
	r.require(len(o) > 0, at)
}

func slowPathsAreGood(list []any) bool {
	return !slices.ContainsFunc(list, func(v any) bool {
		s, ok := v.(string)
		keys := strings.Split(s, ".")
		if strings.HasPrefix(s, "/") {
			return strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(s), "~")
		}
		return !ok || slices.Contains(keys, "")
	})
}

func isScalar(v any) bool {
	switch v.(type) {
	case members, []any:
		return false
	}
	return true
}

// literal reviews an operand that is a plain value.
func (r *reviewer) literal(v any, at string) {
	switch v := v.(type) {
	case members:
		for i, p := range v {
			here := at + pointer([]string{p.key})
			name, operator := slowKey(p.key)
			switch {
			case v[:i].has(p.key):
				r.refuse(filters.BadJSON, here)
			case operator && !slices.Contains(allOperators(), name):
				r.refuse(filters.UnknownOperator, here)
			case operator:
				r.refuse(filters.BadOperand, here)
			default:
				r.literal(p.value, here)
			}
		}
	case []any:
		for i, element := range v {
			r.literal(element, at+"/"+strconv.Itoa(i))
		}
	}
}

// slowAlternatives is the number that the limit is about: a condition is one, and is a
// product, or a sum, not one.
func slowAlternatives(f any) int {
	n := 1
	switch f := f.(type) {
	case members:
		for _, p := range f {
			switch name, operator := slowKey(p.key); {
			case operator && name == "$or":
				sum := 0
				for _, part := range p.value.([]any) {
					sum += slowAlternatives(part)
				}
				n *= sum
			case !operator || name == "$and" || name == "$before":
				n *= slowAlternatives(p.value)
			}
		}
	case []any:
		for _, element := range f {
			n *= slowAlternatives(element)
		}
	}
	return min(n, 1<<20)
}

// edit applies change to the value that is the n-th of f in the order of the text.
func edit(f any, n *int, change func(v any) any) any {
	*n--
	if *n < 0 {
		return f
	}
	if *n == 0 {
		return change(f)
	}
	switch v := f.(type) {
	case members:
		v = slices.Clone(v)
		for i := range v {
			v[i].value = edit(v[i].value, n, change)
		}
		return v
	case []any:
		v = slices.Clone(v)
		for i := range v {
			v[i] = edit(v[i], n, change)
		}
		return v
	}
	return f
}

func countValues(f any) int {
	n := 1
	switch f := f.(type) {
	case members:
		for _, p := range f {
			n += countValues(p.value)
		}
	case []any:
		for _, v := range f {
			n += countValues(v)
		}
	}
	return n
}

// spoil changes one place of a filter in a way that often makes it a bad one.
func (g *generator) spoil(filter any) any {
	total := countValues(filter)
	var other any // some value of the filter
	from := 1 + g.IntN(total)
	edit(filter, &from, func(v any) any { other = v; return v })
	at := 1 + g.IntN(total)
	return edit(filter, &at, func(v any) any {
		switch g.IntN(8) {
		case 0:
			return g.value(1)
		case 1:
			return other
		case 2:
			return members{{g.anyOperator(), v}}
		case 3:
			return []any{v}
		}
		switch x := v.(type) {
		case members:
			return g.spoilObject(x, other)
		case []any:
			switch g.IntN(3) {
			case 0:
				return []any{}
			case 1:
				return append(slices.Clone(x), g.scalar())
			}
			return append(slices.Clone(x), other)
		}
		return g.scalar()
	})
}

func (g *generator) spoilObject(o members, other any) any {
	o = slices.Clone(o)
	switch n := g.IntN(7); {
	case n == 0 && len(o) > 0: // say something twice
		return append(o, pair{o[g.IntN(len(o))].key, g.scalar()})
	case n == 1 && len(o) > 0:
		o[g.IntN(len(o))].key = g.anyOperator()
		return o
	case n == 2 && len(o) > 0:
		o[g.IntN(len(o))].key = filterKey(g.key())
		return o
	case n == 3:
		return append(o, pair{filterKey(g.key()), g.scalar()})
	case n == 4:
		return append(o, pair{g.anyOperator(), other})
	case n == 5:
		e := g.happening()
		return append(o, pick(g, []pair{{"$op", g.ops(e.op)}, {"$changed", g.changed(e)}, {"$before", g.rootFilter(e, 0, false)}}))
	default:
		return append(o, g.leafPair(g.scalar()))
	}
}

// anyOperator returns an operator by any of its names, seldom one that there is not.
func (g *generator) anyOperator() string {
	if g.chance(15) {
		return pick(g, []string{"$gtee", "$", "$GT", "$regex", "$Eq", "$eq ", "$outside", "$lte\n"})
	}
	name := pick(g, allOperators())
	if alias := aliases[name]; alias != "" && g.chance(40) {
		return alias
	}
	return name
}

func TestCompileRefusesExactlyWhatTheRulesRefuse(t *testing.T) {
	g := newGenerator(*seed, 4)
	seen := make(map[filters.Code]int)
	for range *pairs / 6 {
		e := g.happening()
		filter := any(g.inquiry(e))
		for filter = g.spoil(filter); g.chance(30); {
			filter = g.spoil(filter)
		}
		text := write(filter, g.Uint64(), false)
		tr := e.trial(g.Uint64())
		event := tr.event()
		if f := review(t, text, slowMistakes(filter, false), filters.Compile, seen); f != nil {
			require.Equal(t, slowFilter(t, tr.slow(t), []byte(text)), f.MatchEvent(&event), "%s\n%s", text, tr)
		}
		if f := review(t, text, slowMistakes(filter, true), filters.CompileOld, seen); f != nil && tr.op != "truncate" {
			require.Equal(t, slowFilter(t, tr.slow(t), []byte(text)), f.MatchDoc(event.Data), "%s\n%s", text, tr)
		}
	}
	t.Log(seen)
	for _, code := range []filters.Code{"", filters.NotObject, filters.UnknownOperator, filters.MixedObject, filters.BadOperand, filters.BadPosition, filters.BadJSON} {
		require.Greater(t, seen[code], *pairs/2_000, "%s: %v", code, seen)
	}
}

// review compiles a filter and returns it if it is good, as expected.
func review(t *testing.T, text string, expected []slowMistake, compile func([]byte) (*filters.Filter, error), seen map[filters.Code]int) *filters.Filter {
	f, err := compile([]byte(text))
	if len(expected) == 0 {
		require.NoError(t, err, text)
		seen[""]++
		return f
	}
	var errs filters.Errors
	require.ErrorAs(t, err, &errs, "%s must be refused: %v", text, expected)
	require.Nil(t, f)
	checkMistakes(t, text, expected, errs)
	for _, m := range expected {
		seen[m.code]++
	}
	return nil
}

// checkMistakes compares what was said with what was expected: nothing is left out, and
// what else is said lies inside of something that is refused.
func checkMistakes(t *testing.T, text string, expected []slowMistake, errs filters.Errors) {
	inside := func(place, of string) bool { return place == of || strings.HasPrefix(place, of+"/") }
	for _, m := range expected {
		require.True(t, slices.ContainsFunc(errs, func(e *filters.Error) bool { return e.Code == m.code && inside(e.Pointer, m.pointer) }),
			"%s: %v expected, not only\n%v", text, m, errs)
	}
	for _, e := range errs {
		whole := e.Code == filters.TooLarge && e.Pointer == "" // not counted when there are other mistakes
		require.True(t, whole || slices.ContainsFunc(expected, func(m slowMistake) bool { return inside(e.Pointer, m.pointer) }),
			"%s: only %v expected, not\n%v", text, expected, e)
	}
}

// ways makes a filter of nested $or, $and and $not that can match in about so many ways.
func (g *generator) ways(about int) members {
	if about < 2 || g.chance(10) {
		return members{{filterKey(g.key()), g.scalar()}}
	}
	var f members
	if about >= 4 && g.chance(40) {
		first := 2 + g.IntN(about/2-1)
		f = members{{"$and", []any{g.ways(first), g.ways(about / first)}}}
	} else {
		list := make([]any, 2+g.IntN(4))
		for i := range list {
			list[i] = g.ways(about / len(list))
		}
		f = members{{"$or", list}}
	}
	switch g.IntN(12) {
	case 0:
		return members{{"$not", f}}
	case 1:
		return members{{"$before", f}}
	case 2:
		return members{{"a", []any{members{{"b", true}, f[0]}}}}
	}
	return f
}

func TestTheWaysToMatchAreLimitedAsTheRulesSay(t *testing.T) {
	g := newGenerator(*seed, 6)
	var within, beyond, near int
	for range 4_000 {
		filter := g.ways(1 + g.IntN(128))
		n := slowAlternatives(filter)
		if slices.ContainsFunc(slowMistakes(filter, false), func(m slowMistake) bool { return m.code != filters.TooLarge }) {
			continue // $before inside of $before, or of an array
		}
		text := write(filter, g.Uint64(), false)
		_, err := filters.Compile([]byte(text))
		if n > 56 && n <= 72 {
			near++
		}
		if n <= filters.MaxAlternatives {
			within++
			require.NoError(t, err, "%d ways: %s", n, text)
			continue
		}
		beyond++
		require.ErrorContains(t, err, "too_large", "%d ways: %s", n, text)
	}
	t.Log(within, beyond, near)
	require.Greater(t, min(within, beyond, near), 40)
}
