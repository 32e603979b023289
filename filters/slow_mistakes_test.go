package filters_test

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dot-do/relay/filters"
)

// slowMistake is one thing that the rules refuse, and the place it is at or inside of.
type slowMistake struct {
	code    filters.Code
	pointer string
}

// slowMistakes lists what the rules refuse of a filter as generator makes it, or of one on
// the old row only. It does not look for more inside of what it refuses.
func slowMistakes(filter any, oldRow bool) []slowMistake {
	var r reviewer
	root, ok := filter.(members)
	if !ok {
		return []slowMistake{{filters.NotObject, ""}}
	}
	r.object(root, "", standing{root: true, inside: oldRow})
	if len(r.found) == 0 && slowAlternatives(root) > filters.MaxAlternatives {
		r.refuse(filters.TooLarge, "")
	}
	return r.found
}

type reviewer struct{ found []slowMistake }

// standing is what is known of the place of an object.
type standing struct {
	root   bool // the whole row is meant
	inside bool // an array, $before or the old row: conditions on a change may not stand here
}

func (r *reviewer) refuse(code filters.Code, at string) {
	r.found = append(r.found, slowMistake{code, at})
}

func (r *reviewer) require(ok bool, at string) {
	if !ok {
		r.refuse(filters.BadOperand, at)
	}
}

func (r *reviewer) value(v any, at string, s standing) {
	switch v := v.(type) {
	case members:
		r.object(v, at, s)
	case []any:
		for i, element := range v {
			r.value(element, at+"/"+strconv.Itoa(i), standing{inside: true})
		}
	}
}

func (r *reviewer) object(o members, at string, s standing) {
	plain := slices.ContainsFunc(o, func(p pair) bool { _, operator := slowKey(p.key); return !operator })
	for i, p := range o {
		here := at + pointer([]string{p.key})
		name, operator := slowKey(p.key)
		switch {
		case o[:i].has(p.key):
			r.refuse(filters.BadJSON, here)
			continue
		case !operator:
			r.value(p.value, here, standing{inside: s.inside})
			continue
		case !slices.Contains(allOperators(), name):
			r.refuse(filters.UnknownOperator, here)
			continue
		case slices.ContainsFunc(o[:i], func(q pair) bool { other, _ := slowKey(q.key); return other == name }):
			r.refuse(filters.BadJSON, here)
			continue
		}
		ofEvent := name == "$op" || name == "$changed" || name == "$before"
		logic := name == "$and" || name == "$or" || name == "$not"
		moves := name == "$from" || name == "$to"
		switch {
		case (ofEvent || moves) && s.inside, ofEvent && !s.root, s.root && !ofEvent && !logic:
			r.refuse(filters.BadPosition, here)
		case plain && !logic && !ofEvent:
			r.refuse(filters.MixedObject, here)
		default:
			r.operand(name, p.value, here, s)
		}
	}
}

func (r *reviewer) operand(name string, v any, at string, s standing) {
	text, isText := v.(string)
	_, isNumber := v.(decimalText)
	_, isBool := v.(bool)
	object, isObject := v.(members)
	list, isList := v.([]any)
	switch name {
	case "$eq", "$ne", "$from", "$to":
		r.literal(v, at)
	case "$gt", "$gte", "$lt", "$lte":
		r.require(isText || isNumber, at)
	case "$prefix", "$suffix", "$contains":
		r.require(isText && text != "", at)
	case "$exists":
		r.require(isBool, at)
	case "$in", "$nin":
		r.require(len(list) > 0 && !slices.ContainsFunc(list, func(v any) bool { return !isScalar(v) }), at)
	case "$and", "$or":
		r.require(len(list) > 0 && !slices.ContainsFunc(list, func(v any) bool { _, ok := v.(members); return !ok }), at)
		for i, part := range list {
			if part, ok := part.(members); ok {
				r.object(part, at+"/"+strconv.Itoa(i), s)
			}
		}
	case "$not":
		r.require(isObject, at)
		r.object(object, at, s)
	case "$before":
		r.require(isObject, at)
		r.object(object, at, standing{root: true, inside: true})
	case "$op":
		if !isList {
			list = []any{v}
		}
		known := func(v any) bool {
			return slices.Contains([]any{"insert", "update", "delete", "truncate", "read"}, v)
		}
		r.require(len(list) > 0 && !slices.ContainsFunc(list, func(v any) bool { return !isScalar(v) || !known(v) }), at)
	case "$changed":
		if isObject {
			r.outside(object, at)
		} else {
			r.require(len(list) > 0 && slowPathsAreGood(list), at)
		}
	}
}

func (r *reviewer) outside(o members, at string) {
	for i, p := range o {
		name, operator := slowKey(p.key)
		switch here := at + pointer([]string{p.key}); {
		case o[:i].has(p.key):
			r.refuse(filters.BadJSON, here)
		case operator && !slices.Contains(allOperators(), name):
			r.refuse(filters.UnknownOperator, here)
		default:
			list, ok := p.value.([]any)
			r.require(p.key == "outside" && ok && slowPathsAreGood(list), here)
		}
	}
	r.require(len(o) > 0, at)
}

func slowPathsAreGood(list []any) bool {
	return !slices.ContainsFunc(list, func(v any) bool {
		s, ok := v.(string)
		keys := strings.Split(s, ".")
		if strings.HasPrefix(s, "/") {
			return strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(s), "~")
		}
		return !ok || slices.Contains(keys, "")
	})
}

func isScalar(v any) bool {
	switch v.(type) {
	case members, []any:
		return false
	}
	return true
}

// literal reviews an operand that is a plain value.
func (r *reviewer) literal(v any, at string) {
	switch v := v.(type) {
	case members:
		for i, p := range v {
			here := at + pointer([]string{p.key})
			name, operator := slowKey(p.key)
			switch {
			case v[:i].has(p.key):
				r.refuse(filters.BadJSON, here)
			case operator && !slices.Contains(allOperators(), name):
				r.refuse(filters.UnknownOperator, here)
			case operator:
				r.refuse(filters.BadOperand, here)
			default:
				r.literal(p.value, here)
			}
		}
	case []any:
		for i, element := range v {
			r.literal(element, at+"/"+strconv.Itoa(i))
		}
	}
}

// slowAlternatives is the number that the limit is about: a condition is one, and is a
// product, or a sum, not one.
func slowAlternatives(f any) int {
	n := 1
	switch f := f.(type) {
	case members:
		for _, p := range f {
			switch name, operator := slowKey(p.key); {
			case operator && name == "$or":
				sum := 0
				for _, part := range p.value.([]any) {
					sum += slowAlternatives(part)
				}
				n *= sum
			case !operator || name == "$and" || name == "$before":
				n *= slowAlternatives(p.value)
			}
		}
	case []any:
		for _, element := range f {
			n *= slowAlternatives(element)
		}
	}
	return min(n, 1<<20)
}
