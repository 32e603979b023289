package relay

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"
)

// outboxColumns are the columns of outbox_events that the relay publishes, as
// indexes into its rows; -1 for one that is not published.
type outboxColumns struct {
	eventID, eventType            int
	aggregate                     [3]int // as in aggregateColumns
	user, tenant, visibility      int
	payload, metadata, occurredAt int
	undecodable                   bool // a row that is no event was reported
}

func aggregateColumns() [3]string {
	return [3]string{"aggregate_type", "aggregate_ns", "aggregate_id"}
}

func findOutboxColumns(rel *Relation) *outboxColumns {
	c := &outboxColumns{
		eventID: rel.Column("event_id"), eventType: rel.Column("event_type"),
		user: rel.Column("user_id"), tenant: rel.Column("tenant_id"), visibility: rel.Column("visibility"),
		payload: rel.Column("payload"), metadata: rel.Column("metadata"), occurredAt: rel.Column("occurred_at"),
	}
	for i, name := range aggregateColumns() {
		c.aggregate[i] = rel.Column(name)
	}
	return c
}

// mapOutbox publishes a row of the outbox table as the event that it is. The
// table is append-only, so only inserts count. The row has its own event id.
func (m *Mapper) mapOutbox(dst []Event, buf *Buffer, c *Change, b *binding) []Event {
	if c.Op != OpInsert {
		return dst
	}
	cols, row := b.outbox, c.New
	e := Event{
		ID: textOf(row, cols.eventID), Type: textOf(row, cols.eventType), Position: c.Position,
		Owner: Owner{UserID: textOf(row, cols.user), TenantID: textOf(row, cols.tenant)},
		Table: b.table, Key: outboxKey(row, cols), OccurredAt: c.CommitTime, CommittedAt: c.CommitTime, Op: OpInsert,
	}
	// The table's constraints leave only disabled types to be passed over.
	if e.ID == "" || e.Type == "" || !isObject(valueOf(row, cols.payload)) {
		if !cols.undecodable {
			cols.undecodable = true
			m.refuse(b.table, errors.New("a row of "+b.table+" at "+c.Position.String()+
				" has no event_id, no event_type or no object in payload, and was not published; restore the table as the migrations made it"))
		}
		return dst
	}
	t := m.schemas.of(e.Type)
	if t == nil || !t.enabled {
		return dst
	}
	if textOf(row, cols.visibility) == "public" {
		e.Visibility = VisibleToEveryone
	}
	// Text, because "infinity" is a timestamp too.
	if at, err := time.Parse("2006-01-02 15:04:05Z07", textOf(row, cols.occurredAt)); err == nil {
		e.OccurredAt = at
	}
	payload, metadata := valueOf(row, cols.payload), valueOf(row, cols.metadata)
	body, data := appendOutbox(buf.begin(), &e, c, cols, payload, metadata, false)
	if m.maxBody > 0 && len(body) > m.maxBody {
		body, data = m.reduceOutbox(buf, &e, c, cols, payload)
	}
	e.Body = buf.keep(body)
	e.Data = data.of(e.Body)
	if t.held() {
		m.hold(t, &e)
	}
	return append(dst, e)
}

// reduceOutbox writes an event whose payload does not fit: the payload's keys are
// named, as long as these fit.
func (m *Mapper) reduceOutbox(buf *Buffer, e *Event, c *Change, cols *outboxColumns, payload []byte) (body []byte, data span) {
	e.Unlisted = true
	if json.Valid(payload) { // it is not when it is too deep, or in a column of another type
		e.Unavailable, e.Unlisted = namesWithin(payload, m.maxBody)
	}
	if !e.Unlisted {
		body, data = appendOutbox(buf.begin(), e, c, cols, []byte(`{}`), nil, true)
		if len(body) <= m.maxBody {
			return body, data
		}
		e.Unavailable, e.Unlisted = nil, true
	}
	return appendOutbox(buf.begin(), e, c, cols, []byte(`{}`), nil, true)
}

func valueOf(row Tuple, i int) []byte {
	if i < 0 || i >= len(row) || row[i].Kind != Text {
		return nil
	}
	return row[i].Data
}

// isObject tells objects from other jsonb values, and text that only a database
// without an encoding can hold from what the stream can carry.
func isObject(jsonb []byte) bool { return len(jsonb) > 0 && jsonb[0] == '{' && utf8.Valid(jsonb) }

func outboxKey(row Tuple, cols *outboxColumns) string {
	var key strings.Builder
	for n, i := range cols.aggregate {
		part := valueOf(row, i)
		if len(part) == 0 {
			continue
		}
		if n > 0 {
			key.WriteByte('/')
		}
		key.Write(part)
	}
	return key.String()
}

func appendOutbox(b []byte, e *Event, c *Change, cols *outboxColumns, payload, metadata []byte, oversize bool) (body []byte, data span) {
	b = appendHead(b, e, c.Op)
	b = append(b, `,"key":{`...)
	first := true
	for n, i := range cols.aggregate {
		part := valueOf(c.New, i)
		// Names of any size fit the column, but not the stream.
		if len(part) == 0 || (oversize && len(part) > maxOversizeKey) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendString(b, []byte(aggregateColumns()[n]))
		b = append(b, ':')
		b = appendString(b, part)
	}
	b = append(b, `}},"data":`...)
	data.from = len(b)
	b = append(b, payload...)
	data.to = len(b)
	if isObject(metadata) && !bytes.Equal(metadata, []byte(`{}`)) {
		b = append(b, `,"metadata":`...)
		b = append(b, metadata...)
	}
	if oversize && !e.Unlisted {
		b = appendNames(append(b, `,"unavailable":`...), e.Unavailable)
	}
	if oversize {
		b = append(b, `,"oversize":true`...)
	}
	return append(b, '}'), data
}

// maxOversizeKey is the longest part of an aggregate's name that a reduced event
// keeps.
const maxOversizeKey = 1 << 10
