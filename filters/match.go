package filters

import (
	"math/bits"
	"slices"
	"strings"
	"unsafe"

	"github.com/tidwall/gjson"
)

// Verdict is the answer of a filter. Only Yes may deliver; Unknown is worth counting.
type Verdict uint8

// The verdicts are ordered: of several conditions that must all hold, the least verdict
// is the answer.
const (
	No      Verdict = iota // the document does not match
	Unknown                // a value that decides was not sent, or the work limit was reached
	Yes                    // the document matches
)

// String returns "no", "unknown" or "yes".
func (v Verdict) String() string {
	switch v {
	case Yes:
		return "yes"
	case Unknown:
		return "unknown"
	default:
		return "no"
	}
}

// Doc is a document made ready for any number of filters. The zero Doc, like a text
// that is not JSON or not an object, matches no filter at all.
type Doc struct {
	json        string // an object's text, or "" for what matches nothing
	unavailable []string
}

// NewDoc checks data once, for all filters that will read it. It names in unavailable
// the top-level keys whose value is not known, such as columns that the WAL did not
// carry: every condition on one of them is Unknown, whatever data has in its place.
// Neither data nor unavailable may change while the Doc is in use.
func NewDoc(data []byte, unavailable []string) Doc {
	// Copying would cost as much as the check. The string is only read, and only while
	// the caller promises that the bytes stay the same.
	s := unsafe.String(unsafe.SliceData(data), len(data)) //nolint:gosec // nobody writes to data meanwhile
	if checkSyntax(s, MaxDocDepth).problem != "" {
		return Doc{}
	}
	if s = strings.Trim(s, " \t\r\n"); s[0] != '{' {
		return Doc{}
	}
	return Doc{json: s, unavailable: unavailable}
}

// Match reports whether data contains the filter; NewDoc and MatchDoc do the same for
// several filters or for incomplete rows.
func (f *Filter) Match(data []byte) Verdict {
	return f.MatchDoc(NewDoc(data, nil))
}

// MatchDoc reports whether doc contains the filter. It never fails, and the package
// documentation says how much work it may do.
func (f *Filter) MatchDoc(doc Doc) Verdict {
	if f == nil || f.root.kind != object || doc.json == "" {
		return No
	}
	var withheld set
	for _, key := range doc.unavailable {
		i, found := slices.BinarySearchFunc(f.root.members, key, func(m member, key string) int { return strings.Compare(m.key, key) })
		if found {
			withheld.put(i, true)
		}
	}
	w := walk{left: workFloor + workFactor*len(doc.json)}
	holds := w.object(&f.root, gjson.Result{Type: gjson.JSON, Raw: doc.json}, withheld)
	switch {
	case w.left < 0:
		return Unknown
	case !holds:
		return No
	case withheld != set{}:
		return Unknown
	}
	return Yes
}

// What one match may do, counted in bytes: workFactor times the document and workFloor.
// Walking a container costs its bytes and walkCost, pairing it with an element of a
// filter's array costs pairCost, whether it is then walked or not.
const (
	workFloor  = 256 << 10
	workFactor = 10
	walkCost   = 8
	pairCost   = 2
)

// walk is one match under way. When left falls below zero the walk winds up, and its
// answer means nothing.
type walk struct{ left int }

// contains reports whether the value v of the document contains n.
func (w *walk) contains(n *node, v gjson.Result) bool {
	switch n.kind {
	case object:
		return v.Raw[0] == '{' && w.object(n, v, set{})
	case array:
		return v.Raw[0] == '[' && w.array(n, v)
	default:
		return n.equals(v.Raw)
	}
}

// object reports whether each member of n is contained in the member of v of the same
// key, except those in granted. All of v is read, because of repeated keys the last
// one counts.
func (w *walk) object(n *node, v gjson.Result, granted set) bool {
	if len(n.members) == 0 {
		return true
	}
	if w.left -= walkCost + len(v.Raw); w.left < 0 {
		return false
	}
	holds := granted
	v.ForEach(func(key, value gjson.Result) bool {
		if i := n.member(key.Raw); i >= 0 && !granted.has(i) {
			holds.put(i, w.contains(&n.members[i].value, value))
		}
		return w.left >= 0
	})
	return holds.len() == len(n.members)
}

// array reports whether each element of n is contained in some element of v. The
// elements of v are read once; those of n that have been found are not tried again.
func (w *walk) array(n *node, v gjson.Result) bool {
	if len(n.elements) == 0 {
		return true
	}
	if w.left -= walkCost + len(v.Raw); w.left < 0 {
		return false
	}
	var found set
	v.ForEach(func(_, value gjson.Result) bool {
		k := kindOf(value.Raw[0])
		if k == array || k == object {
			for i := int(n.first[k]); i < int(n.first[k+1]) && w.left >= 0; i++ {
				if !found.has(i) {
					w.left -= pairCost
					found.put(i, w.contains(&n.elements[i], value))
				}
			}
		} else if i := n.scalar(k, value.Raw); i >= 0 {
			found.put(i, true)
		}
		return w.left >= 0 && found.len() < len(n.elements)
	})
	return found.len() == len(n.elements)
}

// set is a set of members or elements by index; MaxLeaves bounds how many there are.
type set [MaxLeaves / 64]uint64

func (s *set) has(i int) bool { return s[i/64]>>(i%64)&1 == 1 }

func (s *set) put(i int, in bool) {
	bit := uint64(1) << (i % 64)
	if in {
		s[i/64] |= bit
	} else {
		s[i/64] &^= bit
	}
}

func (s *set) len() int {
	n := 0
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}
