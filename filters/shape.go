package filters

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
)

// shape is what many filters have in common: the places they look at, without the values
// they look for. A row is looked up once for each shape that is direct.
type shape struct {
	id      uint32
	born    uint64 // stamp of the index; a match that began before does not use it
	key     string
	probes  []probe
	present []int32 // slots that must have a value
	ranged  int32   // slot of the range, -1 for none
	order   kind    // of the range
	base    uint64  // hash of all but the probes
	fields  []*field
	refs    int
}

// probe is a place whose value is part of what a shape looks for.
type probe struct {
	slot   int32
	prefix int32 // so many bytes of a string; 0 for the whole value
	many   bool  // any of the values; the first probe of a shape at most
}

// wanted is what a filter wants at a probe.
type wanted struct {
	probe
	field *field
	with  *node
}

// mixSeed keeps even the hashes of null, true and false from being foreseen.
var mixSeed = maphash.String(hashSeed, "mix") //nolint:gochecknoglobals // as hashSeed

// mix spreads a hash over all bits, differently for each place.
func mix(hash, place uint64) uint64 {
	high, low := bits.Mul64(hash^mixSeed, place*0xbf58476d1ce4e5b9+0x94d049bb133111eb)
	return high ^ low
}

func (p probe) place() uint64 { return uint64(uint32(p.slot))<<16 | uint64(uint32(p.prefix)) }

// presence is the hash of the mere fact that a slot has a value, inRange that the value is
// in a range of numbers or strings.
func presence(slot int32) uint64            { return mix(uint64(slot), 1<<60) }
func inRange(slot int32, order kind) uint64 { return mix(uint64(slot)<<8|uint64(order), 1<<61) }

// finish makes the hash of a route from the sum of its legs.
func finish(sum uint64) uint64 { return mix(sum, 1<<62) }

// hashNode is the hash of a scalar of a filter, hashRaw of one of a document.
func hashNode(n *node) uint64 {
	switch n.kind {
	case text:
		return maphash.String(hashSeed, n.text)
	case number:
		d := n.number()
		return hashFigure(d.sign(), d.exp, d.digits, "")
	default:
		return uint64(n.kind)
	}
}

// hashRaw returns false for a value that no scalar of a filter equals.
func hashRaw(raw string) (hash uint64, ok bool) {
	switch k := kindOf(raw[0]); k {
	case text:
		if strings.IndexByte(raw, '\\') < 0 {
			return maphash.String(hashSeed, raw[1:len(raw)-1]), true
		}
		s, storable := decodeString(raw)
		return maphash.String(hashSeed, s), storable
	case number:
		f := readFigure(raw)
		return hashFigure(f.sign, f.exp, f.head, f.tail), true
	case array, object:
		return 0, false
	default:
		return uint64(k), true
	}
}

// hashFigure hashes ±0.headtail × 10^exp, the same for every notation.
func hashFigure(sign int, exp int64, head, tail string) uint64 {
	tail = strings.TrimRight(tail, "0")
	if tail == "" {
		head = strings.TrimRight(head, "0")
	}
	if head == "" {
		return uint64(number)
	}
	place := uint64(exp)<<2 + uint64(sign+1)
	if tail == "" {
		return mix(maphash.String(hashSeed, head), place)
	}
	var room [64]byte // of the digits of most numbers
	digits := append(append(room[:0], head...), tail...)
	return mix(maphash.Bytes(hashSeed, digits), place)
}

// hashEncoded hashes the first of the encoded values and returns the others.
func hashEncoded(k kind, values string) (hash uint64, rest string) {
	switch k {
	case text:
		s, rest := cutText(values)
		return maphash.String(hashSeed, s), rest
	case number:
		sign, values := cutVarint(values)
		exp, values := cutVarint(values)
		digits, rest := cutText(values)
		return hashFigure(int(sign), exp, digits, ""), rest
	default:
		return uint64(k), values
	}
}

// encode appends what a scalar has beside its kind, in a form that equalsRaw compares with
// a document's. A prefix is a text.
func (n *node) encode(b []byte) []byte {
	switch n.kind {
	case text:
		b = binary.AppendUvarint(b, uint64(len(n.text)))
		b = append(b, n.text...)
	case number:
		d := n.number()
		b = binary.AppendVarint(b, int64(d.sign()))
		b = binary.AppendVarint(b, d.exp)
		b = binary.AppendUvarint(b, uint64(len(d.digits)))
		b = append(b, d.digits...)
	default: // there is one null, one true and one false
	}
	return b
}

// equalsRaw compares the first of the encoded values, which is of kind k, with the value raw
// of a document, and returns the others.
func equalsRaw(k kind, values, raw string, prefix bool) (rest string, equal bool) {
	same := raw != "" && kindOf(raw[0]) == k
	switch k {
	case text:
		s, rest := cutText(values)
		switch {
		case !same:
			return rest, false
		case prefix:
			return rest, hasPart(condPrefix, raw, s)
		default:
			return rest, equalString(raw, s)
		}
	case number:
		sign, values := cutVarint(values)
		exp, values := cutVarint(values)
		digits, rest := cutText(values)
		return rest, same && readFigure(raw).compare(decimal{negative: sign < 0, exp: exp, digits: digits}) == 0
	default:
		return values, same
	}
}

func cutText(s string) (value, rest string) {
	length, shift := uint64(0), 0
	for i := 0; ; i++ {
		length |= uint64(s[i]&0x7f) << shift
		if shift += 7; s[i] < 0x80 {
			s = s[i+1:]
			return s[:length], s[length:]
		}
	}
}

func cutVarint(s string) (value int64, rest string) {
	u, shift := uint64(0), 0
	for i := 0; ; i++ {
		u |= uint64(s[i]&0x7f) << shift
		if shift += 7; s[i] < 0x80 {
			return int64(u>>1) ^ -int64(u&1), s[i+1:]
		}
	}
}

// appendShapeKey appends the name of a shape, which says what it looks at.
func appendShapeKey(b []byte, probes []wanted, present []*field, ranged *field, order kind) []byte {
	for _, p := range probes {
		b = binary.AppendUvarint(b, uint64(p.slot)+1)
		b = binary.AppendUvarint(b, uint64(p.prefix))
	}
	b = append(b, 0)
	for _, f := range present {
		b = binary.AppendUvarint(b, uint64(f.slot)+1)
	}
	b = append(b, 0, byte(order))
	if ranged != nil {
		b = binary.AppendUvarint(b, uint64(ranged.slot))
	}
	return b
}

// sortWanted brings probes into the order of a shape.
func sortWanted(list []wanted) {
	slices.SortFunc(list, func(a, b wanted) int {
		switch {
		case a.many != b.many:
			if a.many {
				return -1
			}
			return 1
		case a.slot != b.slot:
			return int(a.slot) - int(b.slot)
		default:
			return int(a.prefix) - int(b.prefix)
		}
	})
}
