package filters

import (
	"fmt"
	"strconv"
	"strings"
)

// Code names a kind of mistake in a filter. Codes are stable; API clients switch on
// them.
type Code string

const (
	// NotObject means that the filter is JSON, but an array or a scalar. Postgres
	// would store it, and it would never match.
	NotObject Code = "not_object"
	// UnknownOperator means a key that begins with a single dollar sign and is no
	// operator.
	UnknownOperator Code = "unknown_operator"
	// MixedObject means an operator about one value beside a plain key, which asks for
	// an object.
	MixedObject Code = "mixed_object"
	// BadOperand means that an operator cannot take the value it is given.
	BadOperand Code = "bad_operand"
	// BadPosition means an operator where it may not stand, such as $op below a key.
	BadPosition Code = "bad_position"
	// TooLarge means that a limit of this package is exceeded.
	TooLarge Code = "too_large"
	// BadJSON means text that is not JSON, that jsonb cannot hold, or that says the
	// same key or operator twice in one object.
	BadJSON Code = "bad_json"
)

// Error is one mistake in a filter.
type Error struct {
	Code       Code   `json:"code"`
	Pointer    string `json:"pointer"`              // where: a JSON Pointer (RFC 6901); "" is the whole filter
	Message    string `json:"message"`              // what is wrong, for people
	Suggestion string `json:"suggestion,omitempty"` // what to write instead, if that can be said
}

// Error says where the mistake is, what it is and how to mend it.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Code))
	if e.Pointer != "" {
		b.WriteString(" at ")
		b.WriteString(e.Pointer)
	}
	b.WriteString(": ")
	b.WriteString(e.Message)
	if e.Suggestion != "" {
		b.WriteString(" (")
		b.WriteString(e.Suggestion)
		b.WriteString(")")
	}
	return b.String()
}

// Errors is what Compile returns for a bad filter: every mistake in the order of the
// text, at most 64 of them. It is never empty.
type Errors []*Error

// maxErrors bounds what a hostile filter can make us say about it.
const maxErrors = 64

// Error joins all mistakes into one line.
func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, one := range e {
		texts[i] = one.Error()
	}
	return "invalid filter: " + strings.Join(texts, "; ")
}

// Unwrap lets errors.As find an *Error.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, one := range e {
		errs[i] = one
	}
	return errs
}

// add appends a mistake unless there are too many already.
func (e *Errors) add(code Code, at place, suggestion, format string, args ...any) {
	if len(*e) >= maxErrors {
		return
	}
	*e = append(*e, &Error{Code: code, Pointer: at.pointer(), Message: fmt.Sprintf(format, args...), Suggestion: suggestion})
}

// place is a position in a filter: a key for each object and an index for each array on
// the way to it.
type place []placeStep

type placeStep struct {
	key   string
	index int // where key is ""; an empty key is -1
}

func (p *place) enterKey(key string) {
	index := 0
	if key == "" {
		index = -1
	}
	*p = append(*p, placeStep{key: key, index: index})
}

func (p *place) enterIndex(index int) { *p = append(*p, placeStep{index: index}) }

func (p *place) leave() { *p = (*p)[:len(*p)-1] }

// pointer returns the place as a JSON Pointer (RFC 6901).
func (p place) pointer() string {
	var b strings.Builder
	for _, step := range p {
		b.WriteByte('/')
		if step.key == "" && step.index >= 0 {
			b.WriteString(strconv.Itoa(step.index))
		} else {
			b.WriteString(pointerEscapes(step.key))
		}
	}
	return b.String()
}

// pointerEscapes are the two escapes of RFC 6901.
func pointerEscapes(token string) string {
	return strings.ReplaceAll(strings.ReplaceAll(token, "~", "~0"), "/", "~1")
}

// quote returns a key for an error message, cut short when it is long.
func quote(key string) string { return strconv.Quote(shorten(key, 64)) }

// shorten cuts a text that has more bytes than most.
func shorten(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
