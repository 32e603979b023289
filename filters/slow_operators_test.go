package filters_test

import (
	"cmp"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dot-do/relay/filters"
)

// The slow matcher for the whole language, written straight from its rules over
// encoding/json: no compiler, no paths, no limits.

// slowRow is a row of which some columns may not have been sent.
type slowRow struct {
	columns map[string]any
	unsent  []string
	unknown bool // nothing is known of it
}

// slowEvent is how a row changed; op is "" when it is not known.
type slowEvent struct {
	op           string
	data, before slowRow
}

// slowFilter answers a filter for an event.
func slowFilter(t testing.TB, e slowEvent, filter []byte) filters.Verdict {
	return e.answer(slowDecode(t, filter))
}

// answer answers a filter that has been decoded. Of an insert there is no row before, of a
// truncate no row at all, and what a delete tells is the row before.
func (e slowEvent) answer(filter any) filters.Verdict {
	switch e.op {
	case "insert", "read":
		e.before = slowRow{}
	case "delete":
		e.before = e.data
	case "truncate":
		e.data, e.before = slowRow{}, slowRow{}
	case "":
		e.before = slowRow{unknown: true}
	}
	return e.holds(filter, e.data.spot(), e.before.spot())
}

// slowSpot is a place in a row and what is known of the value there.
type slowSpot struct {
	state slowState
	value any
	row   *slowRow // set for the row itself
}

type slowState uint8

const (
	isMissing slowState = iota
	isThere
	isUnsent // a column that is there, with a value nobody sent
	isBelow  // a place inside such a column: nothing is known of it
)

func (r *slowRow) spot() slowSpot {
	if r.columns == nil {
		r.columns = map[string]any{}
	}
	return slowSpot{state: isThere, value: r.columns, row: r}
}

func (s slowSpot) child(key string) slowSpot {
	switch {
	case s.row != nil && s.row.unknown:
		return slowSpot{state: isBelow}
	case s.row != nil && slices.Contains(s.row.unsent, key):
		return slowSpot{state: isUnsent}
	case s.state == isUnsent || s.state == isBelow:
		return slowSpot{state: isBelow}
	}
	object, _ := s.value.(map[string]any)
	value, there := object[key]
	if !there {
		return slowSpot{}
	}
	return slowSpot{state: isThere, value: value}
}

// walk follows a path of $changed, which may count into arrays.
func (s slowSpot) walk(path []string) slowSpot {
	for _, segment := range path {
		list, ok := s.value.([]any)
		if !ok {
			s = s.child(segment)
			continue
		}
		s = slowSpot{}
		if i, err := strconv.Atoi(segment); err == nil && strconv.Itoa(i) == segment && i >= 0 && i < len(list) {
			s = slowSpot{state: isThere, value: list[i]}
		}
	}
	return s
}

// decide is Unknown where nothing was sent and No where nothing is.
func (s slowSpot) decide(test func(v any) bool) filters.Verdict {
	switch s.state {
	case isMissing:
		return filters.No
	case isThere:
		return verdict(test(s.value))
	default:
		return filters.Unknown
	}
}

func (s slowSpot) contains(literal any) filters.Verdict {
	return s.decide(func(v any) bool { return slowValue(v, literal) })
}

func not(v filters.Verdict) filters.Verdict { return filters.Yes - v }

// holds answers what a filter says of a place. was is the same place in the row before.
func (e slowEvent) holds(f any, at, was slowSpot) filters.Verdict {
	switch f := f.(type) {
	case map[string]any:
		answer := filters.Yes
		for key, operand := range f {
			literal, operator := slowKey(key)
			if operator {
				answer = min(answer, e.operator(literal, operand, f, at, was))
			} else {
				answer = min(answer, e.holds(operand, at.child(literal), was.child(literal)))
			}
		}
		if slowAsksForObject(f) {
			answer = min(answer, at.decide(func(v any) bool { _, ok := v.(map[string]any); return ok }))
		}
		return answer
	case []any:
		return at.decide(func(v any) bool {
			list, ok := v.([]any)
			for _, want := range f {
				ok = ok && slices.ContainsFunc(list, func(have any) bool {
					return e.holds(want, slowSpot{state: isThere, value: have}, slowSpot{}) == filters.Yes
				})
			}
			return ok
		})
	default:
		return at.contains(f)
	}
}

// slowKey returns the key or the operator that a key of a filter stands for.
func slowKey(written string) (name string, operator bool) {
	if strings.HasPrefix(written, "$$") {
		return written[1:], false
	}
	if !strings.HasPrefix(written, "$") {
		return written, false
	}
	switch written {
	case "$neq":
		return "$ne", true
	case "$exist":
		return "$exists", true
	case "$startsWith":
		return "$prefix", true
	case "$endsWith":
		return "$suffix", true
	}
	return written, true
}

func slowAsksForObject(f map[string]any) bool {
	for key := range f {
		if _, operator := slowKey(key); !operator {
			return true
		}
	}
	return len(f) == 0
}

// slowLiteral takes the doubled dollars out of an operand that is a value.
func slowLiteral(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			name, _ := slowKey(key)
			out[name] = slowLiteral(value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = slowLiteral(v[i])
		}
		return out
	}
	return v
}

func (e slowEvent) operator(name string, operand any, beside map[string]any, at, was slowSpot) filters.Verdict {
	switch name {
	case "$and", "$or":
		answers := make([]filters.Verdict, 0, 8)
		for _, part := range operand.([]any) {
			answers = append(answers, e.holds(part, at, was))
		}
		if name == "$and" {
			return slices.Min(answers)
		}
		return slices.Max(answers)
	case "$not":
		return not(e.holds(operand, at, was))
	case "$op", "$changed", "$before", "$from", "$to":
		return e.change(name, operand, beside, at, was)
	case "$exists":
		switch at.state {
		case isMissing:
			return verdict(operand == false)
		case isBelow:
			return filters.Unknown
		default:
			return verdict(operand == true)
		}
	default:
		return at.decide(func(v any) bool { return slowLeaf(name, operand, v) })
	}
}

// change answers the conditions on how the row changed.
func (e slowEvent) change(name string, operand any, beside map[string]any, at, was slowSpot) filters.Verdict {
	switch name {
	case "$op":
		if e.op == "" {
			return filters.Unknown
		}
		if list, ok := operand.([]any); ok {
			return verdict(slices.Contains(list, any(e.op)))
		}
		return verdict(operand == e.op)
	case "$before":
		switch e.op {
		case "":
			return min(filters.Unknown, e.holds(operand, was, slowSpot{}))
		case "update", "delete":
			return e.holds(operand, was, slowSpot{})
		default:
			return filters.No
		}
	case "$changed":
		if object, ok := operand.(map[string]any); ok {
			return e.changedOutside(object["outside"].([]any))
		}
		answer := filters.No
		for _, path := range operand.([]any) {
			segments := slowPath(path.(string))
			answer = max(answer, e.differs(at.walk(segments), was.walk(segments)))
		}
		return answer
	default: // $from and $to speak of one change
		answer := e.differs(at, was)
		if from, ok := beside["$from"]; ok {
			answer = min(answer, was.contains(slowLiteral(from)))
		}
		if to, ok := beside["$to"]; ok {
			answer = min(answer, at.contains(slowLiteral(to)))
		}
		return answer
	}
}

// differs answers whether a value changed. What an update does not tell is what it left as
// it was, unless the row before is not told either.
func (e slowEvent) differs(at, was slowSpot) filters.Verdict {
	switch {
	case e.op == "delete" || e.op == "truncate":
		return filters.No
	case e.op == "" || was.state > isThere:
		return filters.Unknown
	case e.op == "update" && at.state > isThere:
		return filters.No
	case at.state == isUnsent: // a column that was not there, and is
		return filters.Yes
	case at.state == isBelow:
		return filters.Unknown
	case at.state != was.state:
		return filters.Yes
	default:
		return verdict(at.state == isThere && !slowSame(at.value, was.value))
	}
}

func (e slowEvent) changedOutside(paths []any) filters.Verdict {
	switch e.op {
	case "delete", "truncate":
		return filters.No
	case "":
		return filters.Unknown
	}
	uncovered := func(column string) bool {
		return !slices.ContainsFunc(paths, func(p any) bool { return slices.Equal(slowPath(p.(string)), []string{column}) })
	}
	answer := filters.No
	if slices.ContainsFunc(e.before.unsent, uncovered) {
		answer = filters.Unknown
	}
	if e.op != "update" && slices.ContainsFunc(e.data.unsent, uncovered) {
		answer = filters.Yes
	}
	now, was := maps.Clone(e.data.columns), maps.Clone(e.before.columns)
	for _, column := range slices.Concat(e.data.unsent, e.before.unsent) {
		delete(now, column)
		delete(was, column)
	}
	if !slowSame(slowWithout(now, paths), slowWithout(was, paths)) {
		return filters.Yes
	}
	return answer
}

// slowWithout returns a copy of a row without what the paths name.
func slowWithout(row any, paths []any) any {
	for _, path := range paths {
		row = slowRemove(row, slowPath(path.(string)))
	}
	return row
}

func slowRemove(v any, path []string) any {
	object, ok := v.(map[string]any)
	if !ok {
		return v
	}
	object = maps.Clone(object)
	if child, there := object[path[0]]; there {
		if len(path) > 1 {
			object[path[0]] = slowRemove(child, path[1:])
		} else {
			delete(object, path[0])
		}
	}
	return object
}

// slowPath reads a path of $changed: a JSON Pointer, or keys joined by dots.
func slowPath(text string) []string {
	pointer, ok := strings.CutPrefix(text, "/")
	if !ok {
		return strings.Split(text, ".")
	}
	segments := strings.Split(pointer, "/")
	for i, s := range segments {
		segments[i] = strings.ReplaceAll(strings.ReplaceAll(s, "~1", "/"), "~0", "~")
	}
	return segments
}

// slowLeaf answers an operator for a value that is there.
func slowLeaf(name string, operand, v any) bool {
	switch name {
	case "$eq":
		return slowSame(v, slowLiteral(operand))
	case "$ne":
		return !slowSame(v, slowLiteral(operand))
	case "$in", "$nin":
		switch v.(type) {
		case []any, map[string]any:
			return false
		}
		among := slices.ContainsFunc(operand.([]any), func(o any) bool { return slowSame(v, o) })
		return among == (name == "$in")
	case "$gt", "$gte", "$lt", "$lte":
		c, ok := slowOrder(v, operand)
		return ok && (c > 0 && name[:3] == "$gt" || c < 0 && name[:3] == "$lt" || c == 0 && name[3:] == "e")
	}
	s, ok := v.(string)
	switch part := operand.(string); name {
	case "$prefix":
		return ok && strings.HasPrefix(s, part)
	case "$suffix":
		return ok && strings.HasSuffix(s, part)
	case "$contains":
		return ok && strings.Contains(s, part)
	}
	panic("no operator " + name)
}

// slowSame is jsonb's equality.
func slowSame(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, slowSame)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, slowSame)
	default:
		return slowValue(a, b)
	}
}

// slowOrder compares two numbers or two strings; nothing else has an order.
func slowOrder(a, b any) (c int, ok bool) {
	switch a := a.(type) {
	case string:
		b, ok := b.(string)
		return strings.Compare(a, b), ok
	case json.Number:
		b, ok := b.(json.Number)
		if !ok {
			return 0, false
		}
		return slowCompareNumbers(slowNumber(string(a)), slowNumber(string(b))), true
	}
	return 0, false
}

// slowCompareNumbers compares numbers as slowNumber writes them: by sign, then by the
// place of the first digit, then by the digits.
func slowCompareNumbers(a, b string) int {
	signA, digitsA, firstA := slowFigures(a)
	signB, digitsB, firstB := slowFigures(b)
	if signA != signB || signA == 0 {
		return cmp.Compare(signA, signB)
	}
	return signA * cmp.Or(firstA.Cmp(firstB), strings.Compare(digitsA, digitsB))
}

func slowFigures(number string) (sign int, digits string, first *big.Int) {
	if number == "0" {
		return 0, "", new(big.Int)
	}
	sign = 1
	if rest, negative := strings.CutPrefix(number, "-"); negative {
		sign, number = -1, rest
	}
	digits, exponent, _ := strings.Cut(number, "e")
	first, _ = new(big.Int).SetString(exponent, 10)
	return sign, digits, first.Add(first, big.NewInt(int64(len(digits))))
}
