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

// part is how much of a change goes into a body.
type part struct {
	key      []int  // columns of source.key
	include  []bool // by column; nil when all are
	hidden   bool   // the old row was not for all of those who see the event
	oversize bool   // the body says that it was reduced
}

func (p *part) includes(i int) bool { return p.include == nil || p.include[i] }

// render writes the body once; NATS and HTTP send the same bytes. A body over the
// stream's limit keeps its key columns and names all others as unavailable; one
// whose key alone is over the limit loses that, too, and the names come last.
func (m *Mapper) render(e *Event, r *rule, c *Change, row Tuple, buf *Buffer) {
	p := part{key: r.key, include: r.include, hidden: r.hidesOld(c, e.Owner, e.Visibility)}
	e.Unavailable = unavailable(c.Relation, row, r.include)
	for {
		e.PreviousUnavailable = m.previousUnavailable(e, r, c, &p)
		body, at := m.appendBody(buf.begin(), e, r, c, row, &p)
		if m.maxBody <= 0 || len(body) <= m.maxBody || e.Unlisted {
			e.Body = buf.keep(body)
			e.Data, e.Previous = at.data.of(e.Body), at.previous.of(e.Body)
			return
		}
		// What comes next goes into memory of its own: the large one is left to the
		// collector.
		switch {
		case !p.oversize:
			p.oversize = true
			e.Unavailable = r.reduce(&p, r.key, c.Relation)
		case len(p.key) > 0:
			e.Unavailable = r.reduce(&p, nil, c.Relation)
		default:
			e.Unlisted, e.Unavailable = true, nil
		}
	}
}

// reduce leaves the key columns in the body, and returns the names of the others.
func (r *rule) reduce(p *part, key []int, rel *Relation) (names []string) {
	p.key, p.include = key, make([]bool, len(rel.Columns))
	for _, i := range key {
		p.include[i] = r.includes(i)
	}
	for i := range rel.Columns {
		if r.includes(i) && !p.include[i] {
			names = append(names, rel.Columns[i].Name)
		}
	}
	return names
}

// includes reports whether column i may be in data.
func (r *rule) includes(i int) bool { return r.include == nil || r.include[i] }

// tells reports whether the body has the old value of column i. Of a row that was
// hidden from those who see it now, only the change of the visibility column itself
// is told.
func (m *Mapper) tells(i int, r *rule, p *part) bool {
	return m.changed[i] == filters.Yes && p.includes(i) && (!p.hidden || i == r.visibility)
}

// previousUnavailable names the columns whose old value may be another than the new
// one, and is not told. Of a hidden row these are all columns: which of them changed
// is hidden as well.
func (m *Mapper) previousUnavailable(e *Event, r *rule, c *Change, p *part) (names []string) {
	if c.Op != OpUpdate || e.Unlisted {
		return nil
	}
	for i, changed := range m.changed {
		hidden := p.hidden && i != r.visibility
		if r.includes(i) && (hidden || changed != filters.No) && !m.tells(i, r, p) {
			names = append(names, c.Relation.Columns[i].Name)
		}
	}
	return names
}

// span is a part of a body, by its offsets.
type span struct{ from, to int }

func (s span) of(body []byte) []byte {
	if s.to == 0 {
		return nil
	}
	return body[s.from:s.to:s.to]
}

// places says where in a body the parts are that filters see.
type places struct{ data, previous span }

func (m *Mapper) appendBody(b []byte, e *Event, r *rule, c *Change, row Tuple, p *part) (body []byte, at places) {
	b = appendHead(b, e, c.Op)
	b = append(b, `,"key":`...)
	b = appendColumns(b, c.Relation, row, p.key)
	b = append(b, `},"data":`...)
	at.data.from = len(b)
	img := &m.newRow
	if c.Op == OpDelete {
		img = &m.oldRow
	}
	if img.made && p.include == nil {
		b = append(b, img.json...)
	} else {
		b = appendRow(b, c.Relation, row, p.include)
	}
	at.data.to = len(b)
	if c.Op == OpUpdate {
		b = append(b, `,"previous":`...)
		at.previous.from = len(b)
		b = m.appendPrevious(b, c, r, p)
		at.previous.to = len(b)
	}
	if len(e.Unavailable) > 0 || (p.oversize && !e.Unlisted) {
		b = appendNames(append(b, `,"unavailable":`...), e.Unavailable)
	}
	if len(e.PreviousUnavailable) > 0 {
		b = appendNames(append(b, `,"previous_unavailable":`...), e.PreviousUnavailable)
	}
	if p.oversize {
		b = append(b, `,"oversize":true`...)
	}
	return append(b, '}'), at
}

func appendNames(b []byte, names []string) []byte {
	b = append(b, '[')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, []byte(name))
	}
	return append(b, ']')
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

// appendPrevious writes the old values of the columns that changed, where they are
// told.
func (m *Mapper) appendPrevious(b []byte, c *Change, r *rule, p *part) []byte {
	b = append(b, '{')
	first := true
	for i := range m.changed {
		if m.tells(i, r, p) {
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
