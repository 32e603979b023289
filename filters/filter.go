package filters

import (
	"slices"
	"sync/atomic"
)

// The limits of a filter. Compile refuses what exceeds one of them with code TooLarge.
const (
	MaxText         = 16 << 10 // bytes of text, as written and in canonical form
	MaxDepth        = 32       // levels of objects and arrays, the filter itself being the first
	MaxLeaves       = 256      // scalars and empty containers, those of operands and lists included
	MaxKey          = 512      // bytes of a key after unescaping
	MaxList         = 100      // values of $in or $nin, paths of $changed
	MaxSegments     = 32       // keys of a path of $changed
	MaxAlternatives = 64       // ways to match, once every $or is multiplied out
)

// Filter is a compiled filter. It never changes, so any number of goroutines may use
// it at once. A nil or zero Filter matches nothing.
type Filter struct {
	program program
	text    string // canonical; never "" once compiled
	source  string // as it was written
	made    atomic.Pointer[plans]
}

// plans returns how rows are read for the filter, made when that is first asked for.
func (f *Filter) plans() *plans {
	made := f.made.Load()
	if made == nil {
		made = f.program.plans()
		f.made.Store(made)
	}
	return made
}

// IsAll reports whether every event matches whatever its row is, as of the filter {}.
func (f *Filter) IsAll() bool {
	return f.text != "" && f.program.root.op == condAll && len(f.program.root.subs) == 0
}

// String returns the canonical text of the filter: valid input for Compile, without
// blanks and aliases, with keys, array elements, lists and operands of $and and $or
// sorted and repeated ones dropped. In an object operators come before keys. Filters
// with the same canonical text match the same events.
func (f *Filter) String() string { return f.text }

// Keys returns in byte order the top-level keys that the filter names: the columns that
// it needs, of the row as it is or as it was. The key written "$$a" is "$a" here.
func (f *Filter) Keys() []string {
	var keys []string
	for _, paths := range [][]path{f.program.data, f.program.old} {
		for _, p := range paths {
			keys = append(keys, p[0])
		}
	}
	f.program.root.each(func(c *cond) {
		if c.rows == nil {
			return
		}
		for _, p := range c.rows.beside {
			keys = append(keys, p[0])
		}
	})
	slices.Sort(keys)
	return slices.Compact(keys)
}

// NeedsOld reports whether a condition of the filter reads the row before the change.
func (f *Filter) NeedsOld() bool {
	needs := len(f.program.old) > 0
	f.program.root.each(func(c *cond) {
		needs = needs || c.op == condHadRow || c.op == condChangedBeside
	})
	return needs
}

// each calls visit with c and all conditions that c joins.
func (c *cond) each(visit func(*cond)) {
	visit(c)
	for i := range c.subs {
		c.subs[i].each(visit)
	}
}
