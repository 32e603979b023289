package filters

// plan is how the values of a program's paths are read from a row.
type plan struct {
	root  *field
	slots []int32 // by index of the path
	size  int     // slots in all
}

func newPlan(paths []path) plan {
	p := plan{root: &field{}, slots: make([]int32, len(paths))}
	size := int32(1)
	for i, keys := range paths {
		f := p.root
		for _, key := range keys {
			f = f.kid(key, &size)
		}
		p.slots[i] = f.slot
	}
	p.size = int(size)
	return p
}

// prepare makes the plans of the program and of those inside its arrays.
func (p *program) prepare() {
	p.dataPlan, p.oldPlan = newPlan(p.data), newPlan(p.old)
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

// each calls fn for the condition and all its parts.
func (c *cond) each(fn func(*cond)) {
	fn(c)
	for i := range c.subs {
		c.subs[i].each(fn)
	}
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
	}
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
