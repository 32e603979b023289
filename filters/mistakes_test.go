package filters_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

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
	for range *pairs / 10 {
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
		require.Greater(t, seen[code], *pairs/4_000, "%s: %v", code, seen)
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
