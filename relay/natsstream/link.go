package natsstream

import (
	"context"
	"errors"
	"sync"
)

// link is the state of the connection as two channels, one of them closed: what
// waits for the connection, or for its end, can wait for other things too.
type link struct {
	mu       sync.Mutex
	up, down chan struct{}
	closed   chan struct{} // nothing will come any more
}

// newLink returns the link of a connection that is about to be made: the handlers
// report only what comes after.
func newLink() *link {
	l := &link{up: make(chan struct{}), down: make(chan struct{}), closed: make(chan struct{})}
	close(l.up)
	return l
}

func (l *link) set(connected bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.up:
		if !connected {
			close(l.down)
			l.up = make(chan struct{})
		}
	default:
		if connected {
			close(l.up)
			l.down = make(chan struct{})
		}
	}
}

// close ends the link. It must be called once only.
func (l *link) close() {
	l.set(false)
	close(l.closed)
}

// await waits until there is a connection.
func (l *link) await(ctx context.Context) error {
	select {
	case <-l.connected():
		return nil
	case <-l.closed:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errClosed = errors.New("connection to NATS was closed")

// connected is closed while there is a connection.
func (l *link) connected() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// lost is closed when the present connection ends, or while there is none.
func (l *link) lost() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}
