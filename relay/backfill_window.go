package relay

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Snapshot says which transactions a reader sees: Postgres' own text form is
// xmin:xmax:xip, with 64-bit ids, of which the log carries the lower half.
type Snapshot struct {
	xmin, xmax uint32
	running    []uint32 // between the two, sorted
}

// ParseSnapshot reads the text form of a pg_snapshot.
func ParseSnapshot(s string) (Snapshot, error) {
	parts := strings.SplitN(s, ":", 3)
	if len(parts) != 3 {
		return Snapshot{}, fmt.Errorf("snapshot %q: want xmin:xmax:xip", s)
	}
	var out Snapshot
	ids := []string{parts[0], parts[1]}
	if parts[2] != "" {
		ids = append(ids, strings.Split(parts[2], ",")...)
	}
	for i, text := range ids {
		id, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return Snapshot{}, fmt.Errorf("snapshot %q: %q is no transaction id", s, text)
		}
		switch i {
		case 0:
			out.xmin = uint32(id)
		case 1:
			out.xmax = uint32(id)
		default:
			out.running = append(out.running, uint32(id))
		}
	}
	slices.Sort(out.running)
	return out, nil
}

// sees reports whether the transaction, which is known to have committed, was over
// for the reader. Ids wrap around, and are compared like Postgres does.
func (s *Snapshot) sees(xid uint32) bool {
	switch {
	case int32(xid-s.xmin) < 0:
		return true
	case int32(xid-s.xmax) >= 0:
		return false
	}
	_, running := slices.BinarySearch(s.running, xid)
	return !running
}

// Bounds of a window. A row of the log takes its key and some words.
const (
	maxTouched      = 200_000
	maxTouchedBytes = 16 << 20
)

// window remembers which rows of one table the log changed, by transactions that
// the newest snapshot does not see. A row that is read under that snapshot and that
// such a transaction changed before the watermark is stale: its own event went
// first.
type window struct {
	table    string
	key      []string
	snapshot Snapshot
	touched  []touch
	bytes    int
	overflow bool // changes were not remembered: every row may be stale

	relation *Relation // of the last change, and
	columns  []int     // where its key is; nil: it has not all of it
}

// touch is a row changed by a transaction. All stands for every row of the table.
type touch struct {
	xid uint32
	all bool
	key string
}

// saw remembers a change of the table.
func (w *window) saw(c *Change) {
	if w.overflow || w.snapshot.sees(c.XID) {
		return
	}
	if c.Relation != w.relation {
		w.relation, w.columns = c.Relation, keyIndexes(c.Relation, w.key)
	}
	if c.Op == OpTruncate || w.columns == nil {
		w.add(touch{xid: c.XID, all: true})
		return
	}
	before, hadKey := keyOf(c.Old, w.columns)
	after, hasKey := keyOf(c.New, w.columns)
	if (c.New != nil && !hasKey) || (c.New == nil && !hadKey) {
		w.add(touch{xid: c.XID, all: true})
		return
	}
	if hasKey {
		w.add(touch{xid: c.XID, key: after.joined()})
	}
	if hadKey && (!hasKey || !slices.Equal(before, after)) {
		w.add(touch{xid: c.XID, key: before.joined()})
	}
}

func (w *window) add(t touch) {
	const each = 40
	w.bytes += len(t.key) + each
	if len(w.touched) >= maxTouched || w.bytes > maxTouchedBytes {
		w.touched, w.bytes, w.overflow = nil, 0, true
		return
	}
	w.touched = append(w.touched, t)
}

// renew forgets what the newer snapshot sees: no later reading can be older.
func (w *window) renew(s Snapshot) {
	w.snapshot = s
	w.bytes = 0
	w.touched = slices.DeleteFunc(w.touched, func(t touch) bool { return s.sees(t.xid) })
	for i := range w.touched {
		w.bytes += len(w.touched[i].key)
	}
}

// stale returns a test for the rows that were read under the window's snapshot.
func (w *window) stale() func(RowKey) bool {
	if w.overflow {
		return func(RowKey) bool { return true }
	}
	keys := make(map[string]struct{}, len(w.touched))
	for _, t := range w.touched {
		if t.all {
			return func(RowKey) bool { return true }
		}
		keys[t.key] = struct{}{}
	}
	return func(k RowKey) bool {
		_, found := keys[k.joined()]
		return found
	}
}

// keyIndexes returns where the named columns are, nil when one is missing.
func keyIndexes(rel *Relation, names []string) []int {
	out := make([]int, len(names))
	for i, name := range names {
		if out[i] = rel.Column(name); out[i] < 0 {
			return nil
		}
	}
	return out
}

// keyOf returns the key of a row image, false when the image has not all of it.
func keyOf(row Tuple, columns []int) (RowKey, bool) {
	if row == nil {
		return nil, false
	}
	key := make(RowKey, len(columns))
	for i, c := range columns {
		if c >= len(row) || row[c].Kind != Text {
			return nil, false
		}
		key[i] = string(row[c].Data)
	}
	return key, true
}
