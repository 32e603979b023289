package filters

import (
	"encoding/json"
	"slices"
)

// UnknownPaths returns the paths of the filter that a JSON Schema of the row does not
// know, sorted and each cut behind the first unknown key. Paths are written as $changed
// takes them, with [] behind an array whose elements are meant.
//
// A schema knows a path unless it lists properties and the key is not among them. What
// it leaves open, or says with $ref or patterns, counts as known, and so does everything
// when schema is not JSON.
func (f *Filter) UnknownPaths(schema []byte) []string {
	var root any
	if len(schema) == 0 || json.Unmarshal(schema, &root) != nil {
		return nil
	}
	unknown := []string{}
	f.program.eachPath(nil, func(p []step) {
		for n := range len(p) {
			if look(root, p[:n+1], 0) == denied {
				unknown = append(unknown, stepsText(p[:n+1]))
				return
			}
		}
	})
	slices.Sort(unknown)
	return slices.Compact(unknown)
}

// step is one part of a path: a key, or the step to the elements of an array.
type step struct {
	key     string
	element bool
	index   bool // the key may be an index as well
}

// eachPath calls visit with each path of the program, which is about the value at base.
func (p *program) eachPath(base []step, visit func([]step)) {
	join := func(keys path, indexes bool) []step {
		steps := slices.Clone(base)
		for _, key := range keys {
			steps = append(steps, step{key: key, index: indexes && isIndex(key)})
		}
		return steps
	}
	for i, keys := range p.data {
		visit(join(keys, i < len(p.dataIndexes) && p.dataIndexes[i]))
	}
	for i, keys := range p.old {
		visit(join(keys, i < len(p.oldIndexes) && p.oldIndexes[i]))
	}
	p.root.each(func(c *cond) {
		if c.rows != nil {
			for _, keys := range c.rows.beside {
				visit(join(keys, false))
			}
		}
		if c.elements == nil {
			return
		}
		keys := p.data
		if c.old {
			keys = p.old
		}
		inner := append(join(keys[c.at], false), step{element: true})
		for i := range c.elements.filters {
			c.elements.filters[i].eachPath(inner, visit)
		}
	})
}

func stepsText(steps []step) string {
	var keys path
	for _, s := range steps {
		switch {
		case !s.element:
			keys = append(keys, s.key)
		case len(keys) > 0:
			keys[len(keys)-1] += "[]"
		}
	}
	return keys.String()
}

// knowledge is what a schema says about a path.
type knowledge uint8

const (
	silent knowledge = iota // nothing: the path may be there
	denied                  // there is no such key
	known
)

// maxSchemaDepth is how many schemas inside schemas are followed.
const maxSchemaDepth = 64

// look returns what a schema says about a path.
func look(schema any, steps []step, depth int) knowledge {
	s, ok := schema.(map[string]any)
	switch {
	case schema == false:
		return denied
	case !ok, depth > maxSchemaDepth, len(steps) == 0:
		return known
	}
	for _, key := range []string{"$ref", "$dynamicRef", "$recursiveRef", "patternProperties", "then", "else", "dependentSchemas", "dependencies"} {
		if _, found := s[key]; found {
			return known
		}
	}
	// All of these hold of the value, so one that lists its keys decides.
	all := lookHere(s, steps, depth)
	for _, part := range list(s["allOf"]) {
		all = max(all, look(part, steps, depth+1))
	}
	for _, key := range []string{"anyOf", "oneOf"} {
		if parts := list(s[key]); len(parts) > 0 {
			all = max(all, lookAny(parts, steps, depth+1))
		}
	}
	return all
}

// lookAny returns what schemas say of which the value satisfies one: it is enough that
// one leaves the path open.
func lookAny(schemas []any, steps []step, depth int) knowledge {
	all := denied
	for _, s := range schemas {
		switch look(s, steps, depth) {
		case known:
			return known
		case silent:
			all = silent
		case denied:
		}
	}
	return all
}

// lookHere returns what the keywords of a schema itself say.
func lookHere(s map[string]any, steps []step, depth int) knowledge {
	first := steps[0]
	if first.element {
		return lookElements(s, steps, depth)
	}
	said := lookProperty(s, steps, depth)
	if !first.index || said == known {
		return said
	}
	if elements := lookElements(s, steps, depth); elements != denied {
		return elements
	}
	return said
}

func lookProperty(s map[string]any, steps []step, depth int) knowledge {
	if !mayBe(s, "object") {
		return denied
	}
	properties, listed := s["properties"].(map[string]any)
	if property, found := properties[steps[0].key]; found {
		return open(look(property, steps[1:], depth+1))
	}
	switch more, said := s["additionalProperties"]; {
	case said && more == false:
		return denied
	case said:
		return open(look(more, steps[1:], depth+1))
	case listed:
		return denied
	default:
		return silent
	}
}

func lookElements(s map[string]any, steps []step, depth int) knowledge {
	if !mayBe(s, "array") {
		return denied
	}
	if _, tuple := s["prefixItems"]; tuple {
		return known
	}
	switch items := s["items"].(type) {
	case map[string]any, bool:
		return open(look(items, steps[1:], depth+1))
	case nil:
		return silent
	default: // a tuple of the older drafts
		return known
	}
}

// open is what a schema says that has the key: a value of which it says nothing is known.
func open(k knowledge) knowledge {
	if k == silent {
		return known
	}
	return k
}

// mayBe reports whether the type of a schema allows a kind of value.
func mayBe(s map[string]any, kind string) bool {
	switch t := s["type"].(type) {
	case string:
		return t == kind
	case []any:
		return slices.ContainsFunc(t, func(one any) bool { return one == kind })
	default:
		return true
	}
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}
