package pgoutput

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// reader walks the bytes of one message. The first read that does not fit is remembered,
// with its offset, and moves the reader to the end: later reads then yield zeros, and the
// caller asks once, with finish, whether all of it was there.
type reader struct {
	b       []byte
	off     int
	problem string // empty until something failed
	at      int    // offset of what failed
}

func (r *reader) failed() bool { return r.problem != "" }

func (r *reader) failAt(off int, problem string) {
	if r.failed() {
		return
	}
	r.problem, r.at = problem, off
	r.off = len(r.b)
}

// failBefore blames the byte that was just read.
func (r *reader) failBefore(problem string) { r.failAt(r.off-1, problem) }

// inColumn adds to the problem the column, counted from 0, in which it arose.
func (r *reader) inColumn(i int) { r.problem = fmt.Sprintf("column %d: %s", i, r.problem) }

// finish reports the first failure, or bytes that no field accounts for.
func (r *reader) finish() error {
	if r.failed() {
		return fmt.Errorf("%s at offset %d", r.problem, r.at)
	}
	if extra := len(r.b) - r.off; extra > 0 {
		return fmt.Errorf("%d bytes too many at offset %d", extra, r.off)
	}
	return nil
}

// take returns the next n bytes, without room to append into those behind them.
func (r *reader) take(n int, field string) []byte {
	if n > len(r.b)-r.off {
		r.failAt(r.off, field+" is cut short")
		return nil
	}
	start := r.off
	r.off += n
	return r.b[start:r.off:r.off]
}

func (r *reader) uint8(field string) uint8 {
	if b := r.take(1, field); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16(field string) uint16 {
	if b := r.take(2, field); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32(field string) uint32 {
	if b := r.take(4, field); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64(field string) uint64 {
	if b := r.take(8, field); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// cstring returns the bytes before the next NUL, and steps over it.
func (r *reader) cstring(field string) []byte {
	n := bytes.IndexByte(r.b[r.off:], 0)
	if n < 0 {
		r.failAt(r.off, field+" has no terminating NUL")
		return nil
	}
	s := r.take(n, field)
	r.off++
	return s
}

// namespace reads a schema name. The server abbreviates pg_catalog to nothing.
func (r *reader) namespace() string {
	if s := r.cstring("namespace"); len(s) > 0 {
		return string(s)
	}
	return "pg_catalog"
}

// count accepts a wire count of items that take at least size bytes each, if that many
// can be there at all. On failure it is 0, so that nothing is allocated for them.
func (r *reader) count(n uint64, size int, field string) int {
	if n > uint64((len(r.b)-r.off)/size) {
		r.failAt(r.off, field+" exceeds what the message can hold")
		return 0
	}
	return int(n)
}

// sized reads a 32-bit length and that many bytes. The result is never nil on success.
func (r *reader) sized(field string) []byte {
	n := r.uint32(field)
	return r.take(r.count(uint64(n), 1, field), field)
}

// tuple reads a row into t, growing it when the row is wider than any before.
func (r *reader) tuple(t Tuple) Tuple {
	n := r.count(uint64(r.uint16("column count")), 1, "column count")
	if t == nil || cap(t) < n {
		t = make(Tuple, n)
	}
	t = t[:n]
	for i := range t {
		kind := ValueKind(r.uint8("marker"))
		switch kind {
		case Null, Unchanged:
			t[i] = Value{Kind: kind}
		case Text, Binary:
			t[i] = Value{Kind: kind, Data: r.sized("value")}
		default:
			r.failBefore("marker is none of n, u, t, b")
		}
		if r.failed() {
			r.inColumn(i)
			break
		}
	}
	return t
}
