package webhook

import (
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/relay"
)

// directory holds every subscription in memory, and those that can match anything in
// an index over their filters. Readers wait for nobody, but for a row that is being
// replaced at that very moment: they find it as it was or as it is, and once.
type directory struct {
	byID sync.Map // id → *relay.Subscription

	updates   sync.Mutex
	replacing atomic.Uint64 // odd while a row of the index is being replaced

	size, broken, quarantined, ordered atomic.Int64

	// find asks the index, and ask a single filter.
	find func(m *filters.Matches[*relay.Subscription], eventType, owner string, e *filters.Event)
	ask  func(*relay.Subscription, *filters.Event) filters.Verdict

	index *filters.Index[*relay.Subscription]
	// silent leaves out what meets a pause: nobody asks for it.
	silent bool
}

// matches are the subscriptions of one event, in memory that one goroutine uses again.
type matches struct {
	filters.Matches[*relay.Subscription]
	missed []*relay.Subscription // those that would have it, were they not inactive
	event  filters.Event
}

func newDirectory(silent bool) *directory {
	d := &directory{index: filters.NewIndex[*relay.Subscription](), silent: silent}
	d.find = d.index.Match
	d.ask = func(s *relay.Subscription, e *filters.Event) filters.Verdict { return s.Filter.MatchEvent(e) }
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

// match finds the subscriptions that want the event, those that miss it, and those
// whose filter needs a value that the event does not show. An event that only its owner
// may see is for nobody else.
func (d *directory) match(m *matches, e *relay.Event, seq uint64) {
	m.Yes, m.Unknown, m.missed = m.Yes[:0], m.Unknown[:0], m.missed[:0]
	owner := ""
	if e.Visibility != relay.VisibleToEveryone {
		if owner = ownerOf(e); owner == "" {
			return
		}
	}
	m.event = e.ForFilters()
	d.candidates(m, e.Type, owner)
	stranger := func(s *relay.Subscription) bool { return !s.Wants(e, seq) }
	if !d.silent {
		for _, s := range m.Yes {
			if s.Misses(e, seq) {
				m.missed = append(m.missed, s)
			}
		}
	}
	m.Yes, m.Unknown = slices.DeleteFunc(m.Yes, stranger), slices.DeleteFunc(m.Unknown, stranger)
}

// candidates asks the index. A row that was replaced meanwhile could have been found
// twice or not at all: then it asks again, while nobody replaces any.
func (d *directory) candidates(m *matches, eventType, owner string) {
	if began := d.replacing.Load(); began%2 == 0 {
		d.find(&m.Matches, eventType, owner, &m.event)
		if d.replacing.Load() == began {
			return
		}
	}
	d.updates.Lock()
	defer d.updates.Unlock()
	d.find(&m.Matches, eventType, owner, &m.event)
}

// matchEach is match without the index: it asks the filters of all subscriptions that
// may have the event, one by one. Those that panic are returned.
func (d *directory) matchEach(m *matches, e *relay.Event, seq uint64) (panicked []culprit) {
	m.Yes, m.Unknown, m.missed = m.Yes[:0], m.Unknown[:0], m.missed[:0]
	d.byID.Range(func(_, row any) bool {
		s := row.(*relay.Subscription)
		missed := !d.silent && s.Misses(e, seq)
		if !d.usable(s) || !missed && !s.Wants(e, seq) {
			return true
		}
		verdict, c := d.askSafely(s, e)
		switch {
		case c != nil:
			panicked = append(panicked, *c)
		case missed && verdict == filters.Yes:
			m.missed = append(m.missed, s)
		case missed:
		case verdict == filters.Yes:
			m.Yes = append(m.Yes, s)
		case verdict == filters.Unknown:
			m.Unknown = append(m.Unknown, s)
		}
		return true
	})
	return panicked
}

// culprit is a subscription whose filter panicked.
type culprit struct {
	row           *relay.Subscription
	reason, stack string
}

func (d *directory) askSafely(s *relay.Subscription, e *relay.Event) (verdict filters.Verdict, c *culprit) {
	defer func() {
		if r := recover(); r != nil {
			c = &culprit{row: s, reason: panicText(r), stack: string(debug.Stack())}
		}
	}()
	if e.Hides(s.Filter) {
		return filters.Unknown, nil
	}
	event := e.ForFilters()
	return d.ask(s, &event), nil
}

// change is a row as it is now; nil Row for a deleted one.
type change struct {
	ID  string
	Row *relay.Subscription
}

// apply makes the changes visible, each as a whole.
func (d *directory) apply(changes []change) {
	for _, c := range changes {
		d.updates.Lock() // for a moment only: a reader may wait for it
		d.replace(c)
		d.updates.Unlock()
	}
}

// quarantine takes the row out of the index because of its filter. A row that was
// changed meanwhile stays.
func (d *directory) quarantine(s *relay.Subscription, reason *relay.FilterError) {
	d.updates.Lock()
	defer d.updates.Unlock()
	if d.get(s.ID) == s {
		broken := *s
		broken.Filter, broken.Broken = nil, reason
		d.replace(change{ID: s.ID, Row: &broken})
	}
}

// replace is for one goroutine at a time.
func (d *directory) replace(c change) {
	old := d.get(c.ID)
	d.count(old, -1)
	d.count(c.Row, 1)
	if c.Row == nil {
		d.byID.Delete(c.ID)
	} else {
		d.byID.Store(c.ID, c.Row)
	}
	switch before, after := d.usable(old), d.usable(c.Row); {
	case before && after:
		d.replacing.Add(1)
		d.index.Remove(keyOf(old), old.Filter, old)
		d.index.Add(keyOf(c.Row), c.Row.Filter, c.Row)
		d.replacing.Add(1)
	case before:
		d.index.Remove(keyOf(old), old.Filter, old)
	case after:
		d.index.Add(keyOf(c.Row), c.Row.Filter, c.Row)
	}
}

// count keeps the numbers of rows that are known, that cannot be used, and of these
// the ones whose filter is the reason.
func (d *directory) count(s *relay.Subscription, by int64) {
	if s == nil {
		return
	}
	d.size.Add(by)
	if s.Ordered {
		d.ordered.Add(by)
	}
	if s.Broken != nil {
		d.broken.Add(by)
	}
	if s.Quarantined() {
		d.quarantined.Add(by)
	}
}

// ids calls fn for every known subscription.
func (d *directory) ids(fn func(id string)) {
	d.byID.Range(func(id, _ any) bool { fn(id.(string)); return true })
}

// usable reports whether a row can match anything. A paused one can: events from
// before its pause, and those that it misses.
func (d *directory) usable(s *relay.Subscription) bool {
	return s != nil && s.Broken == nil && s.Filter != nil && (!d.silent || !slices.Contains(s.Gaps, relay.Gap{}))
}

// keyOf says which events are for the row: those of its type, and of their owner's
// events the ones that name its user or its tenant.
func keyOf(s *relay.Subscription) filters.Key {
	k := filters.Key{Type: s.EventType}
	if s.Owner.UserID != "" {
		k.Owners = append(k.Owners, userKey(s.Owner.UserID))
	}
	if s.Owner.TenantID != "" {
		k.Owners = append(k.Owners, tenantKey(s.Owner.TenantID))
	}
	return k
}

// ownerOf names the owner of an event as keyOf does; "" is nobody.
func ownerOf(e *relay.Event) string {
	switch {
	case e.Owner.UserID != "":
		return userKey(e.Owner.UserID)
	case e.Owner.TenantID != "":
		return tenantKey(e.Owner.TenantID)
	}
	return ""
}

func userKey(id string) string   { return "u:" + id }
func tenantKey(id string) string { return "t:" + id }
