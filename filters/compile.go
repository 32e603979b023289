package filters

import (
	"slices"
	"strings"
	"sync"

	"github.com/tidwall/gjson"
)

// Compile reads a filter. The error, if there is one, is of type Errors and lists every
// mistake; only a text that is not JSON or nested too deep hides the mistakes behind it.
func Compile(src []byte) (*Filter, error) {
	return compile(src, scope{root: true})
}

// CompileOld reads a filter on the old row, which is matched as the Doc it gets: the
// same language without change conditions.
func CompileOld(src []byte) (*Filter, error) {
	return compile(src, scope{root: true, barred: ofOldRow})
}

func compile(src []byte, s scope) (*Filter, error) {
	c := compilers.Get().(*compiler)
	defer compilers.Put(c)
	c.begin()
	if len(src) > MaxText {
		c.add(TooLarge, "", "the filter has %d bytes; the limit is %d", len(src), MaxText)
		return nil, c.errs
	}
	f := &Filter{source: string(src)} // strings of the program are parts of it
	tree, ok := c.read(f.source, s)
	if !ok {
		return nil, c.errs
	}
	tree.sort()
	c.canonical = tree.appendText(c.canonical[:0])
	if len(c.canonical) > MaxText {
		c.add(TooLarge, "", "the filter has %d bytes in canonical form, with its numbers and operators written out; the limit is %d", len(c.canonical), MaxText)
		return nil, c.errs
	}
	if f.text = f.source; string(c.canonical) != f.text {
		f.text = string(c.canonical)
	}
	f.program = c.lowering.lower(&tree, false)
	return f, nil
}

// compiler reads the text of a filter into a pattern and collects mistakes. After a
// mistake it goes on, to find the next one, with a pattern that nobody will use.
type compiler struct {
	errs   Errors
	leaves int
	at     place // what is being read

	// Memory that is used again:
	members     []entry     // of all objects that are being read
	ops         []operation // the same
	patterns    []pattern   // of all arrays and operands
	nodes       []node      // the same
	entryRoom   room[entry]
	opRoom      room[operation]
	patternRoom room[pattern]
	canonical   []byte
	lowering    lowering
}

// compilers are kept for their memory.
var compilers = sync.Pool{New: func() any { return new(compiler) }} //nolint:gochecknoglobals // memory that is used again

func (c *compiler) begin() {
	c.errs, c.leaves, c.at = nil, 0, c.at[:0]
	c.entryRoom.begin()
	c.opRoom.begin()
	c.patternRoom.begin()
}

// room is memory for the parts of a tree, which is gone once the filter is compiled.
type room[E any] []E

func (r *room[E]) begin() {
	clear(*r)
	*r = (*r)[:0]
}

// take moves the end of a list to the room.
func (r *room[E]) take(list *[]E, from int) []E {
	n := len(*list) - from
	if n == 0 {
		return nil
	}
	if cap(*r)-len(*r) < n {
		*r = make([]E, 0, max(16, 2*n)) // what was taken before stays where it is
	}
	at := len(*r)
	*r = append(*r, (*list)[from:]...)
	clear((*list)[from:])
	*list = (*list)[:from]
	return (*r)[at : at+n : at+n]
}

// taken returns a copy of the end of a list, which is taken away.
func taken[E any](list *[]E, from int) []E {
	if from == len(*list) {
		return nil
	}
	end := append([]E(nil), (*list)[from:]...)
	clear((*list)[from:])
	*list = (*list)[:from]
	return end
}

// add reports a mistake in what is being read.
func (c *compiler) add(code Code, suggestion, format string, args ...any) {
	c.errs.add(code, c.at, suggestion, format, args...)
}

// scope says what may stand at a place of a filter.
type scope struct {
	root   bool     // neither key nor array above: whole rows are meant
	barred string   // where change conditions may not stand at all, "" if they may
	value  operator // not "": inside the operand of this operator, where values are plain
	loose  bool     // a mistake has been reported already: operators may stand anywhere
}

// Where change conditions may not stand.
const (
	insideArray  = "inside an array"
	insideBefore = "inside $before"
	ofOldRow     = "in a filter on the old row"
)

// remedy says what to do about a change condition in a scope that is barred.
func (s scope) remedy() string {
	switch s.barred {
	case insideArray:
		return `compare the array as a whole: {"$changed": ["path.of.array"]}`
	case insideBefore:
		return "move it out of $before"
	default:
		return "move it to the filter on the new row"
	}
}

// below is the scope under a plain key.
func (s scope) below() scope {
	s.root = false
	return s
}

// read reads a whole filter. ok is false when there were mistakes.
func (c *compiler) read(whole string, s scope) (tree pattern, ok bool) {
	if bad := checkSyntax(whole, MaxDepth); bad.problem == tooDeep {
		c.add(TooLarge, "", "the filter is nested more than %d levels deep", MaxDepth)
		return tree, false
	} else if bad.problem != "" {
		c.add(BadJSON, "", "the filter is not JSON: %s at byte %d", bad.problem, bad.offset)
		return tree, false
	}
	whole = whole[skipSpace(whole, 0):]
	if whole[0] != '{' {
		c.add(NotObject, "{} matches every event", "a filter is a JSON object, not %s", describe(kindOf(whole[0])))
		return tree, false
	}
	tree = c.pattern(gjson.Result{Type: gjson.JSON, Raw: whole}, s)
	if c.leaves > MaxLeaves {
		c.add(TooLarge, "", "the filter has %d values; the limit is %d", c.leaves, MaxLeaves)
	}
	if tree.alternatives() > MaxAlternatives {
		c.add(TooLarge, "an $in list counts once",
			"the filter can match in more than %d ways once every $or is multiplied out", MaxAlternatives)
	}
	return tree, len(c.errs) == 0
}

// pattern reads what may stand where a value may; the syntax and the depth of its text
// have been checked.
func (c *compiler) pattern(v gjson.Result, s scope) pattern {
	p := pattern{kind: kindOf(v.Raw[0])}
	switch p.kind {
	case object:
		c.object(&p, v, s)
	case array:
		s.root = false
		if s.barred == "" {
			s.barred = insideArray
		}
		from := len(c.patterns)
		c.each(v, func(element gjson.Result) {
			one := c.pattern(element, s)
			c.patterns = append(c.patterns, one)
		})
		p.elements = c.patternRoom.take(&c.patterns, from)
		if len(p.elements) == 0 {
			c.leaves++
		}
	default:
		p.scalar = c.scalar(v)
	}
	return p
}

// scalar reads a string, a number, a boolean or null.
func (c *compiler) scalar(v gjson.Result) node {
	c.leaves++
	n := node{kind: kindOf(v.Raw[0])}
	switch n.kind {
	case number:
		d, ok := parseDecimal(v.Raw)
		if !ok {
			c.add(BadJSON, "", "the number is outside the range of jsonb: %d digits before the point, %d after it", maxWholeDigits, maxScale)
		}
		n = numberNode(d)
	case text:
		n.text = c.text(v.Raw, "the string")
	default: // null and booleans are nothing but their kind
	}
	return n
}

// literal reads the operand of $eq or $ne, whose arrays keep their order.
func (c *compiler) literal(v gjson.Result, o operator) node {
	n := node{kind: kindOf(v.Raw[0])}
	switch n.kind {
	case object:
		var members []member
		c.eachMember(v, func(written string, _ bool, value gjson.Result) {
			key, operator := keyOf(written)
			if operator {
				c.operatorInValue(written, o)
			}
			members = append(members, member{key: key, value: c.literal(value, o)})
		})
		if len(members) == 0 {
			c.leaves++
		}
		slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.key, b.key) })
		n.whole = &whole{members: members}
	case array:
		from := len(c.nodes)
		c.each(v, func(element gjson.Result) {
			one := c.literal(element, o)
			c.nodes = append(c.nodes, one)
		})
		n.whole = &whole{elements: taken(&c.nodes, from)}
		if len(n.whole.elements) == 0 {
			c.leaves++
		}
	default:
		return c.scalar(v)
	}
	return n
}

// object reads an object: plain keys, operators, or both.
func (c *compiler) object(p *pattern, v gjson.Result, s scope) {
	empty, members, ops := true, len(c.members), len(c.ops)
	c.eachMember(v, func(written string, repeated bool, value gjson.Result) {
		empty = false
		key, isOperator := keyOf(written)
		if !isOperator {
			member := entry{key: key, value: c.pattern(value, s.below())}
			c.members = append(c.members, member)
			return
		}
		name := operatorOf(written)
		switch {
		case name == "":
			c.unknownOperator(written)
		case s.value != "":
			c.operatorInValue(written, s.value)
		case !s.loose:
			c.position(name, written, s)
			if !repeated {
				c.company(v, c.ops[ops:], name, written, s)
			}
		}
		if name == "" || s.value != "" {
			c.skip(value)
			return
		}
		operation := c.operation(name, written, value, s)
		c.ops = append(c.ops, operation)
	})
	if empty {
		c.leaves++
	}
	p.members, p.ops = c.entryRoom.take(&c.members, members), c.opRoom.take(&c.ops, ops)
	slices.SortFunc(p.members, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	slices.SortFunc(p.ops, func(a, b operation) int { return strings.Compare(string(a.name), string(b.name)) })
}

// company reports an operator that may not stand beside what else is in its object.
func (c *compiler) company(v gjson.Result, ops []operation, name operator, written string, s scope) {
	if !s.root && !name.logic() && !name.ofEvent() {
		if plain, mixed := plainKey(v); mixed {
			c.add(MixedObject, "remove one of them, or write "+quote("$"+written)+" for a key that is literally "+quote(written),
				"%s is about one value and may not stand beside the key %s, which asks for an object", written, quote(plain))
		}
	}
	if slices.ContainsFunc(ops, func(o operation) bool { return o.name == name }) {
		c.add(BadJSON, "", "%s is said twice in the same object, by two names", name)
	}
}

// plainKey returns the first key of an object that is no operator.
func plainKey(v gjson.Result) (key string, found bool) {
	v.ForEach(func(k, _ gjson.Result) bool {
		key, _ = decodeString(k.Raw)
		_, operator := keyOf(key)
		found = !operator
		return !found
	})
	return key, found
}

// position reports an operator that may not stand where it does.
func (c *compiler) position(name operator, written string, s scope) {
	change := name.ofEvent() || name == opFrom || name == opTo
	switch {
	case change && s.barred != "":
		c.add(BadPosition, s.remedy(), "%s is about a change and may not stand %s", written, s.barred)
	case name.ofEvent() && !s.root:
		c.add(BadPosition, "move it to the top level of the filter", "%s is about the whole event and may not stand below a key", written)
	case s.root && !name.ofEvent() && !name.logic():
		c.add(BadPosition, `write it below a column: {"column": {"`+written+`": …}}`,
			"%s is about one value and may not stand at the top level, where the whole row is meant", written)
	}
}

// eachMember calls visit with each member of an object. It reports what is wrong with the
// keys as such.
func (c *compiler) eachMember(v gjson.Result, visit func(written string, repeated bool, value gjson.Result)) {
	var seen keySet
	v.ForEach(func(key, value gjson.Result) bool {
		written := c.text(key.Raw, "a key")
		if len(written) > MaxKey {
			c.add(TooLarge, "", "the key %s has %d bytes; the limit is %d", quote(written), len(written), MaxKey)
		}
		c.at.enterKey(written)
		repeated := !seen.add(written)
		if repeated {
			c.add(BadJSON, "", "the key %s is written more than once in the same object", quote(written))
		}
		visit(written, repeated, value)
		c.at.leave()
		return true
	})
}

// keySet is a set of keys, which are few as a rule.
type keySet struct {
	few  [8]string
	n    int
	many map[string]bool
}

// add reports whether key is new.
func (s *keySet) add(key string) bool {
	if slices.Contains(s.few[:s.n], key) || s.many[key] {
		return false
	}
	if s.n < len(s.few) {
		s.few[s.n] = key
		s.n++
		return true
	}
	if s.many == nil {
		s.many = make(map[string]bool)
	}
	s.many[key] = true
	return true
}

// each calls visit with each element of an array.
func (c *compiler) each(v gjson.Result, visit func(element gjson.Result)) {
	index := 0
	v.ForEach(func(_, element gjson.Result) bool {
		c.at.enterIndex(index)
		visit(element)
		c.at.leave()
		index++
		return true
	})
}

// skip reads a value for the mistakes in it, where one about it has been reported.
func (c *compiler) skip(v gjson.Result) { c.pattern(v, scope{loose: true}) }

// keyOf returns the literal key that a key of a filter stands for, and whether it is an
// operator instead: it begins with a single dollar sign.
func keyOf(written string) (key string, operator bool) {
	rest, dollar := strings.CutPrefix(written, "$")
	switch {
	case !dollar:
		return written, false
	case strings.HasPrefix(rest, "$"):
		return rest, false
	}
	return written, true
}

// text decodes a string or key and reports one that jsonb cannot hold.
func (c *compiler) text(raw string, what string) string {
	s, storable := decodeString(raw)
	if !storable {
		c.add(BadJSON, "", `%s has \u0000 or half of a surrogate pair, which jsonb cannot hold`, what)
	}
	return s
}
