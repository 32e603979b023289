package filters

import (
	"hash/maphash"
	"sync/atomic"
)

// field is a key that somebody wants the value of, or of what is below it. Fields make
// a tree; its root is the whole value. A scan may run while fields are added and taken
// away: it sees some of the changes, and whoever uses the values knows which slots count.
type field struct {
	key  string
	hash uint64
	slot int32 // of its value; each field has its own
	many bool  // below the elements of an array: has any number of values
	kids atomic.Pointer[fieldTable]
	elem atomic.Pointer[field] // the elements, if the value is an array

	// For the owner of the tree:
	above *field
	users int // of the slot or of a field below
}

// slots gives fields their slots.
type slots struct {
	made int32
	free []int32
}

func (s *slots) take() int32 {
	if n := len(s.free); n > 0 {
		slot := s.free[n-1]
		s.free = s.free[:n-1]
		return slot
	}
	s.made++
	return s.made - 1
}

// hashSeed makes hashes that no sender of filters or documents can foresee.
var hashSeed = maphash.MakeSeed() //nolint:gochecknoglobals // one for the process, never changed

// fieldTable finds the fields below one field by their keys: open addressing, at most
// half full.
type fieldTable struct {
	mask  uint64
	count int // used places, removed ones too
	live  int
	bits  atomic.Uint64 // of all keys
	slots []atomic.Pointer[field]
}

// removed stands where a field was, so that a search goes on behind it.
var removed = new(field) //nolint:gochecknoglobals // a mark, never changed

func newFieldTable(size int) *fieldTable {
	return &fieldTable{mask: uint64(size - 1), slots: make([]atomic.Pointer[field], size)}
}

// find returns the field of the key with the text raw, quotes included; nil for none.
func (t *fieldTable) find(raw string, escaped bool) *field {
	key := raw[1 : len(raw)-1]
	if escaped {
		var storable bool
		if key, storable = decodeString(raw); !storable {
			return nil // no filter can name it
		}
	}
	if t.bits.Load()&keyBit(key) == 0 {
		return nil
	}
	return t.get(key)
}

// keyBit is a bit that a key has in common with few others.
func keyBit(key string) uint64 {
	if key == "" {
		return 1
	}
	return 1 << ((7*uint(key[0]) + uint(len(key))) & 63)
}

func (t *fieldTable) get(key string) *field {
	h := maphash.String(hashSeed, key)
	for at := h & t.mask; ; at = (at + 1) & t.mask {
		f := t.slots[at].Load()
		if f == nil {
			return nil
		}
		if f.hash == h && f.key == key && f != removed {
			return f
		}
	}
}

// kid returns the field below f, made with a slot of its own when there is none.
func (f *field) kid(key string, from *slots) *field {
	t := f.kids.Load()
	if t == nil {
		t = newFieldTable(4)
		f.kids.Store(t)
	} else if found := t.get(key); found != nil {
		return found
	}
	if 2*(t.count+1) > len(t.slots) {
		t = t.rebuilt()
		f.kids.Store(t)
	}
	made := &field{key: key, hash: maphash.String(hashSeed, key), slot: from.take(), many: f.many, above: f}
	t.put(made)
	return made
}

// element returns the field of the elements of f.
func (f *field) element(from *slots) *field {
	e := f.elem.Load()
	if e == nil {
		e = &field{slot: from.take(), many: true, above: f}
		f.elem.Store(e)
	}
	return e
}

func (t *fieldTable) put(f *field) {
	t.bits.Store(t.bits.Load() | keyBit(f.key))
	at := f.hash & t.mask
	for t.slots[at].Load() != nil {
		at = (at + 1) & t.mask
	}
	t.slots[at].Store(f)
	t.count++
	t.live++
}

// rebuilt returns a table with the fields of t and room for as many more.
func (t *fieldTable) rebuilt() *fieldTable {
	size := 4
	for size < 4*(t.live+1) {
		size *= 2
	}
	next := newFieldTable(size)
	for i := range t.slots {
		if f := t.slots[i].Load(); f != nil && f != removed {
			next.put(f)
		}
	}
	return next
}

// remove takes the field away and reports whether others are left.
func (t *fieldTable) remove(f *field) (left bool) {
	for at := f.hash & t.mask; ; at = (at + 1) & t.mask {
		if t.slots[at].Load() == f {
			t.slots[at].Store(removed)
			t.live--
			return t.live > 0
		}
	}
}

// retain counts one more user of the field and of those above.
func (f *field) retain() {
	for ; f != nil; f = f.above {
		f.users++
	}
}

// release counts one user less, and takes away the fields that nobody uses.
func (f *field) release(to *slots) {
	for ; f.above != nil; f = f.above {
		if f.users--; f.users > 0 {
			continue
		}
		if f.above.elem.Load() == f {
			f.above.elem.Store(nil)
		} else if kids := f.above.kids.Load(); !kids.remove(f) {
			f.above.kids.Store(nil)
		}
		to.free = append(to.free, f.slot)
	}
	f.users--
}

// tree is the fields that the filters of one event type read of a row.
type tree struct {
	root  *field
	slots slots
	size  atomic.Int32 // slots made so far, for those who read rows
}

func (t *tree) init() {
	t.root = &field{}
	t.slots.made = 1
	t.size.Store(1)
}

// keep returns the field at the end of a path, and of the paths from its elements on, with
// one user more.
func (t *tree) keep(keys path, below []path) *field {
	f := t.root
	for _, key := range keys {
		f = f.kid(key, &t.slots)
	}
	for _, keys := range below {
		f = f.element(&t.slots)
		for _, key := range keys {
			f = f.kid(key, &t.slots)
		}
	}
	f.retain()
	t.size.Store(t.slots.made)
	return f
}

func (t *tree) release(fields []*field) {
	for _, f := range fields {
		f.release(&t.slots)
	}
}

// find returns the field of a path, nil when there is none.
func (t *tree) find(keys path) *field {
	f := t.root
	for _, key := range keys {
		kids := f.kids.Load()
		if kids == nil {
			return nil
		}
		if f = kids.get(key); f == nil {
			return nil
		}
	}
	return f
}
