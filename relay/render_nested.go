package relay

import "bytes"

// Postgres allows six array dimensions.
const maxDimensions = 6

// Fits reports whether the text form of a value is built like the type, down to the
// number of fields of every composite in it. What does not fit is rendered as a string.
func (t *Type) Fits(text []byte) bool {
	misfit := false
	if t.Kind != Scalar {
		appendNested(nil, t, text, &misfit)
	}
	return !misfit
}

// appendNested renders an array literal, {1,NULL,"a b",{…}}, as a JSON array, and a row
// literal, (1,"a b",), as a JSON object. Text that is no such literal becomes a string,
// and is reported to misfit.
func appendNested(dst []byte, t *Type, text []byte, misfit *bool) []byte {
	p := literal{text: text, misfit: misfit}
	var (
		out []byte
		ok  bool
	)
	if t.Kind == Array {
		p.bounds()
		out, ok = p.array(dst, t, maxDimensions)
	} else {
		out, ok = p.row(dst, t)
	}
	if ok && p.pos == len(text) {
		return out
	}
	if misfit != nil {
		*misfit = true
	}
	return appendString(dst, text)
}

// literal walks an array or row literal. Nesting is bounded by the dimensions of
// an array and by the depth of the type, both finite.
type literal struct {
	text    []byte
	pos     int
	elem    []byte // read last
	scratch []byte // behind an elem that was escaped
	misfit  *bool  // set when something within does not fit its type; may be nil
}

// bounds steps over the lower bounds of [2:3]={…}: they are not kept.
func (p *literal) bounds() {
	if p.peek() == '[' {
		p.pos = 1 + bytes.IndexByte(p.text, '=')
	}
}

// value renders the element that was read last.
func (p *literal) value(dst []byte, t *Type) []byte {
	if t.Kind != Scalar {
		return appendNested(dst, t, p.elem, p.misfit)
	}
	return appendValue(dst, t, p.elem)
}

func (p *literal) peek() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

func (p *literal) take(c byte) bool {
	if p.peek() != c || p.pos >= len(p.text) {
		return false
	}
	p.pos++
	return true
}

func (p *literal) array(dst []byte, t *Type, depth int) ([]byte, bool) {
	if depth == 0 || !p.take('{') {
		return dst, false
	}
	dst = append(dst, '[')
	if p.take('}') {
		return append(dst, ']'), true
	}
	delim := t.Delim
	if delim == 0 {
		delim = ','
	}
	for {
		if p.peek() == '{' {
			var ok bool
			if dst, ok = p.array(dst, t, depth-1); !ok {
				return dst, false
			}
		} else {
			quoted, ok := p.element(delim, '}')
			if !ok {
				return dst, false
			}
			if !quoted && bytes.EqualFold(p.elem, []byte("NULL")) {
				dst = append(dst, "null"...)
			} else {
				dst = p.value(dst, t.Elem)
			}
		}
		switch {
		case p.take(delim):
			dst = append(dst, ',')
		case p.take('}'):
			return append(dst, ']'), true
		default:
			return dst, false
		}
	}
}

func (p *literal) row(dst []byte, t *Type) ([]byte, bool) {
	if !p.take('(') {
		return dst, false
	}
	dst = append(dst, '{')
	for i, f := range t.Fields {
		if i > 0 {
			if !p.take(',') {
				return dst, false
			}
			dst = append(dst, ',')
		}
		dst = appendString(dst, []byte(f.Name))
		dst = append(dst, ':')
		if c := p.peek(); c == ',' || c == ')' {
			dst = append(dst, "null"...)
			continue
		}
		if _, ok := p.element(',', ')'); !ok {
			return dst, false
		}
		dst = p.value(dst, f.Type)
	}
	if !p.take(')') {
		return dst, false
	}
	return append(dst, '}'), true
}

// element reads one element into elem, quotes and escapes undone, and stops before
// the delimiter or the closing character.
func (p *literal) element(delim, end byte) (quoted, ok bool) {
	for i, c := range p.text[p.pos:] {
		switch c {
		case delim, end:
			p.elem = p.text[p.pos : p.pos+i]
			p.pos += i
			return false, true
		case '"':
			if i == 0 && p.plainlyQuoted(delim, end) {
				return true, true
			}
			return p.escaped(delim, end)
		case '\\':
			return p.escaped(delim, end)
		}
	}
	return false, false
}

// plainlyQuoted reads "…" without anything to undo within.
func (p *literal) plainlyQuoted(delim, end byte) bool {
	inside := p.text[p.pos+1:]
	n := bytes.IndexByte(inside, '"')
	if n < 0 || n+1 >= len(inside) || (inside[n+1] != delim && inside[n+1] != end) || bytes.IndexByte(inside[:n], '\\') >= 0 {
		return false
	}
	p.elem = inside[:n]
	p.pos += n + 2
	return true
}

func (p *literal) escaped(delim, end byte) (quoted, ok bool) {
	p.scratch = p.scratch[:0]
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; c {
		case delim, end:
			p.elem = p.scratch
			return quoted, true
		case '\\':
			if p.pos+1 >= len(p.text) {
				return quoted, false
			}
			p.scratch = append(p.scratch, p.text[p.pos+1])
			p.pos += 2
		case '"':
			quoted = true
			if !p.quoted() {
				return quoted, false
			}
		default:
			p.scratch = append(p.scratch, c)
			p.pos++
		}
	}
	return quoted, false
}

// quoted reads "…" with \x escapes and, as rows write them, doubled quotes.
func (p *literal) quoted() bool {
	p.pos++
	for p.pos < len(p.text) {
		c := p.text[p.pos]
		switch {
		case c == '\\':
			if p.pos+1 >= len(p.text) {
				return false
			}
			p.scratch = append(p.scratch, p.text[p.pos+1])
			p.pos += 2
		case c == '"' && p.pos+1 < len(p.text) && p.text[p.pos+1] == '"':
			p.scratch = append(p.scratch, '"')
			p.pos += 2
		case c == '"':
			p.pos++
			return true
		default:
			p.scratch = append(p.scratch, c)
			p.pos++
		}
	}
	return false
}
