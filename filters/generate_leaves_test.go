package filters_test

import (
	"strings"
)

// operators makes an operator object.
func (g *generator) operators(v, was any, depth int, moves bool) any {
	var f members
	add := func(key string, value any) {
		if f.has(key) || f.has(aliases[key]) {
			return
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
