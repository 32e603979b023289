package schema

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The work that may be done on one event: a unit for each subschema that is tried on a
// value, and more for a pattern. A schema without recursive alternatives needs some
// units for each member of the data.
const (
	leastWork   = 20_000
	workPerByte = 16
	// A unit of matching is so many instructions of the pattern times bytes of the text.
	patternUnit = 16
	// A schema without references tries each of its objects once on each value: so few need
	// not be counted.
	maxUncounted = 64
)

// spent is what the check panics with: the validator has no other way out.
type spent struct{}

// work counts down while one event is checked.
type work struct {
	left     int
	bounded  bool                // it cannot take long, so only patterns are counted
	program  int                 // instructions of the patterns met while compiling
	patterns map[string]*pattern // these
	refused  error               // the first that was refused
	compiled bool                // patterns met from then on are data
}

func (w *work) spend(units int) {
	if w.left -= units; w.left < 0 {
		panic(spent{})
	}
}

// attach lets every subschema count.
func (w *work) attach(*jsonschema.CompilerContext, map[string]any) (jsonschema.SchemaExt, error) {
	if w.bounded {
		return nil, nil //nolint:nilnil // so says the library that there is nothing to do
	}
	return w, nil
}

// Validate implements jsonschema.SchemaExt.
func (w *work) Validate(*jsonschema.ValidatorContext, any) { w.spend(1) }

// pattern compiles a regular expression. It is matched in time that grows with the text
// and with the program, and the programs of all patterns together are bounded.
func (w *work) pattern(text string) (jsonschema.Regexp, error) {
	if w.compiled { // data that is to be a pattern itself
		return regexp.Compile(text)
	}
	if known := w.patterns[text]; known != nil {
		return known, nil
	}
	p, err := w.measured(text)
	if err != nil {
		if w.refused == nil {
			w.refused = fmt.Errorf("pattern %q: %w", shortened(text), err)
		}
		return nil, err
	}
	if w.patterns == nil {
		w.patterns = map[string]*pattern{}
	}
	w.patterns[text] = p
	return p, nil
}

func (w *work) measured(text string) (*pattern, error) {
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	if w.program += len(program.Inst); w.program > maxProgram {
		return nil, errors.New("the patterns of the schema are too large together")
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	return &pattern{Regexp: re, work: w, size: len(program.Inst)}, nil
}

// pattern counts what its matching costs.
type pattern struct {
	*regexp.Regexp
	work *work
	size int
}

// MatchString implements jsonschema.Regexp.
func (p *pattern) MatchString(s string) bool {
	p.work.spend(1 + len(s)*p.size/patternUnit)
	return p.Regexp.MatchString(s)
}
