package filters

import "unicode/utf8"

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
// nested at most maxDepth deep, and where it is not. It is for filters: documents are
// checked while they are scanned.
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
	kinds    nesting
	maxDepth int
	problem  string
}

// run checks the whole text. Each turn of the loop reads one value and what follows it.
func (c *syntaxChecker) run() {
	for c.value() {
		for {
			c.skipSpace()
			if c.kinds.open == 0 {
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
	object := c.kinds.object()
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
	if c.kinds.open >= c.maxDepth {
		return c.fail(tooDeep)
	}
	c.kinds.push(object)
	c.i++
	return true
}

func (c *syntaxChecker) close() bool {
	c.kinds.pop()
	c.i++
	return true
}

// str reads a string whose opening quote is next.
func (c *syntaxChecker) str() bool {
	s := c.s
	for i := c.i + 1; ; i++ {
		for i < len(s) && s[i] >= ' ' && s[i] != '"' && s[i] != '\\' {
			i++
		}
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
