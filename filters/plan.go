package filters

// plan is how the values of a program's paths are read from a row. The index has fields
// of its own, so that a filter has a plan only once it is matched by itself.
type plan struct {
	root  *field
	slots []int32 // by index of the path
	size  int     // slots in all
}

// newPlan makes the plan of paths, of which a scan leaves a rest to be followed later.
func newPlan(paths, rests []path) plan {
	p := plan{root: &field{}, slots: make([]int32, len(paths))}
	from := slots{made: 1}
	for i, keys := range paths {
		if rests != nil {
			keys = keys[:len(keys)-len(rests[i])]
		}
		f := p.root
		for _, key := range keys {
			f = f.kid(key, &from)
		}
		p.slots[i] = f.slot
	}
	p.size = int(from.made)
	return p
}

// restsOf returns what a scan leaves of paths; nil for nothing.
func restsOf(paths []path, indexes []bool) []path {
	var rests []path
	for i := range indexes {
		if _, rest := scanned(paths[i], indexes[i]); rest != nil {
			if rests == nil {
				rests = make([]path, len(paths))
			}
			rests[i] = rest
		}
	}
	return rests
}

// scanned returns the keys of a path that a scan follows, and those behind them that may
// be indexes of an array: these are followed in the value that the scan found.
func scanned(keys path, indexes bool) (scanned, rest path) {
	if indexes {
		for i, key := range keys {
			if isIndex(key) && i > 0 {
				return keys[:i], keys[i:]
			}
		}
	}
	return keys, nil
}

// plans are those of the row and of the row before.
type plans struct{ data, old plan }

func (p *program) plans() *plans {
	return &plans{data: newPlan(p.data, p.dataRest), old: newPlan(p.old, p.oldRest)}
}

// kindOf returns the one kind of which the whole must be for c to hold; invalid when it
// may be of several.
func (p *program) kindOf(c *cond) kind {
	switch c.op {
	case condAll:
		for i := range c.subs {
			if k := p.kindOf(&c.subs[i]); k != invalid {
				return k
			}
		}
		return invalid
	case condAny, condNot, condAbsent, condOpIs, condHadRow, condChanged, condChangedBeside:
		return invalid
	default:
		switch {
		case c.old:
			return invalid
		case len(p.data[c.at]) > 0, c.op == condObject:
			return object
		case c.op == condArray:
			return array
		default:
			return invalid
		}
	}
}
