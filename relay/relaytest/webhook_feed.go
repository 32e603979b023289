package relaytest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/webhook"
)

var _ webhook.Feed = (*Feed)(nil)

// Feed is a webhook.Feed in memory. Several engines may share it, as processes
// share a durable consumer.
type Feed struct {
	ackWait time.Duration

	mu      sync.Mutex
	entries []*feedEntry
	changed chan struct{} // closed and replaced at every change
}

type feedEntry struct {
	msg          relay.StreamMessage
	announcement *relay.Announcement
	handed       bool      // at least once
	until        time.Time // not handed out again before
	acked        bool
}

// NewFeed returns an empty feed.
func NewFeed(ackWait time.Duration) *Feed {
	return &Feed{ackWait: ackWait, changed: make(chan struct{})}
}

// Append stores events behind what is there. Their sequence is their place.
func (f *Feed) Append(events ...relay.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range events {
		f.entries = append(f.entries, &feedEntry{msg: relay.StreamMessage{
			Event: e, Seq: uint64(len(f.entries)) + 1, Control: f.control(),
		}})
	}
	f.wake()
}

// AppendBroken stores a message that is no usable event.
func (f *Feed) AppendBroken(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries = append(f.entries, &feedEntry{msg: relay.StreamMessage{Seq: uint64(len(f.entries)) + 1, Control: f.control(), Err: err}})
	f.wake()
}

// Announce stores an announcement.
func (f *Feed) Announce(a relay.Announcement) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries = append(f.entries, &feedEntry{
		msg: relay.StreamMessage{Seq: uint64(len(f.entries)) + 1}, announcement: &a, acked: true,
	})
	f.wake()
}

// Crash forgets who holds what, as when the ack wait of every event ran out.
func (f *Feed) Crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.entries {
		e.until = time.Time{}
	}
	f.wake()
}

// Open is how many events are not acked.
func (f *Feed) Open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, e := range f.entries {
		if !e.acked {
			n++
		}
	}
	return n
}

func (f *Feed) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *Feed) control() uint64 {
	for _, e := range slices.Backward(f.entries) {
		if e.announcement != nil {
			return e.msg.Seq
		}
	}
	return 0
}

// Next hands out events that nobody holds.
func (f *Feed) Next(ctx context.Context, limit int) ([]relay.StreamMessage, error) {
	for {
		batch, wait, changed := f.take(limit)
		if len(batch) > 0 {
			return batch, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

func (f *Feed) take(limit int) (batch []relay.StreamMessage, wait time.Duration, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	wait = f.ackWait
	for _, e := range f.entries {
		if e.acked || len(batch) == limit {
			continue
		}
		if left := e.until.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		e.until = now.Add(f.ackWait)
		m := e.msg
		m.Again, m.Token = e.handed, e
		e.handed = true
		batch = append(batch, m)
	}
	return batch, wait, f.changed
}

// Ack ends an event.
func (f *Feed) Ack(_ context.Context, m relay.StreamMessage) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.Token.(*feedEntry).acked = true
	return nil
}

// Extend holds an event for another ack wait.
func (f *Feed) Extend(m relay.StreamMessage) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.Token.(*feedEntry).until = time.Now().Add(f.ackWait)
	return nil
}

// Return gives an event back at once.
func (f *Feed) Return(m relay.StreamMessage) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.Token.(*feedEntry).until = time.Time{}
	f.wake()
	return nil
}

// AckWait is what NewFeed was told.
func (f *Feed) AckWait() time.Duration { return f.ackWait }

// Bounds returns the last sequence before the first event that is not acked, and
// that of the last announcement.
func (f *Feed) Bounds(context.Context) (acked, control uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	open := slices.IndexFunc(f.entries, func(e *feedEntry) bool { return !e.acked })
	if open < 0 {
		open = len(f.entries)
	}
	return uint64(open), f.control(), nil
}

// Announcements follows the announcements.
func (f *Feed) Announcements(ctx context.Context, after uint64, fn func(uint64, relay.Announcement) error) error {
	for {
		f.mu.Lock()
		found, changed := f.entries[min(after, uint64(len(f.entries))):], f.changed
		f.mu.Unlock()
		for _, e := range found {
			after = e.msg.Seq
			if e.announcement == nil {
				continue
			}
			if err := fn(e.msg.Seq, *e.announcement); err != nil {
				return err
			}
		}
		if len(found) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
