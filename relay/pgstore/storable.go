package pgstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

const (
	maxResponseBody = 64 << 10 // bytes, as the table's check says
	maxErrorText    = 4 << 10
	// maxNesting is far below what Postgres parses with its default stack.
	maxNesting = 512
	// maxExponent is the digits of an exponent that a number inside the range of
	// numeric may have.
	maxExponent = 3
)

// text makes s fit for a text column: valid UTF-8, no NUL, at most limit bytes.
func text(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
		for range utf8.UTFMax - 1 { // the cut may have left a part of a rune
			if r, size := utf8.DecodeLastRuneInString(s); r == utf8.RuneError && size == 1 {
				s = s[:len(s)-1]
			}
		}
	}
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "?")
	}
	return s
}

// headersJSON is the jsonb form of a header map; nil for none.
func headersJSON(h map[string]string) []byte {
	if h == nil {
		return nil
	}
	clean := make(map[string]string, len(h))
	for name, value := range h {
		clean[text(name, maxErrorText)] = text(value, maxErrorText)
	}
	out, err := json.Marshal(clean)
	if err != nil {
		return nil // a map of valid strings always marshals
	}
	return out
}

// placeholder tells what a payload was that the log does not hold.
func placeholder(body []byte, why string) []byte {
	sum := sha256.Sum256(body)
	out, _ := json.Marshal(map[string]any{ // strings and a number: never fails
		memberOmitted: why,
		"sha256":      hex.EncodeToString(sum[:]),
		"bytes":       len(body),
	})
	return out
}

// storable reports whether jsonb is likely to hold the JSON text: it looks for
// what json allows and jsonb refuses. Postgres has the last word; see
// Store.testPayloads.
func storable(body []byte) bool {
	if !utf8.Valid(body) {
		return false
	}
	depth, seen := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; c {
		case '"':
			n, ok := stringEnd(body[i:])
			if !ok {
				return false
			}
			i += n - 1
			seen = true
		case '{', '[':
			if depth++; depth > maxNesting {
				return false
			}
		case '}', ']':
			depth--
		case 0:
			return false
		case 'e', 'E':
			// Of the words, true and false hold an e; an exponent follows a digit.
			if i > 0 && body[i-1] >= '0' && body[i-1] <= '9' && digits(body[i+1:]) > maxExponent {
				return false
			}
		}
		seen = seen || body[i] > ' '
	}
	return seen && depth == 0
}

// digits counts the digits of an exponent, without sign and leading zeros.
func digits(b []byte) int {
	b = bytes.TrimLeft(b, "+-0")
	n := 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	return n
}

// stringEnd returns the length of the JSON string that b begins with. ok is false
// when it does not end, or escapes what Postgres cannot store: NUL, or half of a
// surrogate pair.
func stringEnd(b []byte) (n int, ok bool) {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i + 1, true
		case '\\':
			if i++; i >= len(b) || b[i] != 'u' {
				continue
			}
			r, ok := escaped(b[i:])
			if !ok || r == 0 || r >= 0xDC00 && r < 0xE000 {
				return 0, false
			}
			i += 4
			if r < 0xD800 || r >= 0xE000 {
				continue
			}
			// The upper half: the lower one must follow.
			if i+2 >= len(b) || b[i+1] != '\\' || b[i+2] != 'u' {
				return 0, false
			}
			if low, ok := escaped(b[i+2:]); !ok || low < 0xDC00 || low >= 0xE000 {
				return 0, false
			}
			i += 6
		}
	}
	return 0, false
}

// escaped reads the four digits after the u that b begins with.
func escaped(b []byte) (r rune, ok bool) {
	if len(b) < 5 {
		return 0, false
	}
	for _, c := range b[1:5] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
