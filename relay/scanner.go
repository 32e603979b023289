package relay

import "encoding/json"

// scanner walks over JSON that is known to be valid, so it looks at structure
// only and can neither fail nor leave the bytes.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\t' || s.b[s.i] == '\n' || s.b[s.i] == '\r') {
		s.i++
	}
}

// member steps over the brace or comma before the next member of an object, and
// is false at the object's end.
func (s *scanner) member() bool {
	s.space()
	if s.b[s.i] == '}' {
		return false
	}
	s.i++
	s.space()
	return s.b[s.i] != '}'
}

// pair steps over one member of an object and returns its key, quotes included, and
// its value.
func (s *scanner) pair() (key, value []byte) {
	key = s.value()
	s.space()
	s.i++ // the colon
	s.space()
	return key, s.value()
}

// value steps over one value and returns it.
func (s *scanner) value() []byte {
	from, depth := s.i, 0
	for ; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
		case '"':
			s.text()
			if depth == 0 {
				s.i++
				return s.b[from:s.i:s.i]
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				s.i++
				return s.b[from:s.i:s.i]
			}
			if depth < 0 { // the end of the object around a number or a literal
				return s.b[from:s.i:s.i]
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return s.b[from:s.i:s.i]
			}
		}
	}
	return s.b[from:]
}

// text steps from the opening to the closing quote of a string.
func (s *scanner) text() {
	for s.i++; s.b[s.i] != '"'; s.i++ {
		if s.b[s.i] == '\\' {
			s.i++
		}
	}
}

// memberNames returns the keys of an object; of any other value there are none.
func memberNames(object []byte) []string {
	if len(object) == 0 || object[0] != '{' {
		return nil
	}
	names, _ := namesWithin(object, len(object))
	return names
}

// namesWithin returns the keys of an object, or that they take more than limit bytes.
func namesWithin(object []byte, limit int) (names []string, over bool) {
	for s := (scanner{b: object}); s.member(); {
		key, _ := s.pair()
		if limit -= len(key); limit < 0 {
			return nil, true
		}
		names = append(names, unquoted(key))
	}
	return names, false
}

// unquoted returns the text of a JSON string that is known to be valid.
func unquoted(text []byte) string {
	var s string
	_ = json.Unmarshal(text, &s)
	return s
}
