package relay

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"unicode/utf8"
)

// OIDs of the built-in types whose JSON form is not a string of their text.
const (
	oidBool        = 16
	oidBytea       = 17
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidOID         = 26
	oidJSON        = 114
	oidFloat4      = 700
	oidFloat8      = 701
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidNumeric     = 1700
	oidJSONB       = 3802
)

// appendValue renders the Postgres text form of a value as JSON. It cannot fail:
// what is not of the form that its type promises becomes a JSON string of the
// text. Numbers keep every digit; NaN and infinities, which JSON has no numbers
// for, become strings.
func appendValue(dst []byte, t *Type, text []byte) []byte {
	if t.Kind != Scalar {
		return appendNested(dst, t, text, nil)
	}
	switch t.OID {
	case oidBool:
		switch string(text) {
		case "t":
			return append(dst, "true"...)
		case "f":
			return append(dst, "false"...)
		}
	case oidInt2, oidInt4, oidInt8, oidOID, oidNumeric, oidFloat4, oidFloat8:
		if isJSONNumber(text) {
			return append(dst, text...)
		}
		return appendString(dst, text)
	case oidJSON, oidJSONB:
		// Postgres has parsed it before it was stored, so it stands as it is.
		if len(text) > 0 && utf8.Valid(text) && (!t.Unsure || validJSON(text)) {
			return append(dst, text...)
		}
		return appendString(dst, text)
	case oidTimestamp, oidTimestamptz:
		return appendTimestamp(dst, text)
	case oidBytea:
		return appendBytea(dst, text)
	}
	return appendString(dst, text)
}

// isJSONNumber accepts what RFC 8259 calls a number, and nothing else.
func isJSONNumber(s []byte) bool {
	i := 0
	digits := func() bool {
		start := i
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		return i > start
	}
	if i < len(s) && s[i] == '-' {
		i++
	}
	if i+1 < len(s) && s[i] == '0' && s[i+1] >= '0' && s[i+1] <= '9' {
		return false
	}
	if !digits() {
		return false
	}
	if i < len(s) && s[i] == '.' {
		i++
		if !digits() {
			return false
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	return i == len(s)
}

// appendTimestamp turns "2026-11-23 10:00:00.123+00", as a session in UTC with
// ISO dates writes it, into RFC 3339. A timestamp without zone is taken as UTC.
// Infinities and years that RFC 3339 cannot write keep their Postgres text.
func appendTimestamp(dst, text []byte) []byte {
	body := bytes.TrimSuffix(text, []byte("+00"))
	if !isTimestamp(body) {
		return appendString(dst, text)
	}
	dst = append(dst, '"')
	dst = append(dst, body[:10]...)
	dst = append(dst, 'T')
	dst = append(dst, body[11:]...)
	return append(dst, 'Z', '"')
}

// isTimestamp accepts 2026-11-23 10:00:00, and digits of a second behind it. It looks
// at eight bytes at a time.
func isTimestamp(s []byte) bool {
	const size = len("0000-00-00 00:00:00")
	if len(s) < size ||
		!formed(s, 0x2D30302D30303030, 0xFF0000FF00000000) || // 0000-00-
		!formed(s[8:], 0x30303A3030203030, 0x0000FF0000FF0000) || // 00 00:00
		!formed(s[11:], 0x30303A30303A3030, 0x0000FF0000FF0000) { // 00:00:00
		return false
	}
	if len(s) == size {
		return true
	}
	for _, c := range s[size+1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s[size] == '.' && len(s) > size+1
}

// formed tells whether eight bytes are digits where form, which begins with its last
// byte, has zeros, and what form has where the mask is set.
func formed(s []byte, form, mask uint64) bool {
	const high, six = 0xF0F0F0F0F0F0F0F0, 0x0606060606060606
	x := binary.LittleEndian.Uint64(s) ^ form // of digits: 0 to 9
	return x&mask == 0 && (x|(x+six))&high == 0
}

// appendBytea turns the hex form \x… into base64, piece by piece.
func appendBytea(dst, text []byte) []byte {
	if len(text) < 2 || text[0] != '\\' || text[1] != 'x' {
		return appendString(dst, text)
	}
	var raw [3 << 6]byte // of a length that base64 does not pad
	out := append(dst, '"')
	for digits := text[2:]; len(digits) > 0; {
		n := min(len(digits), 2*len(raw))
		got, err := hex.Decode(raw[:], digits[:n])
		if err != nil {
			return appendString(dst, text)
		}
		out = base64.StdEncoding.AppendEncode(out, raw[:got])
		digits = digits[n:]
	}
	return append(out, '"')
}

const hexDigits = "0123456789abcdef"

// plainEight reports whether none of eight bytes needs a second look in a JSON string:
// all are ASCII, and none is a control character, a quote or a backslash.
func plainEight(v uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quote, slash := v^(ones*'"'), v^(ones*'\\')
	// Of a byte under 0x80, the high bit of the difference tells that it is smaller.
	return (v|(v-ones*0x20)|(quote-ones)|(slash-ones))&high == 0
}

// appendString writes a JSON string. Bytes that are not UTF-8, which only a
// database without an encoding can send, become U+FFFD.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		for i+8 <= len(s) && plainEight(binary.LittleEndian.Uint64(s[i:])) {
			i += 8
		}
		if i == len(s) {
			break
		}
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, s[start:i]...)
				dst = append(dst, "\uFFFD"...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xF])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
