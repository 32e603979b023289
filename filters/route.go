package filters

import (
	"encoding/binary"
	"slices"
)

// route is one way to a filter: what is looked up, and the values that are looked for.
type route struct {
	shape     *shape
	legs      legs
	low, high uint64 // of a ranged shape
}

// plain returns the route of a filter that asks for scalars only. With create it makes what
// is missing, else it returns nil for a filter that cannot be there.
func (t *topic[T]) plain(p *program, conds []cond, create bool) (route, bool) {
	var room [8]wanted
	list := room[:0]
	for i := range conds {
		f := t.data.find(p.data[conds[i].at])
		if f == nil && !create {
			return route{}, false
		}
		if f == nil {
			return t.route(p, p.ways()[0]), true
		}
		list = append(list, wanted{probe: probe{slot: f.slot}, field: f, with: &conds[i].with})
	}
	sortWanted(list)
	var key [64]byte
	s := t.shapes[string(appendShapeKey(key[:0], list, nil, nil, invalid))]
	if s == nil {
		if !create {
			return route{}, false
		}
		s = t.newShape(list, nil, nil, invalid)
	}
	return route{shape: s, legs: s.legs(list)}, true
}

// route makes a way to a filter.
func (t *topic[T]) route(p *program, way []need) route {
	d := draft[T]{topic: t, program: p}
	var many *need
	for i := range way {
		n := &way[i]
		switch {
		case n.op == needEqual && n.below == nil:
			d.probe(n, probe{})
		case n.op == needEqual && many == nil:
			many = n
		}
	}
	if many != nil {
		d.probe(many, probe{many: true})
	}
	for i := range way {
		if n := &way[i]; n.op == needPrefix && longest(way, n) {
			d.probe(n, probe{prefix: int32(len(n.with.text))})
		}
	}
	r := route{high: allPoints}
	if n := bestRange(way); n != nil {
		if f := d.hold(n); !d.probed(f) {
			d.ranged, d.order, r.low, r.high = f, n.order, n.low, n.high
		}
	}
	for i := range way {
		if n := &way[i]; n.below == nil {
			if f := d.hold(n); !d.probed(f) && f != d.ranged {
				d.present = append(d.present, f)
			}
		}
	}
	r.shape = d.shape()
	r.legs = r.shape.legs(d.probes)
	t.data.release(d.held) // the shape holds them now
	return r
}

// longest reports whether no other prefix of the same value is longer.
func longest(way []need, n *need) bool {
	return !slices.ContainsFunc(way, func(m need) bool {
		return m.op == needPrefix && m.at == n.at && len(m.with.text) > len(n.with.text)
	})
}

// draft is a shape on its way.
type draft[T comparable] struct {
	topic   *topic[T]
	program *program
	held    []*field
	probes  []wanted
	present []*field
	ranged  *field
	order   kind
}

// hold returns the field of a need, which stays until the draft is done.
func (d *draft[T]) hold(n *need) *field {
	f := d.topic.data.keep(d.program.data[n.at], n.below)
	d.held = append(d.held, f)
	return f
}

func (d *draft[T]) probed(f *field) bool {
	return slices.ContainsFunc(d.probes, func(w wanted) bool { return w.field == f })
}

// probe adds a probe for a need, unless its place has one.
func (d *draft[T]) probe(n *need, p probe) {
	f := d.hold(n)
	if p.slot = f.slot; !d.probed(f) {
		d.probes = append(d.probes, wanted{probe: p, field: f, with: n.with})
	}
}

// shape returns the shape of the draft, made when there is none.
func (d *draft[T]) shape() *shape {
	sortWanted(d.probes)
	slices.SortFunc(d.present, func(a, b *field) int { return int(a.slot) - int(b.slot) })
	d.present = slices.Compact(d.present)
	if s := d.topic.shapes[string(appendShapeKey(nil, d.probes, d.present, d.ranged, d.order))]; s != nil {
		return s
	}
	return d.topic.newShape(d.probes, d.present, d.ranged, d.order)
}

// bestRange joins the bounds of each value and returns the narrowest kind of them: both
// ends rather than one.
func bestRange(way []need) *need {
	var best *need
	for i := range way {
		n := way[i]
		if n.op != needRange {
			continue
		}
		for j := range way {
			if m := &way[j]; m.op == needRange && m.at == n.at && m.order == n.order {
				n.low, n.high = max(n.low, m.low), min(n.high, m.high)
			}
		}
		if best == nil || n.low > 0 && n.high < allPoints {
			best = &n
		}
	}
	return best
}

// tells reports whether the route of a filter says what one of its parts does.
func (r *route) tells(c *cond, b *bound) bool {
	switch c.op {
	case condEqual, condPrefix, condPresent, condAbove, condAtLeast, condBelow, condAtMost:
	default:
		return false
	}
	if c.old {
		return false
	}
	slot := b.data[c.at]
	for rest := r.legs; rest != ""; {
		l, value := rest.cut()
		rest = l.skip(value)
		switch {
		case l.slot != slot || !l.valued():
		case c.op == condPresent:
			return true
		case c.op == condEqual && l.op == legWhole, c.op == condPrefix && l.op == legPrefix:
			return l.kind == c.with.kind && string(value[:len(value)-len(rest)]) == string(c.with.encode(nil))
		}
	}
	switch c.op {
	case condPresent:
		return slot == r.shape.ranged || slices.Contains(r.shape.present, slot)
	case condAbove, condAtLeast, condBelow, condAtMost:
		return slot == r.shape.ranged && c.with.kind == r.shape.order
	default:
		return false
	}
}

// exclude adds the condition that a value must not equal some scalars to not, and reports
// whether it is one. That there is a value is said by the route.
func (b *bound) exclude(c *cond) bool {
	list := c.list
	switch {
	case c.old:
		return false
	case c.op == condDiffers && c.with.kind.scalar():
		list = []node{c.with}
	case c.op != condNotIn:
		return false
	}
	not := []byte(b.not)
	for i := range list {
		not = binary.LittleEndian.AppendUint32(not, uint32(b.data[c.at]))
		not = append(not, byte(c.op), byte(list[i].kind))
		not = list[i].encode(not)
	}
	b.not = string(not)
	return true
}

// notHashes returns what is short of b.not: its slot and parts of the hashes of its scalars,
// if there is one slot and there are at most two scalars.
func (b *bound) notHashes() (slot int32, hashes [2]uint32, n uint8) {
	for not := b.not; not != ""; n++ {
		at := int32(binary.LittleEndian.Uint32([]byte(not[:4])))
		if n > 0 && at != slot || int(n) == len(hashes) {
			return 0, hashes, 0
		}
		slot = at
		hash, rest := hashEncoded(kind(not[5]), not[6:])
		hashes[n] = uint32(hash)
		not = rest
	}
	return slot, hashes, n
}

// differs reports for sure that the value of the slot is a scalar with none of the hashes.
func (r *reading) differs(slot int32, hashes [2]uint32, n uint8) bool {
	v := r.at(slot)
	return v != nil && n > 0 && v.hash() && uint32(v.sum) != hashes[0] && (n == 1 || uint32(v.sum) != hashes[1])
}

// excludes reports whether one of the values equals a scalar that it must not, or is no
// scalar where only scalars may differ.
func (r *reading) excludes(not string) bool {
	for not != "" {
		slot := uint32(not[0]) | uint32(not[1])<<8 | uint32(not[2])<<16 | uint32(not[3])<<24
		v, op := &r.slots[slot], condOp(not[4])
		if v.round != r.round || op == condNotIn && !kindOf(v.raw[0]).scalar() {
			return true
		}
		var equal bool
		if not, equal = equalsRaw(kind(not[5]), not[6:], v.raw, false); equal {
			return true
		}
	}
	return false
}
