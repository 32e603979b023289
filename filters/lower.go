package filters

import (
	"slices"
)

// lower turns a sorted pattern of a row into a program.
func lower(p *pattern) program {
	var data [few]path
	var at [few]string
	l := lowering{data: values{paths: data[:0], room: len(p.members)}}
	return l.program(l.pattern(p, at[:0], false))
}

// few is how many of something a filter has as a rule: there is room for so many before
// memory is asked for.
const few = 8

// lowering builds a program. Its methods take the path of the value that is meant, and
// whether the row before is.
type lowering struct {
	data, old values
	beside    bool // there is a condChangedBeside
	element   bool // the program is over an element of an array, not over a row
}

// values are those that a program reads of a row, each once.
type values struct {
	paths   []path
	indexes []bool   // see program
	keys    []string // memory for the keys of paths
	room    int      // for so many at first
}

// program returns the program whose conditions are joined in root. Paths are copied, as
// those of the lowering have room for more.
func (l *lowering) program(root cond) program {
	return program{
		root: root,
		data: append([]path(nil), l.data.paths...), dataIndexes: l.data.indexes,
		old: append([]path(nil), l.old.paths...), oldIndexes: l.old.indexes,
		dataRest: restsOf(l.data.paths, l.data.indexes), oldRest: restsOf(l.old.paths, l.old.indexes),
		beside: l.beside,
	}
}

// pattern returns the condition that p holds.
func (l *lowering) pattern(p *pattern, at path, old bool) cond {
	var room [few]cond
	return joined(l.must(room[:0], p, at, old))
}

// must appends the conditions that must all hold for p.
func (l *lowering) must(parts []cond, p *pattern, at path, old bool) []cond {
	switch p.kind {
	case object:
		return l.object(parts, p, at, old)
	case array:
		return append(parts, l.array(p, at, old))
	default:
		c := l.on(condEqual, at, old)
		c.with = p.scalar
		return append(parts, c)
	}
}

// on returns a condition on a value.
func (l *lowering) on(op condOp, at path, old bool) cond {
	return cond{op: op, old: old, at: l.value(at, old, false)}
}

// value returns the index of a value that the program reads.
func (l *lowering) value(at path, old, indexes bool) int {
	v := &l.data
	if old {
		v = &l.old
	}
	for i, p := range v.paths {
		if slices.Equal(p, at) && (i < len(v.indexes) && v.indexes[i]) == indexes {
			return i
		}
	}
	v.paths = append(v.paths, v.keep(at))
	if indexes {
		for len(v.indexes) < len(v.paths) {
			v.indexes = append(v.indexes, false)
		}
		v.indexes[len(v.paths)-1] = true
	}
	return len(v.paths) - 1
}

// keep returns a copy of a path, which shares memory with others.
func (v *values) keep(at path) path {
	if cap(v.keys)-len(v.keys) < len(at) {
		v.keys = make([]string, 0, max(len(at), v.room))
	}
	v.keys = append(v.keys, at...)
	return v.keys[len(v.keys)-len(at) : len(v.keys) : len(v.keys)]
}

func (l *lowering) object(parts []cond, p *pattern, at path, old bool) []cond {
	mine := len(parts)
	for i := range p.ops {
		parts = l.operation(parts, p, i, at, old)
	}
	for i := range p.members {
		m := &p.members[i]
		parts = l.must(parts, &m.value, append(at, m.key), old)
	}
	isRow := len(at) == 0 && !l.element
	if p.wantsObject() && !isRow && !l.impliesObject(parts[mine:], at, old) {
		parts = append(parts, l.on(condObject, at, old))
	}
	return parts
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
		return l.old.paths[c.at]
	}
	return l.data.paths[c.at]
}

// appendAll appends a condition to those that must all hold.
func appendAll(parts []cond, c cond) []cond {
	if c.op == condAll {
		return append(parts, c.subs...)
	}
	return append(parts, c)
}

// joined returns the condition that all parts hold. It does not keep parts.
func joined(parts []cond) cond {
	if len(parts) == 1 {
		return parts[0]
	}
	return cond{op: condAll, subs: append([]cond(nil), parts...)}
}

func (l *lowering) array(p *pattern, at path, old bool) cond {
	e := new(elements)
	for i := range p.elements {
		element := &p.elements[i]
		if element.kind.scalar() {
			e.scalars = append(e.scalars, element.scalar)
			continue
		}
		inner := lowering{element: true}
		filter := inner.program(inner.pattern(element, nil, false))
		filter.only = filter.kindOf(&filter.root)
		e.filters = append(e.filters, filter)
	}
	c := l.on(condArray, at, old)
	c.elements = e
	return c
}

// operation appends the conditions of the operator at index i of p.
func (l *lowering) operation(parts []cond, p *pattern, i int, at path, old bool) []cond {
	o := &p.ops[i]
	switch {
	case o.name == opAnd, o.name == opOr && len(o.parts) == 1:
		for i := range o.parts {
			parts = l.must(parts, &o.parts[i], at, old)
		}
		return parts
	case o.name == opOr:
		either := cond{op: condAny, subs: make([]cond, len(o.parts))}
		for i := range o.parts {
			either.subs[i] = l.pattern(&o.parts[i], at, old)
		}
		return append(parts, either)
	case o.name == opNot:
		return append(parts, cond{op: condNot, subs: []cond{l.pattern(&o.parts[0], at, old)}})
	case o.name == opBefore:
		return l.must(append(parts, cond{op: condHadRow}), &o.parts[0], at, true)
	case o.name == opFrom, o.name == opTo:
		return l.transition(parts, p, i, at)
	case o.name == opOp:
		return append(parts, cond{op: condOpIs, ops: o.ops})
	case o.name == opChanged:
		return append(parts, l.changed(o))
	default:
		return append(parts, l.leaf(o, at, old))
	}
}

// transition lowers $from and $to, which are one condition when they stand together:
// $from is the first of them.
func (l *lowering) transition(parts []cond, p *pattern, i int, at path) []cond {
	o := &p.ops[i]
	if o.name == opFrom || !slices.ContainsFunc(p.ops, func(o operation) bool { return o.name == opFrom }) {
		differs := changed{data: l.value(at, false, false), old: l.value(at, true, false)}
		parts = append(parts, cond{op: condChanged, rows: &rows{changed: []changed{differs}}})
	}
	return l.must(parts, &o.parts[0], at, o.name == opFrom)
}

func (l *lowering) changed(o *operation) cond {
	if o.outside {
		l.beside = true
		return cond{op: condChangedBeside, rows: &rows{beside: o.paths}}
	}
	pairs := make([]changed, len(o.paths))
	for i, p := range o.paths {
		indexes := slices.ContainsFunc(p, isIndex)
		pairs[i] = changed{data: l.value(p, false, indexes), old: l.value(p, true, indexes)}
	}
	return cond{op: condChanged, rows: &rows{changed: pairs}}
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
