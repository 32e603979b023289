package filters

import (
	"cmp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Strings are handled in the form they have in JSON text. The raw arguments below are
// a string's text with its quotes, already checked by checkSyntax.

// escapeLen returns the length of the escape sequence s begins with, 0 if it is none.
func escapeLen(s string) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(s) < 6 {
			return 0
		}
		for i := 2; i < 6; i++ {
			if hexValue(s[i]) < 0 {
				return 0
			}
		}
		return 6
	}
	return 0
}

func hexValue(b byte) rune {
	switch {
	case '0' <= b && b <= '9':
		return rune(b - '0')
	case 'a' <= b && b <= 'f':
		return rune(b-'a') + 10
	case 'A' <= b && b <= 'F':
		return rune(b-'A') + 10
	}
	return -1
}

// loneSurrogate is what decodeEscape returns for half a surrogate pair.
const loneSurrogate rune = -1

// decodeEscape returns the character that the escape at the start of s stands for, and
// the length of the escape; a surrogate pair is one character of twelve bytes.
func decodeEscape(s string) (r rune, n int) {
	switch s[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r = unit(s)
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
			if pair := utf16.DecodeRune(r, unit(s[6:])); pair != utf8.RuneError {
				return pair, 12
			}
		}
		return loneSurrogate, 6
	default:
		return rune(s[1]), 2
	}
}

// unit decodes the four digits after \u.
func unit(s string) rune {
	return hexValue(s[2])<<12 | hexValue(s[3])<<8 | hexValue(s[4])<<4 | hexValue(s[5])
}

// decodeString returns the string that raw stands for. storable is false when jsonb
// cannot hold it: it has a NUL character or half a surrogate pair, which becomes
// U+FFFD here.
func decodeString(raw string) (s string, storable bool) {
	inner := raw[1 : len(raw)-1]
	at := strings.IndexByte(inner, '\\')
	if at < 0 {
		return inner, true
	}
	storable = true
	out := make([]byte, 0, len(inner))
	for ; at >= 0; at = strings.IndexByte(inner, '\\') {
		out = append(out, inner[:at]...)
		r, n := decodeEscape(inner[at:])
		storable = storable && r != loneSurrogate && r != 0
		out = utf8.AppendRune(out, r)
		inner = inner[at+n:]
	}
	return string(append(out, inner...)), storable
}

// equalString reports whether raw stands for want, which jsonb can hold.
func equalString(raw, want string) bool {
	inner := raw[1 : len(raw)-1]
	switch {
	case len(inner) < len(want): // no escape is shorter than what it stands for
		return false
	case len(inner) == len(want):
		return inner == want && strings.IndexByte(want, '\\') < 0
	default:
		return strings.IndexByte(inner, '\\') >= 0 && compareEscaped(inner, want) == 0
	}
}

// compareString orders the string that raw stands for against want, by bytes.
func compareString(raw, want string) int {
	inner := raw[1 : len(raw)-1]
	if strings.IndexByte(inner, '\\') < 0 {
		return strings.Compare(inner, want)
	}
	return compareEscaped(inner, want)
}

// compareEscaped decodes inner as it goes, without allocating. Half a surrogate pair is
// less than everything, so it never equals a stored string.
func compareEscaped(inner, want string) int {
	var buf [utf8.UTFMax]byte
	for len(inner) > 0 {
		at := strings.IndexByte(inner, '\\')
		if at < 0 {
			return strings.Compare(inner, want)
		}
		if at > 0 {
			have := inner[:at]
			if len(want) < at {
				return strings.Compare(have, want)
			}
			if c := strings.Compare(have, want[:at]); c != 0 {
				return c
			}
			inner, want = inner[at:], want[at:]
		}
		r, n := decodeEscape(inner)
		if r == loneSurrogate {
			return -1
		}
		inner = inner[n:]
		for _, b := range buf[:utf8.EncodeRune(buf[:], r)] {
			if want == "" {
				return 1
			}
			if c := cmp.Compare(b, want[0]); c != 0 {
				return c
			}
			want = want[1:]
		}
	}
	return strings.Compare("", want)
}

// appendString appends s as JSON text, with the shortest escapes and as few as the
// grammar allows.
func appendString(b []byte, s string) []byte {
	const short = `\b \t \n \v \f \r`
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= '\b' && c <= '\r' && c != '\v':
			b = append(b, '\\', short[3*(c-'\b')+1])
		case c < ' ':
			const hex = "0123456789abcdef"
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
