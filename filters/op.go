package filters

// Op is what happened to a row.
type Op uint8

// The operations. Of an event whose Op is OpUnknown every change condition is Unknown.
const (
	OpUnknown Op = iota
	OpInsert
	OpUpdate
	OpDelete
	OpTruncate
	OpRead // the row was read by a snapshot or a backfill
)

// opCount is how many there are.
const opCount = OpRead + 1

// ParseOp returns the operation with the name that String returns.
func ParseOp(s string) (Op, bool) {
	for op := OpInsert; op < opCount; op++ {
		if s == op.String() {
			return op, true
		}
	}
	return OpUnknown, false
}

// String returns "insert", "update", "delete", "truncate", "read" or "unknown".
func (o Op) String() string {
	switch o {
	case OpInsert:
		return "insert"
	case OpUpdate:
		return "update"
	case OpDelete:
		return "delete"
	case OpTruncate:
		return "truncate"
	case OpRead:
		return "read"
	default:
		return "unknown"
	}
}

// opSet is a set of operations.
type opSet uint8

func (s opSet) has(o Op) bool { return s>>o&1 == 1 }

func (s opSet) with(o Op) opSet { return s | 1<<o }
