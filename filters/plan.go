package filters

// plan is how the values of a program's paths are read from a row.
type plan struct {
	root  *field
	slots []int32 // by index of the path
	rest  []path  // by index of the path: where to go on from the slot; see scanned
	size  int     // slots in all
}

func newPlan(paths []path, indexes []bool) plan {
	p := plan{root: &field{}, slots: make([]int32, len(paths))}
	from := slots{made: 1}
	for i := range paths {
		f := p.root
		keys, rest := scanned(paths[i], i < len(indexes) && indexes[i])
		if rest != nil && p.rest == nil {
			p.rest = make([]path, len(paths))
		}
		if rest != nil {
			p.rest[i] = rest
		}
		for _, key := range keys {
			f = f.kid(key, &from)
		}
		p.slots[i] = f.slot
	}
	p.size = int(from.made)
	return p
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

// prepare makes the plans of the program and of those inside its arrays.
func (p *program) prepare() {
	p.dataPlan, p.oldPlan = newPlan(p.data, p.dataIndexes), newPlan(p.old, p.oldIndexes)
	p.only = p.kindOf(&p.root)
	p.root.each(func(c *cond) {
		p.beside = p.beside || c.op == condChangedBeside
		if c.elements != nil {
			for i := range c.elements.filters {
				c.elements.filters[i].prepare()
			}
		}
	})
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
