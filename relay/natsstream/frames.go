package natsstream

import (
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
)

const (
	piece     = 32 << 10 // bytes that are written together, if there are as many
	keptPiece = 1 << 20  // a larger buffer is left to the collector
)

// frames writes messages to the connection in large pieces. Over a connection that the
// library encrypts or wraps they go through the library, one by one.
type frames struct {
	conn *tapped // nil: through the library
	nc   *nats.Conn
	buf  []byte
}

// put writes a message, or gathers it to be written with others.
func (f *frames) put(subject string, reply, head, body []byte) error {
	if f.conn == nil {
		return f.publish(subject, reply, head, body)
	}
	b := f.buf
	if len(head) > 0 {
		b = append(b, 'H')
	}
	b = append(append(b, "PUB "...), subject...)
	b = append(b, ' ')
	if len(reply) > 0 {
		b = append(append(b, reply...), ' ')
	}
	if len(head) > 0 {
		b = append(strconv.AppendInt(b, int64(len(head)), 10), ' ')
	}
	b = append(strconv.AppendInt(b, int64(len(head)+len(body)), 10), crlf...)
	b = append(append(append(b, head...), body...), crlf...)
	f.buf = b
	if len(b) >= piece {
		return f.push()
	}
	return nil
}

func (f *frames) publish(subject string, reply, head, body []byte) error {
	msg := &nats.Msg{Subject: subject, Reply: string(reply), Data: body}
	if len(head) > 0 {
		var err error
		if msg.Header, err = nats.DecodeHeadersMsg(head); err != nil {
			return fmt.Errorf("headers of a message: %w", err)
		}
	}
	return f.nc.PublishMsg(msg)
}

// push writes what was gathered.
func (f *frames) push() error {
	if len(f.buf) == 0 {
		return nil
	}
	_, err := f.conn.Write(f.buf)
	if f.buf = f.buf[:0]; cap(f.buf) > keptPiece {
		f.buf = nil
	}
	if err != nil {
		return fmt.Errorf("%w (%w)", errConnectionLost, err)
	}
	return nil
}
