package webhook

import (
	"context"
	"sync"

	"github.com/dot-do/relay/relay"
)

// flight is an event between Next and Ack. The flights' mutex guards it.
type flight struct {
	msg      relay.StreamMessage
	left     int  // deliveries that are not settled, and one while they are being found
	returned bool // a delivery of it was never begun: the event has to come again
}

// flights are the events that were taken from the feed and not answered yet,
// bounded by number and bytes.
type flights struct {
	maxEvents, maxBytes int

	mu    sync.Mutex
	bySeq map[uint64]*flight
	bytes int
	mean  int           // of the bodies seen lately
	freed chan struct{} // one pending signal
}

func newFlights(maxEvents, maxBytes int) *flights {
	return &flights{maxEvents: maxEvents, maxBytes: maxBytes, bySeq: map[uint64]*flight{}, freed: make(chan struct{}, 1)}
}

// maxTake bounds how many events are asked for at once.
const maxTake = 256

// room waits until there is room and returns for how many events.
func (f *flights) room(ctx context.Context) (int, error) {
	for {
		f.mu.Lock()
		n := min(f.maxEvents-len(f.bySeq), (f.maxBytes-f.bytes)/max(f.mean, 1), maxTake)
		if n < 1 && len(f.bySeq) == 0 {
			n = 1 // one event may be larger than the bound
		}
		f.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		select {
		case <-f.freed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// begin registers an event, held by the caller. An event that is in flight here
// already is not begun again; the feed's newer handle replaces the older.
func (f *flights) begin(m relay.StreamMessage) (*flight, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.bySeq[m.Seq]; old != nil {
		old.msg.Token = m.Token
		return old, false
	}
	fl := &flight{msg: m, left: 1}
	f.bySeq[m.Seq] = fl
	f.bytes += len(m.Event.Body)
	f.mean += (len(m.Event.Body) - f.mean) / 16
	return fl, true
}

// expect adds deliveries to wait for.
func (f *flights) expect(fl *flight, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl.left += n
}

// settle takes off one delivery and reports whether none is left: then the feed
// has to be answered, and the flight ended.
func (f *flights) settle(fl *flight, returned bool) (last bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl.left--
	fl.returned = fl.returned || returned
	return fl.left == 0
}

// message returns the event with the feed's newest handle, and whether it has to
// come again.
func (f *flights) message(fl *flight) (m relay.StreamMessage, returned bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fl.msg, fl.returned
}

// end forgets a flight.
func (f *flights) end(fl *flight) {
	f.mu.Lock()
	delete(f.bySeq, fl.msg.Seq)
	f.bytes -= len(fl.msg.Event.Body)
	f.mu.Unlock()
	signal(f.freed)
}

// messages returns all events in flight.
func (f *flights) messages() []relay.StreamMessage {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]relay.StreamMessage, 0, len(f.bySeq))
	for _, fl := range f.bySeq {
		out = append(out, fl.msg)
	}
	return out
}

func (f *flights) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.bySeq)
}
