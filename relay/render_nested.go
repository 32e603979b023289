package relay

import "bytes"

// Postgres allows six array dimensions.
const maxDimensions = 6

// appendArray renders an array literal, {1,NULL,"a b",{…}}, as a JSON array. It
// answers false, with dst as it was, when the text is no such literal.
func appendArray(dst []byte, t *Type, text []byte) ([]byte, bool) {
	if len(text) > 0 && text[0] == '[' { // [2:3]={…}: lower bounds are not kept
		eq := bytes.IndexByte(text, '=')
		if eq < 0 {
			return dst, false
		}
		text = text[eq+1:]
	}
	p := literal{text: text}
	out, ok := p.array(dst, t, maxDimensions)
	if !ok || p.pos != len(text) {
		return dst, false
	}
	return out, true
}

// appendComposite renders a row literal, (1,"a b",), as a JSON object.
func appendComposite(dst []byte, t *Type, text []byte) ([]byte, bool) {
	p := literal{text: text}
	out, ok := p.row(dst, t)
	if !ok || p.pos != len(text) {
		return dst, false
	}
	return out, true
}

// literal walks an array or row literal. Nesting is bounded by the dimensions of
// an array and by the depth of the type, both finite.
type literal struct {
	text    []byte
	pos     int
	scratch []byte
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
			if !quoted && bytes.EqualFold(p.scratch, []byte("NULL")) {
				dst = append(dst, "null"...)
			} else {
				dst = appendValue(dst, t.Elem, p.scratch)
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
		dst = appendValue(dst, f.Type, p.scratch)
	}
	if !p.take(')') {
		return dst, false
	}
	return append(dst, '}'), true
}

// element reads one element into scratch, quotes and escapes undone, and stops
// before the delimiter or the closing character.
func (p *literal) element(delim, end byte) (quoted, ok bool) {
	p.scratch = p.scratch[:0]
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; c {
		case delim, end:
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
