package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Numbers beyond these cannot be checked: to compare them takes more time than their
// text has bytes.
const (
	maxDigits   = 10_000
	maxExponent = 1000
)

var (
	errNotJSON = errors.New("it is no JSON")
	errDeep    = errors.New("it is nested too deep")
)

// decoder makes the values that the validator wants. It reads what a renderer or
// Postgres has written, and checks no more than it needs to end.
type decoder struct {
	b                   []byte
	i                   int
	depth               int
	values              int
	objects             int
	refers              bool              // a member may be a reference
	names               map[string]string // of members that were met before
	maxDepth, maxValues int
}

// decode reads one value and the end.
func (d *decoder) decode() (any, error) {
	value, err := d.value()
	if err != nil {
		return nil, err
	}
	if d.space(); d.i != len(d.b) {
		return nil, errNotJSON
	}
	return value, nil
}

func (d *decoder) space() {
	for d.i < len(d.b) && (d.b[d.i] == ' ' || d.b[d.i] == '\n' || d.b[d.i] == '\r' || d.b[d.i] == '\t') {
		d.i++
	}
}

// next is the byte behind white space, zero at the end.
func (d *decoder) next() byte {
	d.space()
	if d.i == len(d.b) {
		return 0
	}
	return d.b[d.i]
}

func (d *decoder) value() (any, error) {
	if d.values++; d.values > d.maxValues {
		return nil, fmt.Errorf("it has more than %d values", d.maxValues)
	}
	switch c := d.next(); c {
	case '{':
		return d.object()
	case '[':
		return d.array()
	case '"':
		return d.text()
	case 't':
		return true, d.literal("true")
	case 'f':
		return false, d.literal("false")
	case 'n':
		return nil, d.literal("null")
	default:
		return d.number()
	}
}

func (d *decoder) literal(word string) error {
	if len(d.b)-d.i < len(word) || string(d.b[d.i:d.i+len(word)]) != word {
		return errNotJSON
	}
	d.i += len(word)
	return nil
}

func (d *decoder) object() (any, error) {
	if d.depth++; d.depth > d.maxDepth {
		return nil, errDeep
	}
	d.i++
	d.objects++
	members := make(map[string]any, 8)
	for first := true; d.next() != '}'; first = false {
		if err := d.comma(first); err != nil {
			return nil, err
		}
		if d.next() != '"' {
			return nil, errNotJSON
		}
		name, err := d.name()
		if err != nil {
			return nil, err
		}
		if d.next() != ':' {
			return nil, errNotJSON
		}
		d.i++
		if members[name], err = d.value(); err != nil {
			return nil, err
		}
	}
	d.i++
	d.depth--
	return members, nil
}

func (d *decoder) array() (any, error) {
	if d.depth++; d.depth > d.maxDepth {
		return nil, errDeep
	}
	d.i++
	elements := []any{}
	for first := true; d.next() != ']'; first = false {
		if err := d.comma(first); err != nil {
			return nil, err
		}
		value, err := d.value()
		if err != nil {
			return nil, err
		}
		elements = append(elements, value)
	}
	d.i++
	d.depth--
	return elements, nil
}

func (d *decoder) comma(first bool) error {
	if first {
		return nil
	}
	if d.next() != ',' {
		return errNotJSON
	}
	d.i++
	return nil
}

// maxNames bounds the names that are remembered; those of columns come again and again.
const maxNames = 1024

func (d *decoder) name() (string, error) {
	from := d.i + 1
	n := bytes.IndexByte(d.b[from:], '"')
	if n >= 0 {
		if known, ok := d.names[string(d.b[from:from+n])]; ok {
			d.i = from + n + 1
			return known, nil
		}
	}
	name, err := d.text()
	if d.names != nil && len(d.names) < maxNames && n <= 64 && err == nil && name == string(d.b[from:from+n]) {
		d.names[name] = name
	}
	d.refers = d.refers || strings.HasSuffix(name, "ef") && strings.HasPrefix(name, "$")
	return name, err
}

func (d *decoder) text() (string, error) {
	d.i++
	for from := d.i; d.i < len(d.b); d.i++ {
		switch d.b[d.i] {
		case '"':
			d.i++
			return string(d.b[from : d.i-1]), nil
		case '\\':
			return d.escaped(from)
		}
	}
	return "", errNotJSON
}

// escaped goes on with a string at its first escape.
func (d *decoder) escaped(from int) (string, error) {
	out := append(make([]byte, 0, 2*(d.i-from)+16), d.b[from:d.i]...)
	for d.i < len(d.b) {
		c := d.b[d.i]
		d.i++
		if c == '"' {
			return string(out), nil
		}
		if c != '\\' {
			out = append(out, c)
			continue
		}
		if d.i == len(d.b) {
			break
		}
		c = d.b[d.i]
		d.i++
		switch c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, err := d.rune()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, c)
		}
	}
	return "", errNotJSON
}

// rune reads the digits of \u, and a second half where the first asks for one.
func (d *decoder) rune() (rune, error) {
	first, err := d.hex()
	if err != nil || !utf16.IsSurrogate(first) {
		return first, err
	}
	if d.i+6 > len(d.b) || d.b[d.i] != '\\' || d.b[d.i+1] != 'u' {
		return utf8.RuneError, nil
	}
	back := d.i
	d.i += 2
	second, err := d.hex()
	if err != nil {
		return 0, err
	}
	r := utf16.DecodeRune(first, second)
	if r == utf8.RuneError {
		d.i = back // it stands for itself
	}
	return r, nil
}

func (d *decoder) hex() (rune, error) {
	if d.i+4 > len(d.b) {
		return 0, errNotJSON
	}
	n, err := strconv.ParseUint(string(d.b[d.i:d.i+4]), 16, 16)
	if err != nil {
		return 0, errNotJSON
	}
	d.i += 4
	return rune(n), nil
}

func (d *decoder) number() (any, error) {
	from, exponent := d.i, -1
	for ; d.i < len(d.b); d.i++ {
		switch c := d.b[d.i]; {
		case c >= '0' && c <= '9', c == '-', c == '+', c == '.':
			continue
		case c == 'e' || c == 'E':
			exponent = d.i + 1
			continue
		}
		break
	}
	if d.i == from {
		return nil, errNotJSON
	}
	text := string(d.b[from:d.i])
	if exponent >= 0 {
		n, err := strconv.Atoi(string(d.b[exponent:d.i]))
		if err != nil || n > maxExponent || n < -maxExponent {
			return nil, fmt.Errorf("a number has an exponent beyond %d", maxExponent)
		}
	}
	if len(text) > maxDigits {
		return nil, fmt.Errorf("a number has more than %d digits", maxDigits)
	}
	return json.Number(text), nil
}
