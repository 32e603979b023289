package pgsource

import (
	"context"
	"sync"
)

// queueDepth is how many full batches may wait for the consumer.
const queueDepth = 2

// handoff is the queue between reader and consumer. A batch that is not full is
// only parked: until the consumer takes it, the reader may take it back and fill
// it further. So batches are small and prompt when the consumer waits, and large
// when it is behind, without a timer.
type handoff struct {
	mu    sync.Mutex
	queue []*batch
	err   error
	avail chan struct{} // a batch or the error has come; one consumer waits
	room  chan struct{} // a batch was taken; one reader waits
}

func newHandoff() *handoff {
	return &handoff{avail: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// park offers b without waiting for room.
func (h *handoff) park(b *batch) {
	h.mu.Lock()
	h.queue = append(h.queue, b)
	h.mu.Unlock()
	signal(h.avail)
}

// takeBack returns a parked batch to the reader, or false when the consumer has it.
func (h *handoff) takeBack(b *batch) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(h.queue) - 1
	if last < 0 || h.queue[last] != b {
		return false
	}
	h.queue = h.queue[:last]
	return true
}

// push offers a full batch, once there is room.
func (h *handoff) push(ctx context.Context, b *batch) error {
	for {
		h.mu.Lock()
		if len(h.queue) < queueDepth {
			h.queue = append(h.queue, b)
			h.mu.Unlock()
			signal(h.avail)
			return nil
		}
		h.mu.Unlock()
		select {
		case <-h.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// next waits for a batch. What was read before an error is handed out before it.
func (h *handoff) next(ctx context.Context) (*batch, error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		h.mu.Lock()
		if len(h.queue) > 0 {
			b := h.queue[0]
			h.queue = append(h.queue[:0], h.queue[1:]...)
			h.mu.Unlock()
			b.out.Store(true)
			signal(h.room)
			return b, nil
		}
		err := h.err
		h.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-h.avail:
		case <-ctx.Done():
		}
	}
}

// fail ends the queue; the first error stays.
func (h *handoff) fail(err error) {
	h.mu.Lock()
	if h.err == nil {
		h.err = err
	}
	h.mu.Unlock()
	signal(h.avail)
}

// drop forgets what nobody took.
func (h *handoff) drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.queue = nil
}

// signal wakes the one who waits on c, or the next one who will.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
