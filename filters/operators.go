package filters

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// operation reads the operand of an operator. What is wrong with it is reported, and
// the rest of it read for more mistakes.
func (c *compiler) operation(name operator, v gjson.Result, at *place, s scope) operation {
	o := operation{name: name}
	switch name {
	case opEq, opNe:
		o.value = c.literal(v, at, name)
	case opGt, opGte, opLt, opLte:
		o.value = c.operand(v, at, name, "a number or a string", func(n node) bool { return n.kind == number || n.kind == text })
	case opPrefix, opSuffix, opContains:
		o.value = c.operand(v, at, name, "a string that is not empty", func(n node) bool { return n.kind == text && n.text != "" })
	case opExists:
		o.value = c.operand(v, at, name, "true or false", func(n node) bool { return n.kind == boolTrue || n.kind == boolFalse })
	case opIn, opNin:
		c.list(&o, v, at)
	case opAnd, opOr:
		c.patterns(&o, v, at, s)
	case opNot:
		c.part(&o, v, at, s)
	case opBefore:
		c.part(&o, v, at, scope{root: true, barred: insideBefore, loose: s.loose})
	case opFrom, opTo:
		o.parts = []pattern{c.pattern(v, at, scope{value: name})}
	case opOp:
		c.operations(&o, v, at)
	case opChanged:
		c.changed(&o, v, at)
	}
	return o
}

// operand reads a scalar operand that must be good.
func (c *compiler) operand(v gjson.Result, at *place, name operator, wanted string, good func(node) bool) node {
	k := kindOf(v.Raw[0])
	if !k.scalar() {
		c.badOperand(at, "", "%s takes %s, not %s", name, wanted, describe(k))
		c.skip(v, at)
		return node{}
	}
	n := c.scalar(v, at)
	if !good(n) {
		got := describe(k)
		if k == text && n.text == "" {
			got = `""`
		}
		c.badOperand(at, "", "%s takes %s, not %s", name, wanted, got)
	}
	return n
}

// list reads the operand of $in or $nin.
func (c *compiler) list(o *operation, v gjson.Result, at *place) {
	if !c.isList(o, v, at, "a list of scalars") {
		return
	}
	index := 0
	c.each(v, at, func(element gjson.Result, here *place) {
		index++
		if k := kindOf(element.Raw[0]); !k.scalar() {
			c.badOperand(here, `use {"$or": [{"$eq": …}, …]} to compare with arrays or objects`, "a value of %s is a scalar, not %s", o.name, describe(k))
			c.skip(element, here)
			return
		}
		o.list = append(o.list, c.scalar(element, here))
	})
	if index > MaxList {
		c.errs.add(TooLarge, at, "", "%s has %d values; the limit is %d", o.name, index, MaxList)
	}
}

// patterns reads the operand of $and or $or.
func (c *compiler) patterns(o *operation, v gjson.Result, at *place, s scope) {
	if !c.isList(o, v, at, "a list of objects") {
		return
	}
	c.each(v, at, func(element gjson.Result, here *place) { c.part(o, element, here, s) })
}

// part reads one object of a logic operator or of $before.
func (c *compiler) part(o *operation, v gjson.Result, at *place, s scope) {
	if k := kindOf(v.Raw[0]); k != object {
		suggestion := `write {"$eq": …} for a value`
		if s.root {
			suggestion = `write {"column": …}`
		}
		if o.name == opAnd || o.name == opOr {
			c.badOperand(at, suggestion, "what %s joins is an object, not %s", o.name, describe(k))
		} else {
			c.badOperand(at, suggestion, "%s takes an object, not %s", o.name, describe(k))
		}
		c.skip(v, at)
		return
	}
	o.parts = append(o.parts, c.pattern(v, at, s))
}

// operations reads the operand of $op.
func (c *compiler) operations(o *operation, v gjson.Result, at *place) {
	const suggestion = `write "insert", "update", "delete", "truncate", "read" or a list of them`
	one := func(v gjson.Result, at *place) {
		if k := kindOf(v.Raw[0]); k != text {
			c.badOperand(at, suggestion, "$op takes operations, not %s", describe(k))
			c.skip(v, at)
			return
		}
		name := c.scalar(v, at).text
		op, ok := ParseOp(name)
		if !ok {
			c.badOperand(at, suggestion, "%s is not an operation", quote(name))
		}
		o.ops |= 1 << op
	}
	if kindOf(v.Raw[0]) != array {
		one(v, at)
		return
	}
	if c.isList(o, v, at, "a list of operations") {
		c.each(v, at, one)
	}
}

// changed reads the operand of $changed.
func (c *compiler) changed(o *operation, v gjson.Result, at *place) {
	const suggestion = `write ["column"], ["column.key", "/column/key"] or {"outside": ["column"]}`
	switch k := kindOf(v.Raw[0]); k {
	case array:
		if c.isList(o, v, at, "a list of paths") {
			c.paths(o, v, at)
		}
	case object:
		o.outside = true
		known := false
		c.members(v, at, func(written string, _ bool, value gjson.Result, here *place) {
			if written != "outside" {
				if _, operator := keyOf(written); operator && operatorOf(written) == "" {
					c.unknownOperator(written, here)
				} else {
					c.badOperand(here, suggestion, "%s is not a part of $changed", quote(written))
				}
				c.skip(value, here)
				return
			}
			known = true
			if k := kindOf(value.Raw[0]); k != array {
				c.badOperand(here, suggestion, "outside takes a list of paths, not %s", describe(k))
				c.skip(value, here)
				return
			}
			c.paths(o, value, here)
		})
		if !known {
			c.badOperand(at, suggestion, "$changed has an object without outside")
		}
	default:
		c.badOperand(at, suggestion, "$changed takes a list of paths, not %s", describe(k))
		c.skip(v, at)
	}
}

func (c *compiler) paths(o *operation, v gjson.Result, at *place) {
	index := 0
	c.each(v, at, func(element gjson.Result, here *place) {
		index++
		if k := kindOf(element.Raw[0]); k != text {
			c.badOperand(here, "", "a path is a string, not %s", describe(k))
			c.skip(element, here)
			return
		}
		p, problem := parsePath(c.scalar(element, here).text)
		switch {
		case problem != "":
			c.badOperand(here, `write "column.key", or a JSON Pointer as "/column/key"`, "%s", problem)
		case len(p) > MaxSegments:
			c.errs.add(TooLarge, here, "", "the path has %d keys; the limit is %d", len(p), MaxSegments)
		case slices.ContainsFunc(p, func(key string) bool { return len(key) > MaxKey }):
			c.errs.add(TooLarge, here, "", "the path has a key of more than %d bytes", MaxKey)
		}
		o.paths = append(o.paths, p)
	})
	if index > MaxList {
		c.errs.add(TooLarge, at, "", "%s has %d paths; the limit is %d", o.name, index, MaxList)
	}
}

// parsePath reads a path as $changed takes it.
func parsePath(s string) (p path, problem string) {
	rest, pointer := strings.CutPrefix(s, "/")
	if !pointer {
		p = strings.Split(s, ".")
		if slices.Contains(p, "") {
			return nil, "a path has a key between its dots, at its begin and at its end"
		}
		return p, ""
	}
	escapes := strings.NewReplacer("~0", "", "~1", "")
	p = strings.Split(rest, "/")
	for i, token := range p {
		if strings.Contains(escapes.Replace(token), "~") {
			return nil, "in a JSON Pointer ~ is written ~0"
		}
		p[i] = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	}
	return p, ""
}

// isList reports an operand that is not a list with something in it.
func (c *compiler) isList(o *operation, v gjson.Result, at *place, wanted string) bool {
	k := kindOf(v.Raw[0])
	if k != array {
		c.badOperand(at, "", "%s takes %s, not %s", o.name, wanted, describe(k))
		c.skip(v, at)
		return false
	}
	empty := true
	v.ForEach(func(_, _ gjson.Result) bool {
		empty = false
		return false
	})
	if empty {
		c.badOperand(at, "", "%s takes %s that is not empty", o.name, wanted)
	}
	return !empty
}

func (c *compiler) badOperand(at *place, suggestion, format string, args ...any) {
	c.errs.add(BadOperand, at, suggestion, format, args...)
}

// operatorInValue reports an operator in an operand that is a plain value.
func (c *compiler) operatorInValue(written string, at *place, of operator) {
	if operatorOf(written) == "" {
		c.unknownOperator(written, at)
		return
	}
	c.badOperand(at, literally(written), "%s is an operator, and the operand of %s is a plain value", written, of)
}

func (c *compiler) unknownOperator(written string, at *place) {
	suggestion := literally(written)
	if near := nearestOperator(written); near != "" {
		suggestion = "did you mean " + near + "?"
	}
	c.errs.add(UnknownOperator, at, suggestion, "%s is not an operator", quote(written))
}

// literally says how to write a key that looks like an operator.
func literally(written string) string {
	return fmt.Sprintf("for a key that is literally %s write %s", quote(written), quote("$"+written))
}

// nearestOperator returns the spelling of an operator that a key may have been meant to
// be: all but a letter or two of it are the same, or it begins so.
func nearestOperator(key string) string {
	const longest, shortestPrefix = 16, 4
	if len(key) > longest {
		return ""
	}
	nearest, least := "", 2 // less than two mistakes
	if len(key) > len("$exis") {
		least = 3
	}
	for _, name := range spellings() {
		d := editDistance(strings.ToLower(key), strings.ToLower(name))
		if d >= least && len(key) >= shortestPrefix && strings.HasPrefix(name, key) {
			d = least - 1
		}
		if d < least {
			nearest, least = name, d
		}
	}
	return nearest
}

// editDistance returns how many bytes must be inserted, removed, replaced or swapped
// with their neighbour to make b of a.
func editDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
