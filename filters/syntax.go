package filters

import (
	"math/bits"
	"unicode/utf8"
)

// MaxDocDepth is how many levels of arrays and objects a document may nest. Postgres'
// own parser runs out of stack before this with its default settings.
const MaxDocDepth = 20_000

// syntaxError is the first place where a text is not JSON. An empty problem means
// that there is none.
type syntaxError struct {
	offset  int // bytes
	problem string
}

// tooDeep is the problem of a text that may well be JSON.
const tooDeep = "nested too deep"

// checkSyntax reports whether s is exactly one JSON value (RFC 8259) in valid UTF-8,
// nested at most maxDepth deep. gjson walks malformed text without complaint and its
// Valid recurses once per level, which a few megabytes of "[" turn into a stack
// overflow that no recover can catch; this check does neither.
func checkSyntax(s string, maxDepth int) syntaxError {
	if !utf8.ValidString(s) {
		return syntaxError{problem: "not valid UTF-8"}
	}
	c := syntaxChecker{s: s, maxDepth: maxDepth}
	c.run()
	if c.problem != "" {
		return syntaxError{offset: c.i, problem: c.problem}
	}
	return syntaxError{}
}

type syntaxChecker struct {
	s        string
	i        int // the next byte
	depth    int
	maxDepth int
	problem  string

	// One bit per open container: is it an object? Two parts, because a slice of the
	// first would force it onto the heap.
	shallow [shallowLevels / 64]uint64
	deep    []uint64
}

// shallowLevels is how deep a text may nest without costing an allocation.
const shallowLevels = 512

// run checks the whole text. Each turn of the loop reads one value and what follows it.
func (c *syntaxChecker) run() {
	for c.value() {
		for {
			c.skipSpace()
			if c.depth == 0 {
				if c.i < len(c.s) {
					c.problem = "text after the value"
				}
				return
			}
			more, ok := c.next()
			if !ok {
				return
			}
			if more {
				break
			}
		}
	}
}

// value reads a scalar, an empty container, or the opening of a container up to its
// first value; only in the last case it goes on itself.
func (c *syntaxChecker) value() bool {
	for {
		c.skipSpace()
		if c.i >= len(c.s) {
			return c.fail("the text ends too early")
		}
		switch b := c.s[c.i]; {
		case b == '"':
			return c.str()
		case b == '{':
			if !c.open(true) {
				return false
			}
			if c.at('}') {
				return c.close()
			}
			if !c.key() {
				return false
			}
		case b == '[':
			if !c.open(false) {
				return false
			}
			if c.at(']') {
				return c.close()
			}
		case b == '-' || '0' <= b && b <= '9':
			return c.number()
		case b == 't':
			return c.literal("true")
		case b == 'f':
			return c.literal("false")
		case b == 'n':
			return c.literal("null")
		default:
			return c.fail("not a JSON value")
		}
	}
}

// next reads what may follow a value inside a container: a comma (and, in an object,
// the key after it), so that another value must come, or the end of the container.
func (c *syntaxChecker) next() (more, ok bool) {
	object := c.inObject()
	switch {
	case c.at(','):
		c.i++
		return true, !object || c.key()
	case object && c.at('}'), !object && c.at(']'):
		return false, c.close()
	case object:
		return false, c.fail("expected a comma or }")
	default:
		return false, c.fail("expected a comma or ]")
	}
}

func (c *syntaxChecker) key() bool {
	if !c.at('"') {
		return c.fail("expected a key in double quotes")
	}
	if !c.str() {
		return false
	}
	if !c.at(':') {
		return c.fail("expected a colon")
	}
	c.i++
	return true
}

func (c *syntaxChecker) open(object bool) bool {
	if c.depth >= c.maxDepth {
		return c.fail(tooDeep)
	}
	if c.depth >= shallowLevels && c.depth%64 == 0 && (c.depth-shallowLevels)/64 == len(c.deep) {
		c.deep = append(c.deep, 0)
	}
	word, bit := c.level(c.depth)
	*word &^= bit
	if object {
		*word |= bit
	}
	c.depth++
	c.i++
	return true
}

func (c *syntaxChecker) close() bool {
	c.depth--
	c.i++
	return true
}

func (c *syntaxChecker) inObject() bool {
	word, bit := c.level(c.depth - 1)
	return *word&bit != 0
}

// level returns where the bit of a level is kept.
func (c *syntaxChecker) level(depth int) (word *uint64, bit uint64) {
	bit = 1 << (depth % 64)
	if depth < shallowLevels {
		return &c.shallow[depth/64], bit
	}
	return &c.deep[(depth-shallowLevels)/64], bit
}

// str reads a string whose opening quote is next.
func (c *syntaxChecker) str() bool {
	s := c.s
	for i := c.i + 1; ; i++ {
		i += plainLen(s[i:])
		if i >= len(s) {
			c.i = len(s)
			return c.fail("unterminated string")
		}
		switch b := s[i]; {
		case b == '"':
			c.i = i + 1
			return true
		case b < ' ':
			c.i = i
			return c.fail("control character in a string")
		default: // a backslash
			n := escapeLen(s[i:])
			if n == 0 {
				c.i = i
				return c.fail("bad escape in a string")
			}
			i += n - 1
		}
	}
}

// plainLen returns how many bytes of s stand for themselves in a string: it stops at
// quotes, backslashes and control characters. It looks at eight bytes at once, as most
// of a document is inside strings.
func plainLen(s string) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		word := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		// A byte is below n when subtracting n from it borrows into a clear top bit;
		// xor makes the byte that is looked for zero. The first hit is exact.
		quote, backslash := word^ones*'"', word^ones*'\\'
		hits := ((word-ones*' ')&^word | (quote-ones)&^quote | (backslash-ones)&^backslash) & highs
		if hits != 0 {
			return i + bits.TrailingZeros64(hits)/8
		}
	}
	for ; i < len(s) && s[i] >= ' ' && s[i] != '"' && s[i] != '\\'; i++ {
	}
	return i
}

func (c *syntaxChecker) number() bool {
	if c.s[c.i] == '-' {
		c.i++
	}
	if c.i < len(c.s) && c.s[c.i] == '0' {
		c.i++
	} else if !c.digits() {
		return false
	}
	if c.i < len(c.s) && c.s[c.i] == '.' {
		c.i++
		if !c.digits() {
			return false
		}
	}
	if c.i < len(c.s) && (c.s[c.i] == 'e' || c.s[c.i] == 'E') {
		c.i++
		if c.i < len(c.s) && (c.s[c.i] == '+' || c.s[c.i] == '-') {
			c.i++
		}
		return c.digits()
	}
	return true
}

func (c *syntaxChecker) digits() bool {
	start := c.i
	for c.i < len(c.s) && '0' <= c.s[c.i] && c.s[c.i] <= '9' {
		c.i++
	}
	if c.i == start {
		return c.fail("bad number")
	}
	return true
}

func (c *syntaxChecker) literal(want string) bool {
	if len(c.s)-c.i < len(want) || c.s[c.i:c.i+len(want)] != want {
		return c.fail("not a JSON value")
	}
	c.i += len(want)
	return true
}

// at skips space and reports whether b is next.
func (c *syntaxChecker) at(b byte) bool {
	c.skipSpace()
	return c.i < len(c.s) && c.s[c.i] == b
}

func (c *syntaxChecker) skipSpace() {
	for c.i < len(c.s) {
		switch c.s[c.i] {
		case ' ', '\t', '\n', '\r':
			c.i++
		default:
			return
		}
	}
}

func (c *syntaxChecker) fail(problem string) bool {
	c.problem = problem
	return false
}
