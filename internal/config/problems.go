package config

import (
	"fmt"
	"strings"
)

// Error is a configuration that cannot be used. A process that gets one exits
// with code 2: nothing but another configuration helps.
type Error struct {
	Problems []string // one sentence each, with its remedy; at least one
}

func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return "configuration: " + e.Problems[0]
	}
	return fmt.Sprintf("configuration: %d problems:\n  %s", len(e.Problems), strings.Join(e.Problems, "\n  "))
}

// problems collects what is wrong, in the order found.
type problems []string

func (p *problems) addf(format string, args ...any) {
	*p = append(*p, fmt.Sprintf(format, args...))
}

func (p *problems) err() error {
	if len(*p) == 0 {
		return nil
	}
	return &Error{Problems: *p}
}
