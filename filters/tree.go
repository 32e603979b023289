package filters

import (
	"cmp"
	"slices"
	"strings"
)

// pattern is what a filter asks of one value, as it is written there: a plain scalar, an
// array, or an object of keys and operators.
type pattern struct {
	kind     kind // of the text: object also for operators
	scalar   node
	elements []pattern   // of an array
	members  []entry     // of an object: its plain keys, by key in byte order
	ops      []operation // of an object: its operators, by name in byte order
}

// entry is one plain key of an object with what is asked of its value.
type entry struct {
	key   string
	value pattern
}

// operation is an operator with its operand.
type operation struct {
	name    operator
	written string    // as it was spelled
	value   node      // $eq $ne $gt $gte $lt $lte $prefix $suffix $contains $exists
	list    []node    // $in $nin
	parts   []pattern // $and $or; one of $not $before $from $to

	ops     opSet  // $op
	paths   []path // $changed
	outside bool   // $changed: something outside paths
}

// operator is the first spelling of an operator, which the canonical text uses.
type operator string

const (
	opEq       operator = "$eq"
	opNe       operator = "$ne"
	opGt       operator = "$gt"
	opGte      operator = "$gte"
	opLt       operator = "$lt"
	opLte      operator = "$lte"
	opIn       operator = "$in"
	opNin      operator = "$nin"
	opPrefix   operator = "$prefix"
	opSuffix   operator = "$suffix"
	opContains operator = "$contains"
	opExists   operator = "$exists"
	opAnd      operator = "$and"
	opOr       operator = "$or"
	opNot      operator = "$not"
	opOp       operator = "$op"
	opChanged  operator = "$changed"
	opBefore   operator = "$before"
	opFrom     operator = "$from"
	opTo       operator = "$to"
)

// spellings are all names of operators, the aliases last.
func spellings() []string {
	return []string{
		"$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$prefix", "$suffix", "$contains", "$exists",
		"$and", "$or", "$not", "$op", "$changed", "$before", "$from", "$to",
		"$neq", "$exist", "$startsWith", "$endsWith",
	}
}

// operatorOf returns the operator that a key is, "" if there is none of that name.
func operatorOf(key string) operator {
	switch o := operator(key); o {
	case opEq, opNe, opGt, opGte, opLt, opLte, opIn, opNin, opPrefix, opSuffix, opContains, opExists,
		opAnd, opOr, opNot, opOp, opChanged, opBefore, opFrom, opTo:
		return o
	case "$neq":
		return opNe
	case "$exist":
		return opExists
	case "$startsWith":
		return opPrefix
	case "$endsWith":
		return opSuffix
	default:
		return ""
	}
}

// logic reports whether o joins patterns of the same value.
func (o operator) logic() bool { return o == opAnd || o == opOr || o == opNot }

// ofEvent reports whether o is about the whole event, so that it stands at the root.
func (o operator) ofEvent() bool { return o == opOp || o == opChanged || o == opBefore }

// wantsObject reports whether p asks for an object, whatever is asked of its members.
// Operators alone do not.
func (p *pattern) wantsObject() bool {
	return p.kind == object && (len(p.members) > 0 || len(p.ops) == 0)
}

// alternatives returns in how many ways p can match once every $or is multiplied out,
// and MaxAlternatives+1 for more than that.
func (p *pattern) alternatives() int {
	n := 1
	for i := range p.elements {
		n = min(n*p.elements[i].alternatives(), MaxAlternatives+1)
	}
	for i := range p.members {
		n = min(n*p.members[i].value.alternatives(), MaxAlternatives+1)
	}
	for i := range p.ops {
		n = min(n*p.ops[i].alternatives(), MaxAlternatives+1)
	}
	return n
}

func (o *operation) alternatives() int {
	switch o.name {
	case opOr:
		n := 0
		for i := range o.parts {
			n = min(n+o.parts[i].alternatives(), MaxAlternatives+1)
		}
		return n
	case opAnd, opBefore:
		n := 1
		for i := range o.parts {
			n = min(n*o.parts[i].alternatives(), MaxAlternatives+1)
		}
		return n
	default: // $not, too, is one condition
		return 1
	}
}

// sort brings what a filter may say in any order into the order of the canonical text,
// and drops what it says twice.
func (p *pattern) sort() {
	for i := range p.elements {
		p.elements[i].sort()
	}
	p.elements = sortPatterns(p.elements)
	for i := range p.members {
		p.members[i].value.sort()
	}
	for i := range p.ops {
		o := &p.ops[i]
		o.list = sortScalars(o.list)
		slices.SortFunc(o.paths, func(a, b path) int { return strings.Compare(a.String(), b.String()) })
		o.paths = slices.CompactFunc(o.paths, func(a, b path) bool { return slices.Equal(a, b) })
		for j := range o.parts {
			o.parts[j].sort()
		}
		o.parts = sortPatterns(o.parts)
	}
}

// sortPatterns sorts sorted patterns, scalars first as compareElements has them, and
// then by their text. It drops repeated ones.
func sortPatterns(list []pattern) []pattern {
	if len(list) < 2 {
		return list
	}
	type written struct {
		pattern

		text string
	}
	compare := func(a, b written) int {
		if a.kind.scalar() && b.kind.scalar() {
			return compareElements(a.scalar, b.scalar)
		}
		return cmp.Or(cmp.Compare(a.kind, b.kind), strings.Compare(a.text, b.text))
	}
	sorted := make([]written, len(list))
	var buffer []byte
	for i := range list {
		sorted[i].pattern = list[i]
		if !list[i].kind.scalar() {
			buffer = list[i].appendText(buffer[:0])
			sorted[i].text = string(buffer)
		}
	}
	slices.SortFunc(sorted, compare)
	sorted = slices.CompactFunc(sorted, func(a, b written) bool { return compare(a, b) == 0 })
	list = list[:len(sorted)]
	for i := range list {
		list[i] = sorted[i].pattern
	}
	return list
}

// appendText appends the canonical text of a sorted pattern: operators before keys.
func (p *pattern) appendText(b []byte) []byte {
	switch p.kind {
	case array:
		return appendList(b, p.elements)
	case object:
		b = append(b, '{')
		for i := range p.ops {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, string(p.ops[i].name)), ':')
			b = p.ops[i].appendOperand(b)
		}
		for i := range p.members {
			if i > 0 || len(p.ops) > 0 {
				b = append(b, ',')
			}
			b = appendKey(b, p.members[i].key)
			b = p.members[i].value.appendText(b)
		}
		return append(b, '}')
	default:
		return p.scalar.appendText(b)
	}
}

func appendList(b []byte, list []pattern) []byte {
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = list[i].appendText(b)
	}
	return append(b, ']')
}

func (o *operation) appendOperand(b []byte) []byte {
	switch o.name {
	case opIn, opNin:
		list := node{kind: array, whole: &whole{elements: o.list}}
		return list.appendText(b)
	case opAnd, opOr:
		return appendList(b, o.parts)
	case opNot, opBefore, opFrom, opTo:
		return o.parts[0].appendText(b)
	case opOp:
		b = append(b, '[')
		for op, some := OpInsert, false; op <= OpRead; op++ {
			if !o.ops.has(op) {
				continue
			}
			if some {
				b = append(b, ',')
			}
			b, some = appendString(b, op.String()), true
		}
		return append(b, ']')
	case opChanged:
		if o.outside {
			b = append(b, `{"outside":`...)
		}
		b = append(b, '[')
		for i, p := range o.paths {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, p.String())
		}
		b = append(b, ']')
		if o.outside {
			b = append(b, '}')
		}
		return b
	default:
		return o.value.appendText(b)
	}
}

// String writes a path the way $changed takes it: with dots, or as a JSON Pointer when
// dots would not do.
func (p path) String() string {
	for i, segment := range p {
		if segment == "" || strings.Contains(segment, ".") || i == 0 && segment[0] == '/' {
			var at place
			for _, segment := range p {
				at.enterKey(segment)
			}
			return at.pointer()
		}
	}
	return strings.Join(p, ".")
}
