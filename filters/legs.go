package filters

import "encoding/binary"

// legs are a route in the form in which it is kept and compared with a row: for each place
// its slot, what is asked there, and the value if one is.
type legs string

// leg is one of them, without the value.
type leg struct {
	slot int32
	op   legOp
	kind kind // of the value; of a range, of its ends
}

type legOp uint8

const (
	legWhole   legOp = iota // the value equals
	legMany                 // one of the values does; the first leg of a route at most
	legPrefix               // the value begins with
	legPresent              // there is a value
	legRange                // there is one in a range, which is kept elsewhere
)

// legs returns those of a route of the shape, given what is wanted at each probe.
func (s *shape) legs(list []wanted) legs {
	var room [96]byte
	b := room[:0]
	for i := range list {
		w := &list[i]
		op := legWhole
		switch {
		case w.many:
			op = legMany
		case w.prefix > 0:
			op = legPrefix
		}
		b = w.with.encode(appendLeg(b, w.slot, op, w.with.kind))
	}
	for _, slot := range s.present {
		b = appendLeg(b, slot, legPresent, invalid)
	}
	if s.ranged >= 0 {
		b = appendLeg(b, s.ranged, legRange, s.order)
	}
	return legs(b)
}

func appendLeg(b []byte, slot int32, op legOp, k kind) []byte {
	return append(binary.AppendUvarint(b, uint64(slot)), byte(op)<<4|byte(k))
}

// cut returns the first leg, and what is behind it: its value if it has one.
func (s legs) cut() (first leg, rest legs) {
	slot, shift := uint64(0), 0
	i := 0
	for ; ; i++ {
		slot |= uint64(s[i]&0x7f) << shift
		if shift += 7; s[i] < 0x80 {
			break
		}
	}
	b := s[i+1]
	return leg{slot: int32(slot), op: legOp(b >> 4), kind: kind(b & 0xf)}, s[i+2:]
}

// valued reports whether a value is behind the leg.
func (l leg) valued() bool { return l.op <= legPrefix }

// skip returns what is behind the value of the leg.
func (l leg) skip(rest legs) legs {
	if !l.valued() {
		return rest
	}
	switch l.kind {
	case text:
		_, s := cutText(string(rest))
		return legs(s)
	case number:
		_, s := cutVarint(string(rest))
		_, s = cutVarint(s)
		_, s = cutText(s)
		return legs(s)
	default:
		return rest
	}
}

// leaf returns the hash of the leg with its value, and what is behind the value.
func (l leg) leaf(rest legs) (hash uint64, behind legs) {
	switch l.op {
	case legPresent:
		return presence(l.slot), rest
	case legRange:
		return inRange(l.slot, l.kind), rest
	default:
		hash, s := hashEncoded(l.kind, string(rest))
		return mix(hash, l.probe(rest).place()), legs(s)
	}
}

// probe returns that of a leg with a value.
func (l leg) probe(rest legs) probe {
	p := probe{slot: l.slot, many: l.op == legMany}
	if l.op == legPrefix {
		s, _ := cutText(string(rest))
		p.prefix = int32(len(s))
	}
	return p
}

// hash is the hash of the whole route.
func (s legs) hash() uint64 {
	sum := uint64(0)
	for s != "" {
		l, rest := s.cut()
		leaf, rest := l.leaf(rest)
		sum += leaf
		s = rest
	}
	return finish(sum)
}
