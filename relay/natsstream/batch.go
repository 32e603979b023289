package natsstream

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/internal/failpoint"
	"github.com/dot-do/relay/relay"
)

// Batches says in what kind of batches messages travel.
type Batches string

const (
	// BatchesFast is for servers that acknowledge before they sync to disk.
	BatchesFast Batches = "fast"
	// BatchesAtomic is for servers that sync first: one sync for each batch.
	BatchesAtomic Batches = "atomic"
	// BatchesOff sends message by message.
	BatchesOff Batches = "off"
)

// How messages travel. A server that has batches says so in the stream's settings.
type mode uint8

const (
	// Each message is answered by itself.
	modeSingle mode = iota
	// Messages are numbered in a batch that goes on for as long as there are
	// any, and a few of them are answered for all. The server ends the batch with the
	// first message that is missing or refused, and takes none that follows.
	modeFast
	// Messages wait at the server until the last of their batch, and are
	// stored together, with one write to the disk. The server takes all or none.
	modeAtomic
)

// Operations of a fast batch, as the server reads them.
const (
	opFirst  = "0"
	opNext   = "1"
	opEnd    = "3" // is no message itself
	opResend = "4" // asks for the last answer again, or for what is missing
)

// flowFor is how many messages of a fast batch are answered together, when so many may
// be on their way: few behind a slow network. The server answers no more than 500 at
// once. Tests that fail on purpose count the answers.
func flowFor(limit int) int {
	if failpoint.Enabled {
		return 1
	}
	return min(max(limit/8, 8), 500)
}

// fastBatch is the one at hand.
type fastBatch struct {
	open  bool
	ended bool   // the server was told
	made  uint64 // batches of this flight
	n     uint64 // messages in it
	flow  int    // of which so many are answered together
}

// id is the inbox and the name of the batch.
func (b *fastBatch) id(f *flight, dst []byte) []byte {
	dst = append(append(dst, f.inbox...), f.token...)
	return strconv.AppendUint(append(dst, '-'), b.made, 36)
}

// reply numbers the next message of the batch, or says what is done to it. The server
// reads the number and the operation from the reply subject.
func (b *fastBatch) reply(f *flight, dst []byte, n uint64, op string) []byte {
	dst = strconv.AppendInt(append(b.id(f, dst), '.'), int64(b.flow), 10)
	dst = append(dst, ".fail."...)
	dst = append(strconv.AppendUint(dst, n, 10), '.')
	return append(append(dst, op...), ".$FI"...)
}

// join makes room in a fast batch for one more message, and opens one when there is
// none. Only one is on its way at a time: the first message of a second would be
// taken although the first batch broke, when another writer took its places.
func (w *Writer) join(ctx context.Context) error {
	b, limit := &w.batch, w.flight.most()
	if b.open && !b.ended {
		if flowFor(limit) < 4*b.flow {
			return nil
		}
		if err := w.endBatch(); err != nil { // the server turned out to be quick
			return err
		}
	}
	if err := w.frames.push(); err != nil {
		return err
	}
	if err := w.flight.all(ctx); err != nil {
		return err
	}
	*b = fastBatch{open: true, made: b.made + 1, flow: flowFor(limit)}
	w.flight.begin(string(b.id(w.flight, nil)) + ".")
	return nil
}

// endBatch asks the server to answer for all messages of the fast batch.
func (w *Writer) endBatch() error {
	if w.mode != modeFast || !w.batch.open || w.batch.ended {
		return nil
	}
	w.batch.ended = true
	return w.operate(w.batch.n+1, opEnd)
}

// ask is what is done when the server has been silent for a while: it may have lost
// the end of the batch with its leader, or the answer was lost.
func (w *Writer) ask() error {
	if w.batch.ended {
		return w.operate(w.batch.n+1, opEnd)
	}
	return w.operate(w.batch.n, opResend)
}

func (w *Writer) operate(n uint64, op string) error {
	w.replyTo = w.batch.reply(w.flight, w.replyTo[:0], n, op)
	if err := w.frames.put(probeSubject, w.replyTo, nil, nil); err != nil {
		return err
	}
	return w.frames.push()
}

// fastAnswer is what the server says of a fast batch: how far it is stored, that a
// message is missing, that one was refused, or, with a stream's name, how it ended.
type fastAnswer struct {
	Type   string `json:"type"`
	Stream string `json:"stream"`
	// Seq is a place in the batch; of its end, a sequence of the stream.
	Seq       uint64              `json:"seq"`
	Missing   uint64              `json:"last_seq"`
	Count     uint64              `json:"count"`
	Duplicate bool                `json:"duplicate"`
	Error     *jetstream.APIError `json:"error"`
}

// progressOf reads an answer about the batch at hand: the sequence up to which it is
// stored, or why it broke.
func (f *flight) progressOf(msg *nats.Msg) (stored uint64, err error) {
	if err := f.noAnswer(msg); err != nil {
		return 0, err
	}
	var a fastAnswer
	if err := json.Unmarshal(msg.Data, &a); err != nil {
		return 0, fmt.Errorf("stream %s, after sequence %d: the answer to a batch is not JSON: %w", f.stream, f.acked, err)
	}
	switch {
	case a.Error != nil && a.Type == "err":
		return 0, refusal(f.stream, f.base+max(a.Seq, 1)-1, a.Error)
	case a.Error != nil:
		return 0, refusal(f.stream, f.base, a.Error)
	case a.Type == "ack":
		return f.base + a.Seq, nil
	case a.Type == "gap":
		return 0, fmt.Errorf("stream %s got what was to be sequence %d in place of %d: it lost a message on the way", f.stream, f.base+a.Seq, f.base+a.Missing)
	case a.Duplicate, a.Seq != f.base+a.Count:
		// The server knows their ids: another writer put them there.
		return 0, fmt.Errorf("stream %s holds some of the %d messages behind sequence %d elsewhere: %w", f.stream, a.Count, f.base, relay.ErrFenced)
	case a.Seq != f.sent:
		return 0, fmt.Errorf("stream %s ended a batch at sequence %d, before its last message, %d", f.stream, a.Seq, f.sent)
	}
	return a.Seq, nil
}
