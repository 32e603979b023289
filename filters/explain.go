package filters

import (
	"fmt"
	"strings"
	"unicode"
)

// Explanation is a condition of a filter with its verdict on one event.
type Explanation struct {
	Text    string        `json:"text"`            // the condition, close to how the filter puts it
	Verdict Verdict       `json:"verdict"`         // "yes", "no" or "unknown" as JSON
	Why     string        `json:"why,omitempty"`   // what was found; "" where the parts say it
	Parts   []Explanation `json:"parts,omitempty"` // of "all of", "any of", "not", "$before", $changed and arrays
}

// MarshalText returns what String does.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// The texts of conditions that join others.
const (
	textAll = "all of"
	textAny = "any of"
	textNot = "not"
)

// Explain says how each condition of the filter fares with an event. Its verdict is that
// of MatchEvent; that of a part is what the part alone would get.
func (f *Filter) Explain(e *Event) Explanation {
	if f == nil || f.text == "" {
		return Explanation{Text: "no filter", Why: "a filter that was never compiled matches nothing"}
	}
	var c compiler
	tree, _ := c.read(f.text, scope{root: true})
	tree.sort()
	var x explainer
	root := x.all(x.pattern(&tree, nil, false))
	program := x.program(root.whole())
	if !x.match.begin(e, &program, program.plans()) {
		return Explanation{Text: root.text, Why: "the row is not a JSON object"}
	}
	x.budget = x.match.left
	explained := x.explain(&root)
	explained.Verdict = f.MatchEvent(e)
	return explained
}

// explainer lowers a filter piece by piece.
type explainer struct {
	lowering
	match  match
	budget int // the work that one condition may take
}

// piece is a condition with what Explain says of it.
type piece struct {
	text  string
	cond  cond
	parts []piece
	why   func(*explainer, *piece) string // nil where the parts say it
}

// whole joins the conditions of a piece and of all its parts, so that what any of them
// reads is read.
func (p *piece) whole() cond {
	c := cond{op: condAll, subs: []cond{p.cond}}
	for i := range p.parts {
		c.subs = append(c.subs, p.parts[i].whole())
	}
	return c
}

func (x *explainer) explain(p *piece) Explanation {
	x.match.left = x.budget
	e := Explanation{Text: p.text, Verdict: x.match.verdict(&p.cond)}
	switch {
	case x.match.left < 0:
		e.Verdict, e.Why = Unknown, "the row is too large to decide this"
	case p.why != nil:
		e.Why = p.why(x, p)
	}
	for i := range p.parts {
		e.Parts = append(e.Parts, x.explain(&p.parts[i]))
	}
	return e
}

// all makes one piece of several that must all hold.
func (x *explainer) all(parts []piece) piece {
	switch len(parts) {
	case 0:
		return piece{text: "{}", cond: cond{op: condAll}, why: func(*explainer, *piece) string { return "it asks for nothing" }}
	case 1:
		return parts[0]
	}
	return piece{text: textAll, cond: joinedPieces(parts), parts: parts}
}

func joinedPieces(parts []piece) cond {
	c := cond{op: condAll}
	for i := range parts {
		c.subs = append(c.subs, parts[i].cond)
	}
	return c
}

// pattern returns the pieces that must all hold for a pattern.
func (x *explainer) pattern(p *pattern, at path, old bool) []piece {
	name := at.String()
	switch p.kind {
	case object:
	case array:
		return []piece{x.array(p, at, old)}
	default:
		return []piece{{text: name + " $eq " + show(&p.scalar), cond: x.lowering.pattern(p, at, old), why: (*explainer).whyValue}}
	}
	var pieces []piece
	for i := range p.ops {
		pieces = append(pieces, x.operation(p, i, at, old)...)
	}
	for i := range p.members {
		m := &p.members[i]
		pieces = append(pieces, x.pattern(&m.value, append(at, m.key), old)...)
	}
	var conds []cond
	for i := range pieces {
		if c := pieces[i].cond; c.op == condAll {
			conds = append(conds, c.subs...)
		} else {
			conds = append(conds, c)
		}
	}
	if p.wantsObject() && len(at) > 0 && !x.impliesObject(conds, at, old) {
		pieces = append(pieces, piece{text: name + " is an object", cond: x.on(condObject, at, old), why: (*explainer).whyValue})
	}
	return pieces
}

func (x *explainer) operation(p *pattern, i int, at path, old bool) []piece {
	o := &p.ops[i]
	switch o.name {
	case opAnd:
		var pieces []piece
		for i := range o.parts {
			pieces = append(pieces, x.pattern(&o.parts[i], at, old)...)
		}
		return pieces
	case opOr:
		either := piece{text: textAny, cond: cond{op: condAny}}
		for i := range o.parts {
			part := x.all(x.pattern(&o.parts[i], at, old))
			either.parts, either.cond.subs = append(either.parts, part), append(either.cond.subs, part.cond)
		}
		return []piece{either}
	case opNot:
		part := x.all(x.pattern(&o.parts[0], at, old))
		return []piece{{text: textNot, cond: cond{op: condNot, subs: []cond{part.cond}}, parts: []piece{part}}}
	case opBefore:
		parts := x.pattern(&o.parts[0], at, true)
		had := cond{op: condHadRow}
		return []piece{{text: string(opBefore), cond: cond{op: condAll, subs: []cond{had, joinedPieces(parts)}}, parts: parts, why: (*explainer).whyBefore}}
	case opFrom, opTo:
		return x.transition(p, i, at)
	case opChanged:
		return []piece{x.changed(o)}
	case opOp:
		return []piece{{text: shown(o, ""), cond: cond{op: condOpIs, ops: o.ops}, why: (*explainer).whyOp}}
	default:
		return []piece{{text: shown(o, at.String()), cond: x.leaf(o, at, old), why: (*explainer).whyValue}}
	}
}

// array explains an array as a whole, and each of its elements if there are several.
func (x *explainer) array(p *pattern, at path, old bool) piece {
	one := func(p *pattern, text string) piece {
		text = at.String() + " " + text + " " + cut(string(p.appendText(nil)))
		return piece{text: text, cond: x.lowering.array(p, at, old), why: (*explainer).whyArray}
	}
	whole := one(p, "holds")
	if len(p.elements) > 1 {
		for i := range p.elements {
			part := pattern{kind: array, elements: p.elements[i : i+1]}
			whole.parts = append(whole.parts, one(&part, "holds"))
		}
	}
	return whole
}

// transition explains $from and $to as one condition.
func (x *explainer) transition(p *pattern, i int, at path) []piece {
	o := &p.ops[i]
	text := shown(o, at.String())
	x.lowering.transition(p, i, at)
	c := x.joined(0)
	for j := range p.ops {
		switch other := &p.ops[j]; {
		case o.name == opTo && other.name == opFrom:
			return nil // it is part of that
		case o.name == opFrom && other.name == opTo:
			text = shown(o, at.String()) + " " + shown(other, "")
			x.add(c)
			x.lowering.transition(p, j, at)
			c = x.joined(0)
		}
	}
	return []piece{{text: text, cond: c, why: (*explainer).whyChanged}}
}

// changed explains $changed, and each of its paths if there are several.
func (x *explainer) changed(o *operation) piece {
	whole := piece{text: shown(o, ""), cond: x.lowering.changed(o), why: (*explainer).whyBeside}
	switch {
	case o.outside:
	case len(o.paths) == 1:
		whole.why = (*explainer).whyChanged
	default:
		whole.why = nil
		for i := range o.paths {
			one := operation{name: opChanged, paths: o.paths[i : i+1]}
			whole.parts = append(whole.parts, piece{text: o.paths[i].String(), cond: x.lowering.changed(&one), why: (*explainer).whyChanged})
		}
	}
	return whole
}

// whyValue says what the value of a condition is.
func (x *explainer) whyValue(p *piece) string {
	c := &p.cond
	side, is := &x.match.data, "is "
	if c.old {
		side, is = &x.match.old, "was "
	}
	raw, told := side.value(c.at, &x.match.left)
	switch {
	case !told:
		return x.untold(c.old)
	case raw == "":
		return is + "missing"
	}
	k := kindOf(raw[0])
	switch c.op {
	case condAbove, condAtLeast, condBelow, condAtMost, condPrefix, condSuffix, condSubstring:
		if k != c.with.kind {
			return is + describe(k) + ", not " + describe(c.with.kind)
		}
	case condObject:
		return is + describe(k)
	case condIn, condNotIn:
		if !k.scalar() {
			return is + describe(k)
		}
	default: // the value says it
	}
	return is + cut(raw)
}

// untold says why a value is not known.
func (x *explainer) untold(old bool) string {
	switch {
	case !old:
		return "was not sent"
	case x.match.event.Op == OpUnknown:
		return "what happened to the row is not known"
	case x.match.old.unknown:
		return "the row before was not sent"
	default:
		return "its value before was not sent"
	}
}

// whyArray says what an array was compared with.
func (x *explainer) whyArray(p *piece) string {
	why := x.whyValue(p)
	side := &x.match.data
	if p.cond.old {
		side = &x.match.old
	}
	raw, told := side.value(p.cond.at, &x.match.left)
	if !told || raw == "" {
		return why
	}
	is, _, _ := strings.Cut(why, " ")
	if raw[0] != '[' {
		return is + " " + describe(kindOf(raw[0])) + ", not an array"
	}
	count := 0
	for i, more := x.match.first(raw); more; count++ {
		_, i, more = x.match.next(raw, i)
	}
	return fmt.Sprintf("%s an array of %d", is, count)
}

// whyChanged says what a value was and what it is.
func (x *explainer) whyChanged(p *piece) string {
	if op := x.match.event.Op; op != OpInsert && op != OpRead && op != OpUpdate {
		return x.whyNothing()
	}
	var pairs []changed
	p.cond.each(func(c *cond) {
		if c.rows != nil {
			pairs = append(pairs, c.rows.changed...)
		}
	})
	was, is := cond{op: condPresent, old: true, at: pairs[0].old}, cond{op: condPresent, at: pairs[0].data}
	if after, sent := x.match.data.value(is.at, &x.match.left); x.match.changed(pairs) != No {
		return x.whyValue(&piece{cond: was}) + ", " + x.whyValue(&piece{cond: is})
	} else if sent {
		return "is " + orMissing(after) + " as before"
	}
	return "did not change"
}

func orMissing(raw string) string {
	if raw == "" {
		return "missing"
	}
	return cut(raw)
}

// whyNothing says why there are no two rows to compare, "" if there are.
func (x *explainer) whyNothing() string {
	switch x.match.event.Op {
	case OpInsert, OpRead:
		return "there was no row before"
	case OpDelete:
		return "the row was deleted"
	case OpTruncate:
		return "the table was emptied"
	case OpUnknown:
		return "what happened to the row is not known"
	default:
		return ""
	}
}

// whyBefore says why there is no row before; if there is one, the parts say what it was.
func (x *explainer) whyBefore(*piece) string {
	if x.match.event.Op == OpDelete {
		return ""
	}
	return x.whyNothing()
}

// whyBeside explains what $changed says of everything outside its paths.
func (x *explainer) whyBeside(p *piece) string {
	op := x.match.event.Op
	if op != OpInsert && op != OpRead && op != OpUpdate {
		return x.whyNothing()
	}
	switch x.match.verdict(&p.cond) {
	case Yes:
		return "something else differs"
	case No:
		return "nothing else differs"
	default:
		return "not everything else was sent"
	}
}

func (x *explainer) whyOp(*piece) string {
	if x.match.event.Op == OpUnknown {
		return "what happened to the row is not known"
	}
	return "is " + x.match.event.Op.String()
}

// shown writes an operator with its operand, behind the path that it is about.
func shown(o *operation, at string) string {
	return strings.TrimPrefix(at+" "+string(o.name)+" "+cut(string(o.appendOperand(nil))), " ")
}

func show(n *node) string { return cut(string(n.appendText(nil))) }

// cut makes a text of JSON fit for a line of a terminal: not too long, and without
// characters that would do anything there.
func cut(s string) string {
	const most = 80
	s = shorten(s, most)
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		default:
			return unicode.ReplacementChar
		}
	}, s)
}
