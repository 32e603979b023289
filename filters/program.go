package filters

import "sync/atomic"

// program is what a filter is compiled to: conditions on values of a row, which are
// read from its text once, and a tree that joins the conditions. The filters inside an
// array are programs of their own, over its elements.
type program struct {
	root cond
	data []path // the values of the row that conditions read, each once
	old  []path // the same of the row before the change

	// In the paths of data and old a segment is the key of an object. Where these say
	// so, it also leads into an array when it is an index there (0, 1, ...), as in the
	// paths of $changed. They may be shorter than data and old.
	dataIndexes, oldIndexes []bool

	// What is left of the paths of data and old where a scan stops: see scanned. They
	// are nil when it follows all paths to their ends.
	dataRest, oldRest []path

	beside bool // there is a condChangedBeside
	only   kind // of an element, for any condition to hold; invalid: of any kind
}

// path leads from a row, or from an element of an array, to a value: a key for each
// level. The empty path is the whole.
type path []string

// cond is one condition, or several joined.
type cond struct {
	op   condOp
	subs []cond // of condAll, condAny and condNot (one)

	// Of a condition on a value:
	old  bool // the row before is meant
	at   int  // the value, as an index into data or old of the program
	with node // the operand: a scalar, for condExactly and condDiffers any value
	list []node
	// elements is the operand of condArray.
	elements *elements

	ops  opSet // of condOp
	rows *rows // of condChanged and condChangedBeside
}

// rows is what is compared between the row and what it was before.
type rows struct {
	changed []changed // any of them
	beside  []path    // what is outside these paths
}

// changed is a value to be compared with what it was before.
type changed struct{ data, old int }

// condOp says how a condition decides. A value that is missing makes every condition
// on it No, except where something else is said.
type condOp uint8

const (
	condAll condOp = iota // Yes when there are no parts
	condAny
	condNot

	condEqual   // the value equals the scalar with; the plain {"key": scalar}
	condObject  // the value is an object
	condArray   // the value is an array that holds elements; plain {"key": [...]}
	condExactly // the value equals with, of any kind, element by element
	condDiffers // the value is there and does not equal with
	condAbove   // the value and with are both numbers or both strings, and value > with
	condAtLeast // >=
	condBelow   // <
	condAtMost  // <=
	condIn      // the value equals a scalar of list, which is in the order of compareElements
	condNotIn   // the value is a scalar, and equals none of list
	condPrefix  // the value is a string that begins with with.text
	condSuffix
	condSubstring
	condPresent // the value is there, null or not
	condAbsent  // it is not

	condOpIs          // the event's op is in ops
	condHadRow        // there was a row before: update, delete
	condChanged       // one of changed differs between the rows; never of a delete
	condChangedBeside // something outside the paths beside differs; never of a delete
)

// elements is what an array must hold: each scalar, and for each program an element
// that it holds of. An empty one asks for an array and nothing more.
type elements struct {
	scalars []node    // without repeats, in the order of compareElements
	filters []program // over an element: its paths begin at the element itself
	made    atomic.Pointer[[]plan]
}

// plans returns those of the filters, made when they are first asked for.
func (e *elements) plans() []plan {
	if made := e.made.Load(); made != nil {
		return *made
	}
	made := make([]plan, len(e.filters))
	for i := range e.filters {
		made[i] = newPlan(e.filters[i].data, nil)
	}
	e.made.Store(&made)
	return made
}
