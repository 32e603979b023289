package filters

import (
	"cmp"
	"slices"
	"strings"
)

// kind is the kind of a JSON value. True and false are kinds of their own, so that two
// scalars without content are equal when their kinds are.
type kind uint8

const (
	invalid kind = iota // matches nothing
	null
	boolFalse
	boolTrue
	number
	text
	array
	object
)

// kindOf returns the kind of the value whose text begins with b. It is invalid for a
// byte that begins no value.
func kindOf(b byte) kind {
	switch b {
	case 'n':
		return null
	case 'f':
		return boolFalse
	case 't':
		return boolTrue
	case '"':
		return text
	case '[':
		return array
	case '{':
		return object
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return number
	}
	return invalid
}

func (k kind) scalar() bool { return null <= k && k <= text }

// describe names a kind for people.
func describe(k kind) string {
	switch k {
	case null:
		return "null"
	case object:
		return "an object"
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

// node is a value that a filter names: a scalar, or the whole operand of an operator,
// whose arrays keep their order.
type node struct {
	kind     kind
	negative bool   // of a number; see decimal
	exp      int32  // the same
	text     string // of a string; of a number its digits
	whole    *whole // of an array or object
}

// whole is what a container has in it.
type whole struct {
	members  []member // of an object, by key in byte order
	elements []node   // of an array
}

// number returns the number that n is.
func (n *node) number() decimal {
	return decimal{negative: n.negative, exp: int64(n.exp), digits: n.text}
}

// numberNode returns the node of a number that jsonb can hold, so that its exponent is
// small.
func numberNode(d decimal) node {
	return node{kind: number, negative: d.negative, exp: int32(d.exp), text: d.digits}
}

// member is one key of an object with its value.
type member struct {
	key   string
	value node
}

// member returns the index of the key that raw stands for, or -1.
func (n *node) member(raw string) int {
	members := n.whole.members
	low, high := 0, len(members)
	for low < high {
		mid := int(uint(low+high) / 2)
		switch c := compareString(raw, members[mid].key); {
		case c == 0:
			return mid
		case c < 0:
			high = mid
		default:
			low = mid + 1
		}
	}
	return -1
}

// equals reports whether the scalar n has the text raw.
func (n *node) equals(raw string) bool {
	if kindOf(raw[0]) != n.kind {
		return false
	}
	switch n.kind {
	case number:
		return readFigure(raw).compare(n.number()) == 0
	case text:
		return equalString(raw, n.text)
	default:
		return true
	}
}

// sortScalars brings scalars into the order of compareElements and drops repeated ones.
func sortScalars(list []node) []node {
	slices.SortFunc(list, compareElements)
	return slices.CompactFunc(list, func(a, b node) bool { return compareElements(a, b) == 0 })
}

// compareElements orders scalars by kind and then by value.
func compareElements(a, b node) int {
	if c := cmp.Compare(a.kind, b.kind); c != 0 {
		return c
	}
	switch a.kind {
	case number:
		return a.number().compare(b.number())
	case text:
		return strings.Compare(a.text, b.text)
	default: // there is one null, one true and one false
		return 0
	}
}

// appendText appends the canonical text of n.
func (n *node) appendText(b []byte) []byte {
	switch n.kind {
	case null:
		return append(b, "null"...)
	case boolFalse:
		return append(b, "false"...)
	case boolTrue:
		return append(b, "true"...)
	case number:
		return n.number().appendText(b)
	case text:
		return appendString(b, n.text)
	case array:
		b = append(b, '[')
		for i := range n.whole.elements {
			if i > 0 {
				b = append(b, ',')
			}
			b = n.whole.elements[i].appendText(b)
		}
		return append(b, ']')
	default:
		b = append(b, '{')
		for i := range n.whole.members {
			if i > 0 {
				b = append(b, ',')
			}
			m := &n.whole.members[i]
			b = m.value.appendText(appendKey(b, m.key))
		}
		return append(b, '}')
	}
}

// appendKey appends a literal key the way a filter must write it, a first $ doubled,
// and the colon after it.
func appendKey(b []byte, key string) []byte {
	if strings.HasPrefix(key, "$") {
		key = "$" + key
	}
	return append(appendString(b, key), ':')
}
