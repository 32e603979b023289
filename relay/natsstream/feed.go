package natsstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dot-do/relay/relay"
)

// defaultDurable is the name of the consumer that all delivery processes share.
const defaultDurable = "relay-deliver"

// FeedConfig configures Client.Feed.
type FeedConfig struct {
	Durable       string        // name of the shared consumer; default relay-deliver
	AckWait       time.Duration // default 10s
	MaxAckPending int           // events handed out and not acked, over all processes; default 4096

	// StartAfter is the sequence after which a consumer that does not exist
	// begins; 0 begins with the oldest event. A consumer that exists goes on where
	// it stands.
	StartAfter uint64
}

// Feed hands the events of the stream to the delivery processes: all of them
// share one durable consumer, and an event that is neither acked nor extended
// within AckWait is handed out again, here or elsewhere.
//
// Next is for one goroutine; the other methods are safe for concurrent use.
type Feed struct {
	c       *Client
	log     *slog.Logger
	cfg     FeedConfig
	ackWait time.Duration // as the consumer has it

	pull     *puller
	early    []*nats.Msg // sent here between two calls of Next
	returned time.Time   // when Next returned last
	doubtful bool        // joined and madeAt could not be read over this connection
	highest  uint64      // sequence handed out here

	floor   atomic.Uint64 // all events up to it are acked
	madeAt  atomic.Uint64 // end of the stream when the consumer was made
	joined  atomic.Uint64 // end of the stream when this process connected last
	created atomic.Int64  // when the stream was made that all this is about
}

// Feed opens the shared consumer and makes it when it is missing. The settings of
// a consumer that exists win: the other processes work by them.
func (c *Client) Feed(ctx context.Context, cfg FeedConfig) (*Feed, error) {
	orDefault(&cfg.Durable, defaultDurable)
	orDefault(&cfg.AckWait, 10*time.Second)
	orDefault(&cfg.MaxAckPending, 4096)
	f := &Feed{c: c, cfg: cfg, log: c.log.With("consumer", cfg.Durable)}
	f.raise(cfg.StartAfter)
	info, err := f.ensure(ctx)
	if err != nil {
		return nil, err
	}
	f.ackWait = info.Config.AckWait
	if f.ackWait != cfg.AckWait {
		f.log.WarnContext(ctx, "consumer exists with another ack wait", "ack_wait", f.ackWait.String(), "configured", cfg.AckWait.String())
	}
	f.pull, err = c.newPuller(cfg.Durable)
	return f, err
}

// AckWait returns how long an event may stay unanswered.
func (f *Feed) AckWait() time.Duration { return f.ackWait }

// Next waits until there is an event and returns at most limit, in stream order.
// It goes on through lost connections and makes a consumer that was deleted anew,
// behind what is known to be acked. The error is the context's, or says why there
// can be no consumer; Next may be called again, unless it is relay.ErrStreamReplaced.
func (f *Feed) Next(ctx context.Context, limit int) ([]relay.StreamMessage, error) {
	if early := f.takeEarly(limit); len(early) > 0 {
		return early, nil
	}
	for {
		if f.doubtful {
			_, err := f.ensure(ctx)
			switch {
			case err == nil:
				f.doubtful = false
			case errors.Is(err, relay.ErrStreamReplaced):
				return nil, err
			default: // if it is gone, the request will tell
				f.log.WarnContext(ctx, "consumer cannot be checked", "error", err)
			}
		}
		msgs, err := f.pull.next(ctx, limit)
		switch {
		case errors.Is(err, errReconnected):
			f.doubtful = true
		case errors.Is(err, errConsumerGone):
			if err := f.restore(ctx); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, err
		default:
			if batch := f.decode(msgs); len(batch) > 0 {
				f.returned = time.Now()
				return batch, nil
			}
		}
	}
}

// takeEarly returns what came in after the last call had its answer. Their time
// has been running since: they get a full AckWait again, or are dropped when they
// may be somebody else's by now.
func (f *Feed) takeEarly(limit int) []relay.StreamMessage {
	f.early = append(f.early, f.pull.arrived()...)
	if len(f.early) == 0 {
		return nil
	}
	if time.Since(f.returned) > f.ackWait/2 {
		f.early = nil // they come again
		return nil
	}
	for _, msg := range f.early {
		_ = f.c.nc.Publish(msg.Reply, []byte(ackProgress)) // without a connection it comes again
	}
	n := min(max(limit, 1), len(f.early))
	batch := f.decode(f.early[:n])
	f.early = f.early[n:]
	f.returned = time.Now()
	return batch
}

func (f *Feed) decode(msgs []*nats.Msg) []relay.StreamMessage {
	batch := make([]relay.StreamMessage, 0, len(msgs))
	for _, msg := range msgs {
		if m, ok := decode(msg); ok {
			m.Again = m.Again || m.Event.Refilled || f.doubtful || m.Seq <= max(f.madeAt.Load(), f.joined.Load(), f.highest)
			f.highest = max(f.highest, m.Seq)
			batch = append(batch, m)
		} else {
			f.log.Warn("message is not from the consumer", "subject", msg.Subject)
		}
	}
	slices.SortStableFunc(batch, func(a, b relay.StreamMessage) int { return cmp.Compare(a.Seq, b.Seq) })
	return batch
}

// decode rebuilds an event from its message. A message that is none of the relay's
// comes with Err set. It is not ok when it did not come from a consumer at all.
func decode(msg *nats.Msg) (m relay.StreamMessage, ok bool) {
	meta, err := msg.Metadata()
	if err != nil {
		return m, false
	}
	m.Seq, m.Again, m.Token = meta.Sequence.Stream, meta.NumDelivered > 1, msg
	m.Event.Type = strings.TrimPrefix(msg.Subject, eventPrefix)
	ev := m.Event
	if m.Control, m.Err = parseHeader(msg.Header, &ev); m.Err == nil {
		m.Err = ev.ReadBody(msg.Data)
	}
	if m.Err == nil {
		m.Event = ev
	} else {
		m.Err = fmt.Errorf("message %d on %q is no event: %w", m.Seq, msg.Subject, m.Err)
	}
	m.Event.Body = msg.Data
	return m, true
}

// Ack tells the server that the event is done with. It does not wait for an
// answer: an ack that is lost brings the event again after AckWait, and whoever
// gets it finds all its deliveries settled. The error says that there is no
// connection to send it over.
func (f *Feed) Ack(_ context.Context, m relay.StreamMessage) error {
	return f.respond(m, ackDone)
}

// Extend asks for another AckWait, without waiting for an answer.
func (f *Feed) Extend(m relay.StreamMessage) error { return f.respond(m, ackProgress) }

// Return hands the event back; the server offers it to somebody at once.
func (f *Feed) Return(m relay.StreamMessage) error { return f.respond(m, ackReturn) }

// Answers to a message, as the server reads them.
const (
	ackDone     = "+ACK"
	ackProgress = "+WPI"
	ackReturn   = "-NAK"
)

func (f *Feed) respond(m relay.StreamMessage, answer string) error {
	msg, ok := m.Token.(*nats.Msg)
	if !ok {
		return fmt.Errorf("message %d did not come from a feed", m.Seq)
	}
	if err := f.c.nc.Publish(msg.Reply, []byte(answer)); err != nil {
		return fmt.Errorf("answer message %d: %w", m.Seq, f.c.explain(err))
	}
	return nil
}

// Bounds returns the sequence up to which all events were acked, and the sequence
// of the last announcement, 0 for none.
func (f *Feed) Bounds(ctx context.Context) (acked, control uint64, err error) {
	ctx, cancel := f.c.session(ctx)
	defer cancel()
	consumer, err := f.c.js.Consumer(ctx, f.c.cfg.Stream, f.cfg.Durable)
	if err != nil {
		return 0, 0, fmt.Errorf("look up consumer %s: %w", f.cfg.Durable, err)
	}
	if control, err = f.c.lastControl(ctx); err != nil {
		return 0, 0, err
	}
	acked = consumer.CachedInfo().AckFloor.Stream
	f.raise(acked)
	return acked, control, nil
}

// Close hands back what was sent here and not taken by Next, so that others need
// not wait for it. Events that Next returned are the caller's to answer.
func (f *Feed) Close() {
	for _, msg := range append(f.early, f.pull.close()...) {
		_ = f.c.nc.Publish(msg.Reply, []byte(ackReturn)) // without a connection it comes again
	}
}
