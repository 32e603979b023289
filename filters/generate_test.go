package filters_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf16"
)

// The values that generator makes: nil, bool, decimalText, string, verbatim, []any, pairs.
type (
	decimalText struct { // ±digits × 10^exp
		negative bool
		digits   string
		exp      int
	}
	verbatim string // written as it is, to make texts that some reader refuses
	members  []pair
	pair     struct {
		key   string
		value any
	}
)

// generator makes pairs of documents and filters that are often contained, often nearly
// so, and written in every notation JSON has.
type generator struct {
	*rand.Rand
	duplicates bool // repeat keys now and then
	refused    bool // use values that jsonb refuses now and then

	known []any // scalars of the filter that is asked, to be used now and then
}

var (
	someKeys    = []string{"a", "b", "c", "d", "id", "", "a.b", "0", "#", "*", "?", "|", "!", "\\", "@this", "é", "\"", "A", "$a", "$$a", "$", "\n", "😀"}
	someStrings = []string{
		"", "a", "A", "b", "ab", "a ", "é", "e\u0301", "😀", "😁", "\n", "\t", "\"", "\\", "\\\"", "/", "0", "1", "1.0", "true", "null",
		"$a", ".", "a.b", "\u007f", "\u0001", "\u2028", "\ufffd", "\uffff", "[1]", "{", "}", "]", ",", "ß", "\U0010ffff", "a\nb", "\\u0041",
	}
	someNumbers = []decimalText{
		{},
		{true, "0", 0},
		{false, "0", 3},
		{false, "1", 0},
		{true, "1", 0},
		{false, "2", 0},
		{false, "3", 0},
		{false, "10", 0},
		{false, "1", 1},
		{false, "1", 2},
		{false, "15", -1},
		{false, "1", -1},
		{false, "10000000000000000001", -20},
		{false, "1", -3},
		{true, "15", -1},
		{false, "999", 0},
		{false, "9007199254740993", 0},
		{false, "9007199254740992", 0},
		{false, "123456789012345678901234567890", 0},
		{false, "123456789012345678901234567891", 0},
		{false, "1", 400},
		{false, "1", 399},
		{false, "1", -400},
		{false, "1", 131071},
		{false, "17976931348623157", 292},
		{false, "17976931348623158", 292},
	}
	someRefused = []verbatim{
		`"\u0000"`, `"x\u0000y"`, `"\ud800"`, `"\udc00\ud800"`, `"\ud83d\u0041"`, `1e131072`, `-10e131071`, `1e-16384`, `0.0e-99999`, `1e99999999999`,
		`0e1073741823`, `01`, `1.`, `.5`, `+1`, `NaN`, `nul`, `True`, `'a'`, `"\x"`, `"\u12g4"`, "\"\n\"", `[1,]`, `{"a":1,}`, `{"a"}`, `[1 2]`, ``, `]`, `1 2`,
	}
)

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

// key prefers few keys, so that documents and filters meet.
func (g *generator) key() string {
	if g.chance(75) {
		return someKeys[g.IntN(4)]
	}
	return pick(g, someKeys)
}

func (g *generator) scalar() any {
	if g.refused && g.chance(4) {
		return pick(g, someRefused)
	}
	if len(g.known) > 0 && g.chance(50) {
		switch v := pick(g, g.known).(type) {
		case decimalText:
			return g.nearNumber(v)
		case string:
			return g.nearString(v)
		}
	}
	switch g.IntN(8) {
	case 0:
		return nil
	case 1:
		return g.chance(50)
	case 2, 3, 4:
		if g.chance(60) {
			return someNumbers[g.IntN(8)]
		}
		return pick(g, someNumbers)
	default:
		if g.chance(50) {
			return someStrings[g.IntN(5)]
		}
		return pick(g, someStrings)
	}
}

func (g *generator) value(depth int) any {
	if depth <= 0 || g.chance(45) {
		return g.scalar()
	}
	if g.chance(50) {
		return g.object(depth)
	}
	list := make([]any, g.IntN(4))
	for i := range list {
		list[i] = g.value(depth - 1)
	}
	return list
}

func (g *generator) object(depth int) members {
	var obj members
	for range g.IntN(5) {
		if key := g.key(); g.duplicates && g.chance(60) || !obj.has(key) {
			obj = append(obj, pair{key, g.value(depth - 1)})
		}
	}
	return obj
}

func (o members) has(key string) bool {
	return slices.ContainsFunc(o, func(p pair) bool { return p.key == key })
}

// cut returns a value that v contains, if v has no duplicate keys.
func (g *generator) cut(v any) any {
	switch v := v.(type) {
	case members:
		var out members
		for _, p := range v {
			if g.chance(60) {
				out = append(out, pair{p.key, g.cut(p.value)})
			}
		}
		return out
	case []any:
		var out []any
		for range v {
			if g.chance(60) {
				out = append(out, g.cut(pick(g, v)))
			}
		}
		return out
	}
	return v
}

// mutate changes one place of v.
func (g *generator) mutate(v any) any {
	switch v := v.(type) {
	case members:
		if len(v) == 0 || g.chance(15) {
			if key := g.key(); !v.has(key) {
				return append(slices.Clone(v), pair{key, g.value(1)})
			}
			return v
		}
		out, i := slices.Clone(v), g.IntN(len(v))
		if key := g.key(); g.chance(15) && !v.has(key) {
			out[i].key = key
		} else {
			out[i].value = g.mutate(v[i].value)
		}
		return out
	case []any:
		if len(v) == 0 || g.chance(20) {
			return append(slices.Clone(v), g.value(1))
		}
		out, i := slices.Clone(v), g.IntN(len(v))
		out[i] = g.mutate(v[i])
		return out
	}
	return g.value(1)
}

// pair returns a document and a filter of a random class.
func (g *generator) pair() (doc, filter any) {
	g.duplicates, g.refused = g.chance(20), g.chance(10)
	depth := 1 + g.IntN(4)
	switch class := g.IntN(100); {
	case class < 3:
		return g.value(depth), g.value(depth) // any roots
	case class < 5:
		return g.value(depth), g.object(depth)
	case class < 25:
		return g.object(depth), g.object(depth)
	case class < 30:
		depth = 5 + g.IntN(9) // at most 27 levels
		for filter = any(g.object(1)); depth > 0; depth-- {
			if filter = any([]any{filter}); depth == 1 || g.chance(50) {
				filter = members{{g.key(), filter}}
			}
		}
		doc = filter
	default:
		doc = g.object(depth)
		filter = doc
	}
	filter = g.cut(filter)
	for g.chance(45) {
		filter = g.mutate(filter)
	}
	if g.chance(8) {
		return filter, doc
	}
	return doc, filter
}

// write writes v as JSON. The same seed makes the same choices, so that a filter can be
// written once for Postgres and once with its dollars doubled.
func write(v any, seed uint64, dollars bool) string {
	w := writer{generator: generator{Rand: rand.New(rand.NewPCG(seed, 0))}, dollars: dollars}
	w.value(v)
	return w.String()
}

type writer struct {
	strings.Builder
	generator
	dollars bool
}

func (w *writer) blank() {
	for w.chance(10) {
		w.WriteByte(" \t\n\r"[w.IntN(4)])
	}
}

func (w *writer) value(v any) {
	w.blank()
	switch v := v.(type) {
	case nil:
		w.WriteString("null")
	case bool:
		fmt.Fprint(w, v)
	case verbatim:
		w.WriteString(string(v))
	case string:
		w.text(v)
	case decimalText:
		w.number(v)
	case []any:
		w.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				w.WriteByte(',')
			}
			w.value(e)
		}
		w.blank()
		w.WriteByte(']')
	case members:
		w.WriteByte('{')
		for i, p := range v {
			if i > 0 {
				w.WriteByte(',')
			}
			w.blank()
			if key := p.key; w.dollars && strings.HasPrefix(key, "$") {
				w.dollarKey(key)
			} else {
				w.text(key)
			}
			w.blank()
			w.WriteByte(':')
			w.value(p.value)
		}
		w.blank()
		w.WriteByte('}')
	}
	w.blank()
}

// dollarKey doubles the first dollar without disturbing the choices that follow.
func (w *writer) dollarKey(key string) {
	inner := writer{generator: w.generator}
	inner.text(key)
	w.WriteString(`"$` + inner.String()[1:])
}

func (w *writer) text(s string) {
	w.WriteByte('"')
	for _, r := range s {
		short := strings.IndexRune("\"\\/\b\f\n\r\t", r)
		switch {
		case short >= 0 && (short > 2 || short < 2 || w.chance(50)) && w.chance(70):
			w.WriteByte('\\')
			w.WriteByte(`"\/bfnrt`[short])
		case r < ' ' || r == '"' || r == '\\' || w.chance(15):
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(w, pick(&w.generator, []string{`\u%04x`, `\u%04X`}), unit)
			}
		default:
			w.WriteRune(r)
		}
	}
	w.WriteByte('"')
}

// number writes one of the many notations of a number.
func (w *writer) number(n decimalText) {
	digits, exp := n.digits, n.exp
	if digits == "" {
		digits = "0"
	}
	if n.negative {
		w.WriteByte('-')
	}
	for w.chance(20) && digits != "0" {
		digits += "0"
		exp--
	}
	frac := ""
	switch {
	case exp < 0 && -exp < len(digits) && w.chance(60): // plain
		digits, frac, exp = digits[:len(digits)+exp], digits[len(digits)+exp:], 0
	case exp < 0 && exp > -10 && -exp >= len(digits) && w.chance(60): // 0.00d
		digits, frac, exp = "0", strings.Repeat("0", -exp-len(digits))+digits, 0
	case exp > 0 && exp < 10 && digits != "0" && w.chance(60): // d000
		digits, exp = digits+strings.Repeat("0", exp), 0
	case len(digits) > 1 && w.chance(40): // d.dd
		at := 1 + w.IntN(len(digits)-1)
		frac = digits[at:]
		digits, exp = digits[:at], exp+len(frac)
	case w.chance(15): // 0.0ddd
		frac = strings.Repeat("0", w.IntN(3)) + digits
		digits, exp = "0", exp+len(frac)
	}
	w.WriteString(digits)
	if frac != "" {
		w.WriteString("." + frac)
	} else if w.chance(10) {
		w.WriteString(".0")
	}
	if exp != 0 || w.chance(5) {
		w.WriteString(pick(&w.generator, []string{"e", "E"}))
		if exp >= 0 && w.chance(30) {
			w.WriteByte('+')
		}
		fmt.Fprint(w, exp)
	}
}
