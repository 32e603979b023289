package filters

// Op says how a row changed.
type Op uint8

// The operations. The zero Op is one that is not known: every condition on a change is
// Unknown then.
const (
	OpUnknown Op = iota
	OpInsert
	OpUpdate
	OpDelete
	OpTruncate
	OpRead // a row that was there before, told anew by a backfill
)

// opNames are the operations as filters and events spell them.
func opNames() [OpRead + 1]string {
	return [...]string{"unknown", "insert", "update", "delete", "truncate", "read"}
}

// String returns the operation as filters and events spell it.
func (o Op) String() string {
	if o > OpRead {
		o = OpUnknown
	}
	return opNames()[o]
}

// ParseOp returns the operation that s names.
func ParseOp(s string) (op Op, ok bool) {
	for op = OpInsert; op <= OpRead; op++ {
		if op.String() == s {
			return op, true
		}
	}
	return OpUnknown, false
}

// opSet is a set of operations.
type opSet uint8

func (s opSet) has(op Op) bool { return s>>op&1 == 1 }

// Event is what a filter is asked about: a row, and how it came about.
type Event struct {
	Op   Op
	Data Doc // the row as it is; of a delete, as it was
	// Before is the row before an update. When it is Partial it has only the columns
	// that changed, and names in its unavailable ones those of which nothing is known;
	// all others are as in Data.
	Before  Doc
	Partial bool
}

// settle leaves out what the operation does not have.
func (e *Event) settle() {
	switch e.Op {
	case OpTruncate:
		e.Data, e.Before = Doc{}, Doc{}
	case OpInsert, OpRead, OpDelete:
		e.Before, e.Partial = Doc{}, false
	case OpUnknown, OpUpdate:
	}
}

// size is how many bytes of rows there are.
func (e *Event) size() int { return len(e.Data.json) + len(e.Before.json) }
