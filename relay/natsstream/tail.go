package natsstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/relay"
)

// neverASeq is a sequence that no stream reaches: at a million messages a second
// it would take longer than a hundred thousand years.
const neverASeq = uint64(1) << 62

// probeSubject is one of the stream's, of messages that are never stored.
const probeSubject = relay.ControlPrefix + "probe"

// tail is the end of the stream and what the next message must know of it.
type tail struct {
	relay.Tail
	control  uint64
	maxSize  int // largest message the stream takes; 0 for no limit of its own
	replicas int
	batches  bool // the stream takes fast batches
	groups   bool // the stream takes atomic batches
}

// mode is how messages travel best.
func (t *tail) mode(want Batches) mode {
	switch {
	case want == BatchesAtomic && t.groups:
		return modeAtomic
	case want != BatchesOff && t.batches:
		return modeFast
	}
	return modeSingle
}

// tail reads the end of the stream over the present connection. The channel closes
// when that connection ends.
func (c *Client) tail(ctx context.Context) (t tail, lost <-chan struct{}, err error) {
	lost = c.link.lost()
	session, cancel := c.session(ctx)
	defer cancel()
	t, err = c.readEnd(session)
	if err != nil && ctx.Err() == nil && context.Cause(session) != nil {
		err = fmt.Errorf("read the tail of stream %s: %w", c.cfg.Stream, context.Cause(session))
	}
	return t, lost, c.explain(err)
}

func (c *Client) readEnd(ctx context.Context) (tail, error) {
	settled, err := c.settle(ctx)
	if err != nil {
		return tail{}, err
	}
	info, err := c.infoFrom(ctx, settled)
	if err != nil {
		return tail{}, err
	}
	t := tail{
		Tail:    relay.Tail{Seq: info.State.LastSeq, Empty: info.State.Msgs == 0, CreatedAt: info.Created},
		maxSize: int(info.Config.MaxMsgSize), replicas: info.Config.Replicas,
		batches: info.Config.AllowBatchPublish, groups: info.Config.AllowAtomicPublish,
	}
	var last *stored
	if !t.Empty {
		if last, err = c.last(ctx, info.State.LastSeq); err != nil {
			return tail{}, err
		}
	}
	if last == nil { // emptied this very moment, perhaps
		t.Empty = true
		t.control, err = c.lastControl(ctx)
		return t, err
	}
	if last, err = c.lastOfOurs(ctx, last); err != nil {
		return tail{}, err
	}
	if last == nil { // there never was one
		t.control, err = c.lastControl(ctx)
		return t, err
	}
	return t, c.readTail(ctx, &t, last)
}

// maxForeign is how many messages of somebody else the end of the stream may hold.
const maxForeign = 100

// lastOfOurs steps back over messages that somebody else wrote behind ours. They
// tell nothing about positions and do no harm there; that somebody may write at
// all is worth an error in the log. It returns nil when no message is ours.
func (c *Client) lastOfOurs(ctx context.Context, last *stored) (*stored, error) {
	end, foreign := last.seq, 0
	for seq := last.seq; ; seq-- {
		if last != nil {
			if last.header.Get(headerPos) != "" {
				break
			}
			if foreign++; foreign > maxForeign {
				return nil, relay.Halt("foreign_message",
					fmt.Errorf("the last %d messages of stream %s, down to sequence %d, are not the relay's: somebody else writes to the stream", foreign, c.cfg.Stream, seq),
					"let nobody but the relay publish to its subjects; then delete the stream (nats stream rm "+c.cfg.Stream+") and run `relay run --accept-gap`")
			}
		}
		if seq <= 1 {
			last = nil
			break
		}
		var err error
		if last, err = c.read(ctx, storedRequest{Seq: seq - 1}); err != nil {
			return nil, err
		}
	}
	if foreign > 0 {
		c.log.ErrorContext(ctx, "somebody else writes to the stream: nobody but the relay may publish to its subjects",
			"stream", c.cfg.Stream, "stream_seq", end, "messages", foreign)
	}
	return last, nil
}

// readTail takes position and last announcement from the last message.
func (c *Client) readTail(ctx context.Context, t *tail, last *stored) (err error) {
	if t.Position, err = relay.ParsePosition(last.header.Get(headerPos)); err != nil {
		return relay.Halt("foreign_message",
			fmt.Errorf("message %d of stream %s, subject %q, carries a %s that is none: %w", last.seq, c.cfg.Stream, last.subject, headerPos, err),
			"let nobody but the relay publish to its subjects; then delete the stream (nats stream rm "+c.cfg.Stream+") and run `relay run --accept-gap`")
	}
	t.PositionSeq, t.Lineage = last.seq, last.header.Get(headerLineage)
	if strings.HasPrefix(last.subject, relay.ControlPrefix) {
		t.control = last.seq
		return nil
	}
	if t.control, err = strconv.ParseUint(last.header.Get(headerControl), 10, 64); err != nil {
		t.control, err = c.lastControl(ctx)
	}
	return err
}

// settle waits until the stream's leader has dealt with everything this process
// sent before, and returns the last sequence as of then. It sends a message that
// follows a sequence no stream can have: it queues up behind all others, is always
// refused, and the refusal names the last sequence. A plain question could be
// answered while messages still wait to be stored.
func (c *Client) settle(ctx context.Context) (uint64, error) {
	probe := nats.NewMsg(probeSubject)
	probe.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(neverASeq, 10))
	answer, err := c.nc.RequestMsgWithContext(ctx, probe)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return 0, fmt.Errorf("stream %s does not answer: it is missing, or has no leader just now", c.cfg.Stream)
	case err != nil:
		return 0, fmt.Errorf("ask stream %s for its end: %w", c.cfg.Stream, err)
	}
	ack, err := parseAck(answer.Data)
	switch {
	case err != nil:
		return 0, fmt.Errorf("ask stream %s for its end: %w", c.cfg.Stream, err)
	case ack.Stream != "" && ack.Stream != c.cfg.Stream:
		return 0, setupErrorf("set RELAY_STREAM="+ack.Stream+", or free the subjects", "subject %s belongs to stream %s, not to %s", controlSubjects, ack.Stream, c.cfg.Stream)
	case ack.Error == nil:
		return 0, fmt.Errorf("ask stream %s for its end: the server took a message that it had to refuse", c.cfg.Stream)
	}
	last, ok := wrongSequence(ack.Error)
	if !ok {
		return 0, fmt.Errorf("ask stream %s for its end: %w", c.cfg.Stream, ack.Error)
	}
	return last, nil
}

// infoFrom returns the stream's state once it includes the sequence: replicas
// apply what the leader has accepted a moment later.
func (c *Client) infoFrom(ctx context.Context, seq uint64) (*jetstream.StreamInfo, error) {
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	for {
		info, err := c.info(ctx)
		if err != nil || info.State.LastSeq >= seq {
			return info, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("stream %s accepted sequence %d but does not get there: %w", c.cfg.Stream, seq, ctx.Err())
		case <-pause.C:
		}
	}
}

// last returns the last message that still exists. Messages are deleted rarely if
// at all, so it looks at the last sequence first.
func (c *Client) last(ctx context.Context, seq uint64) (*stored, error) {
	msg, err := c.read(ctx, storedRequest{Seq: seq})
	if msg != nil || err != nil {
		return msg, err
	}
	for _, subjects := range []string{eventSubjects, controlSubjects} {
		m, err := c.read(ctx, storedRequest{LastBy: subjects})
		if err != nil {
			return nil, err
		}
		if m != nil && (msg == nil || m.seq > msg.seq) {
			msg = m
		}
	}
	return msg, nil
}
