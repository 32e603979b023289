package filters

import "math"

// The routes whose shape is not direct are filed under two of their legs, those that the
// fewest others are filed under, or under one if they have no more. A row looks under what
// it has: guides say of each slot where it can lead, signs where nothing is.

// filing says where a route is filed: the indexes of two legs.
type filing [2]byte

const (
	filedNowhere = 255
	filedMost    = 100 // of the legs of a route are looked at
)

func (f filing) filed() bool { return f[0] != filedNowhere }

// hashFiled is the hash of the legs by which a spot is filed.
func hashFiled[T comparable](e *spot[T]) uint64 {
	hash, _ := filedHash(e.where, e.route().at(e.where))
	return hash
}

// pairHash is the hash of two leaves, in any order.
func pairHash(a, b uint64) uint64 { return mix(a+b, 1<<58) }

// filedLeg is a leg by which a route may be filed.
type filedLeg struct {
	aspect aspect
	leaf   uint64
}

// aspect returns what the leg asks of its slot.
func (l leg) aspect(rest legs) aspect {
	p := aspect{slot: l.slot}
	switch {
	case l.op == legPresent:
		p.how = isPresent
	case l.op == legRange && l.kind == number:
		p.how = isNumber
	case l.op == legRange:
		p.how = isText
	default:
		p.how = l.probe(rest).prefix
	}
	return p
}

// choose returns the two legs to file a route by.
func (s *shelf[T]) choose(route legs) (at filing, by [2]filedLeg) {
	at = filing{filedNowhere, filedNowhere}
	least, many := [2]int{math.MaxInt, math.MaxInt}, false
	for i := 0; route != "" && i < filedMost; i++ {
		l, rest := route.cut()
		leaf, behind := l.leaf(rest)
		weight := s.weights.of(leaf)
		if l.op == legMany {
			many, weight = weight > 0, -1 // so that it is known which of many values led here
		}
		switch {
		case weight < least[0]:
			at, by[1] = filing{byte(i), at[0]}, by[0]
			by[0] = filedLeg{l.aspect(rest), leaf}
			least = [2]int{weight, least[0]}
		case weight < least[1]:
			at[1], by[1], least[1] = byte(i), filedLeg{l.aspect(rest), leaf}, weight
		}
		route = behind
	}
	if least[0] <= 0 && !many { // nobody to be told apart from
		at[1] = filedNowhere
	}
	return at, by
}

// at returns the legs with the indexes.
func (s legs) at(where filing) (by [2]filedLeg) {
	for i := 0; s != ""; i++ {
		l, rest := s.cut()
		leaf, behind := l.leaf(rest)
		for j := range where {
			if where[j] != filedNowhere && i == int(where[j]) {
				by[j] = filedLeg{l.aspect(rest), leaf}
			}
		}
		s = behind
	}
	return by
}

// filedAt reports whether the legs with the indexes are about these aspects.
func (s legs) filedAt(where filing, a, b aspect) bool {
	for i := 0; s != ""; i++ {
		l, rest := s.cut()
		if i == int(where[0]) || i == int(where[1]) {
			if is := l.aspect(rest); is != a && is != b {
				return false
			}
		}
		s = l.skip(rest)
	}
	return (where[1] == filedNowhere) == (b == noAspect)
}

// filedHash returns the hash of the legs a route is filed by, and the second aspect.
func filedHash(where filing, by [2]filedLeg) (hash uint64, second aspect) {
	if where[1] == filedNowhere {
		return by[0].leaf, noAspect
	}
	return pairHash(by[0].leaf, by[1].leaf), by[1].aspect
}

// file puts a spot where rows find it, by the legs that were chosen, and reports whether
// many others are there.
func (s *shelf[T]) file(e *spot[T], by [2]filedLeg) (crowded bool) {
	hash, second := filedHash(e.where, by)
	s.weights.add(by[0].leaf)
	if second != noAspect {
		s.weights.add(by[1].leaf)
	}
	s.access.put(e, hashFiled[T])
	if !s.signs.add(hash) {
		s.fillSigns()
	}
	s.guides.lead(by[0].aspect, second)
	there := 0
	q := s.access.find(hash)
	for there <= crowd && q.next() != nil {
		there++
	}
	return there > crowd
}

// unfile takes a spot from where it is filed.
func (s *shelf[T]) unfile(e *spot[T]) {
	by := e.route().at(e.where)
	hash, second := filedHash(e.where, by)
	s.weights.sub(by[0].leaf)
	if second != noAspect {
		s.weights.sub(by[1].leaf)
	}
	s.guides.forget(by[0].aspect, second)
	s.access.drop(e, hash)
	if !s.signs.sub() {
		s.fillSigns()
	}
}

func (s *shelf[T]) fillSigns() {
	s.signs.fill(s.access.count, func(set func(hash uint64)) {
		s.access.each(func(e *spot[T]) { set(hashFiled(e)) })
	})
}
