package filters

import (
	"cmp"
	"strconv"
	"strings"
)

// The range of jsonb's numbers, which are Postgres' numeric.
const (
	maxWholeDigits = 131072
	maxScale       = 16383
	maxExponent    = 1<<30 - 1 // the notation itself, even of zero, must stay below
)

// decimal is an exact number in the one form it has: 0.digits × 10^exp, where digits
// neither begins nor ends with 0. Zero has no digits, no sign and exponent 0.
type decimal struct {
	negative bool
	exp      int64
	digits   string
}

// notation is a JSON number taken apart, without copying or rounding anything.
type notation struct {
	negative    bool
	whole, frac string
	exp         int64 // saturated far outside the range of jsonb
}

// splitNumber takes the text of a number apart; checkSyntax has accepted it.
func splitNumber(raw string) notation {
	var n notation
	if raw[0] == '-' {
		n.negative = true
		raw = raw[1:]
	}
	i := 0
	for i < len(raw) && raw[i] >= '0' {
		if raw[i] > '9' { // e or E
			break
		}
		i++
	}
	n.whole, raw = raw[:i], raw[i:]
	if raw != "" && raw[0] == '.' {
		i = 1
		for i < len(raw) && raw[i] <= '9' {
			i++
		}
		n.frac, raw = raw[1:i], raw[i:]
	}
	if raw != "" {
		n.exp = parseExponent(raw[1:])
	}
	return n
}

func parseExponent(s string) int64 {
	const saturated = 1 << 50
	negative := s[0] == '-'
	if negative || s[0] == '+' {
		s = s[1:]
	}
	var exp int64
	for i := range len(s) {
		if exp = exp*10 + int64(s[i]-'0'); exp > saturated {
			exp = saturated
			break
		}
	}
	if negative {
		return -exp
	}
	return exp
}

// significand returns the digits of the number from the first that is not 0 on, in two
// parts, and the exponent that makes the number 0.headtail × 10^exp. Zero has neither
// part.
func (n notation) significand() (head, tail string, exp int64) {
	for i := range len(n.whole) {
		if n.whole[i] != '0' {
			return n.whole[i:], n.frac, n.exp + int64(len(n.whole)-i)
		}
	}
	for i := range len(n.frac) {
		if n.frac[i] != '0' {
			return n.frac[i:], "", n.exp - int64(i)
		}
	}
	return "", "", 0
}

// parseDecimal returns the number that raw stands for. storable is false when it is
// outside the range of jsonb.
func parseDecimal(raw string) (d decimal, storable bool) {
	n := splitNumber(raw)
	head, tail, exp := n.significand()
	d = decimal{exp: exp, digits: strings.TrimRight(head+tail, "0")}
	d.negative = n.negative && d.digits != ""
	scale := int64(len(n.frac)) - n.exp
	return d, exp <= maxWholeDigits && scale <= maxScale && -maxExponent < n.exp && n.exp < maxExponent
}

// sign is -1, 0 or 1.
func (d decimal) sign() int {
	switch {
	case d.digits == "":
		return 0
	case d.negative:
		return -1
	}
	return 1
}

// figure is a JSON number ready to be compared: ±0.headtail × 10^exp. Its parts are those
// of the text, so that reading it allocates nothing, however many digits there are.
type figure struct {
	sign       int
	exp        int64
	head, tail string
}

// readFigure reads the text of a number.
func readFigure(raw string) figure {
	n := splitNumber(raw)
	var f figure
	f.head, f.tail, f.exp = n.significand()
	switch {
	case f.head == "":
	case n.negative:
		f.sign = -1
	default:
		f.sign = 1
	}
	return f
}

// compare orders f against d by value.
func (f figure) compare(d decimal) int {
	if c := cmp.Compare(f.sign, d.sign()); c != 0 || f.sign == 0 {
		return c
	}
	if c := cmp.Compare(f.exp, d.exp); c != 0 {
		return f.sign * c
	}
	c, rest := comparePrefix(f.head, d.digits)
	if c == 0 {
		c, rest = comparePrefix(f.tail, rest)
	}
	if c == 0 && rest != "" {
		c = -1 // d goes on, and not with zeros
	}
	return f.sign * c
}

// comparePrefix compares have with as many digits of want and returns those of want
// that are left. Digits beyond the end of want are compared with zeros.
func comparePrefix(have, want string) (c int, rest string) {
	n := min(len(have), len(want))
	if c = strings.Compare(have[:n], want[:n]); c != 0 {
		return c, ""
	}
	for i := n; i < len(have); i++ {
		if have[i] != '0' {
			return 1, ""
		}
	}
	return 0, want[n:]
}

// compare orders decimals by value.
func (d decimal) compare(other decimal) int {
	if c := cmp.Compare(d.sign(), other.sign()); c != 0 {
		return c
	}
	c := cmp.Or(cmp.Compare(d.exp, other.exp), strings.Compare(d.digits, other.digits))
	return d.sign() * c
}

// appendText appends d as JSON text: plain where that is short, else whole digits with
// an exponent, so that a number of few digits stays short.
func (d decimal) appendText(b []byte) []byte {
	const longestPlain = 21
	if d.negative {
		b = append(b, '-')
	}
	count := int64(len(d.digits))
	switch {
	case count == 0:
		return append(b, '0')
	case d.exp > 0 && d.exp < count:
		b = append(b, d.digits[:d.exp]...)
		b = append(b, '.')
		return append(b, d.digits[d.exp:]...)
	case d.exp >= count && d.exp <= longestPlain:
		b = append(b, d.digits...)
		return appendZeros(b, d.exp-count)
	case d.exp <= 0 && d.exp > -6:
		b = append(b, "0."...)
		b = appendZeros(b, -d.exp)
		return append(b, d.digits...)
	case d.exp == count:
		return append(b, d.digits...)
	}
	b = append(b, d.digits...)
	b = append(b, 'e')
	return strconv.AppendInt(b, d.exp-count, 10)
}

func appendZeros(b []byte, n int64) []byte {
	for range n {
		b = append(b, '0')
	}
	return b
}
