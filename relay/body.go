package relay

import (
	"slices"

	"github.com/dot-do/relay/filters"
)

// Buffer holds the bodies of one batch of events. Bodies stay where they are
// until Reset, so events may alias it. The zero Buffer is ready to use.
type Buffer struct {
	chunk []byte   // at hand; its length is used
	used  [][]byte // full since the last Reset
	spare [][]byte
}

const (
	chunkSize = 256 << 10
	maxSpare  = 8 // chunks kept by Reset; a larger batch's are left to the collector
)

// Reset makes the memory of all bodies available again.
func (b *Buffer) Reset() {
	for _, chunk := range b.used {
		if len(b.spare) < maxSpare {
			b.spare = append(b.spare, chunk)
		}
	}
	clear(b.used)
	b.used, b.chunk = b.used[:0], b.chunk[:0]
}

// begin returns an empty slice to append one body to.
func (b *Buffer) begin() []byte {
	if cap(b.chunk)-len(b.chunk) < 4<<10 {
		if cap(b.chunk) > 0 {
			b.used = append(b.used, b.chunk)
		}
		if n := len(b.spare); n > 0 {
			b.chunk, b.spare = b.spare[n-1][:0], b.spare[:n-1]
		} else {
			b.chunk = make([]byte, 0, chunkSize)
		}
	}
	return b.chunk[len(b.chunk):]
}

// keep takes the body that was appended to begin's slice. A body that outgrew the
// chunk has moved to memory of its own and is left there.
func (b *Buffer) keep(body []byte) []byte {
	free := b.chunk[len(b.chunk):cap(b.chunk)]
	if len(body) > 0 && len(body) <= len(free) && &body[0] == &free[:1][0] {
		b.chunk = b.chunk[:len(b.chunk)+len(body)]
	}
	return slices.Clip(body)
}

// part is how much of a row goes into a body.
type part struct {
	key      []int  // columns of source.key
	include  []bool // by column; nil when all are
	oversize bool   // the body says that it was reduced
}

// render writes the body once; NATS and HTTP send the same bytes. A body over the
// stream's limit keeps its key columns and names all others as unavailable; one
// whose key alone is over the limit loses that, too.
func (m *Mapper) render(e *Event, r *rule, c *Change, row Tuple, buf *Buffer) {
	body, from, to := m.appendBody(buf.begin(), e, r, c, row, part{key: r.key, include: r.include})
	for key := r.key; m.maxBody > 0 && len(body) > m.maxBody; key = nil {
		only := make([]bool, len(c.Relation.Columns))
		for _, i := range key {
			only[i] = r.includes(i)
		}
		e.Unavailable = nil
		for i := range c.Relation.Columns {
			if r.includes(i) && !only[i] {
				e.Unavailable = append(e.Unavailable, c.Relation.Columns[i].Name)
			}
		}
		// Into memory of its own: the large one is left to the collector.
		body, from, to = m.appendBody(buf.begin(), e, r, c, row, part{key: key, include: only, oversize: true})
		if len(key) == 0 {
			break
		}
	}
	e.Body = buf.keep(body)
	e.Data = e.Body[from:to:to]
}

// includes reports whether column i may be in data.
func (r *rule) includes(i int) bool { return r.include == nil || r.include[i] }

func (m *Mapper) appendBody(b []byte, e *Event, r *rule, c *Change, row Tuple, p part) (body []byte, from, to int) {
	b = appendHead(b, e, c.Op)
	b = append(b, `,"key":`...)
	b = appendColumns(b, c.Relation, row, p.key)
	b = append(b, `},"data":`...)
	from = len(b)
	img := &m.newRow
	if c.Op == OpDelete {
		img = &m.oldRow
	}
	if img.made && p.include == nil {
		b = append(b, img.json...)
	} else {
		b = appendRow(b, c.Relation, row, p.include)
	}
	to = len(b)
	if c.Op == OpUpdate && !p.oversize {
		b = append(b, `,"previous":`...)
		b = m.appendPrevious(b, c, p.include, r.hidesOld(c, e.Owner, e.Visibility), r.visibility)
	}
	if len(e.Unavailable) > 0 {
		b = append(b, `,"unavailable":[`...)
		for i, name := range e.Unavailable {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, []byte(name))
		}
		b = append(b, ']')
	}
	if p.oversize {
		b = append(b, `,"oversize":true`...)
	}
	return append(b, '}'), from, to
}

// appendHead writes a body's start, up to the key in source.
func appendHead(b []byte, e *Event, op Op) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, []byte(e.ID))
	b = append(b, `,"type":`...)
	b = appendString(b, []byte(e.Type))
	b = append(b, `,"timestamp":`...)
	b = appendTime(b, e.OccurredAt)
	b = append(b, `,"source":{"table":`...)
	b = appendString(b, []byte(e.Table))
	b = append(b, `,"op":"`...)
	b = append(b, op.String()...)
	b = append(b, `","lsn":"`...)
	b = e.Position.CommitLSN.Append(b)
	return append(b, '"')
}

// appendRow writes the row as a JSON object of the included columns, leaving out
// those that the log did not carry. A nil include means all.
func appendRow(b []byte, rel *Relation, row Tuple, include []bool) []byte {
	b = append(b, '{')
	first := true
	for i := range row {
		if row[i].Kind == Unavailable || (include != nil && !include[i]) {
			continue
		}
		b, first = appendMember(b, first, &rel.Columns[i], row[i]), false
	}
	return append(b, '}')
}

func appendColumns(b []byte, rel *Relation, row Tuple, columns []int) []byte {
	b = append(b, '{')
	first := true
	for _, i := range columns {
		if i < len(row) && row[i].Kind != Unavailable {
			b, first = appendMember(b, first, &rel.Columns[i], row[i]), false
		}
	}
	return append(b, '}')
}

// appendPrevious writes the old values of the columns that changed, where the log
// carried them. Of a row that was hidden from those who see it now, only the change
// of the visibility column itself is told.
func (m *Mapper) appendPrevious(b []byte, c *Change, include []bool, hidden bool, visibility int) []byte {
	b = append(b, '{')
	first := true
	for i, changed := range m.changed {
		if changed == filters.Yes && (include == nil || include[i]) && (!hidden || i == visibility) {
			b, first = appendMember(b, first, &c.Relation.Columns[i], c.Old[i]), false
		}
	}
	return append(b, '}')
}

func appendMember(b []byte, first bool, col *Column, v Value) []byte {
	if !first {
		b = append(b, ',')
	}
	b = appendString(b, []byte(col.Name))
	b = append(b, ':')
	if v.Kind == Null {
		return append(b, "null"...)
	}
	return appendValue(b, col.Type, v.Data)
}
