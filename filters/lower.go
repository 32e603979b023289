package filters

import (
	"slices"
)

// lowering builds a program. Its methods take the path of the value that is meant, and
// whether the row before is.
type lowering struct {
	data, old values
	parts     []cond // that must all hold, of several patterns at once: see pattern
	at        [MaxDepth]string
	inner     *lowering // of the elements of arrays
	beside    bool      // there is a condChangedBeside
	element   bool      // the program is over an element of an array, not over a row
}

// values are those that a program reads of a row, each once.
type values struct {
	paths   []path
	indexes []bool   // see program
	keys    []string // memory of paths
}

// lower turns a sorted pattern of a row, or of an element, into a program. The lowering
// can be used again: of its memory the program has only copies.
func (l *lowering) lower(p *pattern, element bool) program {
	l.element, l.beside = element, false
	l.data.begin()
	l.old.begin()
	return l.program(l.pattern(p, l.at[:0], false))
}

func (v *values) begin() { *v = values{paths: v.paths[:0], keys: v.keys[:0]} }

// list returns a copy of the paths that takes no more memory than it needs.
func (v *values) list() []path {
	if len(v.paths) == 0 {
		return nil
	}
	count := 0
	for _, p := range v.paths {
		count += len(p)
	}
	list, keys := make([]path, len(v.paths)), make([]string, 0, count)
	for i, p := range v.paths {
		keys = append(keys, p...)
		list[i] = keys[len(keys)-len(p) : len(keys) : len(keys)]
	}
	return list
}

// program returns the program whose conditions are joined in root.
func (l *lowering) program(root cond) program {
	p := program{
		root: root, beside: l.beside,
		data: l.data.list(), dataIndexes: l.data.indexes,
		old: l.old.list(), oldIndexes: l.old.indexes,
	}
	p.dataRest, p.oldRest = restsOf(p.data, p.dataIndexes), restsOf(p.old, p.oldIndexes)
	return p
}

// pattern returns the condition that p holds.
func (l *lowering) pattern(p *pattern, at path, old bool) cond {
	from := len(l.parts)
	l.must(p, at, old)
	return l.joined(from)
}

// joined takes the parts from an index on away and returns the condition that they all
// hold.
func (l *lowering) joined(from int) cond {
	parts := l.parts[from:]
	c := cond{op: condAll}
	if len(parts) == 1 {
		c = parts[0]
	} else {
		c.subs = append([]cond(nil), parts...)
	}
	clear(parts)
	l.parts = l.parts[:from]
	return c
}

// must adds to the parts what must hold for p.
func (l *lowering) must(p *pattern, at path, old bool) {
	switch p.kind {
	case object:
		l.object(p, at, old)
	case array:
		l.add(l.array(p, at, old))
	default:
		c := l.on(condEqual, at, old)
		c.with = p.scalar
		l.add(c)
	}
}

func (l *lowering) add(c cond) { l.parts = append(l.parts, c) }

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
	v.keys = append(v.keys, at...)
	v.paths = append(v.paths, v.keys[len(v.keys)-len(at):])
	if indexes {
		for len(v.indexes) < len(v.paths) {
			v.indexes = append(v.indexes, false)
		}
		v.indexes[len(v.paths)-1] = true
	}
	return len(v.paths) - 1
}

func (l *lowering) object(p *pattern, at path, old bool) {
	from := len(l.parts)
	for i := range p.ops {
		l.operation(p, i, at, old)
	}
	for i := range p.members {
		m := &p.members[i]
		l.must(&m.value, append(at, m.key), old)
	}
	isRow := len(at) == 0 && !l.element
	if p.wantsObject() && !isRow && !l.impliesObject(l.parts[from:], at, old) {
		l.add(l.on(condObject, at, old))
	}
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

func (l *lowering) array(p *pattern, at path, old bool) cond {
	e := new(elements)
	scalars := 0 // they come first
	for scalars < len(p.elements) && p.elements[scalars].kind.scalar() {
		scalars++
	}
	if scalars > 0 {
		e.scalars = make([]node, scalars)
	}
	for i := range e.scalars {
		e.scalars[i] = p.elements[i].scalar
	}
	if others := p.elements[scalars:]; len(others) > 0 {
		if l.inner == nil {
			l.inner = new(lowering)
		}
		e.filters = make([]program, len(others))
		for i := range others {
			f := &e.filters[i]
			*f = l.inner.lower(&others[i], true)
			f.only = f.kindOf(&f.root)
		}
	}
	c := l.on(condArray, at, old)
	c.elements = e
	return c
}

// operation adds what the operator at index i of p asks for.
func (l *lowering) operation(p *pattern, i int, at path, old bool) {
	o := &p.ops[i]
	switch {
	case o.name == opAnd, o.name == opOr && len(o.parts) == 1:
		for i := range o.parts {
			l.must(&o.parts[i], at, old)
		}
	case o.name == opOr:
		either := cond{op: condAny, subs: make([]cond, len(o.parts))}
		for i := range o.parts {
			either.subs[i] = l.pattern(&o.parts[i], at, old)
		}
		l.add(either)
	case o.name == opNot:
		l.add(cond{op: condNot, subs: []cond{l.pattern(&o.parts[0], at, old)}})
	case o.name == opBefore:
		l.add(cond{op: condHadRow})
		l.must(&o.parts[0], at, true)
	case o.name == opFrom, o.name == opTo:
		l.transition(p, i, at)
	case o.name == opOp:
		l.add(cond{op: condOpIs, ops: o.ops})
	case o.name == opChanged:
		l.add(l.changed(o))
	default:
		l.add(l.leaf(o, at, old))
	}
}

// transition lowers $from and $to, which are one condition when they stand together:
// $from is the first of them.
func (l *lowering) transition(p *pattern, i int, at path) {
	o := &p.ops[i]
	if o.name == opFrom || !slices.ContainsFunc(p.ops, func(o operation) bool { return o.name == opFrom }) {
		differs := changed{data: l.value(at, false, false), old: l.value(at, true, false)}
		l.add(cond{op: condChanged, rows: &rows{changed: []changed{differs}}})
	}
	l.must(&o.parts[0], at, o.name == opFrom)
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
