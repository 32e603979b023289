package filters

import (
	"fmt"
	"slices"
	"strings"
)

// Warning is a remark about a filter that is good but hardly meant.
type Warning struct {
	Code    Code   `json:"code"`
	Pointer string `json:"pointer"` // where: a JSON Pointer; "" is the whole filter
	Message string `json:"message"`
}

// The codes of warnings.
const (
	// MatchesAll means that the filter is {}.
	MatchesAll Code = "matches_all"
	// NeverMatches means conditions that never hold together. Where they stand in an
	// $or, only that alternative is lost.
	NeverMatches Code = "never_matches"
	// UnknownPath means a path that the schema of the event type does not have. It
	// takes UnknownPaths to find one.
	UnknownPath Code = "unknown_path"
)

// maxWarnings bounds what we say about one filter.
const maxWarnings = 16

// Warnings returns what is worth telling whoever wrote the filter. What it says is
// true, but it does not find everything there is to say.
func (f *Filter) Warnings() []Warning {
	if f == nil || f.text == "" {
		return nil
	}
	var c compiler
	tree, _ := c.read(f.source, scope{root: true})
	return tree.warnings()
}

// warnings returns the remarks about a pattern of a row.
func (p *pattern) warnings() []Warning {
	if p.kind == object && len(p.members) == 0 && len(p.ops) == 0 {
		return []Warning{{Code: MatchesAll, Message: "the filter matches every event of its type"}}
	}
	if !p.hasOperators() {
		return nil // every value has one condition, and no condition is impossible
	}
	var r review
	r.together(task{pattern: p, at: "data"})
	return r.warnings
}

func (p *pattern) hasOperators() bool {
	for i := range p.members {
		if p.members[i].value.hasOperators() {
			return true
		}
	}
	for i := range p.elements {
		if p.elements[i].hasOperators() {
			return true
		}
	}
	return len(p.ops) > 0
}

// review looks for conditions that must hold together and cannot.
type review struct {
	warnings []Warning
	here     place
	facts    []fact // all that must hold where the review is
	later    []task // alternatives, to be reviewed when all facts that they share are known
}

// task is a pattern to be reviewed.
type task struct {
	pattern *pattern
	at      string // the value it is about: its row and its path
	place   place
}

// fact is a condition that must hold.
type fact struct {
	at    string
	text  string   // the condition, for people
	kinds kindSet  // what the value can be; none if it must be missing
	among []node   // if not empty, the scalars that it must equal one of
	op    operator // "" when kinds and among say everything
	value node
	list  []node
	ops   opSet // what can have happened, if at is "": the fact is about the event
}

// kindSet is a set of kinds.
type kindSet uint16

const (
	anyKind   kindSet = 1<<(object+1) - 1<<null
	anyScalar kindSet = 1<<array - 1<<null
)

// together reviews what must hold together, and then each alternative of it.
func (r *review) together(t task) {
	facts, later := len(r.facts), len(r.later)
	r.here = t.place
	r.pattern(t.pattern, t.at)
	alternatives := slices.Clone(r.later[later:])
	r.later = r.later[:later]
	for _, one := range alternatives {
		r.together(one)
	}
	r.facts = r.facts[:facts]
}

// alone reviews a pattern that shares no facts with its surroundings.
func (r *review) alone(p *pattern) {
	if !p.hasOperators() {
		return
	}
	inner := review{warnings: r.warnings}
	inner.together(task{pattern: p, at: "element", place: slices.Clone(r.here)})
	r.warnings = inner.warnings
}

func (r *review) pattern(p *pattern, at string) {
	switch {
	case p.kind == array:
		r.must(fact{at: at, text: "an array", kinds: 1 << array})
		for i := range p.elements {
			r.here.enterIndex(i)
			r.alone(&p.elements[i])
			r.here.leave()
		}
		return
	case p.kind != object:
		r.equals(at, p.scalar)
		return
	case p.wantsObject() && len(r.here) > 0:
		r.must(fact{at: at, text: "an object", kinds: 1 << object})
	}
	for i := range p.ops {
		r.here.enterKey(p.ops[i].written)
		r.operation(&p.ops[i], p, at)
		r.here.leave()
	}
	for i := range p.members {
		m := &p.members[i]
		r.here.enterKey(m.key)
		r.pattern(&m.value, at+"/"+pointerEscapes(m.key))
		r.here.leave()
	}
}

func (r *review) operation(o *operation, of *pattern, at string) {
	switch o.name {
	case opAnd:
		for i := range o.parts {
			r.here.enterIndex(i)
			r.pattern(&o.parts[i], at)
			r.here.leave()
		}
	case opOr:
		for i := range o.parts {
			r.here.enterIndex(i)
			r.later = append(r.later, task{&o.parts[i], at, slices.Clone(r.here)})
			r.here.leave()
		}
	case opNot: // what cannot hold is all the better here
	case opBefore:
		r.happened("$before", 1<<OpUpdate|1<<OpDelete)
		r.pattern(&o.parts[0], "old")
	case opOp:
		r.happened(string(o.appendOperand([]byte("$op "))), o.ops)
	case opChanged:
		r.happened("$changed", 1<<OpInsert|1<<OpUpdate|1<<OpRead)
	case opFrom:
		r.happened("$from", 1<<OpUpdate)
		r.pattern(&o.parts[0], "old"+at[len("data"):])
	case opTo:
		r.happened("$to", 1<<OpInsert|1<<OpUpdate|1<<OpRead)
		r.pattern(&o.parts[0], at)
		for i := range of.ops {
			if from := &of.ops[i]; from.name == opFrom && from.parts[0].kind.scalar() && o.parts[0].kind.scalar() &&
				compareElements(from.parts[0].scalar, o.parts[0].scalar) == 0 {
				r.warn("$from and $to are the same, and a change is asked for")
			}
		}
	default:
		r.leaf(o, at)
	}
}

func (r *review) leaf(o *operation, at string) {
	f := fact{at: at, op: o.name, value: o.value, list: o.list, text: string(o.appendOperand([]byte(o.name + " ")))}
	switch o.name {
	case opEq:
		if o.value.kind.scalar() {
			r.equals(at, o.value)
			return
		}
		f.kinds = 1 << o.value.kind
	case opIn:
		f.among = o.list
		for _, n := range o.list {
			f.kinds |= 1 << n.kind
		}
	case opNin:
		f.kinds = anyScalar
	case opNe:
		f.kinds = anyKind
	case opExists:
		if o.value.kind == boolTrue {
			f.kinds = anyKind
		}
	default:
		f.kinds = 1 << o.value.kind
	}
	r.must(f)
}

func (r *review) equals(at string, n node) {
	r.must(fact{at: at, text: string(n.appendText(nil)), kinds: 1 << n.kind, among: []node{n}})
}

// happened adds what the event must be for a condition to hold.
func (r *review) happened(condition string, ops opSet) {
	r.must(fact{text: condition, ops: ops})
}

// must adds a fact, and says so when it contradicts an earlier one.
func (r *review) must(f fact) {
	for i := range r.facts {
		g := &r.facts[i]
		if f.at != g.at || !f.contradicts(g) {
			continue
		}
		if f.at == "" {
			r.warn("no event satisfies both %s and %s", shorten(g.text, 80), shorten(f.text, 80))
		} else {
			r.warn("no value satisfies both %s and %s", shorten(g.text, 80), shorten(f.text, 80))
		}
		return
	}
	if f.at == "element" && f.kinds == 0 {
		r.warn("an element of an array is always there")
	}
	r.facts = append(r.facts, f)
}

func (r *review) warn(format string, args ...any) {
	if len(r.warnings) < maxWarnings {
		r.warnings = append(r.warnings, Warning{Code: NeverMatches, Pointer: r.here.pointer(), Message: fmt.Sprintf(format, args...)})
	}
}

// contradicts reports whether f and g, which are about the same, never hold together.
func (f *fact) contradicts(g *fact) bool {
	if f.at == "" {
		return f.ops&g.ops == 0
	}
	if f.kinds == 0 && g.kinds == 0 {
		return false // both want it missing
	}
	return f.kinds&g.kinds == 0 || f.excludes(g) || g.excludes(f)
}

// excludes reports whether f leaves nothing that g accepts: none of the scalars that it
// allows, or nothing above its bound.
func (f *fact) excludes(g *fact) bool {
	if len(f.among) > 0 {
		return !slices.ContainsFunc(f.among, g.accepts)
	}
	lower, upper := f.op == opGt || f.op == opGte, g.op == opLt || g.op == opLte
	if !lower || !upper {
		return false
	}
	c := compareElements(f.value, g.value)
	return c > 0 || c == 0 && (f.op == opGt || g.op == opLt)
}

// accepts reports whether the scalar n may satisfy f.
func (f *fact) accepts(n node) bool {
	if f.kinds>>n.kind&1 == 0 {
		return false
	}
	if len(f.among) > 0 {
		return slices.ContainsFunc(f.among, func(m node) bool { return compareElements(m, n) == 0 })
	}
	switch f.op {
	case opNe:
		return compareElements(f.value, n) != 0
	case opNin:
		return !slices.ContainsFunc(f.list, func(m node) bool { return compareElements(m, n) == 0 })
	case opGt:
		return compareElements(n, f.value) > 0
	case opGte:
		return compareElements(n, f.value) >= 0
	case opLt:
		return compareElements(n, f.value) < 0
	case opLte:
		return compareElements(n, f.value) <= 0
	case opPrefix:
		return strings.HasPrefix(n.text, f.value.text)
	case opSuffix:
		return strings.HasSuffix(n.text, f.value.text)
	case opContains:
		return strings.Contains(n.text, f.value.text)
	default:
		return true
	}
}
