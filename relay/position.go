package relay

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in the Postgres write-ahead log, in bytes from its start.
// Its text form is Postgres' own: two hexadecimal halves, "0/16B3748".
type LSN uint64

// ParseLSN reads the text form of an LSN.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("lsn %q: want two hexadecimal numbers joined by a slash", s)
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("lsn %q: upper half is not a 32-bit hexadecimal number", s)
	}
	l, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("lsn %q: lower half is not a 32-bit hexadecimal number", s)
	}
	return LSN(h<<32 | l), nil
}

// String returns the text form, "0/16B3748".
func (l LSN) String() string { return string(l.Append(nil)) }

// Append appends the text form to dst.
func (l LSN) Append(dst []byte) []byte {
	dst = appendUpperHex(dst, uint32(l>>32))
	dst = append(dst, '/')
	return appendUpperHex(dst, uint32(l))
}

func appendUpperHex(dst []byte, v uint32) []byte {
	const digits = "0123456789ABCDEF"
	var text [8]byte
	i := len(text)
	for {
		i--
		text[i] = digits[v&0xF]
		if v >>= 4; v == 0 {
			return append(dst, text[i:]...)
		}
	}
}

// Position is the place of one message in the log: a total order that is the
// same whenever the same transactions are read again.
type Position struct {
	CommitLSN LSN    // of the transaction's commit record
	Ordinal   uint32 // raw row changes of the transaction, counted from 0 before any filtering
	Index     uint32 // several events of one row change, counted from 0
}

// Compare orders positions: negative when p comes before q.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.CommitLSN, q.CommitLSN); c != 0 {
		return c
	}
	if c := cmp.Compare(p.Ordinal, q.Ordinal); c != 0 {
		return c
	}
	return cmp.Compare(p.Index, q.Index)
}

// IsZero reports whether p is no position at all.
func (p Position) IsZero() bool { return p == Position{} }

// String returns the text form carried in the Relay-Pos header: "0/16B3748:12:0".
func (p Position) String() string { return string(p.Append(nil)) }

// Append appends the text form to dst.
func (p Position) Append(dst []byte) []byte {
	dst = p.CommitLSN.Append(dst)
	dst = append(dst, ':')
	dst = strconv.AppendUint(dst, uint64(p.Ordinal), 10)
	dst = append(dst, ':')
	return strconv.AppendUint(dst, uint64(p.Index), 10)
}

// ParsePosition reads the text form of a position.
func ParsePosition(s string) (Position, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return Position{}, fmt.Errorf("position %q: want lsn:ordinal:index", s)
	}
	lsn, err := ParseLSN(parts[0])
	ordinal, err2 := strconv.ParseUint(parts[1], 10, 32)
	index, err3 := strconv.ParseUint(parts[2], 10, 32)
	if err := errors.Join(err, err2, err3); err != nil {
		return Position{}, fmt.Errorf("position %q: %w", s, err)
	}
	return Position{CommitLSN: lsn, Ordinal: uint32(ordinal), Index: uint32(index)}, nil
}
