package natsstream

import (
	"context"
	"strconv"

	"github.com/dot-do/relay/relay"
)

const (
	groupMost  = 1000    // messages; the server's own limit, unless it says otherwise
	groupBytes = 8 << 20 // their size, roughly: the server keeps them twice
)

// group is the atomic batch at hand. Its messages travel while the one before is being
// stored. The last is held back: it says that it is the last, and which one is is not
// known before the next event, or before nothing follows.
type group struct {
	made  uint64    // groups of this flight
	after uint64    // sequence before the group
	n     int       // its messages; 0: there is none
	bytes int       // their size
	tx    relay.LSN // transaction of the last

	subject    string
	head, body []byte // the head lacks the empty line at its end
}

// full tells whether the group ends before an event of size bytes: where it must, and,
// from three quarters of that on, wherever a transaction ends. Each group costs the
// server as much as some 250 messages.
func (g *group) full(most, size int, tx relay.LSN) bool {
	if g.n >= most || g.bytes+size > groupBytes {
		return true
	}
	return tx != g.tx && (g.n >= most/4*3 || g.bytes > groupBytes/4*3)
}

// gather adds an event to the group at hand, or begins one with it.
func (w *Writer) gather(ctx context.Context, ev *relay.Event, subject string) error {
	g, size := &w.group, len(ev.Body)+headerRoom/16
	if g.n > 0 && g.full(min(w.groupMost, w.flight.most()/2), size, ev.Position.CommitLSN) {
		if err := w.endGroup(ctx); err != nil {
			return err
		}
	}
	seq, err := w.reserve(ctx, size) // ends the group where there is no room
	if err != nil {
		return err
	}
	if g.n > 0 {
		if err := w.release(false); err != nil {
			return err
		}
	} else {
		g.made++
		g.after, g.bytes = w.at.after, 0
	}
	w.at.inside = g.n > 0
	head := w.env.fill(ev, &w.at)
	g.n++
	g.bytes += size
	g.tx, g.subject = ev.Position.CommitLSN, subject
	g.head = append(g.head[:0], head[:len(head)-len(crlf)]...)
	if cap(g.body) > keptPiece {
		g.body = nil
	}
	g.body = append(g.body[:0], ev.Body...)
	w.at.follow(ev, seq)
	return nil
}

// release sends the message that was held back.
func (w *Writer) release(last bool) error {
	g := &w.group
	if !last || g.n > 1 { // one alone is no batch
		g.head = strconv.AppendUint(append(append(header(g.head, headerGroup), w.flight.token...), '-'), g.made, 36)
		g.head = append(strconv.AppendInt(header(append(g.head, crlf...), headerGroupAt), int64(g.n), 10), crlf...)
		if last {
			g.head = append(header(g.head, headerGroupEnd), "1\r\n"...)
		}
	}
	w.replyTo = w.replyTo[:0] // answered with the last
	if last {
		w.replyTo = w.flight.reply(w.replyTo, g.after, w.at.after)
	}
	g.head = append(g.head, crlf...)
	return w.put(g.subject, g.head, g.body)
}

// endGroup sends the last message of the group, once the group before is known to be
// stored: otherwise this one could follow what another writer stored in its place.
func (w *Writer) endGroup(ctx context.Context) error {
	if w.group.n == 0 {
		return nil
	}
	if err := w.frames.push(); err != nil {
		return err
	}
	if err := w.flight.pace(ctx, w.group.after); err != nil {
		return err
	}
	if err := w.release(true); err != nil {
		return err
	}
	w.group.n, w.asked = 0, w.at.after
	return w.frames.push()
}

// groupIsDue tells whether the group at hand may end because nothing follows it just
// now: what is gathered while one is being stored is stored together.
func (w *Writer) groupIsDue() bool {
	return w.group.n > 0 && w.flight.progress() >= w.group.after
}
