package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/dot-do/relay/internal/failpoint"
)

// ParkedRecord is the body of a relay.control.parked message: the row change at this
// place raised no event, because mapping it panicked, or an event of it is not published
// because its data violates the schema of its type. It holds nothing of the row but its
// key, and names of columns.
type ParkedRecord struct {
	Slot        string          `json:"slot"`
	Table       string          `json:"table"`
	Op          string          `json:"op"`
	Position    string          `json:"position"`             // as in Relay-Pos: that of the event, or behind all events that the row can raise
	Key         json.RawMessage `json:"key,omitempty"`        // as source.key of an event; none where a mapping redacts a part of it
	Mapping     string          `json:"mapping,omitempty"`    // that was at work
	EventType   string          `json:"event_type,omitempty"` // of the one event that is parked; none: all of the row
	EventID     string          `json:"event_id,omitempty"`   // its
	CommittedAt time.Time       `json:"committed_at"`
	Reason      string          `json:"reason"`
	Remedy      string          `json:"remedy"`
}

const (
	// maxParkedKey is the longest key that a record tells.
	maxParkedKey = 1 << 10
	// parkedAgain is the time between two lines of the log about rows of one table and
	// mapping; only the first has the stack.
	parkedAgain = time.Minute
)

// lastPlace is the place behind all events that the row change can raise: where its
// parked record stands. What is read again with its first events in the stream is told,
// and what is parked is not read half.
func lastPlace(p Position) Position {
	p.Index = math.MaxUint32
	return p
}

// panicked is a panic that was recovered.
type panicked struct{ text, stack string }

// panicText is what may be told of a panic: its own words only when they are the
// runtime's. Others may hold values of the row.
func panicText(r any) string {
	if e, ok := r.(runtime.Error); ok {
		return e.Error()
	}
	return fmt.Sprintf("%T", r)
}

// mapRow appends what the change raises: all its events, or, when mapping it panics, the
// record that it is parked. It returns how many events there are.
func (m *mapping) mapRow(ctx context.Context, c *Change, out *mappedBatch) int {
	from := len(out.events)
	p := m.tryRow(c, out)
	if p == nil {
		return len(out.events) - from
	}
	m.park(ctx, c, p, out)
	return 0
}

// tryRow appends the change's events, and nothing when it panics. What the mapper and the
// buffer of bodies have of it by then is begun anew with the next change.
func (m *mapping) tryRow(c *Change, out *mappedBatch) (p *panicked) {
	defer recovered(&p)
	m.mapper.working = ""
	if m.role == webhooksTable {
		out.events = announce(out.events, &out.bodies, c)
		return nil
	}
	if m.role == parkedTable {
		out.events = m.release(out.events, &out.bodies, c)
		return nil
	}
	failpoint.Hit(failpoint.Mapping)
	out.events = m.mapper.Map(out.events, &out.bodies, c)
	return nil
}

// park tells of the change in the stream, in the log and to the observer.
func (m *mapping) park(ctx context.Context, c *Change, p *panicked, out *mappedBatch) {
	at, table := lastPlace(c.Position), c.Relation.FullName()
	record := ParkedRecord{
		Slot: m.slot.Name, Table: table, Op: c.Op.String(), Position: at.String(), Key: m.mapper.parkedKey(c), Mapping: m.mapper.working,
		CommittedAt: c.CommitTime.UTC(), Reason: "panic while mapping: " + p.text, Remedy: m.parkedRemedy(c.Op, table),
	}
	if m.skip.CommitLSN == at.CommitLSN && m.skip.Ordinal == at.Ordinal {
		record.Reason += fmt.Sprintf("; the stream holds %d of its events", m.skip.Index+1)
	}
	body, err := json.Marshal(record)
	if err != nil { // strings, a time and a key that was checked
		body = []byte(`{}`)
	}
	if m.role == webhooksTable { // whatever the row said: all subscriptions are read again
		out.events = appendAnnouncement(out.events, &out.bodies, c, c.Position, Announcement{Op: OpTruncate.String(), XID: c.XID})
	}
	out.events = append(out.events, Event{
		ID:   "parked_" + strings.TrimPrefix(EventID(m.mapper.identity, c.XID, c.CommitTime, at, ControlParked), "evt_"),
		Type: ControlParked, Position: at, Table: table, Lineage: m.cp.Lineage, Body: out.bodies.keep(append(out.bodies.begin(), body...)),
		OccurredAt: c.CommitTime, CommittedAt: c.CommitTime,
	})
	m.sayParked(ctx, &record, p)
	if m.cfg.Observer.Parked != nil {
		m.cfg.Observer.Parked(table, at)
	}
}

func (m *mapping) parkedRemedy(op Op, table string) string {
	report := "report it with the stack in the relay's log"
	switch {
	case m.role == webhooksTable:
		return report + "; deliveries go on by the subscriptions as they are now"
	case op == OpDelete || op == OpTruncate:
		return report + "; no backfill brings the event back: tell the subscribers that the row is gone"
	case table == m.cfg.Tables.Outbox:
		return report + "; append the event again once a release is out that takes it"
	}
	return report + "; a release that maps the row publishes it as it is then: `relay backfill " + table + " --where …`"
}

// sayParked writes the first row of a table and mapping into the log with the stack, and
// later ones as a number, at most once a minute.
func (m *mapping) sayParked(ctx context.Context, r *ParkedRecord, p *panicked) {
	what := r.Table + " " + r.Mapping
	t := m.parked[what]
	if t == nil {
		if len(m.parked) >= maxBound {
			clear(m.parked)
		}
		m.parked[what] = &tally{said: time.Now()}
		m.log.ErrorContext(ctx, "row change parked: it raises no event", "relation", r.Table, "op", r.Op, "mapping", r.Mapping,
			"position", r.Position, "panic", p.text, "stack", p.stack)
		return
	}
	t.rows++
	if now := time.Now(); now.Sub(t.said) >= parkedAgain {
		m.log.ErrorContext(ctx, "more row changes parked", "relation", r.Table, "mapping", r.Mapping, "rows", t.rows,
			"position", r.Position, "panic", p.text)
		t.said, t.rows = now, 0
	}
}

// tally counts parked rows since they were last told.
type tally struct {
	said time.Time
	rows int
}

// recovered is deferred, and makes a panic a value.
func recovered(p **panicked) {
	if r := recover(); r != nil {
		*p = &panicked{text: panicText(r), stack: string(debug.Stack())}
	}
}

// parkedKey renders the key of the row for its record. There is none when any mapping of
// the table redacts a column of it, and none that panics or is long.
func (m *Mapper) parkedKey(c *Change) (key json.RawMessage) {
	row := c.New
	if row == nil {
		row = c.Old
	}
	var p *panicked
	defer recovered(&p)
	var columns []int
	for i := range c.Relation.Columns {
		if c.Relation.Columns[i].Key {
			columns = append(columns, i)
		}
	}
	if row == nil || len(columns) == 0 {
		return nil
	}
	for _, rule := range m.mappings[c.Relation.FullName()] {
		if slices.ContainsFunc(columns, func(i int) bool { return slices.Contains(rule.Redact, c.Relation.Columns[i].Name) }) {
			return nil
		}
	}
	b := appendColumns(nil, c.Relation, row, columns)
	if len(b) > maxParkedKey || !json.Valid(b) {
		return nil
	}
	return b
}
