package filters

import (
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// Compile reads a filter. The error, if there is one, is of type Errors and lists every
// mistake; only a text that is not JSON or nested too deep hides the mistakes behind it.
func Compile(src []byte) (*Filter, error) {
	var c compiler
	if len(src) > MaxText {
		c.errs.add(TooLarge, nil, "", "the filter has %d bytes; the limit is %d", len(src), MaxText)
		return nil, c.errs
	}
	s := string(src)
	if bad := checkSyntax(s, MaxDepth); bad.problem == tooDeep {
		c.errs.add(TooLarge, nil, "", "the filter is nested more than %d levels deep", MaxDepth)
		return nil, c.errs
	} else if bad.problem != "" {
		c.errs.add(BadJSON, nil, "", "the filter is not JSON: %s at byte %d", bad.problem, bad.offset)
		return nil, c.errs
	}
	s = strings.Trim(s, " \t\r\n")
	if s[0] != '{' {
		c.errs.add(NotObject, nil, "{} matches every event", "a filter is a JSON object, not %s", describe(kindOf(s[0])))
		return nil, c.errs
	}
	root := c.value(gjson.Result{Type: gjson.JSON, Raw: s}, nil)
	if c.leaves > MaxLeaves {
		c.errs.add(TooLarge, nil, "", "the filter has %d values; the limit is %d", c.leaves, MaxLeaves)
	}
	if len(c.errs) > 0 {
		return nil, c.errs
	}
	canonical := root.appendText(nil)
	if len(canonical) > MaxText {
		c.errs.add(TooLarge, nil, "", "the filter has %d bytes with its numbers written out; the limit is %d", len(canonical), MaxText)
		return nil, c.errs
	}
	return &Filter{root: root, text: string(canonical)}, nil
}

func describe(k kind) string {
	switch k {
	case null:
		return "null"
	case array:
		return "an array"
	case text:
		return "a string"
	case number:
		return "a number"
	default:
		return "a boolean"
	}
}

// compiler builds nodes and collects mistakes. After a mistake it goes on with a node
// that nobody will use, to find the next one.
type compiler struct {
	errs   Errors
	leaves int
}

// value compiles one value; the syntax and the depth of its text have been checked.
func (c *compiler) value(v gjson.Result, at *place) node {
	n := node{kind: kindOf(v.Raw[0])}
	switch n.kind {
	case object:
		c.object(&n, v, at)
	case array:
		c.array(&n, v, at)
	case number:
		var ok bool
		if n.number, ok = parseDecimal(v.Raw); !ok {
			c.errs.add(BadJSON, at, "", "the number is outside the range of jsonb: %d digits before the point, %d after it", maxWholeDigits, maxScale)
		}
	case text:
		n.text = c.text(v.Raw, at, "the string")
	default: // null and booleans are nothing but their kind
	}
	if len(n.members) == 0 && len(n.elements) == 0 {
		c.leaves++
	}
	return n
}

func (c *compiler) object(n *node, v gjson.Result, at *place) {
	seen := make(map[string]bool)
	v.ForEach(func(key, value gjson.Result) bool {
		written := c.text(key.Raw, at, "a key")
		here := &place{parent: at, key: written}
		if len(written) > MaxKey {
			c.errs.add(TooLarge, at, "", "the key %s has %d bytes; the limit is %d", quote(written), len(written), MaxKey)
		}
		if seen[written] {
			c.errs.add(BadJSON, here, "", "the key %s is written more than once in the same object", quote(written))
		}
		seen[written] = true
		name := c.name(written, here)
		n.members = append(n.members, member{key: name, value: c.value(value, here)})
		return true
	})
	slices.SortFunc(n.members, func(a, b member) int { return strings.Compare(a.key, b.key) })
}

func (c *compiler) array(n *node, v gjson.Result, at *place) {
	index := 0
	v.ForEach(func(_, value gjson.Result) bool {
		n.elements = append(n.elements, c.value(value, &place{parent: at, index: index, array: true}))
		index++
		return true
	})
	if len(c.errs) == 0 {
		n.sortElements()
	}
}

// name returns the literal key that a key of a filter stands for.
func (c *compiler) name(written string, at *place) string {
	rest, dollar := strings.CutPrefix(written, "$")
	if dollar && !strings.HasPrefix(rest, "$") {
		c.errs.add(UnknownOperator, at, "for a key that is literally "+quote(written)+" write "+quote("$"+written), "%s is not an operator", quote(written))
	}
	if dollar {
		return rest
	}
	return written
}

// text decodes a string or key and reports one that jsonb cannot hold.
func (c *compiler) text(raw string, at *place, what string) string {
	s, storable := decodeString(raw)
	if !storable {
		c.errs.add(BadJSON, at, "", `%s has \u0000 or half of a surrogate pair, which jsonb cannot hold`, what)
	}
	return s
}
