package filters

import (
	"slices"
)

// lower turns a sorted pattern of a row into a program.
func lower(p *pattern) program {
	var l lowering
	root := l.pattern(p, nil, false)
	l.program.root = root
	l.program.prepare()
	return l.program
}

// lowering builds a program. Its methods take the path of the value that is meant, and
// whether the row before is.
type lowering struct {
	program program
	element bool // the program is over an element of an array, not over a row
}

func (l *lowering) pattern(p *pattern, at path, old bool) cond {
	switch p.kind {
	case object:
		return l.object(p, at, old)
	case array:
		return l.array(p, at, old)
	default:
		c := l.on(condEqual, at, old)
		c.with = p.scalar
		return c
	}
}

// on returns a condition on a value.
func (l *lowering) on(op condOp, at path, old bool) cond {
	return cond{op: op, old: old, at: l.value(at, old, false)}
}

// value returns the index of a value that the program reads.
func (l *lowering) value(at path, old, indexes bool) int {
	list, flags := &l.program.data, &l.program.dataIndexes
	if old {
		list, flags = &l.program.old, &l.program.oldIndexes
	}
	for i, p := range *list {
		if slices.Equal(p, at) && (i < len(*flags) && (*flags)[i]) == indexes {
			return i
		}
	}
	*list = append(*list, slices.Clone(at))
	if indexes {
		for len(*flags) < len(*list) {
			*flags = append(*flags, false)
		}
		(*flags)[len(*list)-1] = true
	}
	return len(*list) - 1
}

func (l *lowering) object(p *pattern, at path, old bool) cond {
	parts := make([]cond, 0, len(p.ops)+len(p.members))
	for i := range p.ops {
		parts = appendAll(parts, l.operation(p, i, at, old))
	}
	for i := range p.members {
		m := &p.members[i]
		parts = appendAll(parts, l.pattern(&m.value, append(at, m.key), old))
	}
	isRow := len(at) == 0 && !l.element
	if p.wantsObject() && !isRow && !l.impliesObject(parts, at, old) {
		parts = append(parts, l.on(condObject, at, old))
	}
	return joined(parts)
}

// impliesObject reports whether one of the parts, which must all hold, is No unless the
// value is an object: it is about a member of it, and No when that is missing.
func (l *lowering) impliesObject(parts []cond, at path, old bool) bool {
	for i := range parts {
		c := &parts[i]
		if c.old != old {
			continue
		}
		switch c.op {
		case condObject:
			if len(l.path(c)) >= len(at) {
				return true
			}
		case condEqual, condArray, condExactly, condDiffers, condAbove, condAtLeast, condBelow, condAtMost,
			condIn, condNotIn, condPrefix, condSuffix, condSubstring, condPresent:
			if len(l.path(c)) > len(at) {
				return true
			}
		default: // says nothing about a value, or is not No without it
		}
	}
	return false
}

func (l *lowering) path(c *cond) path {
	if c.old {
		return l.program.old[c.at]
	}
	return l.program.data[c.at]
}

// appendAll appends a condition to those that must all hold.
func appendAll(parts []cond, c cond) []cond {
	if c.op == condAll {
		return append(parts, c.subs...)
	}
	return append(parts, c)
}

// joined returns the condition that all parts hold.
func joined(parts []cond) cond {
	if len(parts) == 1 {
		return parts[0]
	}
	return cond{op: condAll, subs: parts}
}

func (l *lowering) array(p *pattern, at path, old bool) cond {
	var e elements
	for i := range p.elements {
		element := &p.elements[i]
		if element.kind.scalar() {
			e.scalars = append(e.scalars, element.scalar)
			continue
		}
		inner := lowering{element: true}
		root := inner.pattern(element, nil, false)
		inner.program.root = root
		e.filters = append(e.filters, inner.program)
	}
	c := l.on(condArray, at, old)
	c.elements = &e
	return c
}

// operation lowers the operator at index i of p.
func (l *lowering) operation(p *pattern, i int, at path, old bool) cond {
	o := &p.ops[i]
	switch o.name {
	case opAnd:
		var parts []cond
		for i := range o.parts {
			parts = appendAll(parts, l.pattern(&o.parts[i], at, old))
		}
		return joined(parts)
	case opOr:
		either := cond{op: condAny}
		for i := range o.parts {
			either.subs = append(either.subs, l.pattern(&o.parts[i], at, old))
		}
		if len(either.subs) == 1 {
			return either.subs[0]
		}
		return either
	case opNot:
		return cond{op: condNot, subs: []cond{l.pattern(&o.parts[0], at, old)}}
	case opBefore:
		return joined(appendAll([]cond{{op: condHadRow}}, l.pattern(&o.parts[0], at, true)))
	case opFrom, opTo:
		return l.transition(p, i, at)
	case opOp:
		return cond{op: condOpIs, ops: o.ops}
	case opChanged:
		return l.changed(o)
	default:
		return l.leaf(o, at, old)
	}
}

// transition lowers $from and $to, which are one condition when they stand together:
// $from is the first of them.
func (l *lowering) transition(p *pattern, i int, at path) cond {
	o := &p.ops[i]
	if o.name == opTo && slices.ContainsFunc(p.ops, func(o operation) bool { return o.name == opFrom }) {
		return l.pattern(&o.parts[0], at, false)
	}
	differs := cond{op: condChanged, changed: []changed{{data: l.value(at, false, false), old: l.value(at, true, false)}}}
	return joined(appendAll([]cond{differs}, l.pattern(&o.parts[0], at, o.name == opFrom)))
}

func (l *lowering) changed(o *operation) cond {
	if o.outside {
		return cond{op: condChangedBeside, beside: o.paths}
	}
	c := cond{op: condChanged}
	for _, p := range o.paths {
		indexes := slices.ContainsFunc(p, isIndex)
		c.changed = append(c.changed, changed{data: l.value(p, false, indexes), old: l.value(p, true, indexes)})
	}
	return c
}

// isIndex reports whether a key is also the index of an element, written in the one way
// that counts.
func isIndex(key string) bool {
	if key == "" || key[0] == '0' && len(key) > 1 {
		return false
	}
	for i := range len(key) {
		if key[i] < '0' || key[i] > '9' {
			return false
		}
	}
	return true
}

func (l *lowering) leaf(o *operation, at path, old bool) cond {
	var op condOp
	switch o.name {
	case opEq:
		op = condExactly
		if o.value.kind.scalar() {
			op = condEqual
		}
	case opNe:
		op = condDiffers
	case opGt:
		op = condAbove
	case opGte:
		op = condAtLeast
	case opLt:
		op = condBelow
	case opLte:
		op = condAtMost
	case opIn:
		op = condIn
	case opNin:
		op = condNotIn
	case opPrefix:
		op = condPrefix
	case opSuffix:
		op = condSuffix
	case opContains:
		op = condSubstring
	default:
		op = condAbsent
		if o.value.kind == boolTrue {
			op = condPresent
		}
	}
	c := l.on(op, at, old)
	if op != condPresent && op != condAbsent {
		c.with = o.value
	}
	c.list = o.list
	return c
}
