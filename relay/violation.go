package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// parkViolations puts a record in the place of every event from index from on that may
// not be published, and returns how many there are. The events are kept whole before the
// batch is published.
func (m *mapping) parkViolations(ctx context.Context, c *Change, out *mappedBatch, from int) (parked int) {
	for i := from; i < len(out.events); i++ {
		if e := &out.events[i]; e.violation != nil {
			m.parkEvent(ctx, c, e, out)
			parked++
		}
	}
	return parked
}

// parkEvent keeps the event, and makes it the record that it is parked.
func (m *mapping) parkEvent(ctx context.Context, c *Change, e *Event, out *mappedBatch) {
	kept := ParkedEvent{
		ID: e.ID, Type: e.Type, Position: e.Position, Lineage: m.cp.Lineage, Table: e.Table, Key: e.Key, Owner: e.Owner, Visibility: e.Visibility,
		OccurredAt: e.OccurredAt, Body: e.Body, Reason: e.violation.Error(),
	}
	out.parked = append(out.parked, kept)
	record := ParkedRecord{
		Slot: m.slot.Name, Table: e.Table, Op: e.Op.String(), Position: e.Position.String(), EventType: e.Type, EventID: e.ID,
		CommittedAt: c.CommitTime.UTC(), Reason: kept.Reason,
		Remedy: "correct payload_schema of " + e.Type + " in zapier_webhook_events, then `relay parked retry`; or correct the row, which raises an event of its own",
	}
	if m.role != parkedTable { // of which c has the key
		record.Key = m.mapper.parkedKey(c)
	}
	body, err := json.Marshal(record)
	if err != nil { // strings, a time and a key that was checked
		body = []byte(`{}`)
	}
	*e = Event{
		ID:   "parked_" + strings.TrimPrefix(EventID(m.mapper.identity, c.XID, c.CommitTime, e.Position, ControlParked), "evt_"),
		Type: ControlParked, Position: e.Position, Table: e.Table, Lineage: m.cp.Lineage, Refilled: e.Refilled,
		Body: out.bodies.keep(append(out.bodies.begin(), body...)), OccurredAt: c.CommitTime, CommittedAt: c.CommitTime,
	}
	m.sayViolated(ctx, &kept)
	if m.cfg.Observer.Violated != nil {
		m.cfg.Observer.Violated(kept.Type, kept.Position)
	}
}

// sayViolated writes the first event of a type into the log, and later ones as a number,
// at most once a minute.
func (m *mapping) sayViolated(ctx context.Context, e *ParkedEvent) {
	what := "event " + e.Type
	t := m.parked[what]
	if t == nil {
		if len(m.parked) >= maxBound {
			clear(m.parked)
		}
		m.parked[what] = &tally{said: time.Now()}
		m.log.ErrorContext(ctx, "event parked: it violates the schema of its type", "event_type", e.Type, "event_id", e.ID,
			"relation", e.Table, "position", e.Position.String(), "reason", e.Reason)
		return
	}
	t.rows++
	if now := time.Now(); now.Sub(t.said) >= parkedAgain {
		m.log.ErrorContext(ctx, "more events parked", "event_type", e.Type, "events", t.rows, "position", e.Position.String(), "reason", e.Reason)
		t.said, t.rows = now, 0
	}
}

// release appends the parked event that somebody has just released: an update of its row
// in relay_parked_events that sets released_at. It is the event that it would have been,
// at a later place in the stream. Is it not to be published even now, it is parked again.
func (m *mapping) release(dst []Event, buf *Buffer, c *Change) []Event {
	if c.Op != OpUpdate {
		return dst
	}
	at := textIn(c, "released_at")
	before := textOf(c.Old, c.Relation.Column("released_at"))
	if at == "" || at == before || textIn(c, "slot_name") != m.slot.Name {
		return dst
	}
	e := Event{
		ID: textIn(c, "event_id"), Type: textIn(c, "event_type"), Position: c.Position,
		Owner: Owner{UserID: textIn(c, "user_id"), TenantID: textIn(c, "tenant_id")},
		Table: textIn(c, "source_table"), Key: textIn(c, "subject"), OccurredAt: c.CommitTime, CommittedAt: c.CommitTime,
	}
	if textIn(c, "visibility") == VisibleToEveryone.String() {
		e.Visibility = VisibleToEveryone
	}
	if occurred, err := time.Parse("2006-01-02 15:04:05Z07", textIn(c, "occurred_at")); err == nil {
		e.OccurredAt = occurred
	}
	err := e.ReadBody(buf.keep(append(buf.begin(), textIn(c, "body")...)))
	switch {
	case err != nil || e.ID == "":
		e.violation = errReleased
	case m.maxBody > 0 && len(e.Body) > m.maxBody:
		e.violation = fmt.Errorf("its body of %d bytes is larger than the stream takes", len(e.Body))
	default:
		_, e.violation = m.mapper.schemas.Check(&e)
	}
	if e.violation == nil && m.cfg.Observer.Released != nil {
		m.cfg.Observer.Released(e.Type)
	}
	return append(dst, e)
}

// errReleased is the reason of an event whose parked row somebody changed by hand.
var errReleased = errors.New("its body in relay_parked_events cannot be read any more; delete the row, and publish the event again from its source")

// textIn is the new value of a column. Large values that did not change are in the old
// row only.
func textIn(c *Change, column string) string {
	i := c.Relation.Column(column)
	if i >= 0 && i < len(c.New) && c.New[i].Kind == Unavailable {
		return textOf(c.Old, i)
	}
	return textOf(c.New, i)
}
