package filters

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// operation reads the operand of an operator. What is wrong with it is reported, and
// the rest of it read for more mistakes.
func (c *compiler) operation(name operator, written string, v gjson.Result, s scope) operation {
	o := operation{name: name, written: written}
	patterns, nodes := len(c.patterns), len(c.nodes)
	switch name {
	case opEq, opNe:
		o.value = c.literal(v, name)
	case opGt, opGte, opLt, opLte:
		o.value = c.operand(v, name, "a number or a string", func(n node) bool { return n.kind == number || n.kind == text })
	case opPrefix, opSuffix, opContains:
		o.value = c.operand(v, name, "a string that is not empty", func(n node) bool { return n.kind == text && n.text != "" })
	case opExists:
		o.value = c.operand(v, name, "true or false", func(n node) bool { return n.kind == boolTrue || n.kind == boolFalse })
	case opIn, opNin:
		c.list(&o, v)
	case opAnd, opOr:
		c.parts(&o, v, s)
	case opNot:
		c.part(&o, v, s)
	case opBefore:
		c.part(&o, v, scope{root: true, barred: insideBefore, loose: s.loose})
	case opFrom, opTo:
		one := c.pattern(v, scope{value: name})
		c.patterns = append(c.patterns, one)
	case opOp:
		c.operations(&o, v)
	case opChanged:
		c.changed(&o, v)
	}
	o.parts, o.list = c.patternRoom.take(&c.patterns, patterns), taken(&c.nodes, nodes)
	return o
}

// operand reads a scalar operand that must be good.
func (c *compiler) operand(v gjson.Result, name operator, wanted string, good func(node) bool) node {
	k := kindOf(v.Raw[0])
	if !k.scalar() {
		c.badOperand("", "%s takes %s, not %s", name, wanted, describe(k))
		c.skip(v)
		return node{}
	}
	n := c.scalar(v)
	if !good(n) {
		got := describe(k)
		if k == text && n.text == "" {
			got = `""`
		}
		c.badOperand("", "%s takes %s, not %s", name, wanted, got)
	}
	return n
}

// list reads the operand of $in or $nin.
func (c *compiler) list(o *operation, v gjson.Result) {
	if !c.isList(o, v, "a list of scalars") {
		return
	}
	index := 0
	c.each(v, func(element gjson.Result) {
		index++
		if k := kindOf(element.Raw[0]); !k.scalar() {
			c.badOperand(`use {"$or": [{"$eq": …}, …]} to compare with arrays or objects`, "a value of %s is a scalar, not %s", o.name, describe(k))
			c.skip(element)
			return
		}
		c.nodes = append(c.nodes, c.scalar(element))
	})
	if index > MaxList {
		c.add(TooLarge, "", "%s has %d values; the limit is %d", o.name, index, MaxList)
	}
}

// parts reads the operand of $and or $or.
func (c *compiler) parts(o *operation, v gjson.Result, s scope) {
	if !c.isList(o, v, "a list of objects") {
		return
	}
	c.each(v, func(element gjson.Result) { c.part(o, element, s) })
}

// part reads one object of a logic operator or of $before.
func (c *compiler) part(o *operation, v gjson.Result, s scope) {
	if k := kindOf(v.Raw[0]); k != object {
		suggestion := `write {"$eq": …} for a value`
		if s.root {
			suggestion = `write {"column": …}`
		}
		if o.name == opAnd || o.name == opOr {
			c.badOperand(suggestion, "what %s joins is an object, not %s", o.name, describe(k))
		} else {
			c.badOperand(suggestion, "%s takes an object, not %s", o.name, describe(k))
		}
		c.skip(v)
		return
	}
	one := c.pattern(v, s)
	c.patterns = append(c.patterns, one)
}

// operations reads the operand of $op.
func (c *compiler) operations(o *operation, v gjson.Result) {
	const suggestion = `write "insert", "update", "delete", "truncate", "read" or a list of them`
	one := func(v gjson.Result) {
		if k := kindOf(v.Raw[0]); k != text {
			c.badOperand(suggestion, "$op takes operations, not %s", describe(k))
			c.skip(v)
			return
		}
		name := c.scalar(v).text
		op, ok := ParseOp(name)
		if !ok {
			c.badOperand(suggestion, "%s is not an operation", quote(name))
		}
		o.ops |= 1 << op
	}
	if kindOf(v.Raw[0]) != array {
		one(v)
		return
	}
	if c.isList(o, v, "a list of operations") {
		c.each(v, one)
	}
}

// changed reads the operand of $changed.
func (c *compiler) changed(o *operation, v gjson.Result) {
	const suggestion = `write ["column"], ["column.key", "/column/key"] or {"outside": ["column"]}`
	switch k := kindOf(v.Raw[0]); k {
	case array:
		if c.isList(o, v, "a list of paths") {
			c.paths(o, v)
		}
	case object:
		o.outside = true
		empty := true
		c.eachMember(v, func(written string, _ bool, value gjson.Result) {
			empty = false
			if written != "outside" {
				if _, operator := keyOf(written); operator && operatorOf(written) == "" {
					c.unknownOperator(written)
				} else {
					c.badOperand(suggestion, "%s is not a part of $changed", quote(written))
				}
				c.skip(value)
				return
			}
			if k := kindOf(value.Raw[0]); k != array {
				c.badOperand(suggestion, "outside takes a list of paths, not %s", describe(k))
				c.skip(value)
				return
			}
			c.paths(o, value)
		})
		if empty {
			c.badOperand(suggestion, "$changed has an object without outside")
		}
	default:
		c.badOperand(suggestion, "$changed takes a list of paths, not %s", describe(k))
		c.skip(v)
	}
}

func (c *compiler) paths(o *operation, v gjson.Result) {
	index := 0
	c.each(v, func(element gjson.Result) {
		index++
		if k := kindOf(element.Raw[0]); k != text {
			c.badOperand("", "a path is a string, not %s", describe(k))
			c.skip(element)
			return
		}
		p, problem := parsePath(c.scalar(element).text)
		switch {
		case problem != "":
			c.badOperand(`write "column.key", or a JSON Pointer as "/column/key"`, "%s", problem)
		case len(p) > MaxSegments:
			c.add(TooLarge, "", "the path has %d keys; the limit is %d", len(p), MaxSegments)
		case slices.ContainsFunc(p, func(key string) bool { return len(key) > MaxKey }):
			c.add(TooLarge, "", "the path has a key of more than %d bytes", MaxKey)
		}
		o.paths = append(o.paths, p)
	})
	if index > MaxList {
		c.add(TooLarge, "", "%s has %d paths; the limit is %d", o.name, index, MaxList)
	}
}

// parsePath reads a path as $changed takes it.
func parsePath(s string) (p path, problem string) {
	rest, pointer := strings.CutPrefix(s, "/")
	if !pointer {
		p = strings.Split(s, ".")
		if slices.Contains(p, "") {
			return nil, "the path has an empty key"
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
func (c *compiler) isList(o *operation, v gjson.Result, wanted string) bool {
	k := kindOf(v.Raw[0])
	if k != array {
		c.badOperand("", "%s takes %s, not %s", o.name, wanted, describe(k))
		c.skip(v)
		return false
	}
	empty := true
	v.ForEach(func(_, _ gjson.Result) bool {
		empty = false
		return false
	})
	if empty {
		c.badOperand("", "%s takes %s that is not empty", o.name, wanted)
	}
	return !empty
}

func (c *compiler) badOperand(suggestion, format string, args ...any) {
	c.add(BadOperand, suggestion, format, args...)
}

// operatorInValue reports an operator in an operand that is a plain value.
func (c *compiler) operatorInValue(written string, of operator) {
	if operatorOf(written) == "" {
		c.unknownOperator(written)
		return
	}
	c.badOperand(literally(written), "%s is an operator, and the operand of %s is a plain value", written, of)
}

func (c *compiler) unknownOperator(written string) {
	suggestion := literally(written)
	if near := nearestOperator(written); near != "" {
		suggestion = "did you mean " + near + "?"
	}
	c.add(UnknownOperator, suggestion, "%s is not an operator", quote(written))
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
