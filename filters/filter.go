package filters

import (
	"cmp"
	"slices"
	"strings"
)

// The limits of a filter. Compile refuses what exceeds one of them with code TooLarge.
const (
	MaxText   = 16 << 10 // bytes of text, as written and in canonical form
	MaxDepth  = 32       // levels of objects and arrays, the filter itself being the first
	MaxLeaves = 256      // scalars and empty containers
	MaxKey    = 512      // bytes of a key after unescaping
)

// Filter is a compiled filter. It never changes, so any number of goroutines may use
// it at once. A nil or zero Filter matches nothing.
type Filter struct {
	root node
	text string
}

// IsAll reports whether the filter is {}, which every document matches.
func (f *Filter) IsAll() bool {
	return f.root.kind == object && len(f.root.members) == 0
}

// String returns the canonical text of the filter: valid input for Compile, without
// blanks, with keys and array elements sorted and repeated elements dropped. Filters
// with the same canonical text match the same documents.
func (f *Filter) String() string { return f.text }

// Keys returns the keys of the filter's top level in byte order: the columns that the
// filter needs. The key written "$$a" is "$a" here.
func (f *Filter) Keys() []string {
	keys := make([]string, len(f.root.members))
	for i := range f.root.members {
		keys[i] = f.root.members[i].key
	}
	return keys
}

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

// kinds is how many there are.
const kinds = int(object) + 1

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

// node is one value of a compiled filter.
type node struct {
	kind    kind
	number  decimal
	text    string
	members []member // of an object, by key in byte order
	// elements of an array, without repeats, by kind and then by value;
	// those of kind k are elements[first[k]:first[k+1]].
	elements []node
	first    [kinds + 1]uint16
}

// member is one key of an object with its value.
type member struct {
	key   string
	value node
}

// member returns the index of the key that raw stands for, or -1.
func (n *node) member(raw string) int {
	low, high := 0, len(n.members)
	for low < high {
		mid := int(uint(low+high) / 2)
		switch c := compareString(raw, n.members[mid].key); {
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

// scalar returns the index of the element of an array that is the scalar of kind k
// with the text raw, or -1.
func (n *node) scalar(k kind, raw string) int {
	low, high := int(n.first[k]), int(n.first[k+1])
	if low == high {
		return -1
	}
	var f figure
	if k == number {
		f = readFigure(raw)
	}
	for low < high {
		mid := int(uint(low+high) / 2)
		var c int
		switch k {
		case number:
			c = f.compare(n.elements[mid].number)
		case text:
			c = compareString(raw, n.elements[mid].text)
		default: // there is one null, one true and one false
		}
		switch {
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
		return readFigure(raw).compare(n.number) == 0
	case text:
		return equalString(raw, n.text)
	default:
		return true
	}
}

// sortElements brings the elements of an array into the order node promises.
func (n *node) sortElements() {
	slices.SortFunc(n.elements, compareElements)
	n.elements = slices.CompactFunc(n.elements, func(a, b node) bool { return compareElements(a, b) == 0 })
	for _, e := range n.elements {
		for k := int(e.kind) + 1; k < len(n.first); k++ {
			n.first[k]++
		}
	}
}

func compareElements(a, b node) int {
	if c := cmp.Compare(a.kind, b.kind); c != 0 {
		return c
	}
	switch a.kind {
	case number:
		return a.number.compare(b.number)
	case text:
		return strings.Compare(a.text, b.text)
	case array, object:
		return strings.Compare(string(a.appendText(nil)), string(b.appendText(nil)))
	default:
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
		return n.number.appendText(b)
	case text:
		return appendString(b, n.text)
	case array:
		b = append(b, '[')
		for i := range n.elements {
			if i > 0 {
				b = append(b, ',')
			}
			b = n.elements[i].appendText(b)
		}
		return append(b, ']')
	default:
		b = append(b, '{')
		for i := range n.members {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, escapeKey(n.members[i].key))
			b = append(b, ':')
			b = n.members[i].value.appendText(b)
		}
		return append(b, '}')
	}
}

// escapeKey writes a literal key the way a filter must: a first $ is doubled.
func escapeKey(key string) string {
	if strings.HasPrefix(key, "$") {
		return "$" + key
	}
	return key
}
