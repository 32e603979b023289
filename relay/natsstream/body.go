package natsstream

import (
	"encoding/json"
	"errors"
	"fmt"
)

// splitBody finds the value of "data" in an event's body, as a part of it, and
// the names in "unavailable".
func splitBody(body []byte) (data []byte, unavailable []string, err error) {
	if !json.Valid(body) {
		return nil, nil, errors.New("body is not JSON")
	}
	s := scanner{b: body}
	s.space()
	if s.b[s.i] != '{' {
		return nil, nil, errors.New("body is no JSON object")
	}
	for s.member() {
		key := s.value()
		s.space()
		s.i++ // the colon
		s.space()
		value := s.value()
		switch string(key) {
		case `"data"`:
			data = value
		case `"unavailable"`:
			if err := json.Unmarshal(value, &unavailable); err != nil {
				return nil, nil, fmt.Errorf("unavailable: %w", err)
			}
		}
	}
	if data == nil {
		return nil, nil, errors.New("body has no data")
	}
	return data, unavailable, nil
}

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
