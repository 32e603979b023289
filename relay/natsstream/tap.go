package natsstream

import (
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// tap makes the connections of the NATS library, and keeps the present one, so that
// the writer can put messages of its own making between the library's: the library
// takes most of the time of a message to sort its headers and copy them again.
// Connecting, credentials, pings, subscriptions and everything that is read stay the
// library's.
type tap struct {
	dialer  net.Dialer
	inside  nats.InProcessConnProvider // the embedded server; else nil
	timeout time.Duration              // of one write

	mu   sync.Mutex
	last *tapped
}

// Dial implements nats.CustomDialer.
func (t *tap) Dial(network, address string) (net.Conn, error) {
	return t.keep(t.dialer.Dial(network, address))
}

// InProcessConn implements nats.InProcessConnProvider.
func (t *tap) InProcessConn() (net.Conn, error) {
	return t.keep(t.inside.InProcessConn())
}

func (t *tap) keep(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	c := &tapped{Conn: conn, timeout: t.timeout}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = c
	return c, nil
}

// present is the connection that was made last.
func (t *tap) present() *tapped {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// tapped is a connection that two write to. Each write is of whole protocol messages:
// the library hands over its buffer as one, and so does the writer.
type tapped struct {
	net.Conn
	timeout time.Duration
	mu      sync.Mutex
}

// Write writes b in one piece. What could only be written in part ends the
// connection: nothing that follows would be understood.
func (c *tapped) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.Conn.SetWriteDeadline(time.Now().Add(c.timeout)) // a closed connection fails the write
	n, err := c.Conn.Write(b)
	if err != nil && n > 0 {
		_ = c.Close()
	}
	return n, err
}

// SetWriteDeadline does nothing: Write sets its own, which is good for both writers.
func (c *tapped) SetWriteDeadline(time.Time) error { return nil }
