package pgsource

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/dot-do/relay/relay/pgoutput"
)

const (
	readBuffer   = 128 << 10
	maxFrame     = 1<<30 + 1<<16 // the server builds no larger message
	headerSize   = 5             // type and length
	writeTimeout = 10 * time.Second

	believed   = 16 << 20 // bytes that are made room for because a message claims them
	passedOver = 0        // the kind of a message that next did not read
)

// wire is the connection while it streams: messages in, statuses out. Reading is
// for one goroutine, writing for any.
type wire struct {
	conn net.Conn
	r    *bufio.Reader
	rest int // of a large message that was broken off

	write sync.Mutex
	frame []byte

	deadline sync.Mutex
	set      bool // a read deadline is in force
	stopped  bool // and it is the last one
}

func newWire(conn net.Conn) *wire {
	return &wire{conn: conn, r: bufio.NewReaderSize(conn, readBuffer)}
}

// buffered reports whether next can return without reading from the network.
func (w *wire) buffered() bool {
	if w.r.Buffered() < headerSize {
		return false
	}
	head, _ := w.r.Peek(headerSize) // in the buffer
	return w.r.Buffered() > int(binary.BigEndian.Uint32(head[1:]))
}

// wait returns when the next message is there, or as much of it as the buffer
// takes. A deadline that has passed is os.ErrDeadlineExceeded; the zero time is none.
func (w *wire) wait(until time.Time) error {
	w.setDeadline(until)
	head, err := w.r.Peek(headerSize)
	if err != nil {
		return err
	}
	n, err := bodySize(head)
	if err != nil {
		return err
	}
	_, err = w.r.Peek(min(headerSize+n, readBuffer))
	return err
}

// next returns the next message. Its body is good until the next call, or for as
// long as the caller likes when it is kept: a message too large for the buffer
// comes in memory of its own. A logical message that large is passed over: nothing
// depends on it, and every role of the database may write one.
func (w *wire) next() (kind byte, body []byte, kept bool, err error) {
	w.setDeadline(time.Time{})
	head, err := w.r.Peek(headerSize)
	if err != nil {
		return 0, nil, false, err
	}
	kind = head[0]
	n, err := bodySize(head)
	if err != nil {
		return 0, nil, false, err
	}
	if headerSize+n <= readBuffer {
		frame, err := w.r.Peek(headerSize + n)
		if err != nil {
			return 0, nil, false, err
		}
		_, _ = w.r.Discard(len(frame)) // in the buffer
		return kind, frame[headerSize:], false, nil
	}
	if logical, err := w.isLogical(); logical || err != nil {
		if err == nil {
			var got int
			got, err = w.r.Discard(headerSize + n)
			w.rest = headerSize + n - got
		}
		return passedOver, nil, false, err
	}
	_, _ = w.r.Discard(headerSize)
	body, err = w.large(n)
	return kind, body, true, err
}

// isLogical looks at the message that comes next, which is a large one.
func (w *wire) isLogical() (bool, error) {
	const kindAt = headerSize + 1 + 8 + 8 + 8 // behind the header of the copy-data frame
	start, err := w.r.Peek(kindAt + 1)
	if err != nil {
		return false, err
	}
	return start[0] == 'd' && start[headerSize] == pgoutput.TagXLogData && start[kindAt] == byte(pgoutput.KindLogicalMessage), nil
}

// large reads n bytes. A claim of more than is believed has to be made good: memory
// then follows what arrives.
func (w *wire) large(n int) ([]byte, error) {
	body := make([]byte, 0, min(n, believed))
	for {
		got, err := io.ReadFull(w.r, body[len(body):cap(body)])
		body = body[:len(body)+got]
		if w.rest = n - len(body); err != nil || w.rest == 0 {
			return body, err
		}
		more := make([]byte, len(body), min(n, 2*len(body)))
		copy(more, body)
		body = more
	}
}

func bodySize(head []byte) (int, error) {
	n := int(binary.BigEndian.Uint32(head[1:])) - 4
	if n < 0 || n > maxFrame {
		return 0, fmt.Errorf("message %q claims %d bytes", head[0], n)
	}
	return n, nil
}

// skipRest brings a broken-off reader back to the start of a message.
func (w *wire) skipRest() error {
	_, err := w.r.Discard(w.rest)
	w.rest = 0
	return err
}

func (w *wire) setDeadline(t time.Time) {
	if t.IsZero() && !w.set {
		return
	}
	w.deadline.Lock()
	defer w.deadline.Unlock()
	if !w.stopped {
		w.set = !t.IsZero()
		_ = w.conn.SetReadDeadline(t) // a closed connection fails the read
	}
}

// stopReading ends every read at t, from any goroutine and for good.
func (w *wire) stopReading(t time.Time) {
	w.deadline.Lock()
	defer w.deadline.Unlock()
	if !w.stopped {
		w.stopped = true
		_ = w.conn.SetReadDeadline(t)
	}
}

// resumeReading lets the goroutine that stopped the reader read on by itself.
func (w *wire) resumeReading(until time.Time) {
	w.deadline.Lock()
	defer w.deadline.Unlock()
	_ = w.conn.SetReadDeadline(until)
}

// status sends one standby status in a CopyData message.
func (w *wire) status(write, flush uint64, reply bool) error {
	w.write.Lock()
	defer w.write.Unlock()
	w.frame = append(w.frame[:0], 'd', 0, 0, 0, 0)
	w.frame = pgoutput.AppendStandbyStatus(w.frame, write, flush, flush, time.Now(), reply)
	binary.BigEndian.PutUint32(w.frame[1:], uint32(len(w.frame)-1))
	return w.sendLocked(w.frame)
}

func (w *wire) send(frame []byte) error {
	w.write.Lock()
	defer w.write.Unlock()
	return w.sendLocked(frame)
}

func (w *wire) sendLocked(frame []byte) error {
	_ = w.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // a closed connection fails the write
	_, err := w.conn.Write(frame)
	return err
}

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// isStopped reports whether reading was ended for good.
func (w *wire) isStopped() bool {
	w.deadline.Lock()
	defer w.deadline.Unlock()
	return w.stopped
}
