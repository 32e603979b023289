package webhook

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/relay"
)

// ownerBuckets splits the subscriptions of one event type, so that a single
// change copies a small part of them.
const ownerBuckets = 64

// directory holds every subscription in memory. Readers never wait: they see the
// state before an update or after it. Updates copy what they change: of the event
// types that they touch, the lists of the owners that they touch.
type directory struct {
	updates sync.Mutex
	byID    sync.Map // id → *relay.Subscription
	types   atomic.Pointer[map[string]*audience]
	size    atomic.Int64

	// verdict evaluates a filter.
	verdict func(*relay.Subscription, filters.Doc) filters.Verdict
}

// audience is the usable subscriptions of one event type. It never changes.
type audience struct {
	users   ownerIndex // by user id; each subscription is here once, "" for none
	tenants ownerIndex // by tenant id; those that name a tenant
}

type ownerIndex [ownerBuckets]map[string][]*relay.Subscription

func newDirectory() *directory {
	d := &directory{verdict: func(s *relay.Subscription, doc filters.Doc) filters.Verdict { return s.Filter.MatchDoc(doc) }}
	d.types.Store(&map[string]*audience{})
	return d
}

// get returns the row as it is now, nil when it was deleted or never seen.
func (d *directory) get(id string) *relay.Subscription {
	s, ok := d.byID.Load(id)
	if !ok {
		return nil
	}
	return s.(*relay.Subscription)
}

// match appends to yes the subscriptions that want the event, and to unknown
// those whose filter needs a value that the log did not carry. An event that only
// its owner may see is shown to no filter of anybody else.
func (d *directory) match(e *relay.Event, seq uint64, yes, unknown []*relay.Subscription, at **relay.Subscription) (y, u []*relay.Subscription) {
	a := (*d.types.Load())[e.Type]
	if a == nil {
		return yes, unknown
	}
	doc, prepared := filters.Doc{}, false
	try := func(list []*relay.Subscription) {
		for _, s := range list {
			if !s.Wants(e, seq) {
				continue
			}
			if !prepared {
				doc, prepared = filters.NewDoc(e.Data, e.Unavailable), true
			}
			*at = s
			switch d.verdict(s, doc) {
			case filters.Yes:
				yes = append(yes, s)
			case filters.Unknown:
				unknown = append(unknown, s)
			case filters.No:
			}
		}
	}
	switch {
	case e.Visibility == relay.VisibleToEveryone:
		for i := range a.users {
			for _, list := range a.users[i] {
				try(list)
			}
		}
	case e.Owner.UserID != "":
		try(a.users.of(e.Owner.UserID))
	case e.Owner.TenantID != "":
		try(a.tenants.of(e.Owner.TenantID))
	}
	*at = nil
	return yes, unknown
}

// change is a row as it is now; nil Row for a deleted one.
type change struct {
	ID  string
	Row *relay.Subscription
}

// apply makes the changes visible together.
func (d *directory) apply(changes []change) {
	d.updates.Lock()
	defer d.updates.Unlock()
	next := &edit{types: *d.types.Load(), touched: map[string]*audienceEdit{}}
	for _, c := range changes {
		old := d.get(c.ID)
		if usable(old) {
			next.audience(old.EventType).remove(old)
		}
		if usable(c.Row) {
			next.audience(c.Row.EventType).add(c.Row)
		}
		switch {
		case c.Row != nil && old == nil:
			d.size.Add(1)
		case c.Row == nil && old != nil:
			d.size.Add(-1)
		}
		if c.Row == nil {
			d.byID.Delete(c.ID)
			continue
		}
		d.byID.Store(c.ID, c.Row)
	}
	next.publish(&d.types)
}

// ids calls fn for every known subscription.
func (d *directory) ids(fn func(id string)) {
	d.byID.Range(func(id, _ any) bool { fn(id.(string)); return true })
}

// usable reports whether a row can match anything. A paused one can: events from
// before its pause.
func usable(s *relay.Subscription) bool {
	return s != nil && s.Broken == nil && s.Filter != nil && !slices.Contains(s.Gaps, relay.Gap{})
}

// edit collects the copies of the audiences that an update touches.
type edit struct {
	types   map[string]*audience
	touched map[string]*audienceEdit
}

func (e *edit) audience(eventType string) *audienceEdit {
	a, ok := e.touched[eventType]
	if !ok {
		a = &audienceEdit{}
		if old := e.types[eventType]; old != nil {
			a.audience = *old // the bucket lists; the maps behind them are copied on write
		}
		e.touched[eventType] = a
	}
	return a
}

func (e *edit) publish(to *atomic.Pointer[map[string]*audience]) {
	if len(e.touched) == 0 {
		return
	}
	next := make(map[string]*audience, len(e.types)+len(e.touched))
	maps.Copy(next, e.types)
	for t, a := range e.touched {
		next[t] = &a.audience
	}
	to.Store(&next)
}

// audienceEdit is an audience being changed.
type audienceEdit struct {
	audience
	userEdit, tenantEdit indexEdit
}

func (a *audienceEdit) add(s *relay.Subscription) {
	a.userEdit.add(&a.users, s.Owner.UserID, s)
	if s.Owner.TenantID != "" {
		a.tenantEdit.add(&a.tenants, s.Owner.TenantID, s)
	}
}

func (a *audienceEdit) remove(s *relay.Subscription) {
	a.userEdit.remove(&a.users, s.Owner.UserID, s)
	if s.Owner.TenantID != "" {
		a.tenantEdit.remove(&a.tenants, s.Owner.TenantID, s)
	}
}

// indexEdit knows which parts of an index are copies already: readers may be
// walking the others.
type indexEdit struct {
	buckets [ownerBuckets]bool
	lists   map[string]bool
}

func (e *indexEdit) add(x *ownerIndex, owner string, s *relay.Subscription) {
	b := e.writable(x, owner)
	b[owner] = append(b[owner], s)
}

func (e *indexEdit) remove(x *ownerIndex, owner string, s *relay.Subscription) {
	b := e.writable(x, owner)
	b[owner] = slices.DeleteFunc(b[owner], func(other *relay.Subscription) bool { return other.ID == s.ID })
	if len(b[owner]) == 0 {
		delete(b, owner)
	}
}

// writable returns the owner's bucket with a list of the owner that is a copy.
func (e *indexEdit) writable(x *ownerIndex, owner string) map[string][]*relay.Subscription {
	i := bucketOf(owner)
	if !e.buckets[i] {
		x[i], e.buckets[i] = cloneBucket(x[i]), true
	}
	if !e.lists[owner] {
		if e.lists == nil {
			e.lists = map[string]bool{}
		}
		if list, ok := x[i][owner]; ok {
			x[i][owner] = slices.Clone(list)
		}
		e.lists[owner] = true
	}
	return x[i]
}

func cloneBucket(b map[string][]*relay.Subscription) map[string][]*relay.Subscription {
	if b == nil {
		return map[string][]*relay.Subscription{}
	}
	return maps.Clone(b)
}

func (x *ownerIndex) of(owner string) []*relay.Subscription { return x[bucketOf(owner)][owner] }

// bucketOf is FNV-1a.
func bucketOf(owner string) int {
	h := uint32(2166136261)
	for i := range len(owner) {
		h = (h ^ uint32(owner[i])) * 16777619
	}
	return int(h % ownerBuckets)
}
