package filters

import (
	"math/bits"
	"unicode/utf8"
)

// A document is read once: the scan checks that it is JSON and keeps the values that
// somebody asked for. It neither copies nor allocates, and like checkSyntax it does not
// recurse with the document, only with the fields that are asked for.

// scan reads the text of one JSON value for the fields below root. It reports whether
// the text is valid; if not, nothing that was read counts.
func (r *reading) scan(root *field, s string) bool {
	r.begin()
	i := r.read(s, skipSpace(s, 0), root, 0)
	if i < 0 || skipSpace(s, i) != len(s) {
		return false
	}
	return !r.nonASCII || utf8.ValidString(s)
}

// scanOver reads the text of a JSON object over what the last scan found: of a key that
// both have, the value here counts.
func (r *reading) scanOver(root *field, s string) bool {
	i := skipSpace(s, 0)
	if i >= len(s) || s[i] != '{' {
		return false
	}
	if kids := root.kids.Load(); kids != nil {
		i = r.readObject(s, i, kids, 1)
	} else {
		i = r.skip(s, i, 0)
	}
	return i >= 0 && skipSpace(s, i) == len(s) && (!r.nonASCII || utf8.ValidString(s))
}

// read reads the value of f that begins at i and returns where it ends, -1 for a text
// that is not JSON.
func (r *reading) read(s string, i int, f *field, depth int) int {
	if i >= len(s) {
		return -1
	}
	start, mark := i, len(r.taken)
	r.take(f)
	switch kids, elem := f.kids.Load(), f.elem.Load(); {
	case s[i] == '{' && kids != nil:
		i = r.readObject(s, i, kids, depth+1)
	case s[i] == '[' && elem != nil:
		i = r.readArray(s, i, elem, depth+1)
	default:
		i = r.skip(s, i, depth)
	}
	if i >= 0 {
		r.put(f, s[start:i], mark)
	}
	return i
}

// readObject reads an object of which some keys are wanted.
func (r *reading) readObject(s string, i int, kids *fieldTable, depth int) int {
	i = skipSpace(s, i+1)
	if i < len(s) && s[i] == '}' {
		return i + 1
	}
	for {
		if i >= len(s) || s[i] != '"' {
			return -1
		}
		end := r.skipString(s, i)
		if end < 0 {
			return -1
		}
		f := kids.find(s[i:end], r.escaped > i)
		i = skipSpace(s, end)
		if i >= len(s) || s[i] != ':' {
			return -1
		}
		i = skipSpace(s, i+1)
		switch {
		case f != nil:
			i = r.read(s, i, f, depth)
		case i < len(s) && s[i] == '"':
			i = r.skipString(s, i)
		default:
			i = r.skip(s, i, depth)
		}
		if i < 0 {
			return -1
		}
		i = skipSpace(s, i)
		if i >= len(s) {
			return -1
		}
		if s[i] == '}' {
			return i + 1
		}
		if s[i] != ',' {
			return -1
		}
		i = skipSpace(s, i+1)
	}
}

// readArray reads an array whose elements are wanted.
func (r *reading) readArray(s string, i int, elem *field, depth int) int {
	i = skipSpace(s, i+1)
	if i < len(s) && s[i] == ']' {
		return i + 1
	}
	for {
		if i = r.read(s, i, elem, depth); i < 0 {
			return -1
		}
		i = skipSpace(s, i)
		if i >= len(s) {
			return -1
		}
		if s[i] == ']' {
			return i + 1
		}
		if s[i] != ',' {
			return -1
		}
		i = skipSpace(s, i+1)
	}
}

// skip checks the value that begins at i and returns where it ends, -1 for a text that
// is not JSON. depth is how many containers are open around it.
func (r *reading) skip(s string, i, depth int) int {
	var kinds nesting // of the containers of the value itself
	for {
		// A value.
		if i >= len(s) {
			return -1
		}
		switch b := s[i]; b {
		case '"':
			i = r.skipString(s, i)
		case '{', '[':
			if depth+kinds.open >= MaxDocDepth {
				return -1
			}
			kinds.push(b == '{')
			i = skipSpace(s, i+1)
			if i < len(s) && s[i] == b+2 { // the brackets are two apart in ASCII
				kinds.pop()
				i++
				break
			}
			if b == '{' {
				i = r.skipKey(s, i)
			}
			if i < 0 {
				return -1
			}
			continue
		default:
			i = skipWord(s, i)
		}
		// What follows a value.
		for {
			if i < 0 {
				return -1
			}
			if kinds.open == 0 {
				return i
			}
			i = skipSpace(s, i)
			if i >= len(s) {
				return -1
			}
			b, object := s[i], kinds.object()
			i++
			if b == ',' {
				i = skipSpace(s, i)
				if object {
					i = r.skipKey(s, i)
				}
				if i < 0 {
					return -1
				}
				break
			}
			if b != '}' && b != ']' || (b == '}') != object {
				return -1
			}
			kinds.pop()
		}
	}
}

// nesting remembers of each open container whether it is an object.
type nesting struct {
	open  int
	inner uint64   // the innermost, one bit each, the last in the lowest
	outer []uint64 // the others, 64 in each
}

func (n *nesting) push(object bool) {
	if n.open&63 == 0 && n.open > 0 {
		n.outer = append(n.outer, n.inner)
	}
	n.open++
	n.inner <<= 1
	if object {
		n.inner |= 1
	}
}

func (n *nesting) pop() {
	n.open--
	n.inner >>= 1
	if n.open&63 == 0 && n.open > 0 {
		n.inner = n.outer[len(n.outer)-1]
		n.outer = n.outer[:len(n.outer)-1]
	}
}

func (n *nesting) object() bool { return n.inner&1 == 1 }

// skipKey checks a key and the colon behind it, and returns where the value begins.
func (r *reading) skipKey(s string, i int) int {
	if i >= len(s) || s[i] != '"' {
		return -1
	}
	if i = r.skipString(s, i); i < 0 {
		return -1
	}
	i = skipSpace(s, i)
	if i >= len(s) || s[i] != ':' {
		return -1
	}
	return skipSpace(s, i+1)
}

// skipSpace is small enough to be inlined; most texts have one blank or none.
func skipSpace(s string, i int) int {
	if i < len(s) && s[i] > ' ' {
		return i
	}
	return skipBlanks(s, i)
}

func skipBlanks(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
		i++
	}
	return i
}

const ones, highs = 0x0101010101010101, 0x8080808080808080

// special has the top bit of a byte set where the word has a quote, a backslash, a control
// character or a byte beyond ASCII. Subtracting borrows into a clear top bit where a byte
// is too small; xor makes the byte that is looked for zero. A borrow can reach the bytes
// above, so only the lowest mark is exact.
func special(word uint64) uint64 {
	marks := (word ^ ones*'"' - ones) | (word ^ ones*'\\' - ones) | (word - ones*' ') | word
	return marks & highs
}

// skipString checks the string whose opening quote is at i and returns where it ends.
func (r *reading) skipString(s string, i int) int {
	i++
	for {
		for i+8 <= len(s) {
			marks := special(load8(s, i))
			if marks != 0 {
				i += bits.TrailingZeros64(marks) / 8
				break
			}
			i += 8
		}
		for i < len(s) && s[i] >= ' ' && s[i] < utf8.RuneSelf && s[i] != '"' && s[i] != '\\' {
			i++
		}
		if i >= len(s) {
			return -1
		}
		switch b := s[i]; {
		case b == '"':
			return i + 1
		case b >= 0xc2 && b < 0xe0 && i+1 < len(s) && s[i+1]&0xc0 == 0x80: // as most of Europe needs
			i += 2
		case b >= utf8.RuneSelf:
			r.nonASCII = true
			for i < len(s) && s[i] >= utf8.RuneSelf {
				i++
			}
		case b == '\\':
			n := escapeLen(s[i:])
			if n == 0 {
				return -1
			}
			r.escaped = i
			i += n
		default:
			return -1
		}
	}
}

func load8(s string, i int) uint64 {
	_ = s[i+7]
	return uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
		uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
}

// skipWord checks a number, true, false or null.
func skipWord(s string, i int) int {
	switch s[i] {
	case 't':
		if i+4 <= len(s) && s[i:i+4] == "true" {
			return i + 4
		}
		return -1
	case 'f':
		if i+5 <= len(s) && s[i:i+5] == "false" {
			return i + 5
		}
		return -1
	case 'n':
		if i+4 <= len(s) && s[i:i+4] == "null" {
			return i + 4
		}
		return -1
	}
	return skipNumber(s, i)
}

func skipNumber(s string, i int) int {
	if s[i] == '-' {
		i++
	}
	whole := i
	if i = skipDigits(s, i); i == whole || s[whole] == '0' && i > whole+1 {
		return -1
	}
	if i < len(s) && s[i] == '.' {
		frac := i + 1
		if i = skipDigits(s, frac); i == frac {
			return -1
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		exp := i
		if i = skipDigits(s, exp); i == exp {
			return -1
		}
	}
	return i
}

func skipDigits(s string, i int) int {
	for i < len(s) && s[i]-'0' <= 9 {
		i++
	}
	return i
}
